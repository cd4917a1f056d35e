from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.auth import DigestChallenge, parse_authorization
from edge.framing import StreamFramer
from edge.headers import CSeq, NameAddress, Via, parse_parameters, split_list
from edge.message import (
    MAX_BODY_OCTETS,
    MAX_HEADER_LINES,
    MAX_HEADER_OCTETS,
    REASON_PHRASES,
    ParseError,
    Request,
    Response,
    SipUri,
    check_request,
    check_response,
    parse,
    response_to,
    salvage,
)

TORTURE = sorted((Path(__file__).parent / "data").glob("*/*.dat"))

# As a carrier sends it: compact names, no space after the colon, Via and v: mixed, no space before "<".
CARRIER_INVITE = b"""\
INVITE sip:12014269044@203.0.113.7:55040;transport=tcp;gw=telnyx SIP/2.0
Record-Route: <sip:64.16.250.10;transport=tcp;r2=on;lr;ftag=KeQ>
Record-Route: <sip:10.255.0.2;r2=on;lr;ftag=KeQ>, <sip:10.231.83.184:6050;lr;tnx=1.2>
Via: SIP/2.0/TCP 64.16.250.10;branch=z9hG4bKcydzigwkX;i=1234
Via: SIP/2.0/UDP 10.231.83.184:6050;branch=z9hG4bKabcdef.0
v:SIP/2.0/UDP 10.231.91.24:6000;received=10.231.91.24;branch=z9hG4bKxyz
Max-Forwards:24
f:"919113162180"<sip:919113162180@sip.telnyx.com>;tag=gK0c7
t:<sip:12014269044@10.231.83.184>
i:70f83b11-2a45
CSeq:115676495 INVITE
m:<sip:mod_sofia@10.231.91.24:6000>
k:timer,path
u:talk,hold,conference,refer
X-Telnyx-Session-ID: 5f6d
P-Asserted-Identity:"919113162180"<sip:919113162180@sip.telnyx.com;verstat=TN-Validation-Passed-C>
c:application/sdp
l:5

v=0
""".replace(b"\n", b"\r\n")


def request(*extra: str, method: str = "INVITE", without: str = "", body: bytes = b"") -> bytes:
    lines = {
        "Via": "Via: SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK1;rport",
        "From": 'From: "Alice" <sip:alice@example.com>;tag=a1',
        "To": "To: <sip:bob@example.net>",
        "Call-ID": "Call-ID: c1@example.com",
        "CSeq": f"CSeq: 7 {method}",
        "Contact": "Contact: <sip:alice@192.0.2.1:5062>",
        "Max-Forwards": "Max-Forwards: 70",
    }
    kept = [line for name, line in lines.items() if name != without]
    return "\r\n".join([f"{method} sip:bob@example.net SIP/2.0", *kept, *extra, "", ""]).encode() + body


def parse_request(data: bytes) -> Request:
    message = parse(data)
    assert isinstance(message, Request)
    return message


def status_of(data: bytes) -> int:
    """0 when the request may be acted on, else what it is refused with."""
    try:
        check_request(parse_request(data))
    except ParseError as error:
        return error.status
    return 0


def test_a_carriers_invite_is_read() -> None:
    invite = parse_request(CARRIER_INVITE)
    check_request(invite)
    assert invite.method == "INVITE"
    assert invite.request_uri.parameter("gw") == "telnyx"
    assert [via.host for via in invite.vias] == ["64.16.250.10", "10.231.83.184", "10.231.91.24"]
    assert invite.via == invite.vias[0]
    assert (invite.from_.display_name, invite.from_.tag) == ("919113162180", "gK0c7")
    assert (invite.to.uri.user, invite.to.tag) == ("12014269044", None)
    assert (invite.call_id, invite.cseq, invite.max_forwards) == ("70f83b11-2a45", CSeq(115676495, "INVITE"), 24)
    assert invite.contact == NameAddress("", SipUri("sip", "mod_sofia", "10.231.91.24", 6000))
    assert [route.uri.host for route in invite.record_routes] == ["64.16.250.10", "10.255.0.2", "10.231.83.184"]
    assert invite.headers.get_all("Supported") == ["timer", "path"]
    assert invite.headers.get("x-telnyx-session-id") == "5f6d"
    assert invite.content_type is not None
    assert invite.content_type.value == "application/sdp"
    assert invite.expires is None
    assert invite.routes == ()
    assert invite.body == b"v=0\r\n"


def test_typed_headers_are_parsed_once_and_remembered() -> None:
    invite = parse_request(CARRIER_INVITE)
    assert invite.from_ is invite.from_
    assert invite.vias is invite.vias


