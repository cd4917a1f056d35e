"""The crypto attribute (RFC 4568): what is taken, what is refused and why, and that no key is ever told."""

from __future__ import annotations

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.crypto import KEY_BYTES, SUITES, BadCrypto, Crypto, answered, chosen, parse

STRONG, SHORT = SUITES
KEY = bytes(range(30))
OTHER = bytes(range(100, 130))
INLINE = "inline:" + base64.b64encode(KEY).decode()
KEYS = {STRONG: b"s" * 30, SHORT: b"t" * 30}


def refusal(value: str) -> str:
    with pytest.raises(BadCrypto) as caught:
        parse(value)
    return str(caught.value)


@pytest.mark.parametrize("suite", SUITES)
def test_an_attribute_of_either_suite_is_read_and_written_back(suite: str) -> None:
    crypto = parse(f"1 {suite} {INLINE}")
    assert crypto == Crypto(1, suite, KEY)
    assert parse(str(crypto)) == crypto


@pytest.mark.parametrize(
    ("written", "packets"), [("2^20", 1 << 20), ("1048576", 1 << 20), ("2^48", 1 << 48), ("1", 1), ("2^31", 1 << 31)]
)
def test_a_lifetime_is_read_in_both_its_forms(written: str, packets: int) -> None:
    """RFC 4568 §6.1."""
    assert parse(f"1 {STRONG} {INLINE}|{written}").lifetime == packets


@pytest.mark.parametrize("written", ["0", "2^49", "2^0x", "-1", "2^", "999999999999999", "2^2^2", ""])
def test_a_lifetime_out_of_range_makes_the_attribute_unusable(written: str) -> None:
    assert refusal(f"1 {STRONG} {INLINE}|{written}")


@pytest.mark.parametrize("tail", ["|1:4", "|2^20|1:4", f"|1:4;{INLINE}|2:4", f";{INLINE}"])
def test_an_mki_is_refused(tail: str) -> None:
    """Its packets would carry what we cannot skip: another attribute may do without."""
    assert "MKI" in refusal(f"1 {STRONG} {INLINE}{tail}")


@pytest.mark.parametrize(
    "parameter",
    ["KDR=24", "UNENCRYPTED_SRTP", "UNENCRYPTED_SRTCP", "UNAUTHENTICATED_SRTP", "FEC_ORDER=FEC_SRTP", "WSH=", "NEW=1"],
)
def test_less_than_full_protection_and_mandatory_extensions_are_refused(parameter: str) -> None:
    """RFC 4568 §6.3."""
    assert "not supported" in refusal(f"1 {STRONG} {INLINE} {parameter}")


@pytest.mark.parametrize("parameters", ["WSH=64", "wsh=1024", "-anything=1", "WSH=64 -x"])
def test_a_replay_window_and_an_optional_extension_are_hints(parameters: str) -> None:
    assert parse(f"1 {STRONG} {INLINE} {parameters}").key == KEY


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"{STRONG} {INLINE}",
        f"1 AEAD_AES_256_GCM {INLINE}",
        f"1 F8_128_HMAC_SHA1_80 {INLINE}",
        f"1234567890 {STRONG} {INLINE}",
        f"1 {STRONG} uri:https://example.com/key",
        f"1 {STRONG} {INLINE[:-4]}",
        f"1 {STRONG} {INLINE}AAAA",
        f"1 {STRONG} inline:{'!' * 40}",
        f"1 {STRONG} inline:é",
        f"1 {STRONG}",
    ],
)
def test_what_is_malformed_or_unknown_is_refused(value: str) -> None:
    refusal(value)


def test_the_offers_first_usable_attribute_is_chosen_with_its_tag() -> None:
    """RFC 4568 §5.1.2: the answer has the tag and the suite of the one it takes, and a key of its own."""
    agreed = chosen([f"1 AES_256_CM_HMAC_SHA1_80 {INLINE}", f"7 {SHORT} {INLINE}", f"8 {STRONG} {INLINE}"], KEYS)
    assert (agreed.ours.tag, agreed.ours.suite, agreed.ours.key) == (7, SHORT, KEYS[SHORT])
    assert agreed.theirs.key == KEY


def test_nothing_usable_says_why_once() -> None:
    with pytest.raises(BadCrypto, match="MKI") as caught:
        chosen([f"1 {STRONG} {INLINE}|1:4", f"2 {SHORT} {INLINE}|1:4"], KEYS)
    assert str(caught.value).count("MKI") == 1
    with pytest.raises(BadCrypto, match="no crypto"):
        chosen([], KEYS)


def test_a_tag_that_comes_twice_is_the_firsts() -> None:
    other = base64.b64encode(OTHER).decode()
    assert chosen([f"1 {STRONG} {INLINE}", f"1 {STRONG} inline:{other}"], KEYS).theirs.key == KEY


def test_an_answer_chooses_one_of_ours() -> None:
    offered = [str(Crypto(1, STRONG, KEYS[STRONG])), str(Crypto(2, SHORT, KEYS[SHORT]))]
    agreed = answered(offered, [f"2 {SHORT} {INLINE}"])
    assert (agreed.ours.key, agreed.theirs.key) == (KEYS[SHORT], KEY)


@pytest.mark.parametrize(
    "values", [[], [f"3 {STRONG} {INLINE}"], [f"1 {SHORT} {INLINE}"], [f"1 {STRONG} {INLINE}"] * 2, ["nonsense"]]
)
def test_an_answer_that_chooses_none_or_another_is_refused(values: list[str]) -> None:
    """RFC 4568 §5.1.3."""
    with pytest.raises(BadCrypto):
        answered([str(Crypto(1, STRONG, KEYS[STRONG]))], values)


def test_more_attributes_than_anybody_needs_are_not_looked_at() -> None:
    with pytest.raises(BadCrypto):
        chosen(["nonsense"] * 16 + [f"1 {STRONG} {INLINE}"], KEYS)


def test_no_key_is_in_a_repr_or_a_reason() -> None:
    crypto = parse(f"1 {STRONG} {INLINE}")
    assert base64.b64encode(KEY).decode() not in repr(crypto) and repr(KEY) not in repr(crypto)
    secret = base64.b64encode(KEY).decode()
    for tail in ("|1:4", "|2^99", " KDR=1", f" FEC_KEY=inline:{secret}", f" {secret}", f";inline:{secret}", "x"):
        assert secret[:12] not in refusal(f"1 {STRONG} {INLINE}{tail}")


@given(st.integers(0, 10**9 - 1), st.sampled_from(SUITES), st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES))
def test_what_is_written_is_read(tag: int, suite: str, key: bytes) -> None:
    assert parse(str(Crypto(tag, suite, key))) == Crypto(tag, suite, key)


@given(st.text(max_size=80) | st.text(alphabet="1 AESCM_28HMAC-inline:|;^=\t", max_size=120))
def test_nothing_but_its_own_error_is_raised(value: str) -> None:
    with suppress(BadCrypto):
        parse(value)


@given(st.integers(0, 90), st.characters())
def test_a_mutated_attribute_is_read_or_refused(at: int, character: str) -> None:
    value = f"1 {STRONG} {INLINE}|2^20 WSH=64"
    mutated = value[:at] + character + value[at + 1 :]
    with suppress(BadCrypto):
        assert len(parse(mutated).key) == KEY_BYTES
