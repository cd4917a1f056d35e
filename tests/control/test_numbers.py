"""What people type and carriers dial, as one E.164 string."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.numbers import NumberError, Why, canonical, canonical_dialed


@pytest.mark.parametrize(
    ("typed", "e164"),
    [
        ("+14155550100", "+14155550100"),
        ("+1 (415) 555-0100", "+14155550100"),
        ("  +1.415.555.0100 ", "+14155550100"),
        ("+44 (0)20 7946 0000", "+442079460000"),
        ("+4402079460000", "+442079460000"),
        ("+39 06 12345678", "+390612345678"),
        ("+80012345678", "+80012345678"),
        ("+4900677224", "+49677224"),
    ],
)
def test_a_typed_number_becomes_e164(typed: str, e164: str) -> None:
    """ITU-T E.164; a national prefix after the country code goes, Italy's leading zero stays."""
    assert canonical(typed) == e164


@pytest.mark.parametrize("number", ["+15551230001", "+14155550100", "+12025550199"])
def test_laboratory_numbers_that_no_plan_assigns_are_accepted(number: str) -> None:
    """Possible is enough; valid is not asked for."""
    assert canonical(number) == number


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", Why.EMPTY),
        ("   ", Why.EMPTY),
        ("+", Why.TOO_SHORT),
        ("+1", Why.TOO_SHORT),
        ("+1415555010", Why.TOO_SHORT),
        ("+141555501000", Why.TOO_LONG),
        ("+4915112345678901", Why.TOO_LONG),
        ("+" + "1" * 64, Why.TOO_LONG),
        ("14155550100", Why.NOT_INTERNATIONAL),
        ("(415) 555-0100", Why.NOT_INTERNATIONAL),
        ("+999123456789", Why.UNKNOWN_COUNTRY),
        ("+0123456789", Why.UNKNOWN_COUNTRY),
        ("+1415555010x", Why.CHARACTERS),
        ("+1800FLOWERS", Why.CHARACTERS),
        ("+14155550100 ext 5", Why.CHARACTERS),
        ("+1415555\u06600100", Why.CHARACTERS),
        ("\uff0b14155550100", Why.CHARACTERS),
        ("+14155550100\n", Why.CHARACTERS),
        ("+14155550100\0", Why.CHARACTERS),
        ("++14155550100", Why.CHARACTERS),
        ("sip:+14155550100@host", Why.CHARACTERS),
    ],
)
def test_a_refusal_says_why(typed: str, why: Why) -> None:
    """Each in words that fit behind the field's name."""
    with pytest.raises(NumberError) as refusal:
        canonical(typed)
    assert refusal.value.why is why
    assert str(refusal.value)


def test_a_region_admits_national_numbers() -> None:
    """Without one they are refused: nothing is guessed."""
    assert canonical("(415) 555-0100", "US") == "+14155550100"
    assert canonical("020 7946 0000", "GB") == "+442079460000"
    with pytest.raises(NumberError):
        canonical("020 7946 0000", "XX")


@pytest.mark.parametrize(
    "dialed",
    [
        "+14155550100",
        "14155550100",
        "0014155550100",
        "+1-415-555-0100",
        "1 (415) 555.0100",
        "tel:+1-415-555-0100",
        "TEL:14155550100",
        "+14155550100;npdi;rn=+14155550000",
        "4155550100;phone-context=+1",
        "415-555-0100;ext=12;phone-context=+1",
        "14155550100;phone-context=example.com",
    ],
)
def test_every_way_carriers_write_a_number_finds_the_same_did(dialed: str) -> None:
    """RFC 3966 §3 and §5.1.5; a plus here and none there was another bridge's "number not found"."""
    assert canonical_dialed(dialed) == "+14155550100"


@pytest.mark.parametrize("dialed", ["", ";", "tel:", "echo", "1000", "+", "00", "%2B14155550100", "x" * 300, "1" * 300])
def test_what_is_no_number_is_refused_and_not_guessed(dialed: str) -> None:
    """Extensions and names are nobody's DID."""
    with pytest.raises(NumberError):
        canonical_dialed(dialed)


@given(st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_what_was_imported_is_found_when_it_is_dialed(number: str) -> None:
    """Canonical form is a fixed point, with the plus and without it."""
    try:
        e164 = canonical(number)
    except NumberError:
        return
    assert canonical(e164) == e164
    assert canonical_dialed(e164) == e164
    assert canonical_dialed(e164[1:]) == e164


@given(st.text(max_size=80))
def test_any_text_is_a_number_or_a_number_error(text: str) -> None:
    """It is the network's."""
    for take in (canonical, canonical_dialed):
        try:
            assert take(text).startswith("+")
        except NumberError as error:
            assert error.why in Why
