"""Reason headers, out and in."""

from __future__ import annotations

import pytest

from edge.events import CallEnded
from edge.message import Request
from edge.reasons import Reason, format_reason, of_bye, of_status, parse_reasons
from tests.edge.pair import Solo, in_dialog
from tests.edge.test_offers import called


def test_values_are_quoted() -> None:
    """RFC 3326; a line break cannot leave the quotes."""
    assert format_reason("SIP", 480, 'a "b"\r\nX: 1') == 'SIP;cause=480;text="a \\"b\\"\ufffd\ufffdX: 1"'
    assert format_reason("Q.850", 16) == "Q.850;cause=16"


@pytest.mark.parametrize(
    ("status", "cause"), [(404, 1), (480, 18), (486, 17), (488, 88), (503, 41), (603, 21), (699, 127)]
)
def test_a_refusal_says_it_in_both_protocols(status: int, cause: int) -> None:
    """RFC 3398 §8.2.6.1."""
    assert of_status(status, "why") == (f'SIP;cause={status};text="why"', f"Q.850;cause={cause}")


def test_a_bye_says_what_cleared_the_call() -> None:
    assert of_bye(None) == ()
    assert of_bye("the agent hung up") == ('Q.850;cause=16;text="the agent hung up"',)
    assert [value.partition(";text")[0] for value in of_bye(None, expired=True)] == ["SIP;cause=408", "Q.850;cause=102"]


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (['SIP;cause=200;text="Call completed elsewhere"'], (Reason("SIP", 200, "Call completed elsewhere"),)),
        (["Q.850;cause=16, sip ; cause=487"], (Reason("Q.850", 16), Reason("SIP", 487))),
        (["Q.850;cause=16", "SIP;cause=481"], (Reason("Q.850", 16), Reason("SIP", 481))),
        (["Q.850"], (Reason("Q.850"),)),
        (["Q.850;cause=many", "Q.850;cause=9999", "SIP;cause=²"], (Reason("Q.850"), Reason("Q.850"), Reason("SIP"))),
        (['Q.850;text="open', "SIP;cause=1;cause=2", "SIP;cause=7"], (Reason("SIP", 7),)),
        (['SIP;text="a\x1b[31m"'], (Reason("SIP", None, "a\ufffd[31m"),)),
        ([], ()),
    ],
)
def test_what_a_peer_says_is_read_as_far_as_it_can_be(lines: list[str], found: tuple[Reason, ...]) -> None:
    assert parse_reasons(lines) == found


def test_no_more_than_a_few_are_believed() -> None:
    assert len(parse_reasons(["SIP;cause=1"] * 50)) == 8
    assert len(parse_reasons(['SIP;text="' + "x" * 900 + '"'])[0].text) == 256


def test_a_bye_of_ours_carries_its_reason_and_one_that_comes_is_told() -> None:
    solo = Solo()
    key, _ = called(solo)
    solo.endpoint.hang_up(key, now=0.0, reason="done")
    [bye] = solo.drain()
    assert isinstance(bye, Request)
    assert bye.headers.lines("Reason") == ['Q.850;cause=16;text="done"']
    other = Solo()
    _, ok = called(other)
    other.receive(in_dialog("BYE", ok, cseq=2, headers=[("Reason", "Q.850;cause=31")]))
    assert other.take(CallEnded).headers == (("Reason", "Q.850;cause=31"),)
