"""Digits by INFO, in and out."""

from __future__ import annotations

import pytest

from edge.events import CallKey, DigitPressed
from edge.info import digit_body, read_info
from edge.message import Request, Response
from tests.edge.pair import Solo, in_dialog, request
from tests.edge.test_offers import called

RELAY = "application/dtmf-relay"
PLAIN = "application/dtmf"


def info(kind: str | None, body: bytes) -> Request:
    return request("INFO", body=body, headers=[("Content-Type", kind)] if kind else [])


@pytest.mark.parametrize(
    ("kind", "body", "digit", "duration_ms"),
    [
        (RELAY, b"Signal=5\r\nDuration=160\r\n", "5", 160),
        (RELAY, b"Signal= *\nDuration= 250", "*", 250),
        (RELAY, b"signal=a\r\n", "A", 250),
        (RELAY, b"Duration=90\r\nSignal=#\r\n", "#", 90),
        (RELAY, b"Signal=11\r\nDuration=100000\r\n", "#", 10_000),
        (PLAIN, b"7", "7", 250),
        (PLAIN, b" 10\r\n", "*", 250),
        (PLAIN, b"Signal=7\r\nDuration=100", "7", 100),
        ("Application/DTMF-Relay;x=y", b"Signal=0", "0", 250),
    ],
)
def test_a_digit_is_read_however_it_is_written(kind: str, body: bytes, digit: str, duration_ms: int) -> None:
    found = read_info(info(kind, body))
    assert (getattr(found, "digit", None), getattr(found, "duration_ms", None)) == (digit, duration_ms)


@pytest.mark.parametrize(("kind", "body"), [(None, b""), (RELAY, b"Signal=16\r\nDuration=1"), (PLAIN, b"16")])
def test_a_keep_alive_and_a_flash_ask_for_nothing(kind: str | None, body: bytes) -> None:
    assert read_info(info(kind, body)) is None


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (RELAY, b"", 400),
        (RELAY, b"Signal=99", 400),
        (RELAY, b"Signal=\r\n5", 400),
        (PLAIN, b"hello", 400),
        (PLAIN, b"\xff\xfe", 400),
        (RELAY, b"Signal=5\r\n" + b"x" * 300, 400),
        ("application/media_control+xml", b"<x/>", 415),
        ("text/plain", b"5", 415),
    ],
)
def test_what_is_no_digit_is_refused(kind: str, body: bytes, status: int) -> None:
    assert getattr(read_info(info(kind, body)), "status", None) == status


def test_a_phone_that_sends_digits_by_info_only_is_heard() -> None:
    """200, and one event for each; a repetition of the request is none (RFC 3261 §17.2.3)."""
    solo = Solo()
    key, ok = called(solo)
    for number, digit in enumerate("12", 2):
        message = in_dialog("INFO", ok, cseq=number, body=digit_body(digit, 160), headers=[("Content-Type", RELAY)])
        assert [m.status for m in solo.receive(message) if isinstance(m, Response)] == [200]
        solo.receive(message)
        assert solo.take(DigitPressed) == DigitPressed(key, digit, 160)


def test_an_info_of_another_kind_gets_415_and_what_is_taken() -> None:
    solo = Solo()
    _, ok = called(solo)
    [refused] = solo.receive(in_dialog("INFO", ok, cseq=2, body=b"<x/>", headers=[("Content-Type", "text/xml")]))
    assert isinstance(refused, Response)
    assert (refused.status, refused.headers.get("Accept")) == (415, f"{RELAY}, {PLAIN}")
    assert solo.events == []


def test_an_info_outside_any_call_is_481() -> None:
    solo = Solo()
    [refused] = solo.receive(info(RELAY, b"Signal=5"))
    assert isinstance(refused, Response)
    assert refused.status == 481


def test_a_digit_of_ours_goes_by_info() -> None:
    solo = Solo()
    key, _ = called(solo)
    solo.endpoint.press(key, "#", 200, now=0.0)
    [sent] = solo.drain()
    assert isinstance(sent, Request)
    assert (sent.method, sent.headers.get("Content-Type")) == ("INFO", RELAY)
    assert sent.body == b"Signal=#\r\nDuration=200\r\n"
    solo.endpoint.press(CallKey("nobody"), "1", 1, now=0.0)
    assert solo.counters.get("sip_commands_ignored", command="press") == 1


def test_no_digit_goes_before_the_call_is_up() -> None:
    solo = Solo()
    key = solo.offered()
    solo.endpoint.press(key, "1", 100, now=0.0)
    assert solo.requests("INFO") == []