def test_messages_are_immutable_values() -> None:
    one, other = parse(CARRIER_INVITE), parse(CARRIER_INVITE)
    assert one == other
    assert one.via == one.via  # a remembered header makes no difference to equality
    assert one == other
    with pytest.raises(FrozenInstanceError):
        one.body = b""  # type: ignore[misc]


def test_folded_lines_are_joined_and_the_start_line_is_not() -> None:
    """RFC 3261 §7.3.1."""
    invite = parse_request(request("Subject: one\r\n two\r\n\t three", "X-Empty:\r\n "))
    assert invite.headers.get("Subject") == "one two three"
    assert invite.headers.get("X-Empty") == ""
    for data in (b"INVITE sip:a\r\n SIP/2.0\r\nTo: x\r\n\r\n", b"INVITE sip:a SIP/2.0\r\n folded: x\r\n\r\n"):
        with pytest.raises(ParseError):
            parse(data)


def test_names_may_be_spelled_anyhow_and_spaced_from_their_colon() -> None:
    """RFC 3261 §7.3.1, §25.1 HCOLON."""
    data = request("s \t: x", "SUPPORTED:a", "X-Foo :  b  ", without="Via").replace(b"Call-ID", b"cAlL-iD")
    invite = parse_request(data.replace(b"From:", b"vIa: SIP/2.0/UDP a\r\nF  :"))
    assert [invite.headers.get(name) for name in ("subject", "k", "x-foo", "I")] == ["x", "a", "b", "c1@example.com"]
    assert invite.via.host == "a"
    assert invite.from_.tag == "a1"


def test_leading_empty_lines_are_ignored() -> None:
    """RFC 3261 §7.5."""
    assert parse(b"\r\n\r\n" + CARRIER_INVITE) == parse(CARRIER_INVITE)


