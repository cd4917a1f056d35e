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
bind_address=127.0.0.1
guess_hostname=0
contact="linphone" <sip:linphone@127.0.0.1>
ipv6_migration_done=1
verify_server_certs=1
verify_server_cn=1
root_ca={authority}
media_encryption={encryption}
register_only_when_network_is_up=0
use_ipv6=0
use_info=0
use_rfc2833=1

[auth_info_0]
username=linphone
userid={username}
passwd={password}
realm=sip.test

[rtp]
audio_rtp_port={rtp}
audio_adaptive_jitt_comp_enabled=0

[sound]
use_files=1
echocancellation=0

[net]
mtu=1300
firewall_policy=0

[video]
display=0
capture=0

[audio_codec_0]
mime=PCMU
rate=8000
channels=1
enabled={pcmu}

[audio_codec_1]
mime=opus
rate=48000
channels=2
enabled={opus}

[audio_codec_2]
mime=speex
rate=16000
channels=1
enabled=0

[audio_codec_3]
mime=speex
rate=8000
channels=1
enabled=0
"""


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
    ) -> AsyncIterator[Linphone]:
        """``say`` is what it plays once it is told to; a home of its own, so that nothing is remembered.

        ``codec`` is ``PCMU`` or ``opus``; ``credentials`` are a user and a password for the realm ``sip.test``. One
        that ``answers`` takes UDP, too, so that it can be referred to anybody.
        """
        (folder / ".local/share/linphone").mkdir(parents=True)
        write_wav(folder / "say.wav", say)
        spoken = (transport, "udp") if answers else (transport,)
        ports = {name: free_port() if name in spoken else 0 for name in ("udp", "tcp", "tls")}
        config = folder / "linphonerc"
        config.write_text(
            _CONFIG.format(
                **ports,
                rtp=free_ports(2),
                authority=pki.authority if pki else "",
                encryption="srtp" if srtp else "none",
                pcmu=int(codec == "PCMU"),
                opus=int(codec == "opus"),
                username=credentials[0],
                password=credentials[1],
            )
        )
        home = {"HOME": str(folder), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
        log = folder / "log"
        options = ("-S", "-c", config, "-d", "4", "-l", log, *(["-a"] if answers else []))
        async with running("linphonec", *options, environment=home) as program:
            phone = cls(program, folder, transport, ports[transport])
            await program.write("soundcard use files")
            await program.write(f"record {folder / 'heard.wav'}")
            yield phone

    async def dial(self, uri: str, timeout_s: float = 15.0) -> None:
        """Returns when it is answered and plays."""
        await self.program.write(f"call {uri}{'' if self._transport == 'udp' else f';transport={self._transport}'}")
        await self.program.expect(r"Call \d+ .*(connected|answered)", timeout_s)
        await self.play()

    async def play(self) -> None:
        """Its recording, from its beginning, in the current call."""
        await self.program.write(f"play {self._folder / 'say.wav'}")

    async def expect_call(self, timeout_s: float = 15.0) -> None:
        """Until somebody has called and was answered."""
        await self.program.expect(r"Call \d+ .*(connected|answered)", timeout_s)

    async def press(self, digits: str) -> None:
        """As telephone-events in the current call."""
        for digit in digits:
            await self.program.write(digit)

    async def hang_up(self) -> None:
        """Returns when the call is over."""
        await self.program.write("terminate")
        await self.expect_end()

    async def expect_end(self, timeout_s: float = 15.0) -> None:
        """Until the call is over, whoever ended it."""
        await self.program.expect(r"Call \d+ .*ended", timeout_s)

    def ends(self) -> int:
        """How often a call of its has ended, by its log: its console repeats lines."""
        log = (self._folder / "log").read_text(errors="replace")
        return log.count(" to LinphoneCallEnd\n")

    def heard(self) -> Samples:
        """What it has heard; whole once the call is over."""
        return read_wav(self._folder / "heard.wav")
