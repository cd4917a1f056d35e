from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.events import TransportName
from edge.uri import MAX_PARAMETERS, ParseError, SipUri, format_host, parse_host, parse_host_port

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
HOSTS = st.one_of(
    st.from_regex(r"[a-z0-9]([a-z0-9\-]{0,8}[a-z0-9])?(\.[a-z][a-z0-9]{0,5}){0,3}", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).map(str.lower).filter(lambda n: n == n.lower())
PARAMETERS = st.dictionaries(NAMES, st.none() | TEXT.filter(bool), max_size=5).map(lambda d: tuple(d.items()))
SIP_URIS = st.builds(
    SipUri,
    scheme=st.sampled_from(["sip", "sips"]),
    user=TEXT.filter(bool) | st.none(),
    host=HOSTS,
    port=st.none() | st.integers(1, 65535),
    parameters=PARAMETERS,
    headers=st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=3).map(tuple),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sip:alice@atlanta.com", SipUri("sip", "alice", "atlanta.com")),
        ("SIP:Alice@ATLANTA.com:5070", SipUri("sip", "Alice", "atlanta.com", 5070)),
        ("sip:atlanta.com", SipUri("sip", None, "atlanta.com")),
        ("sips:1212@gateway.com", SipUri("sips", "1212", "gateway.com")),
        ("sip:alice:secret@a.com", SipUri("sip", "alice", "a.com", password="secret")),
        ("sip:alice:@a.com", SipUri("sip", "alice", "a.com", password="")),
        ("sip:alice;day=tuesday@a.com", SipUri("sip", "alice;day=tuesday", "a.com")),
        ("sip:sips%3Auser%40example.com@example.net", SipUri("sip", "sips:user@example.com", "example.net")),
        ("sip:null-%00-null@a.com", SipUri("sip", "null-\0-null", "a.com")),
        ("sip:%e2%82%ac@a.com", SipUri("sip", "€", "a.com")),
        ("sip:%ff@a.com", SipUri("sip", "\udcff", "a.com")),
        ("sip:[2001:DB8::10]:5070", SipUri("sip", None, "2001:db8::10", 5070)),
        ("sip:u@[2001:db8:::192.0.2.1]", SipUri("sip", "u", "2001:db8::c000:201")),
        ("sip:a@b;lr", SipUri("sip", "a", "b", parameters=(("lr", None),))),
        ("sip:a@b;Transport=TCP;gw=x%20y", SipUri("sip", "a", "b", parameters=(("transport", "TCP"), ("gw", "x y")))),
        ("sip:a@b;lr;lr", SipUri("sip", "a", "b", parameters=(("lr", None),))),
        ("sip:a@b?Subject=x%20y&Route=", SipUri("sip", "a", "b", headers=(("Subject", "x y"), ("Route", "")))),
        ("tel:+1-201-555-0123", SipUri("tel", "+1-201-555-0123", "")),
        ("tel:863-1234;phone-context=+1", SipUri("tel", "863-1234", "", parameters=(("phone-context", "+1"),))),
        ("isbn:2983792873", SipUri("isbn", None, "", opaque="2983792873")),
        ("soap.beep://192.0.2.103:3002", SipUri("soap.beep", None, "", opaque="//192.0.2.103:3002")),
        ("sip:#3@pbx_1.lan", SipUri("sip", "#3", "pbx_1.lan")),
    ],
)
def test_each_form_of_uri_parses_and_survives_being_written(text: str, expected: SipUri) -> None:
    """RFC 3261 §19.1.1, RFC 3966, RFC 5118 §4.10."""
    parsed = SipUri.parse(text)
    assert parsed == expected
    assert SipUri.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "sip:",
            "alice",
            ":a@b",
            "sip:@b",
            "sip:a@",
            "sip:a@b@c",
            "1sip:a@b",
            "sip:a b@c",
            "sip: a@b",
            "sip:a@b ",
        ),
        *("sip:a@b:", "sip:a@b:0", "sip:a@b:65536", "sip:a@b:-1", "sip:a@b:५", "sip:a@b:5060x", "sip:a@b :5060"),
        *("sip:a@b;", "sip:a@b;;lr", "sip:a@b;x=", "sip:a@b; lr", "sip:a@b;x=1;x=2", 'sip:a@b;x="1"', "sip:a@b;=1"),
        *("sip:a@b?", "sip:a@b?x", "sip:a@b?=x", "sip:a@b?x=1&", "sip:a@b?x=<"),
        *("sip:%4@b", "sip:%@b", "sip:%zz@b", "sip:a@b;x=%4", "sip:a:%@b"),
        *(
            "sip:2001:db8::10",
            "sip:[2001:db8::10",
            "sip:[::1]x",
            "sip:[::1%eth0]",
            "sip:[1.2.3.4]",
            "sip:[]",
            "sip:a@-b",
        ),
        *("sip:a<b@c", "sip:a\r\nb@c", "sip:a\0@c", "sip:é@c", "tel:", "tel:abc xyz", "tel:+", "urn:a b", 'urn:"'),
        "sip:" + "a" * 256,
        "sip:a@b" + "".join(f";p{i}" for i in range(MAX_PARAMETERS + 1)),
        "sip:a@b?" + "&".join(f"h{i}=1" for i in range(MAX_PARAMETERS + 1)),
    ],
)
def test_what_breaks_the_grammar_or_a_limit_is_refused_with_400(text: str) -> None:
    """RFC 3261 §19.1.1, §25.1."""
    with pytest.raises(ParseError) as caught:
        SipUri.parse(text)
    assert caught.value.status == 400