@pytest.mark.parametrize(
    ("lines", "body", "expected"),
    [
        (["Content-Length: 3"], b"abcdef", b"abc"),
        (["l:0"], b"abcdef", b""),
        (["l: 0003 "], b"abc", b"abc"),
        ([], b"abc", b"abc"),
    ],
)
def test_a_datagrams_body_ends_where_content_length_says(lines: list[str], body: bytes, expected: bytes) -> None:
    """RFC 3261 §18.3: further octets are dropped; without Content-Length it ends with the datagram."""
    message = parse(request(*lines, body=body))
    assert message.body == expected
    assert "Content-Length" not in message.headers


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Content-Length: 4"], 400),
        (["Content-Length: -1"], 400),
        (["Content-Length: 3x"], 400),
        (["Content-Length: "], 400),
        (["Content-Length: 3", "l: 3"], 400),
        (["Content-Length: 3, 3"], 400),
        (["Content-Length: ३"], 400),
        (["Content-Length: 99999999999999999999999"], 400),
        (["Content-Length: 999999999"], 413),
        ([f"Content-Length: {MAX_BODY_OCTETS + 1}"], 413),
    ],
)
def test_content_length_is_read_once_and_strictly(lines: list[str], status: int) -> None:
    with pytest.raises(ParseError) as caught:
        parse(request(*lines, body=b"abc"))
    assert caught.value.status == status


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\r\n\r\n", b"\0" * 40, b"INVITE", b"INVITE sip:a SIP/2.0\r\n", b"INVITE sip:a SIP/2.0\n\n"),
        *(b"INVITE  sip:a SIP/2.0\r\n\r\n", b"INVITE sip:a  SIP/2.0\r\n\r\n", b"INVITE sip:a SIP/2.0 \r\n\r\n"),
        *(b"INVITE sip:a\r\n\r\n", b"IN(VITE sip:a SIP/2.0\r\n\r\n", b" INVITE sip:a SIP/2.0\r\n\r\n"),
        *(b"INVITE sip:a HTTP/1.1\r\n\r\n", b"INVITE <sip:a> SIP/2.0\r\n\r\n", b"INVITE sip:a\0 SIP/2.0\r\n\r\n"),
        *(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n"),
        *(b"SIP/2.0 99 x\r\n\r\n", b"SIP/2.0 700 x\r\n\r\n", b"SIP/2.0 2000 x\r\n\r\n"),
        "SIP/2.0 ٢٠٠ x\r\n\r\n".encode(),
        *(b"SIP/3.0 200 OK\r\n\r\n", b"SIP/2.0 200\tOK\r\n\r\n", b"SIP/2.0\r\n\r\n"),
        *(b"INVITE sip:a SIP/2.0\r\nno colon\r\n\r\n", b"INVITE sip:a SIP/2.0\r\n: x\r\n\r\n"),
        *(b"INVITE sip:a SIP/2.0\r\nX Y: x\r\n\r\n", b"INVITE sip:a SIP/2.0\r\n\xc3\xbc: x\r\n\r\n"),
        *(b"INVITE sip:a SIP/2.0\r\nX: a\rb\r\n\r\n", b"INVITE sip:a SIP/2.0\r\nX: a\nY: b\r\n\r\n"),
        *(b"INVITE sip:a SIP/2.0\r\nX: a\0b\r\n\r\n", b'INVITE sip:a SIP/2.0\r\nX: "\\\\\0"\r\n\r\n'),
        *(b"INVITE sip:a SIP/2.0\r\nX: \r\r\n\r\n", b"INVITE sip:a SIP/2.0\n\rX: a\r\n\r\n"),
    ],
)  # fmt: skip
def test_what_is_no_sip_message_is_refused_with_400(data: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        parse(data)
    assert caught.value.status == 400


def test_another_version_is_refused_with_505() -> None:
    """RFC 3261 §21.5.6."""
    for version in ("SIP/1.0", "SIP/3.0", "sip/22.1"):
        with pytest.raises(ParseError) as caught:
            parse(request().replace(b"SIP/2.0\r\n", version.encode() + b"\r\n", 1))
        assert caught.value.status == 505
    assert parse_request(request().replace(b"SIP/2.0\r\n", b"sip/2.0\r\n", 1)).method == "INVITE"


def test_the_limits_on_sizes_and_counts() -> None:
    fits = request("X: " + "x" * (MAX_HEADER_OCTETS - 300))
    assert len(fits) <= MAX_HEADER_OCTETS
    parse(fits)
    for data, status in [
        (request("X: " + "x" * MAX_HEADER_OCTETS), 413),
        (b"x" * (MAX_HEADER_OCTETS + 1), 413),
        (request(body=b"x" * 262_144), 413),
        (request(*["X: y"] * MAX_HEADER_LINES), 400),
        (request("X" * 257 + ": y"), 400),
        (request(method="M" * 1025), 400),
    ]:
        with pytest.raises(ParseError) as caught:
            parse(data)
        assert caught.value.status == status
    assert status_of(request(*["v: SIP/2.0/UDP a"] * 69)) == 0
    assert status_of(request(*["v: SIP/2.0/UDP a"] * 70)) == 400
    assert status_of(request("v: " + ",".join(["SIP/2.0/UDP a"] * 71), without="Via")) == 400
    assert status_of(request("Call-ID: " + "x" * 1025, without="Call-ID")) == 400


@pytest.mark.parametrize("name", ["Via", "From", "To", "Call-ID", "CSeq", "Contact"])
def test_a_request_without_a_mandatory_header_is_refused(name: str) -> None:
    """RFC 3261 §8.1.1; Contact: §8.1.1.8 for INVITE."""
    assert status_of(request(without=name)) == 400


@pytest.mark.parametrize(
    "line",
    [
        *("f: <sip:a@b>;tag=2", "t: <sip:a@b>", "i: 2", "CSeq: 8 INVITE", "Max-Forwards: 5", "m: <sip:a@c>"),
        *("c: a/b\r\nContent-Type: c/d", "Expires: 1\r\nExpires: 1", "s: a\r\ns: b", "x: 90\r\nx: 90"),
    ],
)
def test_a_single_value_header_that_comes_twice_is_refused(line: str) -> None:
    """Which of two would count differs between parsers; nothing may depend on it (RFC 4475 §3.3.8)."""
    assert status_of(request(line)) == 400
    duplicated = parse_request(request(line))
    assert len(parse(bytes(response_to(duplicated, 400))).headers.lines("From")) == 1


@pytest.mark.parametrize(
    ("name", "line", "status"),
    [
        ("CSeq", "CSeq: 7 BYE", 400),
        ("CSeq", "CSeq: 7 invite", 400),
        ("CSeq", "CSeq: 4294967296 INVITE", 400),
        ("Max-Forwards", "Max-Forwards: 256", 400),
        ("Max-Forwards", "Max-Forwards: -1", 400),
        ("Max-Forwards", "Max-Forwards: 0", 0),
        ("Max-Forwards", "X: y", 0),
        ("From", "From: <sip:a@b>", 400),
        ("From", "From: <sip:a@b>;tag=", 400),
        ("From", "From: <sip:a@b>;tag=1;tag=2", 400),
        ("From", "From: <sip:a@b>;tag=" + "x" * 1025, 400),
        ("From", "From: <sip:a@b>, <sip:c@d>;tag=1", 400),
        ("To", 'To: "x <sip:a@b>', 400),
        ("To", "To: <urn:service:sos>", 0),
        ("Via", "Via: SIP/2.0/UDP", 400),
        ("Via", "Via: SIP/2.0/UDP a;branch=", 400),
        ("Call-ID", "Call-ID: a b", 400),
        ("Call-ID", "Call-ID: ", 400),
        ("Contact", "Contact: *", 400),
        ("Contact", "Contact: <tel:+12015550123>", 400),
        ("Contact", "Contact: <sip:a@b>, <sip:c@d>", 400),
        ("Contact", "Contact: ", 400),
        ("Contact", "Contact: <sips:a@b>;expires=5", 0),
    ],
)
def test_headers_a_uas_relies_on_must_parse_and_be_in_range(name: str, line: str, status: int) -> None:
    """RFC 3261 §8.2, §20."""
    assert status_of(request(line, without=name)) == status


def test_rfc_2543_requests_need_no_from_tag() -> None:
    assert status_of(request(without="From").replace(b"z9hG4bK1", b"1").replace(b"To:", b"From: sip:a@b\r\nTo:")) == 0


def test_contact_does_not_matter_where_it_means_nothing() -> None:
    """A BYE with a broken Contact still ends its call; a re-INVITE may leave it out."""
    for method in ("ACK", "BYE", "CANCEL"):
        assert status_of(request("m: <<<", method=method)) == 0
    for method in ("OPTIONS", "REGISTER"):
        assert status_of(request("m: <<<", method=method)) == 400
        assert status_of(request(method=method, without="Contact")) == 0
    assert status_of(request(without="Contact").replace(b"example.net>", b"example.net>;tag=b")) == 0
    assert parse_request(request("Contact: *", method="REGISTER", without="Contact")).contacts == ()


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        *[("sip:a@b", 0), ("sips:a@b", 0), ("tel:+12015550123", 0), ("http://a/b", 416), ("urn:x", 416), ("x", 400)],
        *[("sip:a@b?Replaces=x", 400), ("sip:2001:db8::10", 400), ("sip:a@b;lr;lr=on", 400), ("1:x", 400)],
    ],
)
def test_the_request_uri_is_ours_by_scheme_and_well_formed(uri: str, status: int) -> None:
    """RFC 3261 §8.2.2.1, §19.1.1."""
    assert status_of(request().replace(b"sip:bob@example.net SIP", uri.encode() + b" SIP", 1)) == status


