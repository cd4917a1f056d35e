from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.auth import (
    Authorization,
    Challenger,
    Credentials,
    DigestChallenge,
    Verdict,
    VerdictKind,
    answer_challenge,
    parse_authorization,
)
from edge.message import Request, parse
from edge.uri import ParseError

KEY = b"0123456789abcdef"
REALM = "edge.example.com"
SOURCE = "192.0.2.7"
URI = "sip:+14155550100@edge.example.com;transport=tls"
BOTH = ("SHA-256", "MD5")


def lookup(username: str) -> Credentials | None:
    users = {
        "alice": Credentials("alice", "open sesame", BOTH),
        "weak": Credentials("weak", "md5 only"),
        "jürgen": Credentials("jürgen", "пароль", BOTH),
        "empty": Credentials("empty", ""),
    }
    return users.get(username)


def challenger(**settings: float | bool) -> Challenger:
    return Challenger(KEY, **settings)  # type: ignore[arg-type]


def answer(
    challenges: list[str],
    username: str = "alice",
    password: str = "open sesame",
    *,
    method: str = "INVITE",
    uri: str = URI,
    nonce_count: int = 1,
    realm: str | None = None,
) -> str:
    value = answer_challenge(challenges, method, uri, username, password, "0a4f113b", nonce_count, realm)
    assert value is not None
    return value


def judge(server: Challenger, authorization: str, *, now: float = 1.0, source: str = SOURCE) -> Verdict:
    return server.verify(authorization, "INVITE", b"", lookup, source, now)


def independent_response(authorization: str, password: str, method: str) -> str:
    """RFC 7616 §3.4.1 from the wire, with nothing of the product in it."""
    fields = {}
    for part in authorization.removeprefix("Digest ").split(", "):
        name, _, value = part.partition("=")
        fields[name] = value.strip('"')
    algorithm = {"MD5": "md5", "SHA-256": "sha256"}[fields.get("algorithm", "MD5")]

    def h(text: str) -> str:
        return hashlib.new(algorithm, text.encode()).hexdigest()

    a1 = h(f"{fields['username']}:{fields['realm']}:{password}")
    a2 = h(f"{method}:{fields['uri']}")
    if "qop" not in fields:
        return h(f"{a1}:{fields['nonce']}:{a2}")
    return h(f"{a1}:{fields['nonce']}:{fields['nc']}:{fields['cnonce']}:{fields['qop']}:{a2}")


RFC_7616 = Authorization(
    username="Mufasa",
    realm="http-auth@example.org",
    uri="/dir/index.html",
    nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
    nonce_count="00000001",
    cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    qop="auth",
    response="",
)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_vectors_of_rfc_7616(algorithm: str, response: str) -> None:
    """RFC 7616 §3.9.1."""
    fields = {name: getattr(RFC_7616, name) for name in RFC_7616.__slots__} | {"algorithm": algorithm}
    assert Authorization(**fields).expected("Circle of Life", "GET") == response


@pytest.mark.parametrize(
    ("challenge", "example"),
    [
        (
            'Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"',
            ("GET", "/dir/index.html", "Mufasa", "Circle Of Life", "6629fae49393a05397450978507c4ef1"),
        ),
        (
            'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"',
            ("GET", "/dir/index.html", "Mufasa", "CircleOfLife", "1949323746fe6a43ef61f9606e7febea"),
        ),
        (
            'Digest realm="biloxi.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"',
            ("INVITE", "sip:bob@biloxi.com", "bob", "zanzibar", "bf57e4e0d0bffc0fbaedce64d59add5e"),
        ),
        (
            'Digest realm="biloxi.com", qop=auth, nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"',
            ("INVITE", "sip:bob@biloxi.com", "bob", "zanzibar", "89eb0059246c02b2f6ee02c7961d5ea3"),
        ),
    ],
    ids=["RFC 2617 §3.5", "RFC 2069 §2.4", "SIP without qop", "SIP with qop"],
)
def test_the_client_answers_as_the_published_examples(challenge: str, example: tuple[str, str, str, str, str]) -> None:
    """The SIP ones are the worked examples of draft-smith-sip-auth-examples."""
    method, uri, username, password, response = example
    value = answer_challenge([challenge], method, uri, username, password, "0a4f113b", 1)
    assert value is not None
    assert parse_authorization(value).response == response


