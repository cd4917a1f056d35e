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


# --- by its tone and by its event -------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [("tone", "rtp"), ("rtp", "tone")])
def test_a_key_told_by_its_tone_and_by_its_event_is_one_digit(first: str, second: str) -> None:
    sources = DigitSources(DigitSources.TONE_S)
    assert sources.first(first, "5", 1.0)
    assert not sources.first(second, "5", 1.2)
    assert sources.first(first, "5", 1.3)
    assert not sources.first(second, "5", 1.5)


def test_a_key_pressed_twice_is_two_digits_in_either_way() -> None:
    sources = DigitSources(DigitSources.TONE_S)
    for at in (1.0, 1.1, 1.2):
        assert sources.first("tone", "5", at)
    assert [sources.first("rtp", "5", 1.3) for _ in range(4)] == [False] * 3 + [True]


def test_another_key_or_one_much_later_is_a_digit_of_its_own() -> None:
    sources = DigitSources(DigitSources.TONE_S)
    assert sources.first("tone", "5", 1.0)
    assert sources.first("rtp", "6", 1.1)
    assert sources.first("rtp", "5", 2.1)
