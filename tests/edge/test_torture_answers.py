"""RFC 4475 and RFC 5118 against the engine, from a source it knows: what it answers, and that it lives on."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.events import CallOffered
from edge.message import Response
from tests.edge.pair import STRANGER, Solo, request

DATA = Path(__file__).parent / "data"

OFFERED = 100
"""A call: 100, and the rest is its user's."""

SILENT = None
"""A response that is none, or that belongs to no request."""

ANSWERS: dict[str, int | None] = {
    # RFC 4475 3.1.1 Valid messages
    "wsinv": 481,  # has a To tag: a re-INVITE of a dialog we do not know
    "intmeth": 405,
    "esc01": OFFERED,
    "escnull": 405,
    "esc02": 405,
    "lwsdisp": 200,
    "longreq": OFFERED,
    "dblreq": 405,
    "semiuri": 200,
    "transports": 200,
    "mpart01": 405,
    "unreason": SILENT,
    "noreason": SILENT,
    # 3.1.2 Invalid messages
    "badinv01": 400,
    "clerr": 400,
    "ncl": 400,
    "scalar02": 400,
    "scalarlg": SILENT,
    "quotbal": 400,
    "ltgtruri": 400,
    "lwsruri": 400,
    "lwsstart": 400,
    "trws": 400,
    "escruri": 400,
    "baddate": OFFERED,
    "regbadct": 400,
    "badaspec": 400,
    "baddn": 400,
    "badvers": 505,
    "mismatch01": 400,
    "mismatch02": 400,
    "bigcode": SILENT,
    # 3.2 Transaction layer semantics
    "badbranch": 200,
    # 3.3 Application-layer semantics
    "insuf": 400,
    "unkscm": 416,
    "novelsc": 416,
    "unksm2": 405,
    "bext01": 420,
    "invut": 415,
    "regaut01": 405,
    "multi01": 400,
    "mcl01": 400,
    "bcast": SILENT,
    "zeromf": 200,
    "cparam01": 405,
    "cparam02": 405,
    "regescrt": 405,
    "sdp01": OFFERED,
    # 3.4 Backward compatibility
    "inv2543": 400,
    # RFC 5118
    "ipv6-good": 405,
    "ipv6-bad": 400,
    "port-ambiguous": 405,
    "port-unambiguous": 405,
    "via-received-param-with-delim": 481,
    "via-received-param-no-delim": 200,
    "ipv6-in-sdp": OFFERED,
    "mult-ip-in-header": 481,
    "mult-ip-in-sdp": OFFERED,
    "ipv4-mapped-ipv6": OFFERED,
    "ipv6-bug-abnf-3-colons": 200,
    "ipv6-correct-abnf-2-colons": 200,
}

FILES = {file.stem: file for rfc in ("rfc4475", "rfc5118") for file in sorted((DATA / rfc).glob("*.dat"))}


def test_every_message_is_here() -> None:
    """All 49 and all 12."""
    assert FILES.keys() == ANSWERS.keys()


@pytest.mark.parametrize("name", ANSWERS)
def test_each_message_gets_its_answer_and_the_engine_lives_on(name: str) -> None:
    """S1, S4: one response at most, of the allowed code; no state but a call's; OPTIONS is answered afterwards."""
    solo = Solo()
    sent = solo.receive(FILES[name].read_bytes())
    assert all(isinstance(message, Response) for message in sent)
    assert [message.status for message in sent if isinstance(message, Response)] == (
        [] if ANSWERS[name] is SILENT else [ANSWERS[name]]
    )
    calls = [event for event in solo.events if isinstance(event, CallOffered)]
    assert len(calls) == (ANSWERS[name] == OFFERED)
    (alive,) = solo.receive(request("OPTIONS"))
    assert isinstance(alive, Response) and alive.status == 200
    for call in calls:
        solo.endpoint.hang_up(call.key, now=0.0)
    solo.quiet()
    assert solo.endpoint.pending == 0


@pytest.mark.parametrize("name", ANSWERS)
def test_from_a_stranger_none_is_answered(name: str) -> None:
    """S10: 0 octets out."""
    solo = Solo()
    solo.peer = STRANGER
    assert solo.receive(FILES[name].read_bytes()) == []
    assert solo.endpoint.pending == 0


def test_a_bare_cookie_does_not_merge_two_requests() -> None:
    """RFC 4475 §3.2.1: as if there were none."""
    solo = Solo()
    raw = FILES["badbranch"].read_bytes()
    (first,) = solo.receive(raw)
    (second,) = solo.receive(raw.replace(b"badbranch.sadonfo23i420jv0as0derf3j3n", b"another"))
    assert isinstance(first, Response) and isinstance(second, Response)
    assert first.call_id != second.call_id
