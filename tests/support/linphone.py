"""linphonec as a phone: it dials from its console, plays a WAV file and records what it hears."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.audio import Samples, read_wav, write_wav
from tests.support.pki import Pki
from tests.support.ports import free_port, free_ports
from tests.support.process import Program, running

__all__ = ["Linphone"]

_CONFIG = """\
[sip]
sip_port={udp}
sip_tcp_port={tcp}
sip_tls_port={tls}
bind_address={host}
guess_hostname=0
contact="linphone" <sip:linphone@{contact}>
ipv6_migration_done=1
verify_server_certs=1
verify_server_cn=1
root_ca={authority}
media_encryption={encryption}
register_only_when_network_is_up=0
use_ipv6={ipv6}
use_info={info}
use_rfc2833={events}
sdp_200_ack={delayed}
100rel_support_level={reliable}
session_expires_enabled={timer}
session_expires_value={session}
session_expires_refresher_value=uac

[auth_info_0]
username=linphone
userid={username}
passwd={password}
realm=sip.test

[rtp]
audio_rtp_port={rtp}
rtcp_mux={rtcp_mux}
audio_adaptive_jitt_comp_enabled=0

[misc]
use_cn={noise}

[sound]
use_files=1
echocancellation=0

[net]
mtu=1300
firewall_policy=0

[video]
display=0
capture=0
"""
_CODEC = """
[audio_codec_{number}]
mime={mime}
rate={rate}
channels={channels}
enabled={enabled}
"""
_CODECS = (
    ("PCMU", 8000, 1),
    ("PCMA", 8000, 1),
    ("G722", 8000, 1),
    ("opus", 48000, 2),
    ("speex", 16000, 1),
    ("speex", 8000, 1),
    ("G729", 8000, 1),
)


def _codecs(wanted: str) -> str:
    """Each that it has, so that it adds none by itself."""
    return "".join(
        _CODEC.format(number=number, mime=mime, rate=rate, channels=channels, enabled=int(mime == wanted))
        for number, (mime, rate, channels) in enumerate(_CODECS)
    )


class Linphone:
    """Open with :meth:`open`. ``port`` is where it listens."""

    def __init__(self, program: Program, folder: Path, transport: str, port: int) -> None:
        self.program = program
        self.port = port
        self._folder = folder
        self._transport = transport

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        folder: Path,
        say: Samples,
        *,
        transport: str = "udp",
        pki: Pki | None = None,
        codec: str = "PCMU",
        srtp: bool = False,
        answers: bool = False,
        credentials: tuple[str, str] = ("", ""),
        rtcp_mux: bool = False,
        noise: bool = False,
        info: bool = False,
        offers: bool = True,
        prack: bool = False,
        session_s: int | None = None,
        host: str = "127.0.0.1",
    ) -> AsyncIterator[Linphone]:
        """``say`` is what it plays once it is told to; a home of its own, so that nothing is remembered.

        ``codec`` is ``PCMU``, ``PCMA``, ``G722`` or ``opus``; ``credentials`` are a user and a password for the realm
        ``sip.test``. One that ``answers`` takes UDP, too, so that it can be referred to anybody. ``noise``: it leaves
        its silence out for comfort noise. ``info``: digits go by INFO. ``offers``: its INVITE has an offer. ``prack``:
        it supports 100rel. ``session_s``: its timer [s].
        """
        (folder / ".local/share/linphone").mkdir(parents=True)
        write_wav(folder / "say.wav", say)
        spoken = (transport, "udp") if answers else (transport,)
        ports = {name: free_port(host) if name in spoken else 0 for name in ("udp", "tcp", "tls")}
        config = folder / "linphonerc"
        config.write_text(
            _CONFIG.format(
                **ports,
                host=host,
                contact=f"[{host}]" if ":" in host else host,
                ipv6=int(":" in host),
                info=int(info),
                events=int(not info),
                delayed=int(not offers),
                reliable=int(prack),
                timer=int(session_s is not None),
                session=session_s or 0,
                rtp=free_ports(2, host),
                rtcp_mux=int(rtcp_mux),
                noise=int(noise),
                authority=pki.authority if pki else "",
                encryption="srtp" if srtp else "none",
                username=credentials[0],
                password=credentials[1],
            )
            + _codecs(codec)
        )
        home = {"HOME": str(folder), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
        log = folder / "log"
        options = ("-S", "-c", config, "-d", "4", "-l", log, *(["-a"] if answers else []))
        async with running("linphonec", *options, environment=home) as program:
            phone = cls(program, folder, transport, ports[transport])
            await program.write("soundcard use files")
            await program.write(f"record {folder / 'heard.wav'}")
            yield phone

    async def ring(self, uri: str) -> None:
        """An INVITE."""
        await self.program.write(f"call {uri}{'' if self._transport == 'udp' else f';transport={self._transport}'}")

    async def dial(self, uri: str, timeout_s: float = 15.0) -> None:
        """Returns when it is answered and plays."""
        await self.ring(uri)
        await self.program.expect(r"Call \d+ .*(connected|answered)", timeout_s)
        await self.play()

    async def play(self) -> None:
        """Its recording, from its beginning, in the current call."""
        await self.program.write(f"play {self._folder / 'say.wav'}")

    async def expect_call(self, timeout_s: float = 15.0) -> None:
        """Until somebody has called and was answered."""
        await self.program.expect(r"Call \d+ .*(connected|answered)", timeout_s)

    async def press(self, digits: str) -> None:
        """As telephone-events, or by INFO, in the current call."""
        for digit in digits:
            await self.program.write(digit)

    async def hold(self) -> None:
        """A re-INVITE with ``a=sendonly``."""
        await self.program.write("pause")

    async def resume(self) -> None:
        """A re-INVITE with ``a=sendrecv``; its recording goes on from its beginning."""
        await self.program.write("resume")

    async def hang_up(self) -> None:
        """Returns when the call is over."""
        await self.program.write("terminate")
        await self.expect_end()

    async def expect_end(self, timeout_s: float = 15.0) -> None:
        """Until the call is over, whoever ended it."""
        await self.program.expect(r"Call \d+ .*ended", timeout_s)

    def ends(self) -> int:
        """How often a call of its has ended, by its log: its console repeats lines."""
        return self._log().count(" to LinphoneCallEnd\n")

    def sent(self, line: str) -> int:
        """How many messages it sent or received whose first line begins so."""
        return self._log().count(f"\n{line}")

    def offered(self) -> bool:
        """Whether its INVITE had a session description: the first there was came before the first 200."""
        log = self._log()
        return log.index("\nv=0") < log.index("\nSIP/2.0 200")

    def _log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def heard(self) -> Samples:
        """What it has heard; whole once the call is over."""
        return read_wav(self._folder / "heard.wav")