@pytest.mark.parametrize("algorithms", [("MD5",), ("SHA-256",), ("MD5", "SHA-256"), BOTH])
def test_our_client_satisfies_our_server_and_an_independent_computation(algorithms: tuple[str, ...]) -> None:
    server = challenger()
    values = server.challenge(REALM, algorithms, SOURCE, 0.0)
    assert len(values) == len(algorithms)
    value = answer(values)
    assert ("SHA-256" if "SHA-256" in algorithms else "MD5") in value
    assert judge(server, value) == Verdict(VerdictKind.ACCEPTED, "alice")
    assert parse_authorization(value).response == independent_response(value, "open sesame", "INVITE")


def test_names_and_passwords_are_hashed_as_utf_8() -> None:
    """RFC 7616 §4."""
    server = challenger()
    value = answer(server.challenge(REALM, BOTH, SOURCE, 0.0), "jürgen", "пароль")
    assert judge(server, value).accepted
    assert parse_authorization(value).response == independent_response(value, "пароль", "INVITE")


def test_the_nonce_count_need_not_start_at_one_but_must_rise() -> None:
    """RFC 7616 §3.4; a carrier's first answer carries nc=00000002."""
    server = challenger()
    values = server.challenge(REALM, ("MD5",), SOURCE, 0.0)
    kinds = [judge(server, answer(values, nonce_count=count)).kind for count in (2, 2, 1, 3, 0xFFFFFFFF, 0xFFFFFFFF)]
    assert [kind.value for kind in kinds] == ["accepted", "replayed", "replayed", "accepted", "accepted", "replayed"]


def test_a_nonce_is_stale_after_its_life_and_only_for_who_knows_the_password() -> None:
    """RFC 7616 §3.3: stale only when the digest itself is right."""
    server = challenger(lifetime_s=60.0)
    values = server.challenge(REALM, ("MD5",), SOURCE, 100.0)
    assert judge(server, answer(values), now=159.9).accepted
    stale = judge(server, answer(values, nonce_count=2), now=160.0)
    assert stale == Verdict(VerdictKind.STALE, "alice")
    assert stale.stale
    wrong = judge(server, answer(values, password="guess", nonce_count=3), now=160.0)
    assert wrong.kind is VerdictKind.WRONG
    assert not wrong.stale
    assert "stale=true" in server.challenge(REALM, ("MD5",), SOURCE, 160.0, stale=True)[0]
    assert "stale" not in server.challenge(REALM, ("MD5",), SOURCE, 160.0)[0]


def test_a_nonce_from_the_future_is_stale() -> None:
    """The monotonic clock restarts with the machine; the key may not."""
    server = challenger()
    values = server.challenge(REALM, ("MD5",), SOURCE, 1000.0)
    assert judge(server, answer(values), now=5.0).kind is VerdictKind.STALE


def test_a_nonce_works_only_for_the_source_and_realm_it_was_issued_for() -> None:
    server = challenger()
    values = server.challenge(REALM, ("MD5",), SOURCE, 0.0)
    assert judge(server, answer(values), source="192.0.2.8").kind is VerdictKind.FORGED
    other_realm = [value.replace(REALM, "other.example.com") for value in values]
    assert judge(server, answer(other_realm)).kind is VerdictKind.FORGED
    assert judge(Challenger(b"another key 16 o"), answer(values)).kind is VerdictKind.FORGED
    assert judge(server, answer(values)).accepted


@pytest.mark.parametrize("nonce", ["x" * 40, "A" * 38, "====", "nonsense, really", "ü", "A" * 2000])
def test_a_forged_nonce_tells_nothing_about_the_password(nonce: str) -> None:
    server = challenger()
    challenge = [f'Digest realm="{REALM}", nonce="{nonce}", qop="auth"']
    right, wrong = judge(server, answer(challenge)), judge(server, answer(challenge, password="guess"))
    assert right == wrong == Verdict(VerdictKind.FORGED, "alice")
    assert not right.stale


def test_only_nonces_of_ours_make_a_wrong_digest_a_guess() -> None:
    server = challenger()
    values = server.challenge(REALM, ("MD5",), SOURCE, 0.0)
    value = parse_authorization(answer(values))
    assert server.issued(value, SOURCE)
    assert not server.issued(value, "192.0.2.8")