def test_an_expires_out_of_range_is_an_error_only_for_who_asks() -> None:
    assert parse(request("Expires: 3600")).expires == 3600
    message = parse_request(request("Expires: 99999999999"))
    check_request(message)
    with pytest.raises(ParseError):
        _ = message.expires


def test_responses_are_checked_for_what_a_transaction_needs() -> None:
    ok = parse(bytes(response_to(parse_request(CARRIER_INVITE), 200, to_tag="b")))
    assert isinstance(ok, Response)
    check_response(ok)
    for name in ("Via", "From", "To", "Call-ID", "CSeq"):
        with pytest.raises(ParseError):
            check_response(Response.create(200, ok.headers.without(name)))


def test_a_response_carries_what_the_rfc_says_to_copy() -> None:
    """RFC 3261 §8.2.6.2, §12.1.1."""
    invite = parse_request(CARRIER_INVITE)
    ok = response_to(invite, 200, to_tag="ours", headers=[("m", "<sip:us>"), ("l", "99")], body=b"v=0\r\n")
    lines = bytes(ok).split(b"\r\n")
    assert lines[0] == b"SIP/2.0 200 OK"
    assert lines[-3:] == [b"", b"v=0", b""]
    assert ok.headers.lines("Via") == invite.headers.lines("Via")
    assert ok.headers.lines("Record-Route") == invite.headers.lines("Record-Route")
    for name in ("From", "Call-ID", "CSeq"):
        assert ok.headers.lines(name) == invite.headers.lines(name)
    assert ok.headers.get("To") == "<sip:12014269044@10.231.83.184>;tag=ours"
    assert ok.headers.get("Contact") == "<sip:us>"
    assert b"Content-Length: 5" in lines
    assert bytes(ok).count(b"Content-Length") == 1
    assert parse(bytes(ok)) == ok


