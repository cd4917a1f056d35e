"""What the carriers' media streams have in common: how an agent's messages are read."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from media.agents.media_stream import Clear, Mark, MediaStream, Play

PAYLOAD = base64.b64encode(b"abc").decode()


class Stream(MediaStream):
    def start(self) -> bytes:
        return b"start"

    def media(self, chunk: int, at_ms: int, audio: bytes) -> bytes:
        return audio

    def dtmf(self, digit: str) -> bytes:
        return digit.encode()

    def mark(self, name: str) -> bytes:
        return name.encode()

    def stop(self) -> bytes:
        return b"stop"


@pytest.mark.parametrize("field", ["streamSid", "stream_id"])
def test_a_message_for_another_stream_is_ignored_whatever_the_carrier_calls_it(field: str) -> None:
    it = Stream("mine")
    media: dict[str, Any] = {"event": "media", "media": {"payload": PAYLOAD}}
    assert it.read(json.dumps({**media, field: "mine"}).encode()) == Play(b"abc")
    assert it.read(json.dumps({**media, field: None}).encode()) == Play(b"abc")
    assert it.ignored == 0
    assert it.read(json.dumps({**media, field: "other"}).encode()) is None
    assert it.read(json.dumps({"event": "clear", field: "other"}).encode()) is None
    assert it.ignored == 2


def test_media_that_comes_with_other_events_is_not_played() -> None:
    it = Stream("mine")
    assert it.read(json.dumps({"event": "clear", "media": {"payload": PAYLOAD}}).encode()) == Clear()
    assert it.read(json.dumps({"event": "mark", "media": {"payload": PAYLOAD}, "mark": {"name": "m"}}).encode()) == (
        Mark("m")
    )
