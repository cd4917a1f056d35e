"""baresip as a phone: it dials, is dialed, plays a WAV file and records what it hears.

Driven by JSON over its control port (netstrings); its events tell what happened, so nothing waits for time.
On a loopback alias its RTP would leave from 127.0.0.1 whatever its SDP says, hence 127.0.0.1 throughout.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.audio import Samples, read_wav, write_wav
from tests.support.pki import Pki
from tests.support.ports import free_port, free_ports, hostport
from tests.support.process import Program, running

__all__ = ["Baresip"]

_CONFIG = """\
poll_method             epoll
sip_listen              {address}
{tls}
call_local_timeout      120
call_max_calls          4
audio_player            aufile,{folder}/player.wav
audio_source            aufile,{folder}/say.wav
audio_alert             aufile,/dev/null
ausrc_srate             8000
auplay_srate            8000
ausrc_channels          1
auplay_channels         1
audio_buffer            20-160
rtp_ports               {rtp_port}-{rtp_last}
rtcp_mux                {rtcp_mux}
jitter_buffer_delay     2-5
module_path             /usr/lib/baresip/modules
module                  g711.so
{modules}
module                  aufile.so
module                  sndfile.so
snd_path                {folder}
module_tmp              uuid.so
module_tmp              account.so
module_app              menu.so
module_app              ctrl_tcp.so
ctrl_tcp_listen         127.0.0.1:{control_port}
net_interface           {host}
"""


def _modules(codec: str, media_encryption: str) -> list[str]:
    name = codec.partition("/")[0]
    return [name] * (name in ("g722", "opus")) + ["srtp"] * bool(media_encryption)


class Baresip:
    """Open with :meth:`open`. ``sip_port`` is where it listens (TLS: the next one)."""

    def __init__(self, program: Program, folder: Path, sip_port: int) -> None:
        self.program = program
        self.sip_port = sip_port
        self.events: list[dict[str, Any]] = []
        self._folder = folder
        self._grew = asyncio.Condition()
        self._writer: asyncio.StreamWriter
        self._commands = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        folder: Path,
        say: Samples,
        *,
        transport: str = "udp",
        user: str = "baresip",
        answers: bool = False,
        pki: Pki | None = None,
        codec: str = "pcmu/8000/1",
        media_encryption: str = "",
        credentials: tuple[str, str] | None = None,
        rtcp_mux: bool = False,
        host: str = "127.0.0.1",
    ) -> AsyncIterator[Baresip]:
        """One account without a registrar; ``say`` is what it plays in every call, once.

        ``codec`` and ``media_encryption`` (``srtp-mand``, or ``srtp`` under RTP/AVP) as baresip has them;
        ``credentials``: user and password.
        """
        folder.mkdir(parents=True)
        sip_port, control_port, rtp_port = free_ports(2, host), free_port(), free_ports(20, host)
        address = hostport(host, sip_port)
        write_wav(folder / "say.wav", say)
        tls = f"sip_certificate {pki.bundle}\nsip_cafile {pki.authority}" if pki else ""
        (folder / "config").write_text(
            _CONFIG.format(
                folder=folder,
                host=host,
                address=address,
                rtcp_mux="yes" if rtcp_mux else "no",
                control_port=control_port,
                rtp_port=rtp_port,
                rtp_last=rtp_port + 19,
                tls=tls,
                modules="\n".join(f"module {each}.so" for each in _modules(codec, media_encryption)),
            )
        )
        mode = "auto" if answers else "manual"
        (folder / "accounts").write_text(
            f"<sip:{user}@{address};transport={transport}>;regint=0;answermode={mode};audio_codecs={codec}"
            + (f";mediaenc={media_encryption}" if media_encryption else "")
            + (";auth_user={};auth_pass={}\n".format(*credentials) if credentials else "\n")
        )
        (folder / "contacts").touch()
        async with running("baresip", "-6" if ":" in host else "-4", "-s", "-f", folder, name="baresip") as program:
            await program.expect(r"baresip is ready")
            phone = cls(program, folder, sip_port)
            reader, phone._writer = await asyncio.open_connection("127.0.0.1", control_port)
            listener = asyncio.create_task(phone._listen(reader), name="baresip events")
            try:
                yield phone
            finally:
                phone._writer.close()
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            length = int((await reader.readuntil(b":"))[:-1])
            message = json.loads((await reader.readexactly(length + 1))[:-1])
            async with self._grew:
                self.events.append(message)
                self._grew.notify_all()

    async def command(self, command: str, parameters: str = "") -> None:
        """Such as ``dial``, ``hangup``; AssertionError when it refuses."""
        self._commands += 1
        token = str(self._commands)
        body = json.dumps({"command": command, "params": parameters, "token": token}).encode()
        self._writer.write(b"%d:%s," % (len(body), body))
        reply = await self._until(lambda event: event.get("token") == token, f"a reply to {command}", 5.0)
        if not reply.get("ok"):
            raise self.program.failure(f"{command} {parameters}: {reply}")

    async def _until(self, wanted: Any, what: str, timeout_s: float) -> dict[str, Any]:
        at = 0
        try:
            async with asyncio.timeout(timeout_s), self._grew:
                while True:
                    while at < len(self.events):
                        at += 1
                        if wanted(self.events[at - 1]):
                            return self.events[at - 1]
                    await self._grew.wait()
        except TimeoutError:
            kinds = [event.get("type", "reply") for event in self.events]
            raise self.program.failure(f"{what} did not come within {timeout_s} s; events: {kinds}") from None

    async def expect(self, kind: str, timeout_s: float = 10.0) -> dict[str, Any]:
        """The first event of a kind: ``CALL_RINGING``, ``CALL_ESTABLISHED``, ``CALL_CLOSED`` (``param`` says why)."""
        return await self._until(lambda event: event.get("type") == kind, kind, timeout_s)

    def count(self, kind: str) -> int:
        """How many events of a kind there have been."""
        return sum(event.get("type") == kind for event in self.events)

    async def dial(self, uri: str) -> None:
        """Returns when it is answered."""
        await self.command("dial", uri)
        await self.expect("CALL_ESTABLISHED")

    async def press(self, digits: str) -> None:
        """As telephone-events in the current call, each key let go before the next."""
        for digit in digits:
            await self.command("sndcode", digit)

    def digits(self) -> str:
        """What the other side has pressed so far."""
        return "".join(event["param"] for event in self.events if event.get("type") == "CALL_DTMF_START")

    async def hang_up(self) -> None:
        """Returns when the call is over."""
        await self.command("hangup")
        await self.expect("CALL_CLOSED")

    def heard(self) -> Samples:
        """What it has heard; whole once the call is over."""
        recordings = sorted(self._folder.glob("dump-*-dec.wav"))
        if not recordings:
            raise self.program.failure(f"it recorded nothing: {[path.name for path in self._folder.iterdir()]}")
        return np.concatenate([read_wav(path) for path in recordings])