def test_record_route_is_copied_only_where_a_dialog_may_begin() -> None:
    invite = parse_request(CARRIER_INVITE)
    counts = {status: len(response_to(invite, status).headers.lines("Record-Route")) for status in (100, 180, 200, 486)}
    assert counts == {100: 0, 180: 2, 200: 2, 486: 0}
    options = parse_request(request("Record-Route: <sip:a;lr>", method="OPTIONS"))
    assert "Record-Route" not in response_to(options, 200).headers


def test_a_to_tag_is_added_once() -> None:
    """RFC 3261 §8.2.6.2: a tag that is there stays; a tag-like parameter of the URI is none."""
    for to, expected in [
        ("<sip:b@c>", "<sip:b@c>;tag=new"),
        ("sip:b@c", "sip:b@c;tag=new"),
        ("<sip:b@c;tag=uri>", "<sip:b@c;tag=uri>;tag=new"),
        ('"tag=x" <sip:b@c>', '"tag=x" <sip:b@c>;tag=new'),
        ("<sip:b@c> ; TAG = old", "<sip:b@c> ; TAG = old"),
        ("<sip:tag@<broken", "<sip:tag@<broken"),
    ]:
        message = parse_request(request(f"To: {to}", without="To"))
        assert response_to(message, 200, to_tag="new").headers.get("To") == expected
        assert response_to(message, 100).headers.get("To") == to


def test_timestamp_is_echoed_in_100_only() -> None:
    """RFC 3261 §8.2.6.1."""
    message = parse_request(request("Timestamp: 54"))
    assert response_to(message, 100).headers.get("Timestamp") == "54"
    assert "Timestamp" not in response_to(message, 200, to_tag="x").headers


def test_phrases_are_the_registered_ones_unless_said_otherwise() -> None:
    message = parse_request(request())
    assert bytes(response_to(message, 488)).startswith(b"SIP/2.0 488 Not Acceptable Here\r\n")
    assert bytes(response_to(message, 499)).startswith(b"SIP/2.0 499 \r\n")
    assert response_to(message, 486, phrase="Besetzt, später").phrase == "Besetzt, später"
    assert parse(bytes(response_to(message, 486, phrase="Besetzt, später"))).phrase == "Besetzt, später"  # type: ignore[union-attr]
    assert all(100 <= status <= 699 and phrase for status, phrase in REASON_PHRASES.items())


@pytest.mark.parametrize(
    ("via", "host", "expected"),
    [
        ("192.0.2.1:5062;branch=b", "192.0.2.1", "192.0.2.1:5062;branch=b"),
        ("10.0.0.1;branch=b", "192.0.2.1", "10.0.0.1;branch=b;received=192.0.2.1"),
        ("a.example;branch=b", "192.0.2.1", "a.example;branch=b;received=192.0.2.1"),
        ("192.0.2.1;rport;branch=b", "192.0.2.1", "192.0.2.1;rport=6000;branch=b;received=192.0.2.1"),
        ("192.0.2.1;branch=b;received=6.6.6.6", "192.0.2.1", "192.0.2.1;branch=b;received=192.0.2.1"),
        ("[2001:DB8::1];branch=b", "2001:db8::1", "[2001:DB8::1];branch=b"),
        ("a, SIP/2.0/UDP b", "::1", "a;received=::1, SIP/2.0/UDP b"),
    ],
)
def test_the_source_is_noted_in_the_top_via(via: str, host: str, expected: str) -> None:
    """RFC 3261 §18.2.1, RFC 3581 §4; what the sender claims of itself is overwritten."""
    message = parse_request(request(f"Via: SIP/2.0/UDP {via}", "Via: SIP/2.0/UDP next;rport", without="Via"))
    sender, unstamped = message.from_, message.vias
    stamped = message.with_received(host, 6000)
    assert stamped.headers.lines("Via") == [f"SIP/2.0/UDP {expected}", "SIP/2.0/UDP next;rport"]
    assert stamped.via == Via.parse("SIP/2.0/UDP " + expected.partition(",")[0]) == stamped.vias[0]
    assert stamped.from_ is sender
    assert message.vias == unstamped
    assert parse(bytes(stamped)) == stamped


# What we write


