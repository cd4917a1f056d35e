"""How often a call has been here."""

from __future__ import annotations

import pytest

from control.hops import Hops

A, B = "+14155550100", "+14155550123"


@pytest.mark.parametrize(
    ("headers", "hops"),
    [
        ((), 0),
        ((("x-truedy-hops", "1"),), 1),
        ((("X-Truedy-Hops", " 2 "),), 2),
        ((("X-Truedy-Hops", "1"), ("X-Truedy-Hops", "3")), 3),
        ((("X-Truedy-Hops", "-1"),), 0),
        ((("X-Truedy-Hops", "9999"),), 0),
        ((("X-Truedy-Hops", "²"),), 0),
        ((("X-Hops", "7"),), 0),
    ],
)
def test_a_header_says_it(headers: tuple[tuple[str, str], ...], hops: int) -> None:
    assert Hops().of(headers, A, B) == hops


def test_a_call_that_a_carrier_returns_without_the_header_is_known_by_its_numbers() -> None:
    known = Hops()
    known.add(A, B, 1)
    known.add(A, B, 2)
    assert known.of((), A, B) == 2
    assert known.of((), B, A) == 0
    known.remove(A, B, 2)
    assert known.of((), A, B) == 1
    known.remove(A, B, 1)
    known.remove(A, B, 1)
    assert (known.of((), A, B), len(known)) == (0, 0)
