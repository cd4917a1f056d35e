"""The ladder: what a person reads of a call."""

from __future__ import annotations

from edge.events import Address, Flow, TransportName
from edge.ladder import TraceEntry, draw, trace_entry
from tests.edge.pair import ANSWER, EDGE, PEER, Pair, Solo, invite, request

FLOW = Flow(TransportName.UDP, EDGE, PEER)


def entry(at: float, sent: bool, line: str, cseq: str = "1 INVITE", note: str = "", flow: Flow = FLOW) -> TraceEntry:
    return TraceEntry(at, sent, flow, line, "c", cseq, note)


CALL = [
    entry(10.0, True, "INVITE sip:+14155550100@127.0.0.1:5060 SIP/2.0", note="SDP"),
    entry(10.0012, False, "SIP/2.0 100 Trying"),
    entry(10.004, False, "SIP/2.0 180 Ringing"),
    entry(10.2504, False, "SIP/2.0 200 OK", note="SDP"),
    entry(10.251, True, "ACK sip:127.0.0.1:5060 SIP/2.0", "1 ACK"),
    entry(13.5, False, "BYE sip:phone@127.0.0.1:5070 SIP/2.0", "1 BYE"),
    entry(13.501, True, "SIP/2.0 200 OK", "1 BYE"),
]

LADDER = """\
      ms  phone                                                         edge
          │                                                                │
       0  │── INVITE sip:+14155550100@127.0.0.1:5060 (SDP) ───────────────▶│
       1  │◀──────────────────────────────────────── 100 Trying (INVITE) ──│
       4  │◀─────────────────────────────────────── 180 Ringing (INVITE) ──│
     250  │◀─────────────────────────────────────── 200 OK (INVITE, SDP) ──│
     251  │── ACK sip:127.0.0.1:5060 ─────────────────────────────────────▶│
          ┆                             3.2 s                              ┆
    3500  │◀─────────────────────────────── BYE sip:phone@127.0.0.1:5070 ──│
    3501  │── 200 OK (BYE) ───────────────────────────────────────────────▶│
          │                                                                │"""


def test_a_call_is_drawn_with_arrows_and_times() -> None:
    """Sent to the right, received to the left, milliseconds since the first message, silences as gaps."""
    assert draw(CALL, "phone", "edge", width=76) == LADDER


def test_every_line_is_as_wide_as_the_terminal() -> None:
    """100 columns; a long Request-URI is cut, its note is not."""
    long = entry(10.0, True, f"INVITE sip:{'x' * 200}@h SIP/2.0", note="SDP")
    lines = draw([long, *CALL]).splitlines()
    assert {len(line) for line in lines} == {100}
    assert "…" in lines[2] and "(SDP)" in lines[2]
    assert {len(line) for line in draw(CALL, width=60).splitlines()} == {60}


def test_names_default_to_addresses() -> None:
    """Of the first message."""
    header = draw(CALL).splitlines()[0]
    assert "192.0.2.1:5060" in header and "192.0.2.7:5060" in header


def test_a_repeated_message_says_so() -> None:
    """A retransmission is seen at a glance; the same response to another request is none."""
    lines = draw([CALL[0], entry(10.5, True, CALL[0].first_line, note="SDP"), CALL[3], CALL[6]]).splitlines()
    assert "again" not in lines[2]
    assert "(SDP, again)" in lines[3]
    assert "again" not in lines[4] + lines[5]


def test_a_message_from_elsewhere_is_marked() -> None:
    """A forked or forged answer does not look like the peer's."""
    other = Flow(TransportName.UDP, EDGE, Address("203.0.113.9", 5060))
    assert "203.0.113.9:5060" in draw([CALL[0], entry(10.1, False, "SIP/2.0 200 OK", flow=other)]).splitlines()[3]


def test_nothing_gives_nothing() -> None:
    """An empty trace is an empty text."""
    assert draw([]) == ""


def test_secrets_are_masked() -> None:
    """Contact tokens come back in Request-URIs; credentials are only said to be there."""
    message = bytes(
        invite(
            uri="sip:+1@192.0.2.1;tk=0123456789abcdef;x=1",
            headers=[("Proxy-Authorization", 'Digest username="u", response="feedface"')],
        )
    )
    made = trace_entry(message, FLOW, 1.0, sent=False)
    assert made.first_line == "INVITE sip:+1@192.0.2.1;tk=***;x=1 SIP/2.0"
    assert made.note == "SDP, credentials"
    assert "feedface" not in draw([made]) and "0123456789abcdef" not in draw([made])


def test_hostile_text_cannot_move_the_cursor() -> None:
    """Control characters are escaped, in what does not even parse."""
    made = trace_entry(b"INVITE \x1b[2J\x07 SIP/2.0\r\nCall-ID: \x1b]0;x\r\nCSeq: \x9b1\r\n\r\n", FLOW, 0.0, sent=False)
    for text in (made.first_line, made.call_id, made.cseq, draw([made])):
        assert text.replace("\n", "").isprintable()
    assert trace_entry(b"", FLOW, 0.0, sent=True).first_line == ""


def test_an_entry_knows_its_call_and_sequence_in_compact_form_too() -> None:
    """RFC 3261 §7.3.3."""
    made = trace_entry(b"BYE sip:x SIP/2.0\r\ni:abc@h\r\ncseq :  7 BYE\r\n\r\n", FLOW, 0.0, sent=True)
    assert (made.call_id, made.cseq, made.note) == ("abc@h", "7 BYE", "")
    assert trace_entry(bytes(request("BYE")), FLOW, 0.0, sent=True).cseq == "1 BYE"


def test_a_whole_call_of_the_engine_can_be_drawn() -> None:
    """From the trace of a real caller."""
    from tests.edge.test_lossy_calls import answering

    pair = Pair()
    answering(pair, after_s=0.2)
    key = pair.call()
    pair.run(3.0)
    pair.caller.hang_up(key, now=pair.now)
    pair.quiet()
    drawn = draw(pair.trace, "phone", "edge")
    for part in ("INVITE", "100 Trying", "180 Ringing", "200 OK (INVITE, SDP)", "ACK", "BYE", "200 OK (BYE)", " s "):
        assert part in drawn


def test_the_edge_can_be_traced_too() -> None:
    """Sent is from the tracer's point of view."""
    seen: list[TraceEntry] = []
    solo = Solo(trace=seen.append)
    key = solo.offered()
    solo.endpoint.answer(key, ANSWER, now=0.25)
    solo.drain()
    assert [item.sent for item in seen] == [False, True, True]
    assert seen[-1].at == 0.25


def test_no_key_of_srtp_is_in_a_trace() -> None:
    """RFC 4568 §7: the SDP has it, the ladder only says that there is SDP."""
    message = b"INVITE sip:1@e SIP/2.0\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\na=crypto:1 X inline:SECRETKEY\r\n"
    entry = trace_entry(message, FLOW, 0.0, sent=True)
    assert entry.note == "SDP"
    assert "SECRETKEY" not in repr(entry) + draw([entry])
