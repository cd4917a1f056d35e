"""An agent behind WebRTC: its signalling by fakes, its media between two real peers on loopback."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("aiortc")

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaRelay

from media import http
from media.hosting import webrtc
from media.hosting.rates import encoding_of
from media.hosting.session import Lost, Unreached
from media.hosting.webrtc import Peer, WebRtcAgent, allowed_answer
from media.hosting.wire import Kind
from media.messages import AgentSpec
from media.targets import TargetRefused, Targets
from tests.media.hosting.lines import FakeCall
from tests.support.audio import heard_s, tone

WHIP = AgentSpec(
    protocol="webrtc",
    url="https://agent.example.com/whip",
    headers={"Authorization": "Bearer planted"},
    signalling="whip",
)
SMALL = AgentSpec(protocol="webrtc", url="https://agent.example.com/api/offer", signalling="smallwebrtc")

Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]


class FakePeer:
    """Keeps what it is told; ``talk`` ends at once."""

    made: list[FakePeer]

    def __init__(self, call: FakeCall, *, pings: bool, channel: bool) -> None:
        self.pings, self.has_channel = pings, channel
        self.answer: str | None = None
        self.closed = False
        type(self).made.append(self)

    async def offer(self) -> str:
        return "v=0\r\nm=audio 9 X\r\n" + ("m=application 9 X\r\n" if self.has_channel else "")

    async def take(self, answer: str) -> None:
        self.answer = answer

    async def talk(self) -> None: ...

    async def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def fake_peers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the tests of signalling."""
    if "realtime" not in request.keywords:
        FakePeer.made = []
        monkeypatch.setattr(webrtc, "Peer", FakePeer)


class Server:
    """Answers what is posted to it, by the next of its answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: httpx.Response | Exception | Handler) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)
        monkeypatch.setattr(http, "client", self._client)

    def _client(self, targets: Targets, context: ssl.SSLContext, timeout_s: float) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self._handle))

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else await answer(request)


def agent(spec: AgentSpec, *, allow_private: bool = True) -> WebRtcAgent:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return WebRtcAgent(spec, targets=Targets(allow_private=allow_private), context=context, wall=lambda: 1e9)


def created(**headers: str) -> httpx.Response:
    return httpx.Response(201, text="v=0\r\nthe answer\r\n", headers=headers)


# --- WHIP (RFC 9725) --------------------------------------------------------------------------


async def test_whip_is_a_post_of_sdp_and_a_delete_of_what_it_made(monkeypatch: pytest.MonkeyPatch) -> None:
    link = '<stun:stun.example.net>; rel="ice-server"'
    server = Server(monkeypatch, created(Location="/sessions/1", Link=link, ETag='"x"'), httpx.Response(200))
    call = FakeCall(WHIP, 48000)
    await agent(WHIP)(call)
    post, delete = server.requests
    assert (post.method, str(post.url), post.headers["content-type"]) == ("POST", WHIP.url, "application/sdp")
    assert post.content.decode().startswith("v=0")
    assert (delete.method, str(delete.url)) == ("DELETE", "https://agent.example.com/sessions/1")
    for request in server.requests:
        assert request.headers["authorization"] == "Bearer planted"
        assert request.headers["x-truedy-call-sid"] == call.id
    [peer] = FakePeer.made
    assert (peer.answer, peer.pings, peer.closed) == ("v=0\r\nthe answer\r\n", False, True)
    assert call.line.kinds() == [Kind.STARTED]


async def test_a_server_may_send_on_and_its_headers_stay_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9725 §4.5: 307. Another origin does not get the record's secrets."""
    there = "https://other.example.net/whip/7"
    server = Server(
        monkeypatch,
        httpx.Response(307, headers={"Location": "/new"}),
        httpx.Response(308, headers={"Location": there}),
        created(Location="https://other.example.net/s/1"),
        httpx.Response(404),
    )
    await agent(WHIP)(FakeCall(WHIP, 48000))
    assert [str(request.url) for request in server.requests] == [
        WHIP.url,
        "https://agent.example.com/new",
        there,
        "https://other.example.net/s/1",
    ]
    assert ["authorization" in request.headers for request in server.requests] == [True, True, False, False]


async def test_a_server_that_sends_on_for_ever_or_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("/again", "ftp://example.com/"):
        answers = [httpx.Response(307, headers={"Location": place}) for _ in range(WebRtcAgent.HOPS)]
        server = Server(monkeypatch, *answers)
        with pytest.raises(Unreached, match="HTTP 307") as refused:
            await agent(WHIP)(FakeCall(WHIP, 48000))
        assert refused.value.cause == "refused"
        assert len(server.requests) <= WebRtcAgent.HOPS


