"""The recordings that are shipped."""

from __future__ import annotations

from media.agents import recordings
from media.telephone_event import DIGITS


def test_every_recording_the_parrot_needs_is_shipped() -> None:
    found = recordings.load()
    assert {"greeting", "goodbye", *recordings.DIGIT_RECORDINGS.values()} <= found.keys()
    assert all(len(samples) > 16 * 300 for samples in found.values()), "at least 0.3 s each"


def test_every_digit_but_hash_has_a_recording() -> None:
    assert recordings.DIGIT_RECORDINGS.keys() == set(DIGITS) - {"#"}
