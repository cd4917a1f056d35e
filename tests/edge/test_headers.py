from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.headers import (
    COMPACT_NAMES,
    MAX_LIST_VALUES,
    CSeq,
    Headers,
    MediaType,
    NameAddress,
    Via,
    canonical_name,
    fold_name,
    is_token,
    parse_integer,
    parse_parameters,
    printable,
    quote,
    split_list,
    unquote,
)
from edge.uri import MAX_PARAMETERS, ParseError, SipUri

# what a quoted-string can hold (RFC 3261 §25.1: no CR, no LF), lone surrogates standing for undecodable bytes
QUOTABLE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]) | st.just("\udcff"), max_size=20)
TOKENS = st.from_regex(r"[A-Za-z0-9\-.!%*_+`'~]{1,12}", fullmatch=True)
PARAMETERS = st.dictionaries(TOKENS.map(str.lower), st.none() | QUOTABLE, max_size=5).map(lambda d: tuple(d.items()))


def refused(status: int = 400) -> pytest.RaisesExc[ParseError]:
    return pytest.raises(ParseError, check=lambda error: error.status == status)


def test_every_compact_name_and_every_spelling_has_one_canonical_form() -> None:
    """RFC 3261 §7.3.3, §7.3.1: names are case-insensitive."""
    for short, name in COMPACT_NAMES.items():
        assert canonical_name(short) == canonical_name(short.upper()) == canonical_name(name.swapcase()) == name
    assert canonical_name("cAll-id") == "Call-ID"
    assert canonical_name("X-Telnyx-Session-ID") == "X-Telnyx-Session-ID"
    assert fold_name("X-Telnyx-Session-ID") == fold_name("x-telnyx-SESSION-id")
    assert fold_name("I") == "Call-ID"


@pytest.mark.parametrize("name", ["", "X Y", "X:", "X\r\n", "Ü", "X" * 257, "X-Foo ", '"'])
def test_a_name_that_is_no_token_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="header name"):
        Headers([(name, "value")])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a", ["a"]),
        ("", [""]),
        ("a, b\t,c", ["a", "b", "c"]),
        ('"a, b" <sip:x>, <sip:y,z>', ['"a, b" <sip:x>', "<sip:y,z>"]),
        (r'"\",\\" <sip:x>,b', [r'"\",\\" <sip:x>', "b"]),
        ('<sip:a?x="b>,c">,d', ['<sip:a?x="b>,c">', "d"]),
        (r"\,b", ["\\", "b"]),
    ],
)
def test_lists_split_at_commas_outside_quotes_and_brackets(text: str, values: list[str]) -> None:
    """RFC 3261 §7.3.1."""
    assert split_list(text) == values


@pytest.mark.parametrize("text", ["a,", ",a", "a,,b", ",", '"a, b', "a, <sip:b", 'a, "b\\"', ",".join("a" * 129)])
def test_lists_with_empty_values_open_quotes_or_too_many_values_are_refused(text: str) -> None:
    with refused():
        split_list(text)


def test_a_list_may_be_as_long_as_its_limit() -> None:
    assert len(split_list(",".join("a" * MAX_LIST_VALUES))) == MAX_LIST_VALUES
    assert len(split_list(",".join(["<sip:a>"] * MAX_LIST_VALUES))) == MAX_LIST_VALUES
    with refused():
        split_list(",".join(["<sip:a>"] * (MAX_LIST_VALUES + 1)))
    with refused():
        split_list("a,b,c", 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tag=abc", (("tag", "abc"),)),
        ("lr ; X = 1;\ty", (("lr", None), ("x", "1"), ("y", None))),
        ('a="b;c=\\"d\\"";e', (("a", 'b;c="d"'), ("e", None))),
        ("received=2001:db8::9:255", (("received", "2001:db8::9:255"),)),
        ("received=[2001:db8::9:255]", (("received", "[2001:db8::9:255]"),)),
        ("tag=a==", (("tag", "a=="),)),
        ('a=""', (("a", ""),)),
        ("lr;lr", (("lr", None),)),
    ],
)
def test_parameters_parse(text: str, expected: tuple[tuple[str, str | None], ...]) -> None:
    """RFC 3261 §25.1 generic-param; RFC 5118 §4.5 for the bare IPv6 address."""
    assert parse_parameters(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", ";", "a;", ";a", "a;;b", "=1", "a=", "a b", "a=b c", 'a="b', 'a="b"c', 'a=b"c"', "a=<b>", "a\x00=b"),
        *("tag=1;tag=2", "tag=1;TAG=2", "a=\x7f", "ü=1", "a=" + "b" * 1025, "a" * 257 + "=b", 'a="\r\n"'),
        ";".join(f"p{i}" for i in range(MAX_PARAMETERS + 1)),
        ";".join(f'p{i}="x"' for i in range(MAX_PARAMETERS + 1)),
    ],
)
def test_parameters_that_are_broken_or_contradict_each_other_are_refused(text: str) -> None:
    """RFC 3261 §7.3.1: a parameter name must not appear more than once."""
    with refused():
        parse_parameters(text)


