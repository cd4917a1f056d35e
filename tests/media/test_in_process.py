"""Media without a process of its own: the same messages, through the same codec."""

from __future__ import annotations

import pytest

from media.client import MediaGone
from media.in_process import InProcessMedia
from media.messages import CallClosed, CloseCall, Done, NoticeBody, Ping
from media.settings import ServiceSettings
from tests.support.clock import FakeClock


def in_process(notices: list[NoticeBody]) -> InProcessMedia:
    """On a clock that stands, and never started: it ticks for nobody."""
    return InProcessMedia(ServiceSettings("127.0.0.1"), on_notice=notices.append, entropy=bytes, clock=FakeClock())


async def test_a_command_is_answered_as_by_a_process() -> None:
    media = in_process([])
    assert await media.request(Ping()) == Done()
    assert await media.request(CloseCall(call="unknown", reason="test")) == CallClosed(statistics=None)
    await media.close()


async def test_closed_media_says_that_it_is_gone() -> None:
    media = in_process([])
    await media.close()
    with pytest.raises(MediaGone, match="closed"):
        await media.request(Ping())
