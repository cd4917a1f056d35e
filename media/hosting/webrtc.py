"""An agent that is reached by WebRTC: the edge offers by POST, and is a peer among peers from then on.

Two forms of signalling: WHIP (RFC 9725), the SDP itself, with ``Location`` and ``DELETE``; and pipecat's SmallWebRTC,
JSON with the SDP in it. Opus at 48 kHz both ways; a data channel called ``events`` carries :mod:`media.hosting.remote`.
Needs aiortc (the extra ``webrtc``), and runs in a host of agents: for what called it, it is an agent like any other.

The agent's voice comes in real time and without an end. What is silent is left out while more than a moment waits to
be heard, so that the delay of a burst or of a late answer goes with the next pause; and silence answers no phone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections import deque
from collections.abc import Callable, Coroutine
from fractions import Fraction
from typing import Any, Final, Literal
from urllib.parse import urljoin, urlsplit

import httpx
import numpy as np
from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame

from media import http
from media.agents.signing import request_headers
from media.hosting.remote import Remote, facts
from media.hosting.session import Lost, Unreached
from media.messages import AgentSpec
from media.python_agent import Call
from media.targets import Targets, private_kind

__all__ = ["WebRtcAgent", "allowed_answer"]

log = logging.getLogger("truedy.agents.webrtc")

# Each pair of candidates is a line of theirs.
for _chatty in ("aioice", "aiortc"):
    logging.getLogger(_chatty).setLevel(logging.WARNING)

RATE_HZ: Final = 48000
Cause = Literal["timeout", "refused", "error", "forbidden"]

_REDIRECTS: Final = frozenset({307, 308})
_WITHOUT_CHANNEL: Final = frozenset({400, 406, 422})
"""What a server may say to an offer with a data channel, and takes without one."""


class _NoChannel(Exception):
    """The server takes no data channel."""


class WebRtcAgent:
    """One call's agent, to be called with the call; ``wall`` is UTC [s].

    ``context`` verifies ``https:``. Raises :class:`~media.hosting.session.Unreached` and, once it was reached,
    :class:`~media.hosting.session.Lost`.
    """

    REQUEST_S: Final = 10.0
    GOODBYE_S: Final = 2.0
    HOPS: Final = 3

    def __init__(
        self, spec: AgentSpec, *, targets: Targets, context: ssl.SSLContext, wall: Callable[[], float]
    ) -> None:
        self._spec = spec
        self._targets = targets
        self._context = context
        self._wall = wall
        self._call_sid = ""
        self._resource: str | None = None

    async def __call__(self, call: Call) -> None:
        """Until either side ends it."""
        self._call_sid = call.id
        peer = None
        try:
            for channel in (True, False):
                peer = Peer(call, pings=self._spec.signalling == "smallwebrtc", channel=channel)
                try:
                    if not await _before_the_end(call, self._reach(call, peer)):
                        return
                    break
                except _NoChannel:
                    await self._leave(peer)
            if peer is not None:
                call.started()
                await peer.talk()
        finally:
            if peer is not None:
                await self._leave(peer)

    async def _reach(self, call: Call, peer: Peer) -> None:
        answer = await self._exchange(call, await peer.offer())
        if peer.has_channel and _rejects_channel(answer):
            raise _NoChannel
        await peer.take(allowed_answer(answer, allow_private=self._targets.allow_private))

    async def _leave(self, peer: Peer) -> None:
        await peer.close()
        resource, self._resource = self._resource, None
        if resource is not None:
            try:
                async with http.client(self._targets, self._context, self.GOODBYE_S) as client:
                    await client.delete(resource, headers=self._headers(resource, "DELETE"))
            except httpx.HTTPError as error:
                log.info("a WHIP resource was not deleted", extra={"error": type(error).__name__})

    # --- signalling -----------------------------------------------------------------------------

    async def _exchange(self, call: Call, offer: str) -> str:
        """The answer's SDP. Raises :class:`Unreached` or :class:`_NoChannel`."""
        try:
            async with http.client(self._targets, self._context, self.REQUEST_S) as client:
                response = await self._post(client, call, offer)
        except httpx.TimeoutException:
            raise Unreached("timeout", "no answer to the offer") from None
        except httpx.HTTPError as error:
            forbidden = http.refused(error)
            cause: Cause = "forbidden" if forbidden is not None else "error"
            raise Unreached(cause, str(forbidden or f"{type(error).__name__}: no answer to the offer")) from None
        if response.status_code in _WITHOUT_CHANNEL and "m=application" in offer:
            raise _NoChannel
        if not response.is_success:
            raise Unreached("refused", f"HTTP {response.status_code} to the offer")
        return self._smallwebrtc_answer(response) if self._is_smallwebrtc else self._whip_answer(response)

    async def _post(self, client: httpx.AsyncClient, call: Call, offer: str) -> httpx.Response:
        """WHIP's servers may send on (RFC 9725 §4.5); each new place is judged as the first was."""
        url = self._spec.url or ""
        for _ in range(self.HOPS):
            if self._is_smallwebrtc:
                body = {"sdp": offer, "type": "offer", "request_data": {"call": facts(call)}}
                response = await client.post(url, json=body, headers=self._headers(url, "POST"))
            else:
                headers = [*self._headers(url, "POST"), ("Content-Type", "application/sdp")]
                response = await client.post(url, content=offer, headers=headers)
            place = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or place is None:
                return response
            url = urljoin(url, place)
            if urlsplit(url).scheme not in ("http", "https"):
                return response
        return response

    @property
    def _is_smallwebrtc(self) -> bool:
        return self._spec.signalling == "smallwebrtc"

    def _headers(self, url: str, method: str) -> list[tuple[str, str]]:
        """The record's headers are for its own server: another origin does not get them."""
        if _origin(url) != _origin(self._spec.url or ""):
            return []
        return list(request_headers(self._spec, self._call_sid, method, url, self._wall()))

    def _whip_answer(self, response: httpx.Response) -> str:
        place = response.headers.get("Location")
        if place is not None:
            resource = urljoin(str(response.request.url), place)
            self._resource = resource if urlsplit(resource).scheme in ("http", "https") else None
        return response.text

    def _smallwebrtc_answer(self, response: httpx.Response) -> str:
        try:
            sdp = response.json()["sdp"]
        except (ValueError, KeyError, TypeError):
            raise Unreached("error", "the answer to the offer is no SmallWebRTC") from None
        if not isinstance(sdp, str):
            raise Unreached("error", "the answer to the offer is no SmallWebRTC")
        return sdp


