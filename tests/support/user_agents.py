"""baresip, linphone and PJSIP behind one face, so that a test is written once and run with each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.audio import Samples
from tests.support.baresip import Baresip
from tests.support.linphone import Linphone
from tests.support.opus import needs_opus
from tests.support.pjsip import Pjsip, has_pjsip
from tests.support.pki import Pki
from tests.support.ports import hostport
from tests.support.process import needs

__all__ = ["CALLED", "CALLEE", "HOSTS", "USER_AGENTS", "CalledPhone", "UserAgent", "called_phone", "user_agent"]

TRANSPORTS = ("udp", "tcp", "tls")
_REQUIREMENTS = {"baresip": needs("baresip"), "linphone": needs("linphonec"), "pjsip": has_pjsip}

USER_AGENTS = [
    pytest.param(name, transport, marks=mark, id=f"{name}-{transport}")
    for name, mark in _REQUIREMENTS.items()
    for transport in TRANSPORTS
]
"""Each program with each transport it speaks, skipped where it is not installed."""


HOSTS = [
    pytest.param(name, "127.0.0.1" if name == "pjsip" else "::1", marks=mark, id=name)
    for name, mark in _REQUIREMENTS.items()
]
"""Each program once, over IPv6 if it has that."""


class UserAgent(Protocol):
    """A phone that makes one call."""

    async def dial(self, did: str, address: tuple[str, int]) -> None:
        """Returns when it is answered."""

    async def ring(self, did: str, address: tuple[str, int]) -> None:
        """Dials, and leaves it at that."""

    async def press(self, digits: str) -> None:
        """As telephone-events."""

    async def hold(self) -> None:
        """A re-INVITE; the other side is heard no more."""

    async def resume(self) -> None:
        """A re-INVITE; all is as before."""

    async def hang_up(self) -> None:
        """Returns when the call is over; before the answer, a CANCEL."""

    async def expect_end(self, timeout_s: float = 15.0) -> None:
        """Until the call is over, whoever ended it."""

    def ends(self) -> int:
        """How often it was told that its call is over."""

    def heard(self) -> Samples:
        """What it has heard; whole once the block of :func:`user_agent` has ended."""


class _Baresip:
    def __init__(self, phone: Baresip) -> None:
        self._phone = phone
        self.press, self.hang_up, self.heard = phone.press, phone.hang_up, phone.heard

    async def dial(self, did: str, address: tuple[str, int]) -> None:
        await self._phone.dial(f"sip:{did}@{hostport(*address)}")  # it adds its transport itself

    async def ring(self, did: str, address: tuple[str, int]) -> None:
        await self._phone.command("dial", f"sip:{did}@{hostport(*address)}")

    async def hold(self) -> None:
        await self._phone.command("hold")

    async def resume(self) -> None:
        await self._phone.command("resume")

    async def expect_end(self, timeout_s: float = 15.0) -> None:
        await self._phone.expect("CALL_CLOSED", timeout_s)

    def ends(self) -> int:
        return self._phone.count("CALL_CLOSED")


class _Linphone:
    def __init__(self, phone: Linphone, transport: str) -> None:
        self._phone = phone
        self._transport = transport
        self.press, self.hang_up, self.heard = phone.press, phone.hang_up, phone.heard
        self.expect_end, self.ends = phone.expect_end, phone.ends
        self.hold, self.resume = phone.hold, phone.resume

    async def dial(self, did: str, address: tuple[str, int]) -> None:
        await self._phone.dial(self._uri(did, address))

    async def ring(self, did: str, address: tuple[str, int]) -> None:
        await self._phone.ring(self._uri(did, address))

    def _uri(self, did: str, address: tuple[str, int]) -> str:
        # Its TLS library knows no certificates for addresses, only for names.
        host = "localhost" if self._transport == "tls" else address[0]
        return f"sip:{did}@{hostport(host, address[1])}"


class _Pjsip:
    def __init__(self, phone: Pjsip, transport: str) -> None:
        self._phone = phone
        self._tail = "" if transport == "udp" else f";transport={transport}"

    async def dial(self, did: str, address: tuple[str, int]) -> None:
        await self._phone.dial(f"sip:{did}@{hostport(*address)}{self._tail}")

    async def ring(self, did: str, address: tuple[str, int]) -> None:
        await self._phone.ring(f"sip:{did}@{hostport(*address)}{self._tail}")

    async def hold(self) -> None:
        await self._phone.hold()

    async def resume(self) -> None:
        await self._phone.resume()

    async def press(self, digits: str) -> None:
        await self._phone.press(digits)

    async def hang_up(self) -> None:
        await self._phone.hang_up()

    async def expect_end(self, timeout_s: float = 15.0) -> None:
        await self._phone.expect_state("DISCONNECTED", timeout_s=timeout_s)

    def ends(self) -> int:
        return sum(event["state"] == "DISCONNECTED" for event in self._phone.events("state"))

    def heard(self) -> Samples:
        return self._phone.heard()


@asynccontextmanager
async def user_agent(
    name: str,
    transport: str,
    folder: Path,
    say: Samples,
    pki: Pki | None = None,
    *,
    codec: str = "PCMU",
    host: str = "127.0.0.1",
) -> AsyncIterator[UserAgent]:
    """One of them, playing ``say`` in its call in ``codec`` (PCMU, PCMA); PJSIP on 127.0.0.1 alone."""
    pki = pki if transport == "tls" else None
    match name:
        case "baresip":
            async with Baresip.open(
                folder, say, transport=transport, pki=pki, codec=f"{codec.lower()}/8000/1", host=host
            ) as baresip:
                yield _Baresip(baresip)
        case "linphone":
            async with Linphone.open(folder, say, transport=transport, pki=pki, codec=codec, host=host) as linphone:
                yield _Linphone(linphone, transport)
        case "pjsip":
            async with Pjsip.open(folder, say, transport=transport, pki=pki, codec=codec) as pjsip:
                yield _Pjsip(pjsip, transport)
        case _:
            raise ValueError(f"no user agent {name!r}; there are {list(_REQUIREMENTS)}")


CALLEE = "+14155550123"
CALLED = [
    pytest.param("baresip", "tls", marks=_REQUIREMENTS["baresip"], id="baresip-tls"),
    pytest.param("linphone", "tcp", marks=[_REQUIREMENTS["linphone"], needs_opus], id="linphone-tcp"),
    pytest.param("pjsip", "udp", marks=_REQUIREMENTS["pjsip"], id="pjsip-udp"),
]
"""Each program with one transport; its codec and its encryption are those of :func:`called_phone`."""


@dataclass(frozen=True, slots=True)
class CalledPhone:
    """A phone that answers :data:`CALLEE`, and goes where it is referred.

    ``expect_call`` returns when it has answered, and plays; ``trunk`` is what the edge's needs of it.
    """

    outbound: str
    trunk: dict[str, object]
    expect_call: Callable[[], Awaitable[None]]
    hang_up: Callable[[], Awaitable[None]]
    """The call it has come to have."""
    heard: Callable[[], Samples]
    """Whole once the block of :func:`called_phone` has ended."""


@asynccontextmanager
async def called_phone(name: str, transport: str, folder: Path, say: Samples, pki: Pki) -> AsyncIterator[CalledPhone]:
    """One of :data:`CALLED`: baresip in G.722 by SRTP, linphone in Opus by SRTP, PJSIP in PCMA."""
    match name:
        case "baresip":
            async with Baresip.open(
                folder,
                say,
                transport=transport,
                pki=pki if transport == "tls" else None,
                user=CALLEE,
                answers=True,
                codec="g722/8000/1",
                media_encryption="srtp-mand",
            ) as baresip:

                async def established() -> None:
                    await baresip.expect("CALL_ESTABLISHED")

                port = baresip.sip_port + (transport == "tls")
                trunk: dict[str, object] = {"codecs": ["G722"], "srtp": "require"}
                yield CalledPhone(f"{transport}:127.0.0.1:{port}", trunk, established, baresip.hang_up, baresip.heard)
        case "linphone":
            async with Linphone.open(
                folder, say, transport=transport, codec="opus", srtp=True, answers=True
            ) as linphone:

                async def answered() -> None:
                    await linphone.expect_call()
                    await linphone.play()

                trunk = {"codecs": ["OPUS"], "srtp": "require"}
                yield CalledPhone(
                    f"{transport}:127.0.0.1:{linphone.port}", trunk, answered, linphone.hang_up, linphone.heard
                )
        case "pjsip":
            async with Pjsip.open(folder, say, transport=transport, codec="PCMA", answers=True) as pjsip:

                async def confirmed() -> None:
                    await pjsip.expect_state("CONFIRMED")

                async def hang_up() -> None:
                    await pjsip.hang_up(call=pjsip.latest())

                trunk = {"codecs": ["PCMA"]}
                yield CalledPhone(f"{transport}:127.0.0.1:{pjsip.port}", trunk, confirmed, hang_up, pjsip.heard)
        case _:
            raise ValueError(f"no user agent {name!r}; there are {list(_REQUIREMENTS)}")