@pytest.mark.parametrize("bad", ["a\r\nInjected: yes", "a\nb", "a\rb", "a\0b", "a\r\n b", "\n", '"\\\\\0"', '"\\\r"'])
@pytest.mark.parametrize("where", ["value", "phrase", "to_tag", "uri", "method", "name"])
def test_no_line_break_or_nul_gets_into_a_message(bad: str, where: str) -> None:
    """Whatever header text comes from a caller, a database or an agent."""
    message = parse_request(request())
    with pytest.raises(ValueError, match=r"CR, LF or NUL|Request-URI|header name"):
        if where == "value":
            bytes(response_to(message, 200, headers=[("X-Name", f"x{bad}x")]))
        elif where == "phrase":
            bytes(response_to(message, 200, phrase=bad))
        elif where == "to_tag":
            bytes(response_to(message, 200, to_tag=bad))
        elif where == "uri":
            bytes(Request.create("OPTIONS", f"sip:{bad}", []))
        elif where == "method":
            bytes(Request.create(f"A{bad}", "sip:a", []))
        else:
            bytes(Request.create("OPTIONS", "sip:a", [(f"X{bad}", "x")]))


def test_a_quoted_nul_is_the_only_one_that_may_be_echoed() -> None:
    """RFC 3261 §25.1 quoted-pair; RFC 4475 §3.1.1.2."""
    message = Request.create("OPTIONS", "sip:a", [("Subject", '"\\\0"')])
    assert parse(bytes(message)) == message


@pytest.mark.parametrize("status", [0, 99, 700, -1])
def test_statuses_out_of_range_are_our_own_mistake(status: int) -> None:
    with pytest.raises(ValueError, match="status"):
        Response.create(status, [])
    with pytest.raises(ValueError, match="status"):
        response_to(parse_request(request()), status)


def test_content_length_is_always_computed() -> None:
    message = Request.create("MESSAGE", "sip:a", [("Content-Length", "99"), ("l", "98")], b"abc")
    assert bytes(message) == b"MESSAGE sip:a SIP/2.0\r\nContent-Length: 3\r\n\r\nabc"


# Properties

CHARACTERS = st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"])
VALUES = st.text(CHARACTERS | st.sampled_from('\udc80\udcff,;"<>\\'), max_size=30)
TOKENS = st.from_regex(r"[A-Za-z0-9\-.!%*_+`'~]{1,12}", fullmatch=True)
NAMES = TOKENS.filter(lambda name: name not in ("l", "L")) | st.sampled_from(
    ["Via", "v", "VIA", "From", "f", "To", "Call-ID", "CSeq", "m", "Route", "X-Foo", "x-foo"]
)
PAIRS = st.lists(st.tuples(NAMES, VALUES), max_size=12)
URIS = st.from_regex(r"[!#-;=?-~]{1,30}", fullmatch=True)
REQUESTS = st.builds(Request.create, TOKENS, URIS, PAIRS, st.binary(max_size=60)).filter(
    lambda message: message.method[:4].upper() != "SIP/"
)
RESPONSES = st.builds(Response.create, st.integers(100, 699), PAIRS, st.binary(max_size=60), VALUES)


@given(REQUESTS | RESPONSES)
def test_any_message_written_and_parsed_is_the_same(message: Request | Response) -> None:
    assert parse(bytes(message)) == message


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(REQUESTS | RESPONSES)
def test_ten_thousand_messages_written_and_parsed_are_the_same(message: Request | Response) -> None:
    assert parse(bytes(message)) == message


@given(PAIRS, st.tuples(NAMES, VALUES), st.sampled_from(["\r\n", "\n", "\r", "\r\n "]))
def test_no_header_value_can_add_a_line(pairs: list[tuple[str, str]], pair: tuple[str, str], line_end: str) -> None:
    message = Request.create("OPTIONS", "sip:a", [*pairs, (pair[0], f"{pair[1]}{line_end}Injected: yes"), *pairs])
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        bytes(message)


def exercise(data: bytes) -> None:
    """All that a parser of ours does with a datagram; only ParseError may come out, and answers must be sound."""
    try:
        message = parse(data)
    except ParseError as error:
        assert error.status in (400, 413, 505)
        answer_salvaged(data)
        return
    assert parse(bytes(message)) == message
    for name in ("vias", "from_", "to", "cseq", "call_id", "contact", "max_forwards", "routes", "record_routes",
                 "expires", "content_type"):  # fmt: skip
        read(lambda name=name: getattr(message, name))  # type: ignore[misc]
    for name in ("Contact", "Allow", "P-Asserted-Identity", "X-Foo"):
        read(lambda name=name: message.headers.get_all(name))  # type: ignore[misc]
    for value in message.headers.lines("Authorization"):
        read(lambda value=value: parse_authorization(value))  # type: ignore[misc]
        read(lambda value=value: DigestChallenge.parse(value))  # type: ignore[misc]
    if isinstance(message, Response):
        read(lambda: check_response(message))
        return
    read(lambda: check_request(message))
    read(lambda: message.with_received("192.0.2.9", 9))
    answer = response_to(message, 400, to_tag="t")
    assert parse(bytes(answer)) == answer
    answer_salvaged(data)


