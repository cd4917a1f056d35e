"""The system's randomness and clocks."""

from __future__ import annotations

import os
import uuid

import pytest

from control.entropy import entropy, monotonic_clock, new_id, wall_clock


def test_entropy_is_as_long_as_asked_and_never_the_same() -> None:
    assert [len(entropy(count)) for count in (0, 1, 32)] == [0, 1, 32]
    assert entropy(16) != entropy(16)


@pytest.mark.parametrize("source", [bytes, lambda count: b"\xff" * count, os.urandom])
def test_an_id_is_a_random_uuid_whatever_the_bits(source: object) -> None:
    text = new_id(source)  # type: ignore[arg-type]
    assert (uuid.UUID(text).version, str(uuid.UUID(text))) == (4, text)


@pytest.mark.realtime
def test_the_clocks_run() -> None:
    first = monotonic_clock()
    assert monotonic_clock() >= first
    assert wall_clock() > 1_700_000_000
