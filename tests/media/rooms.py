"""Media in this process for tests: a started service, and the words to talk to it with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from media.in_process import InProcessMedia
from media.messages import AgentSpec, CallContext, CallOpened, LegPolicy, NoticeBody, OpenCall
from media.settings import ServiceSettings

__all__ = ["CONTEXT", "ECHO", "LAB", "Room", "offer", "open_call", "room"]

Kind = TypeVar("Kind", bound=NoticeBody)

LAB = LegPolicy(allow_private=True)
ECHO = AgentSpec(protocol="builtin", name="echo")
CONTEXT = CallContext(
    call_sid="CA" + "1" * 32,
    account_sid="AC" + "2" * 32,
    direction="inbound",
    from_number="+14155550100",
    to_number="+14155550199",
    trunk="lab",
)


def offer(port: int, codecs: str = "0 8", extra: str = "", address: str = "127.0.0.1") -> bytes:
    """A phone's SDP."""
    family = "IP6" if ":" in address else "IP4"
    return (
        f"v=0\r\no=- 1 1 IN {family} {address}\r\ns=-\r\nc=IN {family} {address}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP {codecs} 101\r\na=rtpmap:101 telephone-event/8000\r\n{extra}"
    ).encode()


def open_call(call: str, rtp_port: int, sdp: bytes | None, agent: AgentSpec = ECHO, **changes: Any) -> OpenCall:
    """An :class:`OpenCall` of the lab."""
    given: dict[str, Any] = {"policy": LAB, "context": CONTEXT, **changes}
    return OpenCall(call=call, rtp_port=rtp_port, offer=sdp, agent=agent, **given)


class Room:
    """Media and what it has told."""

    def __init__(self, **settings: Any) -> None:
        self.notices: list[NoticeBody] = []
        self._grew = asyncio.Event()
        self.media = InProcessMedia(
            ServiceSettings(listen_address="127.0.0.1", **{"allow_private": True, **settings}),
            on_notice=self._hear,
            entropy=os.urandom,
        )
        self.request = self.media.request

    def _hear(self, notice: NoticeBody) -> None:
        self.notices.append(notice)
        self._grew.set()

    async def opened(self, command: OpenCall) -> CallOpened:
        """Open, and insist."""
        result = await self.request(command)
        assert isinstance(result, CallOpened), result
        return result

    async def told(
        self, kind: type[Kind], when: Callable[[Kind], bool] = lambda _: True, within_s: float = 5.0
    ) -> Kind:
        """The first notice of that kind (that satisfies ``when``), past or to come."""
        async with asyncio.timeout(within_s):
            while True:
                for notice in self.notices:
                    if isinstance(notice, kind) and when(notice):
                        return notice
                self._grew.clear()
                await self._grew.wait()


@asynccontextmanager
async def room(**settings: Any) -> AsyncIterator[Room]:
    """Started; closed at the end of the block."""
    it = Room(**settings)
    await it.media.start()
    try:
        yield it
    finally:
        await it.media.close()