# --- the connection ---------------------------------------------------------------------------


class CallerTrack(MediaStreamTrack):
    """The caller's voice, in the pace of the call."""

    kind = "audio"

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._audio = call.audio()

    async def recv(self) -> AudioFrame:
        """20 ms; its time is the call's own, so that a gap stays one."""
        try:
            heard = await anext(self._audio)
        except StopAsyncIteration:
            raise MediaStreamError from None
        samples = np.frombuffer(heard.pcm, dtype=np.int16).reshape(1, -1)
        frame = AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        frame.pts = heard.at_ms * RATE_HZ // 1000
        frame.time_base = Fraction(1, RATE_HZ)
        return frame


class Peer:
    """One peer connection of one call. Next: :meth:`offer`, :meth:`take`, :meth:`talk`; :meth:`close` in any case."""

    PING_S: Final = 1.0
    """pipecat takes a peer for gone that pinged once, and then not for 3 s."""

    LONGEST_MESSAGE: Final = 64 * 1024
    WAITING: Final = 100
    BUFFERED_BYTES: Final = 256 * 1024
    PATIENCE_S: Final = 0.06
    """As much waits at all times; with more, silence is left out."""
    LIMIT_S: Final = 5.0
    """With as much, everything is."""
    SILENT: Final = 100
    """Samples below are silence: -50 dBFS."""

    def __init__(self, call: Call, *, pings: bool, channel: bool) -> None:
        self._call = call
        self._pings = pings
        # No servers: aiortc's default would ask a public one. Host candidates do for a server.
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self._group: asyncio.TaskGroup | None = None
        self._up = asyncio.Event()
        self._end = asyncio.get_running_loop().create_future()
        self._voice: MediaStreamTrack | None = None
        self._waiting: deque[str] = deque(maxlen=self.WAITING)
        self._remote = Remote(call, self._say, self._spawn)
        self._channel: RTCDataChannel | None = None
        self._listen_to_connection()
        # Audio first: aiortc bundles what comes later with it, and not it with what came before.
        transceiver = self._connection.addTransceiver(CallerTrack(call), direction="sendrecv")
        codecs = RTCRtpSender.getCapabilities("audio").codecs
        transceiver.setCodecPreferences([codec for codec in codecs if codec.mimeType == "audio/opus"])
        if channel:
            self._open_channel()

    @property
    def has_channel(self) -> bool:
        """The offer has a data channel."""
        return self._channel is not None

    async def offer(self) -> str:
        """Our SDP, with all candidates."""
        await self._connection.setLocalDescription(await self._connection.createOffer())
        return self._connection.localDescription.sdp

    async def take(self, answer: str) -> None:
        """The peer's SDP; returns when we are connected. Raises :class:`Unreached`."""
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        except Exception as error:  # aiortc has no exception of its own for what a peer may write
            raise Unreached("error", f"the answer's SDP cannot be used: {type(error).__name__}") from None
        up = asyncio.ensure_future(self._up.wait())
        try:
            await asyncio.wait((up, self._end), return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
        if not self._up.is_set():
            raise Unreached("error", "no path to the agent's media was found")

    async def talk(self) -> None:
        """Until the call ends, or the peer leaves. Raises :class:`Lost` when it just vanishes."""
        async with asyncio.TaskGroup() as self._group:
            work = [self._remote.tell_digits(), self._remote.tell_events(), self._speak()]
            if self._pings:
                work.append(self._ping())
            tasks = [self._group.create_task(each) for each in work]
            over = self._group.create_task(self._call.ended())
            await asyncio.wait((over, self._end), return_when=asyncio.FIRST_COMPLETED)
            for task in (*tasks, over):
                task.cancel()
        if not self._call.over and self._end.result() == "failed":
            raise Lost("the connection to the agent failed")

    async def close(self) -> None:
        """Nothing stays."""
        if not self._end.done():
            self._end.set_result("closed")
        await self._connection.close()

    # --- what the connection tells --------------------------------------------------------------

    def _listen_to_connection(self) -> None:
        connection = self._connection

        def changed() -> None:
            state = connection.connectionState
            if state == "connected":
                self._up.set()
            elif state in ("failed", "closed"):
                self._leave(state)

        def track(voice: MediaStreamTrack) -> None:
            if voice.kind == "audio":
                self._voice = voice

        connection.on("connectionstatechange", changed)
        connection.on("track", track)

    def _leave(self, how: str) -> None:
        if not self._end.done():
            self._end.set_result(how)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> object:
        if self._group is None:
            work.close()
            return None
        return self._group.create_task(work)

    # --- the data channel -----------------------------------------------------------------------

    def _open_channel(self) -> None:
        channel = self._channel = self._connection.createDataChannel("events")

        def opened() -> None:
            self._send(json.dumps({"type": "call", "call": facts(self._call)}))
            if self._pings:
                self._send(json.dumps(_CLIENT_READY))
            while self._waiting:
                self._send(self._waiting.popleft())

        channel.on("open", opened)
        channel.on("message", self._hear)

    def _hear(self, message: str | bytes) -> None:
        """Whatever the peer sends: bounded, and ignored when it is none of ours."""
        if len(message) > self.LONGEST_MESSAGE:
            self._remote.ignored += 1
            return
        try:
            read = json.loads(message)
        except (ValueError, RecursionError):
            self._remote.ignored += 1
            return
        if read == _PEER_LEFT:
            self._leave("closed")
        else:
            self._remote.hear(read)

    def _say(self, message: dict[str, Any]) -> None:
        self._send(json.dumps(message))

    def _send(self, text: str) -> None:
        channel = self._channel
        if channel is None:
            return
        if channel.readyState == "connecting":
            self._waiting.append(text)
        elif channel.readyState == "open" and channel.bufferedAmount < self.BUFFERED_BYTES:
            channel.send(text)

    async def _ping(self) -> None:
        while True:
            if self._channel is not None and self._channel.readyState == "open":
                self._send("ping")
            await asyncio.sleep(self.PING_S)

    # --- the agent's voice ----------------------------------------------------------------------

    async def _speak(self) -> None:
        voice = self._voice
        if voice is None:
            return
        while True:
            try:
                frame = await voice.recv()
            except MediaStreamError:
                return
            if isinstance(frame, AudioFrame):
                await self._play(_mono(frame))

    async def _play(self, samples: np.ndarray[Any, np.dtype[np.int16]]) -> None:
        queued_s = self._call.queued_s
        silent = not samples.size or int(np.abs(samples.astype(np.int32)).max()) < self.SILENT
        if queued_s < self.LIMIT_S and not (silent and (queued_s > self.PATIENCE_S or not self._call.is_answered)):
            await self._call.play(samples.tobytes())


_PEER_LEFT: Final = {"type": "signalling", "message": {"type": "peerLeft"}}

_CLIENT_READY: Final = {
    "label": "rtvi-ai",
    "type": "client-ready",
    "id": "call",
    "data": {"version": "1.0.0", "about": {"library": "truedy-edge"}},
}
"""Bots that wait for RTVI's handshake begin with it; others ignore it."""


def _mono(frame: AudioFrame) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Packed 16-bit samples, as Opus is decoded here: two channels that say the same, as a rule."""
    samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))
    mixed: np.ndarray[Any, np.dtype[np.int16]] = samples.mean(axis=1, dtype=np.int32).astype(np.int16)
    return mixed


async def _before_the_end(call: Call, work: Coroutine[Any, Any, None]) -> bool:
    """Whether it was done before the call ended; what it raises is raised."""
    doing, over = asyncio.ensure_future(work), asyncio.ensure_future(call.ended())
    try:
        await asyncio.wait((doing, over), return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
            return True
        return False
    finally:
        for task in (doing, over):
            task.cancel()
        await asyncio.gather(doing, over, return_exceptions=True)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _rejects_channel(sdp: str) -> bool:
    return any(line.startswith("m=application 0 ") for line in sdp.splitlines())


def allowed_answer(sdp: str, *, allow_private: bool) -> str:
    """Without the candidates that media may not go to: private addresses, and names.

    Raises :class:`Unreached` when none is left of some.
    """
    if allow_private:
        return sdp
    kept, dropped, candidates = [], 0, 0
    for line in sdp.splitlines():
        if line.startswith("a=candidate:"):
            words = line.split()
            if len(words) < 5 or private_kind(words[4]) is not None:
                dropped += 1
                continue
            candidates += 1
        kept.append(line)
    if dropped and not candidates:
        raise Unreached("forbidden", "the agent's media is at no public address")
    return "\r\n".join(kept) + "\r\n"