@given(QUOTABLE)
def test_quoting_is_undone_by_unquoting(text: str) -> None:
    assert unquote(quote(text)) == text


def test_unquoting_leaves_other_text_alone() -> None:
    for text in ("", '"', "a", 'a"', '"a'):
        assert unquote(text) == text


@pytest.mark.parametrize(
    ("text", "name", "uri", "tag"),
    [
        ("sip:v@chair-dnrc.example.com ;   tag    = 1918181833n", "", "sip:v@chair-dnrc.example.com", "1918181833n"),
        (r'"J Rosenberg \\\""     <sip:j@a.com> ;  tag = 98asjd8', 'J Rosenberg \\"', "sip:j@a.com", "98asjd8"),
        ("caller<sip:caller@example.com>;tag=323", "caller", "sip:caller@example.com", "323"),
        ('"919113162180"<sip:919113162180@telnyx.com>;tag=a', "919113162180", "sip:919113162180@telnyx.com", "a"),
        ("T. Watson <sip:t@b;x=1>", "T. Watson", "sip:t@b;x=1", None),
        ("Jürgen <sip:j@b>", "Jürgen", "sip:j@b", None),
        ('"大停電" <sip:j@b>', "大停電", "sip:j@b", None),
        ("<tel:+12015550123>;tag=x", "", "tel:+12015550123", "x"),
        ("<sip:u@[2001:db8::1]:5070>;tag=", "", None, None),
        ('"a" <sip:b>;p="x;tag=evil"', "a", "sip:b", None),
        ("<sip:user@example.com?Route=%3Csip:a%3E>", "", "sip:user@example.com?Route=%3Csip:a%3E", None),
        ('"BEL:\\\x07 NUL:\\\x00" <sip:a@b>', "BEL:\x07 NUL:\x00", "sip:a@b", None),
    ],
)  # fmt: skip
def test_addresses_parse_as_carriers_and_the_torture_tests_send_them(
    text: str, name: str, uri: str | None, tag: str | None
) -> None:
    """RFC 3261 §20.10, §25.1; RFC 4475 §3.1.1.6: no space before ``<`` is to be accepted."""
    if uri is None:
        with refused():
            NameAddress.parse(text)
        return
    address = NameAddress.parse(text)
    assert (address.display_name, str(address.uri), address.tag) == (name, uri, tag)
    assert NameAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "<>", "<sip:a", "sip:a>", '"a <sip:b>', '"a" sip:b', '"a"', "a, b <sip:c>", "<sip:a> x", "<sip:a>x=1"),
        *("< sip:a@b >", "<sip:a>;", "<sip:a>;;", '"a""b" <sip:c>', "a:b <sip:c>", "sip:a@b?x=y", "sip:a,b@c"),
        *("<sip:a>;tag=1;tag=2", '"a\\" <sip:b>', "a\x01 <sip:b>", "<sip:a@b>, <sip:c@d>", "*"),
    ],
)
def test_addresses_that_could_mean_two_things_are_refused(text: str) -> None:
    """RFC 3261 §20.10, §25.1; RFC 4475 §3.1.2.6, §3.1.2.14, §3.1.2.15."""
    with refused():
        NameAddress.parse(text)