def read(get: Callable[[], object]) -> None:
    try:
        get()
    except ParseError as error:
        assert error.status in (400, 413, 416)
        assert error.reason.isprintable()


def answer_salvaged(data: bytes) -> None:
    found = salvage(data)
    if found is not None:
        answer = response_to(found.with_received("192.0.2.9", 9), 400, to_tag="t")
        assert parse(bytes(answer)) == answer
        assert answer.via is not None


@given(st.binary(max_size=300))
def test_any_octets_are_a_message_or_a_parse_error(data: bytes) -> None:
    exercise(data)
    exercise(b"INVITE sip:a SIP/2.0\r\n" + data + b"\r\n\r\n")


FRAGMENTS = [
    *(b"\r\n", b"\r\n ", b"\r", b"\n", b"\0", b"\\", b'"', b",", b";", b"<", b">", b":", b"=", b"%", b"@", b"?", b"["),
    *(b"]", b" ", b"\t", b"\xff", b"\xc3\xbc", b"%00", b"tag=", b";tag=x", b"SIP/2.0", b"l: 0\r\n", b"Via: "),
    *(b"v:x\r\n", b"9" * 30, b"Authorization: Digest x=\r\n"),
]


@pytest.mark.parametrize("seed", [CARRIER_INVITE, request(), *(path.read_bytes() for path in TORTURE)])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_mutation_of_a_message_is_a_message_or_a_parse_error(seed: bytes, data: st.DataObject) -> None:
    exercise(mutated(seed, data))


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_twenty_thousand_mutations_are_messages_or_parse_errors(data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from([CARRIER_INVITE, request(), *(path.read_bytes() for path in TORTURE)]))
    exercise(mutated(seed, data))


def mutated(seed: bytes, data: st.DataObject) -> bytes:
    octets = bytearray(seed)
    edits = st.tuples(
        st.integers(0, len(octets)), st.integers(0, 8), st.sampled_from(FRAGMENTS) | st.binary(max_size=4)
    )
    for at, removed, added in data.draw(st.lists(edits, max_size=6)):
        octets[at : at + removed] = added
    return bytes(octets)


# Salvage


