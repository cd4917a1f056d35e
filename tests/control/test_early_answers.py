"""What the forks of a call of ours have said before it was answered."""

from __future__ import annotations

import pytest

from control.early_answers import EarlyAnswers
from edge.events import CallAnswered, CallKey, CallProgressed

KEY = CallKey("k1")


def progress(body: bytes | None, tag: str) -> CallProgressed:
    return CallProgressed(KEY, 183, "Session Progress", body, tag)


@pytest.mark.parametrize(
    ("body", "tag", "holds"),
    [(b"final", "a", b"final"), (None, "a", b"A"), (None, "b", b"B"), (None, "a B2BUA's other", b"B")],
)
def test_an_answer_without_a_description_stands_on_its_forks_early_one(
    body: bytes | None, tag: str, holds: bytes
) -> None:
    """RFC 3261 §13.2.2.4, and carriers that describe themselves in an unreliable 183 alone."""
    early = EarlyAnswers()
    assert not early
    assert [early.take(progress(*each)) for each in ((b"A", "a"), (None, "b"), (b"B", "b"))] == [b"A", None, b"B"]
    assert early.answer(CallAnswered(KEY, 200, "OK", body, tag=tag)) == holds


def test_what_a_fork_repeats_is_not_taken_again_and_what_it_changes_is() -> None:
    early = EarlyAnswers()
    said = [(b"A", "a"), (b"B", "b"), (b"A", "a"), (b"A2", "a")]
    assert [early.take(progress(*each)) for each in said] == [b"A", b"B", None, b"A2"]


def test_nothing_early_is_nothing() -> None:
    assert EarlyAnswers().answer(CallAnswered(KEY, 200, "OK", None, tag="a")) is None


def test_forks_are_not_remembered_without_end() -> None:
    early = EarlyAnswers()
    taken = [early.take(progress(b"SDP", str(number))) for number in range(50)]
    assert taken.count(b"SDP") == len(early) == EarlyAnswers.MOST