@pytest.mark.parametrize(
    ("username", "password"),
    [("alice", "wrong"), ("nobody", "open sesame"), ("Alice", "open sesame"), ("empty", ""), ("alice", "")],
)
def test_wrong_passwords_and_unknown_users_are_one_verdict(username: str, password: str) -> None:
    server = challenger()
    value = answer(server.challenge(REALM, ("MD5",), SOURCE, 0.0), username, password)
    assert judge(server, value) == Verdict(VerdictKind.WRONG, username)


def test_an_unknown_user_is_hashed_for_like_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """No quicker answer for unknown names: the same number of digests is computed."""
    server = challenger()
    calls: list[str] = []
    expected = Authorization.expected

    def counted(self: Authorization, password: str, method: str, body: bytes = b"") -> str:
        calls.append(self.username)
        return expected(self, password, method, body)

    for username in ("alice", "nobody", "empty"):
        value = answer(server.challenge(REALM, ("MD5",), SOURCE, 0.0), username, "guess")
        with monkeypatch.context() as patched:
            patched.setattr(Authorization, "expected", counted)
            judge(server, value)
    assert calls == ["alice", "nobody", "empty"]


def test_a_user_is_held_to_the_algorithms_he_is_allowed() -> None:
    """RFC 8760 §2.5: no downgrade, and no use of what was not offered."""
    server = challenger()
    sha256 = server.challenge(REALM, ("SHA-256",), SOURCE, 0.0)
    assert judge(server, answer(sha256, "weak", "md5 only")).kind is VerdictKind.WRONG
    md5 = server.challenge(REALM, ("MD5",), SOURCE, 0.0)
    assert judge(server, answer(md5, "weak", "md5 only")).accepted
    unknown = answer(md5).replace("algorithm=MD5", "algorithm=SHA-512-256")
    assert judge(server, unknown).kind is VerdictKind.MALFORMED


@pytest.mark.parametrize(
    "change",
    [("uri=", 'uri="sip:+19005550100@edge.example.com", x='), ("nc=00000001", "nc=00000002"), ("0a4f113b", "0a4f113c")],
    ids=["uri", "nc", "cnonce"],
)
def test_what_the_digest_covers_cannot_be_changed(change: tuple[str, str]) -> None:
    server = challenger()
    value = answer(server.challenge(REALM, ("MD5",), SOURCE, 0.0)).replace(*change)
    assert judge(server, value).kind is VerdictKind.WRONG
    assert server.verify(value, "BYE", b"", lookup, SOURCE, 1.0).kind is VerdictKind.WRONG


def test_the_literal_uri_is_hashed() -> None:
    """A proxy may have changed the Request-URI on the way (RFC 3261 §22.4)."""
    server = challenger()
    for uri in ("sip:x", "sip:a@b:5060;transport=tcp", 'sip:"odd', "*"):
        values = server.challenge(REALM, ("MD5",), SOURCE, 0.0)
        assert judge(server, answer(values, uri=uri)).accepted


def test_an_answer_that_covers_the_body_is_checked_against_it() -> None:
    """RFC 7616 §3.4.3, qop=auth-int."""
    server = challenger()
    offered = DigestChallenge.parse(server.challenge(REALM, ("MD5",), SOURCE, 0.0)[0])
    fields = Authorization("alice", REALM, offered.nonce, URI, "", "MD5", "auth-int", "00000001", "c")
    response = fields.expected("open sesame", "INVITE", b"v=0\r\n")
    value = (
        f'Digest username="alice", realm="{REALM}", nonce="{offered.nonce}", uri="{URI}", '
        f'response="{response}", qop=auth-int, nc=00000001, cnonce="c"'
    )
    assert server.verify(value, "INVITE", b"v=1\r\n", lookup, SOURCE, 1.0).kind is VerdictKind.WRONG
    assert server.verify(value, "INVITE", b"v=0\r\n", lookup, SOURCE, 1.0).accepted


def test_the_form_without_qop_is_taken_only_where_asked_for_and_once_a_nonce() -> None:
    """RFC 2069 §2.1.1: nothing counts, so nothing may be used twice."""
    strict, lenient = challenger(), challenger(accept_rfc2069=True)
    for server in (strict, lenient):
        without_qop = [value.replace(', qop="auth"', "") for value in server.challenge(REALM, ("MD5",), SOURCE, 0.0)]
        value = answer(without_qop)
        assert "qop" not in value
        assert "nc=" not in value
        if server is strict:
            assert judge(server, value).kind is VerdictKind.MALFORMED
        else:
            assert judge(server, value).accepted
            assert judge(server, value).kind is VerdictKind.REPLAYED