@pytest.mark.parametrize("how", ["status", "answer"])
async def test_a_server_without_data_channels_is_offered_audio_alone(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    no = (
        httpx.Response(406)
        if how == "status"
        else httpx.Response(201, text="v=0\r\nm=application 0 DTLS/SCTP 5000\r\n")
    )
    server = Server(monkeypatch, no, created())
    await agent(WHIP)(FakeCall(WHIP, 48000))
    assert ["m=application" in request.content.decode() for request in server.requests] == [True, False]
    assert [(peer.has_channel, peer.closed) for peer in FakePeer.made] == [(True, True), (False, True)]


@pytest.mark.parametrize(
    ("answer", "cause", "message"),
    [
        (httpx.Response(401), "refused", "HTTP 401"),
        (httpx.Response(503), "refused", "HTTP 503"),
        (httpx.ConnectError("refused"), "error", "ConnectError"),
        (httpx.ReadTimeout("late"), "timeout", "no answer"),
    ],
)
async def test_a_server_that_takes_no_call_is_not_reached(
    answer: httpx.Response | Exception, cause: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Server(monkeypatch, answer)
    call = FakeCall(WHIP, 48000)
    with pytest.raises(Unreached, match=message) as refused:
        await agent(WHIP)(call)
    assert refused.value.cause == cause
    assert call.line.sent == []
    assert FakePeer.made[-1].closed


async def test_an_address_that_no_agent_may_have_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    error = httpx.ConnectError("no")
    error.__cause__ = TargetRefused("agent.example.com has a loopback address")
    Server(monkeypatch, error)
    with pytest.raises(Unreached, match="loopback") as refused:
        await agent(WHIP)(FakeCall(WHIP, 48000))
    assert refused.value.cause == "forbidden"


async def test_a_call_that_ends_while_the_server_thinks_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asyncio.Event()

    async def never(request: httpx.Request) -> httpx.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    Server(monkeypatch, never)
    call = FakeCall(WHIP, 48000)
    running = asyncio.ensure_future(agent(WHIP)(call))
    await asked.wait()
    call.finish()
    await running
    assert FakePeer.made[0].closed


# --- SmallWebRTC ------------------------------------------------------------------------------


async def test_smallwebrtc_is_json_with_the_calls_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = httpx.Response(200, json={"sdp": "v=0\r\nan answer\r\n", "type": "answer", "pc_id": "1"})
    server = Server(monkeypatch, answer)
    call = FakeCall(SMALL, 48000)
    await agent(SMALL)(call)
    [post] = server.requests
    body = json.loads(post.content)
    assert (body["type"], body["sdp"][:3]) == ("offer", "v=0")
    assert body["request_data"]["call"]["from_number"] == call.from_number
    [peer] = FakePeer.made
    assert (peer.answer, peer.pings) == ("v=0\r\nan answer\r\n", True)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"sdp": 5}', b"null"])
async def test_an_answer_that_is_no_smallwebrtc_is_an_error(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    Server(monkeypatch, httpx.Response(200, content=body))
    with pytest.raises(Unreached, match="SmallWebRTC"):
        await agent(SMALL)(FakeCall(SMALL, 48000))


# --- candidates -------------------------------------------------------------------------------

CANDIDATE = "a=candidate:1 1 udp 2130706431 {} 5000 typ host"


def test_media_goes_to_public_addresses_only_unless_the_operator_allows_it() -> None:
    lines = ["v=0", *(CANDIDATE.format(a) for a in ("10.0.0.1", "8.8.8.8", "x.local", "::1")), "a=candidate:1", "m=x"]
    sdp = "\r\n".join(lines) + "\r\n"
    assert allowed_answer(sdp, allow_private=True) == sdp
    assert allowed_answer(sdp, allow_private=False).splitlines() == ["v=0", lines[2], "m=x"]
    assert allowed_answer("v=0\r\n", allow_private=False) == "v=0\r\n"
    with pytest.raises(Unreached) as refused:
        allowed_answer("v=0\r\n" + lines[1], allow_private=False)
    assert refused.value.cause == "forbidden"


# --- two peers --------------------------------------------------------------------------------

realtime = pytest.mark.realtime


class Far:
    """The agent's peer: an echo, if it is asked to be, and its data channel."""

    def __init__(self) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.messages: asyncio.Queue[str] = asyncio.Queue()
        self.channel: Any = None
        relay = MediaRelay()
        self.connection.on("track", lambda track: self.connection.addTrack(relay.subscribe(track)))
        self.connection.on("datachannel", self._opened)

    def _opened(self, channel: Any) -> None:
        self.channel = channel
        channel.on("message", self.messages.put_nowait)

    async def answer(self, offer: str) -> str:
        await self.connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await self.connection.setLocalDescription(await self.connection.createAnswer())
        return self.connection.localDescription.sdp

    async def next(self) -> Any:
        async with asyncio.timeout(5.0):
            text = await self.messages.get()
            return text if text == "ping" else json.loads(text)


@asynccontextmanager
async def two_peers(*, pings: bool = False, channel: bool = True) -> AsyncIterator[SimpleNamespace]:
    call, far = FakeCall(SMALL, 48000), Far()
    peer = Peer(call, pings=pings, channel=channel)
    try:
        await peer.take(await far.answer(await peer.offer()))
        talking = asyncio.ensure_future(peer.talk())
        yield SimpleNamespace(call=call, far=far, peer=peer, talking=talking)
        call.finish()
        await asyncio.gather(talking, return_exceptions=True)
    finally:
        await peer.close()
        await far.connection.close()


@realtime
async def test_the_caller_is_heard_and_hears_and_the_channel_tells() -> None:
    async with two_peers(pings=True) as it:
        call, far = it.call, it.far
        assert (await far.next())["call"]["id"] == call.id
        assert (await far.next())["type"] == "client-ready"
        call.establish()
        wide = np.repeat(tone(500, 1.5), 6).tobytes()
        for at in range(0, len(wide), 1920):
            call.hear(wide[at : at + 1920], at_ms=at // 96)
            await asyncio.sleep(0.019)
        heard = np.frombuffer(call.line.played(), dtype=np.int16)[::6]
        assert heard_s(heard, 500) > 0.5
        call.press("5")
        while (message := await far.next()) == "ping":
            pass
        assert message == {"type": "dtmf", "digit": "5"}
        far.channel.send("no json")
        far.channel.send("[" * 60_000)
        far.channel.send("x" * 70_000)
        far.channel.send(json.dumps({"type": "hang-up"}))
        async with asyncio.timeout(5.0):
            while Kind.HANG_UP not in call.line.kinds():
                await asyncio.sleep(0.01)
        assert it.peer._remote.ignored == 3


@realtime
@pytest.mark.parametrize("how", ["close", "peer left"])
async def test_a_peer_that_leaves_has_closed_the_call(how: str) -> None:
    async with two_peers() as it:
        await it.far.next()
        if how == "close":
            await it.far.connection.close()
        else:
            it.far.channel.send(json.dumps({"type": "signalling", "message": {"type": "peerLeft"}}))
        await asyncio.wait_for(it.talking, 5.0)


@realtime
async def test_a_connection_that_fails_is_an_agent_lost() -> None:
    """ICE's consent is refused for half a minute (RFC 7675); here it is said to be."""
    async with two_peers(channel=False) as it:
        it.peer._leave("failed")
        with pytest.raises(Lost):
            await asyncio.wait_for(it.talking, 5.0)


@realtime
async def test_silence_answers_no_phone_and_makes_up_for_delay() -> None:
    call = FakeCall(SMALL, 48000)
    peer = Peer(call, pings=False, channel=False)
    try:
        silent, loud = np.zeros(960, dtype=np.int16), np.full(960, 3000, dtype=np.int16)
        await peer._play(silent)
        assert call.line.sent == []
        await peer._play(loud)
        assert len(call.line.played()) == 1920
        call.establish()
        call.hear(queued_ms=100)
        await peer._play(silent)
        assert len(call.line.played()) == 1920
        call.hear(queued_ms=20)
        await peer._play(silent)
        assert len(call.line.played()) == 2 * 1920
        call.hear(queued_ms=6000)
        await peer._play(loud)
        assert len(call.line.played()) == 2 * 1920
    finally:
        await peer.close()


@realtime
async def test_an_answer_that_is_no_sdp_is_not_reached() -> None:
    peer = Peer(FakeCall(SMALL, 48000), pings=False, channel=True)
    try:
        await peer.offer()
        for answer in ("", "hello", "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 96\r\n"):
            with pytest.raises(Unreached):
                await peer.take(answer)
    finally:
        await peer.close()


def test_frames_of_the_wire_are_opus_own_rate() -> None:
    assert encoding_of(SMALL) == f"L16/{webrtc.RATE_HZ}"
