"""RFC 4475 and RFC 5118: what each torture message must meet, and at which level.

Levels: ``parse`` (the message does not parse), ``check`` (it parses, and no UAS may act on it), ``engine`` (it is
sound; the status is what a user agent answers for other reasons: an unknown method, extension or content), or none.
The engine's part is tested with the engine.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path

import pytest

from edge.message import (
    NameAddress,
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

DATA = Path(__file__).parent / "data"

SOUND = "sound"
PARSE = "parse"
CHECK = "check"

RFC_4475 = {
    # 3.1.1 Valid messages
    "wsinv": (SOUND, 0),
    "intmeth": (SOUND, 0),
    "esc01": (SOUND, 0),
    "escnull": (SOUND, 0),
    "esc02": (SOUND, 0),
    "lwsdisp": (SOUND, 0),
    "longreq": (SOUND, 0),
    "dblreq": (SOUND, 0),
    "semiuri": (SOUND, 0),
    "transports": (SOUND, 0),
    "mpart01": (SOUND, 0),
    "unreason": (SOUND, 0),
    "noreason": (SOUND, 0),
    # 3.1.2 Invalid messages
    "badinv01": (CHECK, 400),
    "clerr": (PARSE, 400),
    "ncl": (PARSE, 400),
    "scalar02": (CHECK, 400),
    "scalarlg": (CHECK, 0),
    "quotbal": (CHECK, 400),
    "ltgtruri": (PARSE, 400),
    "lwsruri": (PARSE, 400),
    "lwsstart": (PARSE, 400),
    "trws": (PARSE, 400),
    "escruri": (CHECK, 400),
    "baddate": (SOUND, 0),  # Date is none of a user agent's business
    "regbadct": (CHECK, 400),
    "badaspec": (CHECK, 400),
    "baddn": (PARSE, 400),  # the archive's copy has no end of headers, either
    "badvers": (PARSE, 505),
    "mismatch01": (CHECK, 400),
    "mismatch02": (CHECK, 400),
    "bigcode": (PARSE, 0),
    # 3.2 Transaction layer semantics
    "badbranch": (SOUND, 0),
    # 3.3 Application-layer semantics
    "insuf": (CHECK, 400),
    "unkscm": (CHECK, 416),
    "novelsc": (CHECK, 416),
    "unksm2": (SOUND, 0),  # a registrar's matter
    "bext01": (SOUND, 0),  # 420
    "invut": (SOUND, 0),  # 415
    "regaut01": (SOUND, 0),
    "multi01": (CHECK, 400),
    "mcl01": (PARSE, 400),
    "bcast": (SOUND, 0),  # dropped: no transaction of ours
    "zeromf": (SOUND, 0),  # a UAS accepts Max-Forwards 0
    "cparam01": (SOUND, 0),
    "cparam02": (SOUND, 0),
    "regescrt": (SOUND, 0),
    "sdp01": (SOUND, 0),
    # 3.4 Backward compatibility
    "inv2543": (CHECK, 400),  # no Contact: nowhere to send a BYE
}
"""Name: the level that objects, and the status answered (0: none, it is a response or sound)."""

RFC_5118 = {
    "ipv6-good": (SOUND, 0),
    "ipv6-bad": (CHECK, 400),
    "port-ambiguous": (SOUND, 0),
    "port-unambiguous": (SOUND, 0),
    "via-received-param-with-delim": (SOUND, 0),
    "via-received-param-no-delim": (SOUND, 0),
    "ipv6-in-sdp": (SOUND, 0),
    "mult-ip-in-header": (SOUND, 0),
    "mult-ip-in-sdp": (SOUND, 0),
    "ipv4-mapped-ipv6": (SOUND, 0),
    "ipv6-bug-abnf-3-colons": (SOUND, 0),
    "ipv6-correct-abnf-2-colons": (SOUND, 0),
}

CASES = [
    *(("rfc4475", name, *expected) for name, expected in RFC_4475.items()),
    *(("rfc5118", name, *expected) for name, expected in RFC_5118.items()),
]


def octets(name: str, rfc: str = "rfc4475") -> bytes:
    return (DATA / rfc / f"{name}.dat").read_bytes()


def request(name: str, rfc: str = "rfc4475") -> Request:
    message = parse(octets(name, rfc))
    assert isinstance(message, Request)
    check_request(message)
    return message


def response(name: str) -> Response:
    message = parse(octets(name))
    assert isinstance(message, Response)
    check_response(message)
    return message


def check(message: Request | Response) -> None:
    check_request(message) if isinstance(message, Request) else check_response(message)


def test_every_message_of_both_rfcs_is_here() -> None:
    assert {path.stem for path in (DATA / "rfc4475").glob("*.dat")} == RFC_4475.keys()
    assert {path.stem for path in (DATA / "rfc5118").glob("*.dat")} == RFC_5118.keys()
    assert (len(RFC_4475), len(RFC_5118)) == (49, 12)


@pytest.mark.parametrize(("rfc", "name", "level", "status"), CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES])
def test_each_message_is_refused_at_its_level_and_with_its_status_or_accepted(
    rfc: str, name: str, level: str, status: int
) -> None:
    data = octets(name, rfc)
    if level == PARSE:
        with pytest.raises(ParseError) as caught:
            parse(data)
    elif level == CHECK:
        message = parse(data)
        with pytest.raises(ParseError) as caught:
            check(message)
    else:
        message = parse(data)
        check(message)
        assert parse(bytes(message)) == message
        return
    if status:
        assert caught.value.status == status


@pytest.mark.parametrize(
    ("rfc", "name", "status"), [(rfc, name, status) for rfc, name, level, status in CASES if level != SOUND]
)
def test_whatever_is_refused_can_be_answered_statelessly_and_responses_never_are(
    rfc: str, name: str, status: int
) -> None:
    """RFC 3261 §8.2.6.2, §16.7: the refusal finds its way back by Via, whatever else is broken."""
    found = salvage(octets(name, rfc))
    if status == 0:
        assert found is None
        return
    assert found is not None
    stamped = found.with_received("192.0.2.99", 5060)
    answer = parse(bytes(response_to(stamped, status, to_tag="ours")))
    assert isinstance(answer, Response)
    assert answer.status == status
    assert answer.via.received in ("192.0.2.99", None)
    for name_ in ("From", "Call-ID", "CSeq"):
        assert answer.headers.lines(name_) == found.headers.lines(name_)


def test_a_short_tortuous_invite() -> None:
    """RFC 4475 §3.1.1.1: folding, LWS everywhere, compact and long forms of one header, escapes in quotes."""
    invite = request("wsinv")
    assert invite.request_uri == SipUri("sip", "vivekg", "chair-dnrc.example.com", parameters=(("unknownparam", None),))
    assert (invite.to.tag, str(invite.to.uri)) == ("1918181833n", "sip:vivekg@chair-dnrc.example.com")
    assert (invite.from_.display_name, invite.from_.tag) == ('J Rosenberg \\"', "98asjd8")
    assert (invite.max_forwards, invite.cseq.number, invite.cseq.method) == (68, 9, "INVITE")
    assert [(via.transport, via.sent_by, via.branch) for via in invite.vias] == [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ]
    assert invite.headers.get("Subject") == ""
    assert invite.headers.get("NewFangledHeader") == "newfangled value continued newfangled value"
    assert invite.headers.get("UnknownHeaderWithUnusualValue") == ";;,,;;,;"
    (route,) = invite.routes
    assert route.uri.lr
    assert route.uri.parameter("unknownwith") == "value"
    contact = invite.contact
    assert contact is not None
    assert contact.display_name == 'Quoted string ""'
    assert contact.parameters == (("newparam", "newvalue"), ("secondparam", None), ("q", "0.33"))
    assert len(invite.body) == 150


def test_a_wide_range_of_valid_characters() -> None:
    """RFC 4475 §3.1.1.2, a quoted NUL among them; it survives being echoed."""
    message = request("intmeth")
    method = "!interesting-Method0123456789_*+`.%indeed'~"
    assert message.method == message.cseq.method == method
    assert message.request_uri.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert message.request_uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert message.via.branch == "z9hG4bK-.!%66*_+`'~"
    assert message.to.display_name == "BEL:\x07 NUL:\x00 DEL:\x7f"
    assert message.from_.display_name == "token1~` token2'+_ token3*%!.-"
    assert message.from_.parameters == (("fromparam''~+*_!.-%", "работающий"), ("tag", "_token~1'+`*%!-."))
    assert message.call_id == "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
    assert message.headers.get("extensionHeader-!.%*+_`'~") == "\ufeff大停電"
    echoed = parse(bytes(response_to(message, 405, to_tag="x")))
    assert echoed.to.display_name == message.to.display_name


def test_escapes_are_undone_once_and_only_in_uris() -> None:
    """RFC 4475 §3.1.1.3 to §3.1.1.5."""
    invite = request("esc01")
    assert (invite.request_uri.user, invite.request_uri.host) == ("sips:user@example.com", "example.net")
    assert invite.to.uri.user == "user"
    contact = invite.contact
    assert contact is not None
    assert contact.uri.parameters[0] == ("lr", None)
    assert contact.uri.parameters[1][0] == "name"
    nulls = request("escnull")
    assert [one.uri.user for one in nulls.contacts] == ["\0", "\0\0"]
    assert b"\0" not in bytes(nulls)
    percent = request("esc02")
    assert percent.method == percent.cseq.method == "RE%47IST%45R"
    assert percent.from_.display_name == "%Z%45"


def test_the_first_of_two_requests_in_a_datagram_is_the_only_one() -> None:
    """RFC 4475 §3.1.1.8: octets after Content-Length are dropped."""
    register = request("dblreq")
    assert (register.method, register.body) == ("REGISTER", b"")


def test_a_semicolon_in_the_user_part_is_part_of_the_user() -> None:
    """RFC 4475 §3.1.1.9."""
    options = request("semiuri")
    assert options.request_uri.user == "user;par=u@example.net"
    assert options.request_uri.parameters == ()


def test_unknown_transports_in_via_are_read() -> None:
    """RFC 4475 §3.1.1.10."""
    assert [via.transport for via in request("transports").vias] == ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]


def test_a_binary_body_passes_untouched() -> None:
    """RFC 4475 §3.1.1.11."""
    message = request("mpart01")
    content_type = message.content_type
    assert content_type is not None
    assert content_type.value == "multipart/mixed"
    assert message.body == octets("mpart01").partition(b"\r\n\r\n")[2]
    assert bytes(message).endswith(message.body)


def test_reason_phrases_may_be_unusual_or_empty() -> None:
    """RFC 4475 §3.1.1.12, §3.1.1.13."""
    assert response("unreason").phrase == "= 2**3 * 5**2 но сто девяносто девять - простое"
    assert (response("noreason").status, response("noreason").phrase) == (100, "")


def test_long_values_are_read_whole() -> None:
    """RFC 4475 §3.1.1.7."""
    invite = request("longreq")
    assert len(invite.vias) == 34
    assert invite.vias[-1].branch == "very" + "long" * 50 + "branchvalue"
    assert invite.from_.tag == "1" + "298" * 50 + "2424"
    assert invite.to.display_name.endswith("extreme proportion")


def test_parameters_of_a_bare_contact_belong_to_the_header() -> None:
    """RFC 4475 §3.3.12, §3.3.13."""
    (bare,) = request("cparam01").contacts
    (bracketed,) = request("cparam02").contacts
    assert (bare.parameter("unknownparam"), bare.uri.parameters) == ("", ())
    assert (bracketed.parameter("unknownparam"), bracketed.uri.parameters) == (None, (("unknownparam", None),))


def test_unknown_schemes_are_carried_in_from_and_to() -> None:
    """RFC 4475 §3.3.4."""
    register = request("unksm2")
    assert (register.to.uri.scheme, register.to.uri.opaque) == ("isbn", "2983792873")
    assert (register.from_.uri.scheme, register.from_.tag) == ("http", "3234233")


def test_headers_in_a_contact_uri_are_read() -> None:
    """RFC 4475 §3.3.14."""
    (contact,) = request("regescrt").contacts
    assert contact.uri.headers == (("Route", "<sip:sip.example.com>"),)
    assert NameAddress.parse(str(contact)) == contact


def test_a_branch_of_the_cookie_alone_is_seen_as_such() -> None:
    """RFC 4475 §3.2.1."""
    assert request("badbranch").via.branch == "z9hG4bK"


def test_ipv6_references_with_and_without_port() -> None:
    """RFC 5118 §4.1, §4.3, §4.4."""
    assert request("ipv6-good", "rfc5118").request_uri == SipUri("sip", None, "2001:db8::10")
    assert request("port-ambiguous", "rfc5118").request_uri == SipUri("sip", None, "2001:db8::10:5070")
    assert request("port-unambiguous", "rfc5118").request_uri == SipUri("sip", None, "2001:db8::10", 5070)


def test_received_is_read_with_and_without_brackets() -> None:
    """RFC 5118 §4.5."""
    for name in ("via-received-param-with-delim", "via-received-param-no-delim"):
        assert request(name, "rfc5118").via.received == "2001:db8::9:255"


def test_both_families_stand_in_one_message() -> None:
    """RFC 5118 §4.7, §4.9, §4.10."""
    hosts = [(via.transport, via.host, via.port) for via in request("mult-ip-in-header", "rfc5118").vias]
    assert hosts == [("UDP", "2001:db8::9:1", 6050), ("UDP", "192.0.2.1", None), ("TCP", "2001:db8::9:255", None)]
    mapped = request("ipv4-mapped-ipv6", "rfc5118").via
    assert (IPv6Address(mapped.host), mapped.port) == (IPv6Address("::ffff:192.0.2.10"), 19823)
    three, two = (request(f"ipv6-{name}-colons", "rfc5118") for name in ("bug-abnf-3", "correct-abnf-2"))
    assert three.request_uri == two.request_uri