@given(QUOTABLE, PARAMETERS)
def test_any_address_written_and_parsed_is_the_same(name: str, parameters: tuple[tuple[str, str | None], ...]) -> None:
    address = NameAddress(name, SipUri("sip", "a b", "::1", 5060), parameters)
    assert NameAddress.parse(str(address)) == address


def test_a_tag_is_added_or_replaced_and_the_rest_kept() -> None:
    address = NameAddress.parse('"A" <sip:a@b>;x=1;tag=old')
    assert str(address.with_tag("new")) == '"A" <sip:a@b>;x=1;tag=new'
    assert address.parameter("x") == "1"
    assert address.parameter("y") is None


@pytest.mark.parametrize(
    ("text", "transport", "sent_by", "branch"),
    [
        ("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", "UDP", "192.0.2.1", "z9hG4bK1"),
        ("SIP  / 2.0  / TCP     spindle.com   ;  branch  =   z9hG4bK9i", "TCP", "spindle.com", "z9hG4bK9i"),
        ("SIP/2.0/tls [2001:db8::9:1]:6050 ; branch=x", "TLS", "[2001:db8::9:1]:6050", "x"),
        ("SIP/2.0/UDP first.example.com: 4000;ttl=16;maddr=224.2.0.1", "UDP", "first.example.com:4000", None),
        ("SIP/2.0/UNKNOWN a", "UNKNOWN", "a", None),
        ("SIP/7.0/UDP c.example.com;branch=z9hG4bKkdjuw", "UDP", "c.example.com", "z9hG4bKkdjuw"),
    ],
)  # fmt: skip
def test_vias_parse(text: str, transport: str, sent_by: str, branch: str | None) -> None:
    """RFC 3261 §20.42; a Via of another version is echoed in a 505 (RFC 4475 §3.1.2.16)."""
    via = Via.parse(text)
    assert (via.transport, via.sent_by, via.branch) == (transport, sent_by, branch)
    assert Via.parse(str(via)) == via


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "SIP/2.0/UDP",
            "SIP/2.0 a",
            "SIP/2.0/UDP;branch=x",
            "SIP/2.0/UDP a b",
            "SIP/2.0/UDP a;",
            "SIP/2.0/UDP a;;",
        ),
        *("SIP/2.0/UDP a:x", "SIP/2.0/UDP a:99999", "SIP/2.0/U D a", "//UDP a", "SIP/2.0/UDP a;branch=1;branch=2"),
    ],
)
def test_broken_vias_are_refused(text: str) -> None:
    with refused():
        Via.parse(text)


def test_a_via_knows_where_the_response_goes() -> None:
    """RFC 3261 §18.2.1, RFC 3581."""
    via = Via.parse("SIP/2.0/UDP 10.0.0.1:5062;rport;branch=b")
    assert (via.rport, via.received) == (0, None)
    stamped = via.with_parameters(received="2001:db8::1", rport="6000")
    assert str(stamped) == "SIP/2.0/UDP 10.0.0.1:5062;rport=6000;branch=b;received=2001:db8::1"
    assert (stamped.rport, stamped.received) == (6000, "2001:db8::1")
    assert Via.parse("SIP/2.0/UDP a;received=[2001:db8::1]").received == "2001:db8::1"
    assert Via.parse("SIP/2.0/UDP a").rport is None
    with refused():
        _ = Via.parse("SIP/2.0/UDP a;rport=65536").rport


def test_cseq_is_a_31_bit_number_and_a_method() -> None:
    """RFC 3261 §8.1.1.5, §20.16; RFC 4475 §3.1.1.1: leading zeros and any LWS."""
    assert CSeq.parse("0009 \t INVITE") == CSeq(9, "INVITE")
    assert str(CSeq(1, "ACK")) == "1 ACK"
    assert CSeq.parse("2147483647 A").number == 2**31 - 1
    for text in (
        "",
        "1",
        "INVITE",
        "1 INVITE x",
        "-1 A",
        "2147483648 A",
        "1 ",
        "٣ A",
        "1 (A)",
        "1\x1cA",
        "9" * 30 + " A",
    ):
        with refused():
            CSeq.parse(text)