def test_an_ack_is_never_answered_nor_a_response_nor_what_says_not_where_it_came_from() -> None:
    """RFC 3261 §17: a response to an ACK, or to a response, would loop."""
    broken = request("Content-Length: x")
    assert salvage(broken) is not None
    assert salvage(request("Content-Length: x", method="ACK")) is None
    assert salvage(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a\r\nContent-Length: x\r\n\r\n") is None
    assert salvage(request("Content-Length: x", without="Via")) is None
    assert salvage(b"INVITE sip:a HTTP/1.1\r\nVia: SIP/2.0/UDP a\r\n\r\n") is None
    assert salvage(b"") is None
    assert salvage(b"\0" * 100) is None


def test_a_broken_via_is_answered_by_what_is_sound_of_it() -> None:
    """RFC 4475 §3.1.2.1."""
    found = salvage(request("Via: SIP/2.0/UDP 192.0.2.15;;,;,,;branch=z9hG4bKx", without="Via"))
    assert found is not None
    assert found.via == Via("UDP", "192.0.2.15", None, (("branch", "z9hG4bKx"),))


def test_salvage_takes_only_the_first_of_what_comes_twice_and_no_other_header() -> None:
    found = salvage(request("To: <sip:other@x>", "X-Internal: yes", "Call-ID: \0", without="Call-ID"))
    assert found is not None
    assert found.headers.get_all("To") == ["<sip:bob@example.net>"]
    assert "X-Internal" not in found.headers
    assert "Call-ID" not in found.headers


# Hostile input in quantity (hardening S9)

BULK = 60_000


def hostile(size: int) -> dict[str, bytes]:
    """Near the limit on headers, of what makes careless patterns back up."""

    def in_header(name: str, text: str) -> bytes:
        return request(f"{name}: {text}", without=name)

    return {
        "commas": in_header("Contact", "," * size),
        "commas after a quote": in_header("Contact", '"",' + "," * size),
        "contacts": in_header("Contact", ",".join(["<sip:a@b>"] * (size // 10))),
        "semicolons": in_header("Via", "SIP/2.0/UDP a" + ";" * size),
        "parameters": in_header("Via", "SIP/2.0/UDP a" + ";a" * (size // 2)),
        "quoted parameters": in_header("Via", "SIP/2.0/UDP a" + ';a=""' * (size // 5)),
        "quotes": in_header("To", '"' * size),
        "quote pairs in a list": in_header("Contact", '""' * (size // 2) + ","),
        "an open quote": in_header("To", '"' + "x" * size),
        "an open quote of backslashes": in_header("To", '"' + "\\" * size),
        "an open quote in a parameter": in_header("From", '<sip:a>;x="' + '\\"' * (size // 2)),
        "backslashes": in_header("Contact", "\\" * size + ","),
        "opening brackets": in_header("Contact", "<" * size),
        "brackets and quotes": in_header("Contact", '<"' * (size // 2) + ","),
        "words": in_header("To", "a " * (size // 2) + "<sip:a@b>"),
        "spaces": in_header("To", " " * size + "x" + " " * size),
        "spaces in a Via": in_header("Via", "SIP/2.0/UDP" + " " * size + "a"),
        "spaces before rports": in_header("Via", "SIP/2.0/UDP a" + " ;" * (size // 2) + "branch=x"),
        "folds": in_header("Subject", "\r\n " * (size // 3)),
        "spaces and a fold": in_header("Subject", " " * size + "\r\n x"),
        "many folds of spaces": in_header("Subject", (" " * 500 + "\r\n ") * (size // 503)),
        "escapes": in_header("To", "<sip:" + "%41" * (size // 3) + "@b>"),
        "percents": in_header("To", "<sip:" + "%" * size + "@b>"),
        "dots": in_header("To", "<sip:a@" + "a." * (size // 2) + ">"),
        "dashes": in_header("To", "<sip:a@a" + "-" * size + ">"),
        "colons": in_header("To", "<sip:[" + ":" * size + "]>"),
        "digits": in_header("CSeq", "9" * size + " INVITE"),
        "blank CSeq": in_header("CSeq", "1" + " " * size),
        "vias": request(*["v: SIP/2.0/UDP a;branch=z9hG4bK1"] * 250),
        "vias in one line": in_header("Via", ",".join(["SIP/2.0/UDP a"] * 4000)),
        "unknown headers": request(*[f"X-{number}: {'x' * (size // 240 - 8)}" for number in range(240)]),
        "quoted nuls": in_header("Subject", '"' + "\\\0" * (size // 2) + '"'),
        "digest commas": in_header("Authorization", "Digest " + "," * (size - 20)),
        "digest quotes": in_header("Authorization", 'Digest a="' + '\\"' * (size // 2 - 20)),
        "versions": b"INVITE sip:a" + b" SIP/2.0 " * (size // 9) + b"x\r\n\r\n",
        "branches": in_header("Via", "SIP/2.0/UDP" + ";branch=" * (size // 8)),
    }


@pytest.mark.parametrize("kind", hostile(10))
def test_hostile_quantities_are_messages_or_parse_errors(kind: str) -> None:
    exercise(hostile(2_000)[kind])
    exercise(hostile(BULK)[kind])


@pytest.mark.realtime
@pytest.mark.parametrize("kind", hostile(10))
def test_hostile_quantities_cost_linear_time(kind: str) -> None:
    """S9. CPU time, the best of several; the bound is far above linear and far below quadratic."""

    def cost_s(data: bytes) -> float:
        best = float("inf")
        for _ in range(3):
            before = time.process_time()
            exercise_once(data)
            best = min(best, time.process_time() - before)
        return best

    assert cost_s(hostile(BULK)[kind]) < 0.1


def exercise_once(data: bytes) -> None:
    with suppress(ParseError):
        StreamFramer().feed(data)
    salvage(data)
    try:
        message = parse(data)
    except ParseError:
        return
    for name in ("vias", "contacts", "to", "from_", "cseq"):
        with suppress(ParseError):
            getattr(message, name)
    for value in message.headers.lines("Authorization"):
        with suppress(ParseError):
            parse_authorization(value)
    with suppress(ParseError):
        check_request(message) if isinstance(message, Request) else check_response(message)
    bytes(message)


@given(st.text(max_size=40))
def test_list_and_parameter_splitting_lose_nothing(text: str) -> None:
    try:
        values = split_list(text)
    except ParseError:
        return
    assert [value.strip(" \t") for value in values if "," not in text] == (
        [text.strip(" \t")] if "," not in text else []
    )
    assert sum(map(len, values)) <= len(text)
    read(lambda: parse_parameters(text))
