"""Twilio's provider: signatures, and imports against a Twilio on loopback through the real SDK."""

from __future__ import annotations

import pytest

from control.providers.twilio import signature_ok

URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
FORM = [
    ("CallSid", "CA1234567890ABCDE"),
    ("Caller", "+12349013030"),
    ("Digits", "1234"),
    ("From", "+12349013030"),
    ("To", "+18005551212"),
]
SIGNATURE = "0/KCTR6DLpKmkAf8muzZqo1nDgQ="


async def test_twilios_own_example_is_taken() -> None:
    """Twilio, "Validating requests": token 12345."""
    assert await signature_ok(["12345"], URL, FORM, SIGNATURE)


async def test_the_order_of_parameters_is_of_no_matter() -> None:
    assert await signature_ok(["12345"], URL, FORM[::-1], SIGNATURE)


@pytest.mark.parametrize("tokens", [["new", "12345"], ["12345", "old"]])
async def test_during_a_rotation_either_token_may_have_signed(tokens: list[str]) -> None:
    assert await signature_ok(tokens, URL, FORM, SIGNATURE)


@pytest.mark.parametrize("url", ["https://mycompany.com:443/myapp.php?foo=1&bar=2", URL])
async def test_the_schemes_own_port_may_be_there_or_not(url: str) -> None:
    assert await signature_ok(["12345"], url, FORM, SIGNATURE)


@pytest.mark.parametrize(
    "url",
    [
        "http://mycompany.com/myapp.php?foo=1&bar=2",
        "https://mycompany.com/myapp.php/?foo=1&bar=2",
        "https://mycompany.com/myapp.php?bar=2&foo=1",
        "https://elsewhere.com/myapp.php?foo=1&bar=2",
        "https://mycompany.com:badport/myapp.php?foo=1&bar=2",
        "https://[::1/myapp.php",
        "",
    ],
)
async def test_another_url_is_refused(url: str) -> None:
    assert not await signature_ok(["12345"], url, FORM, SIGNATURE)


@pytest.mark.parametrize(
    "form",
    [
        FORM[:-1],
        [*FORM, ("Extra", "")],
        [*FORM[:-1], ("To", "+18005551213")],
        [*FORM, ("To", "+18005551213")],
        [*FORM[:-1], ("To", "\ud800")],
        [],
    ],
)
async def test_another_form_is_refused(form: list[tuple[str, str]]) -> None:
    assert not await signature_ok(["12345"], URL, form, SIGNATURE)


@pytest.mark.parametrize("signature", [None, "", "=", SIGNATURE.lower(), SIGNATURE + "=", "é" * 28])
async def test_what_is_no_signature_is_refused(signature: str | None) -> None:
    assert not await signature_ok(["12345"], URL, FORM, signature)


async def test_no_token_and_an_empty_token_prove_nothing() -> None:
    """Anybody can sign with the empty key."""
    by_nobody = "3cdcKJhDP37mDuun3bl3LgM2ApY="
    assert not await signature_ok([], URL, FORM, by_nobody)
    assert not await signature_ok([""], URL, FORM, by_nobody)


async def test_blank_and_repeated_parameters_are_part_of_what_is_signed() -> None:
    from twilio.request_validator import RequestValidator

    form = [("A", ""), ("B", "2"), ("B", "1"), ("B", "2")]
    expected = RequestValidator("12345").compute_signature("https://h/p", {"AB1B2": ""})
    assert await signature_ok(["12345"], "https://h/p", form, expected)
    assert not await signature_ok(["12345"], "https://h/p", form[1:], expected)
