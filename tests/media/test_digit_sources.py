"""A key that comes both ways is one key."""

from __future__ import annotations

import pytest

from media.digit_sources import DigitSources


def told(*digits: tuple[str, str, float]) -> str:
    sources = DigitSources()
    return "".join(digit for source, digit, now in digits if sources.first(source, digit, now))


@pytest.mark.parametrize(
    ("digits", "keys"),
    [
        ([("rtp", "1", 0.0), ("INFO", "1", 0.2)], "1"),
        ([("INFO", "1", 0.0), ("rtp", "1", 2.5)], "1"),
        ([("INFO", "1", 0.0), ("INFO", "1", 0.1)], "11"),
        ([("rtp", "1", 0.0), ("rtp", "1", 0.1), ("INFO", "1", 0.2), ("INFO", "1", 0.3)], "11"),
        ([("rtp", "1", 0.0), ("INFO", "2", 0.1), ("INFO", "1", 0.2), ("rtp", "2", 0.3)], "12"),
        ([("rtp", "1", 0.0), ("INFO", "1", 5.0)], "11"),
        ([("rtp", "1", 0.0), ("INFO", "1", 0.1), ("INFO", "1", 0.2)], "11"),
    ],
)
def test_each_key_is_told_once(digits: list[tuple[str, str, float]], keys: str) -> None:
    """Also a double press, and a phone that uses one way alone."""
    assert told(*digits) == keys


def test_what_waits_is_bounded() -> None:
    sources = DigitSources()
    for _ in range(1000):
        assert sources.first("INFO", "1", 0.0)
    assert len(sources._waiting) == 32