def test_media_types_parse() -> None:
    assert MediaType.parse("Application / SDP ; charset=x") == MediaType("application/sdp", (("charset", "x"),))
    assert str(MediaType.parse('multipart/mixed;boundary="a b"')) == 'multipart/mixed;boundary="a b"'
    for text in ("", "application", "a/", "/b", "a/b/c", "a/b;"):
        with refused():
            MediaType.parse(text)


def test_integers_are_ascii_digits_in_range() -> None:
    assert parse_integer("0070", 255, "x") == 70
    for text in ("", "-1", "+1", " 1", "256", "1_0", "²", "٣", "0x1", "1" * 5000):
        with refused():
            parse_integer(text, 255, "x")


def test_headers_are_found_by_any_name_and_keep_their_order() -> None:
    headers = Headers([("v", "SIP/2.0/UDP a"), ("X-One", " 1 "), ("VIA", "SIP/2.0/UDP b"), ("x-one", "2"), ("l", "5")])
    assert headers.items() == (("Via", "SIP/2.0/UDP a"), ("X-One", "1"), ("Via", "SIP/2.0/UDP b"), ("x-one", "2"))
    assert headers.lines("via") == headers.get_all("V") == ["SIP/2.0/UDP a", "SIP/2.0/UDP b"]
    assert headers.lines("X-ONE") == ["1", "2"]
    assert headers.get("x-One") == "1"
    assert headers.get("To") is None
    assert headers.lines("To") == headers.get_all("To") == []
    assert "Content-Length" not in headers
    assert "x-one" in headers
    assert 1 not in headers
    assert (len(headers), list(headers)) == (4, list(headers.items()))
    assert list(headers.names()) == ["Via", "x-one"]


def test_only_headers_that_are_lists_split_at_commas() -> None:
    """RFC 3261 §7.3.1: in Subject or Date a comma is text."""
    headers = Headers(
        [("Allow", "INVITE, ACK"), ("Allow", ""), ("k", "timer"), ("Subject", "a, b"), ("X-List", "a, b")]
    )
    assert headers.get_all("Allow") == ["INVITE", "ACK"]
    assert headers.get_all("Subject") == ["a, b"]
    assert headers.get_all("X-List") == ["a, b"]
    assert headers.get_all("Supported") == ["timer"]


def test_headers_are_changed_by_making_new_ones() -> None:
    headers = Headers([("To", "<sip:a>"), ("Via", "1"), ("X-A", "y"), ("v", "2")])
    stamped = headers.with_first("v", "3")
    assert stamped.items() == (("To", "<sip:a>"), ("Via", "3"), ("X-A", "y"), ("Via", "2"))
    assert stamped.lines("Via") == ["3", "2"]
    assert headers.without("x-a", "V").items() == (("To", "<sip:a>"),)
    assert headers.appended(("f", "<sip:b>")).get("From") == "<sip:b>"
    headers.lines("Via").append("3")
    assert headers.lines("Via") == ["1", "2"]


def test_headers_compare_by_folded_names() -> None:
    one, other = Headers([("X-A", "1"), ("To", "b")]), Headers([("x-a", "1"), ("t", "b")])
    assert one == other
    assert hash(one) == hash(other)
    assert one != Headers([("To", "b"), ("X-A", "1")])
    assert one != object()
    assert repr(other) == "Headers([('x-a', '1'), ('To', 'b')])"


def test_hostile_text_is_made_printable() -> None:
    """No control character, line separator or undecodable byte leaves for a log or a page."""
    assert printable("Jürgen, 大停電") == "Jürgen, 大停電"
    assert printable("a\r\nb\x1b[2J\x00\x7f\x9b\u2028\u202e\udcff") == "a\ufffd\ufffdb\ufffd[2J" + "\ufffd" * 6


def test_tokens() -> None:
    """RFC 3261 §25.1."""
    assert is_token("!interesting-Method0123456789_*+`.%indeed'~")
    for text in ("", "a b", "a\n", "ä", "a/b", "x" * 1025):
        assert not is_token(text)