def test_a_uri_that_is_too_long_is_refused_with_413() -> None:
    with pytest.raises(ParseError) as caught:
        SipUri.parse("sip:" + "a" * 9000 + "@b")
    assert caught.value.status == 413


@given(SIP_URIS)
def test_any_uri_written_and_parsed_is_the_same(uri: SipUri) -> None:
    text = str(uri)
    assert SipUri.parse(text) == uri
    assert text.isascii()
    assert text.isprintable()


@given(st.text(max_size=60) | st.from_regex(r"sips?:[ -~]{0,40}", fullmatch=True))
def test_any_text_parses_or_is_a_parse_error_and_what_parses_is_stable(text: str) -> None:
    try:
        uri = SipUri.parse(text)
    except ParseError:
        return
    assert SipUri.parse(str(uri)) == uri


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
        ("tel:+1-201-555-0123", "tel:+12015550123"),
        ("sip:[2001:db8:0::1]", "sip:[2001:DB8::1]"),
    ],
)
def test_equivalent_uris_match_both_ways(one: str, other: str) -> None:
    """RFC 3261 §19.1.4, the examples; RFC 3966 §5."""
    assert SipUri.parse(one).matches(SipUri.parse(other))
    assert SipUri.parse(other).matches(SipUri.parse(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com:6000;transport=tcp", "sip:bob@biloxi.com"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;newparam=6"),
        ("sip:carol@chicago.com", "sips:carol@chicago.com"),
        ("sip:carol@chicago.com;user=phone", "sip:carol@chicago.com"),
        ("sip:a:x@b", "sip:a@b"),
        ("tel:863-1234;phone-context=+1", "tel:8631234"),
    ],
)
def test_different_uris_do_not_match(one: str, other: str) -> None:
    """RFC 3261 §19.1.4, the examples of inequality."""
    assert not SipUri.parse(one).matches(SipUri.parse(other))
    assert not SipUri.parse(other).matches(SipUri.parse(one))


def test_parameters_are_asked_by_name() -> None:
    uri = SipUri.parse("sip:a@b;transport=TLS;lr;x=1")
    assert uri.transport is TransportName.TLS
    assert uri.lr
    assert (uri.parameter("x"), uri.parameter("lr"), uri.parameter("y")) == ("1", "", None)
    plain = uri.with_parameters([("tk", "s")])
    assert str(plain) == "sip:a@b;tk=s"
    assert plain.transport is None
    assert not plain.lr
    assert SipUri.parse("sip:a@b;transport=ws").transport is None
    assert SipUri.parse("sip:a@b;lr=on").lr


def test_a_password_stays_out_of_repr() -> None:
    assert "hunter2" not in repr(SipUri.parse("sip:a:hunter2@b"))


def test_hosts_have_one_spelling() -> None:
    """RFC 5952 for IPv6, lower case for names."""
    assert parse_host("Example.COM.") == "example.com."
    assert parse_host("[2001:0DB8:0:0::1]") == "2001:db8::1"
    assert format_host("2001:db8::1") == "[2001:db8::1]"
    assert format_host("192.0.2.1") == "192.0.2.1"
    assert parse_host_port("[::1] : 5060") == ("::1", 5060)
    assert parse_host_port("first.example.com \t: 4000") == ("first.example.com", 4000)
    assert parse_host_port("192.0.2.1") == ("192.0.2.1", None)


def test_a_parse_error_says_its_status_and_quotes_no_remote_text() -> None:
    with pytest.raises(ParseError) as caught:
        SipUri.parse("sip:evil\r\nInjected: yes@b")
    assert str(caught.value) == "400 bad user in URI"