def test_the_table_of_nonces_is_bounded_and_forgetting_one_never_lets_it_be_replayed() -> None:
    server = challenger(capacity=3)
    used = []
    for second in range(10):
        value = answer(server.challenge(REALM, ("MD5",), SOURCE, float(second)))
        assert judge(server, value, now=float(second)).accepted
        used.append(value)
        assert len(server._used) <= 3
    assert not any(judge(server, value, now=10.0).accepted for value in used)
    fresh = answer(server.challenge(REALM, ("MD5",), SOURCE, 10.0))
    assert judge(server, fresh, now=10.0).accepted


def test_a_full_table_does_not_forget_the_nonce_at_hand() -> None:
    server = challenger(capacity=1)
    values = server.challenge(REALM, ("MD5",), SOURCE, 0.0)
    assert judge(server, answer(values, nonce_count=5)).accepted
    assert judge(server, answer(values, nonce_count=5)).kind is VerdictKind.REPLAYED
    assert judge(server, answer(values, nonce_count=6)).accepted


def test_old_nonces_leave_the_table() -> None:
    server = challenger(lifetime_s=60.0)
    for second in range(0, 600, 10):
        value = answer(server.challenge(REALM, ("MD5",), SOURCE, float(second)))
        assert judge(server, value, now=float(second)).accepted
    assert len(server._used) <= 7


def test_strangers_fill_no_table() -> None:
    """State only for who knows a password: a flood of guesses costs no memory."""
    server = challenger()
    for _ in range(50):
        judge(server, answer(server.challenge(REALM, ("MD5",), SOURCE, 0.0), password="guess"))
    assert not server._used


def test_two_challenges_in_one_instant_have_different_nonces() -> None:
    server = challenger()
    assert server.challenge(REALM, ("MD5",), SOURCE, 0.0) != server.challenge(REALM, ("MD5",), SOURCE, 0.0)


def test_a_challenge_is_short_and_its_realm_quoted() -> None:
    """Hardening S14: little amplification."""
    value = challenger().challenge('a"b\\c', ("MD5",), SOURCE, 0.0)[0]
    assert DigestChallenge.parse(value).realm == 'a"b\\c'
    assert len(value) < 140


def test_what_cannot_be_offered_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="algorithm"):
        challenger().challenge(REALM, ("ROT13",), SOURCE, 0.0)
    with pytest.raises(ValueError, match="key"):
        Challenger(b"short")


@pytest.mark.parametrize(
    "value",
    [
        *("", "Digest", "Digest ", "Basic YTpi", "NoOneKnowsThisScheme opaque-data=here", "Digest x", "Digest =1"),
        'Digest username="a", username="b", realm="r", nonce="n", uri="u", response="x"',
        'Digest username="a", realm="r", nonce="n", uri="u"',
        'Digest username="", realm="r", nonce="n", uri="u", response="x"',
        'Digest username="a", realm="r", nonce="n", uri="u", response="x", qop=auth',
        'Digest username="a", realm="r", nonce="n", uri="u", response="x", qop=auth, nc=1, cnonce="c"',
        'Digest username="a", realm="r", nonce="n", uri="u", response="x", qop=auth, nc=0000000g, cnonce="c"',
        'Digest username="a", realm="r", nonce="n", uri="u", response="x", qop=auth, nc=000000001, cnonce="c"',
        'Digest username="a", realm="r", nonce="n", uri="u", response="x", qop=auth-conf, nc=00000001, cnonce="c"',
        'Digest username="a, realm="r", nonce="n", uri="u", response="x"',
        'Digest username="a" realm="r" nonce="n" uri="u" response="x"',
        "Digest " + "x=1, " * 2000,
    ],
)
def test_malformed_credentials_are_a_verdict_not_an_exception(value: str) -> None:
    assert judge(challenger(), value) == Verdict(VerdictKind.MALFORMED)
    with pytest.raises(ParseError):
        parse_authorization(value)


def test_credentials_are_read_as_they_are_sent_in_the_wild() -> None:
    """Odd case, no spaces, quoted qop and nc, empty list members (RFC 7616 §3.4)."""
    value = parse_authorization(
        'digest USERNAME="a\\"b",realm="r" ,nonce=n,uri="u", ,response="ABC",'
        'qop="auth",nc="00000001",cnonce="c",algorithm=md5,'
    )
    assert value == Authorization('a"b', "r", "n", "u", "abc", "MD5", "auth", "00000001", "c")


@given(st.text(max_size=200) | st.text('Digest usrnamelopc="\\,= ', max_size=80).map("Digest ".__add__))
def test_any_text_is_a_verdict(value: str) -> None:
    assert not judge(challenger(accept_rfc2069=True), value).accepted


@given(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1, max_size=20)] * 4)
def test_any_name_realm_uri_and_password_pass_between_our_two_sides(
    username: str, realm: str, uri: str, password: str
) -> None:
    """Through a message, as on the wire: everything that needs quoting is quoted."""
    server = challenger()
    challenges = server.challenge(realm, ("MD5",), SOURCE, 0.0)
    value = answer_challenge(challenges, "INVITE", uri, username, password, "c\"\\,'", 1, realm)
    assert value is not None
    sent = parse(bytes(Request.create("INVITE", "sip:a", [("Proxy-Authorization", value)])))
    received = sent.headers.lines("Proxy-Authorization")[0]
    credentials = Credentials(username, password)
    verdict = server.verify(received, "INVITE", b"", {username: credentials}.get, SOURCE, 1.0)
    assert verdict == Verdict(VerdictKind.ACCEPTED, username)


def test_the_client_takes_the_strongest_challenge_it_can_answer() -> None:
    """RFC 8760 §2.4, by local policy; RFC 3261 §22.1: others are passed over."""
    md5, sha256 = ('Digest realm="r", nonce="m", algorithm=MD5', 'Digest realm="r", nonce="s", algorithm=SHA-256')
    passed_over = [
        "Bearer realm=x",
        "Digest broken",
        'Digest realm="r", nonce="n", algorithm=SHA-512-256',
        'Digest nonce="n"',
    ]
    assert 'nonce="s"' in answer([*passed_over, md5, sha256])
    assert 'nonce="s"' in answer([sha256, md5])
    assert 'nonce="m"' in answer([*passed_over, md5])
    assert answer_challenge(passed_over, "INVITE", URI, "u", "p", "c", 1) is None
    assert answer_challenge([], "INVITE", URI, "u", "p", "c", 1) is None
    only_integrity = ['Digest realm="r", nonce="n", qop="auth-int"']
    assert answer_challenge(only_integrity, "INVITE", URI, "u", "p", "c", 1) is None


def test_a_pinned_realm_draws_no_digest_for_any_other() -> None:
    """Digest leak: a stranger's challenge is not answered."""
    challenges = [
        'Digest realm="evil.example.com", nonce="n", algorithm=SHA-256',
        'Digest realm="sip.telnyx.com", nonce="m"',
    ]
    assert 'nonce="m"' in answer(challenges, realm="sip.telnyx.com")
    assert answer_challenge(challenges[:1], "INVITE", URI, "u", "p", "c", 1, "sip.telnyx.com") is None
    assert answer_challenge(challenges, "INVITE", URI, "u", "p", "c", 1, "SIP.telnyx.com") is None


def test_opaque_is_echoed_and_algorithm_only_where_it_was_sent() -> None:
    """RFC 7616 §3.4; a registrar that sends neither qop nor algorithm wants neither back."""
    value = answer(['Digest realm="sip.telnyx.com", nonce="abc", opaque="2/10.13.246.184"'])
    assert value.endswith(', opaque="2/10.13.246.184"')
    assert "algorithm" not in value
    assert "cnonce" not in value
    assert parse_authorization(value).response == independent_response(value, "open sesame", "INVITE")
    assert ", algorithm=MD5, " in answer(['Digest realm="r", nonce="abc", algorithm=md5, qop="auth", opaque=""'])


def test_challenges_parse() -> None:
    value = DigestChallenge.parse(
        'Digest realm="r", domain="sip:x", nonce="n", qop="auth, auth-int", stale=TRUE, algorithm=SHA-256'
    )
    assert value == DigestChallenge("r", "n", "SHA-256", ("auth", "auth-int"), None, stale=True)
    assert value.answerable
    for text in ('Digest realm="r"', 'Digest nonce="n"', 'Basic realm="r"', 'Digest realm="r", nonce=""'):
        with pytest.raises(ParseError):
            DigestChallenge.parse(text)


def test_passwords_stay_out_of_repr() -> None:
    assert "sesame" not in repr(lookup("alice"))
