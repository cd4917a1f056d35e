"""An agent's secrets: how they change, and what media is told of them."""

from __future__ import annotations

from pydantic import SecretStr

from control.agent_secrets import (
    GRACE_S,
    changed_headers,
    for_media,
    new_signing_secret,
    with_twilio_token,
    without_signing_secret,
)

NOW = 1_790_000_000.0


def test_headers_are_added_and_replaced_whatever_their_case_and_null_takes_one_away() -> None:
    secrets = {"header:X-One": "1", "header:X-Two": "2", "signing_secret": "s"}
    changed = changed_headers(secrets, {"x-one": SecretStr("new"), "X-Two": None, "X-Three": SecretStr("3")})
    assert changed == {"header:x-one": "new", "header:X-Three": "3", "signing_secret": "s"}


def test_no_headers_at_all_takes_all_away() -> None:
    assert changed_headers({"header:X-One": "1", "signing_secret": "s"}, None) == {"signing_secret": "s"}


def test_the_first_signing_secret_has_none_before_it() -> None:
    text, secrets = new_signing_secret({}, bytes(32), NOW)
    assert text.startswith("whsec_")
    assert secrets == {"signing_secret": text}
    assert for_media(secrets, NOW) == {"signing_secrets": (text,)}


def test_the_one_before_signs_for_an_hour() -> None:
    old, secrets = new_signing_secret({}, bytes(32), NOW)
    new, secrets = new_signing_secret(secrets, b"n" * 32, NOW)
    assert for_media(secrets, NOW + GRACE_S - 1) == {"signing_secrets": (new, old)}
    assert for_media(secrets, NOW + GRACE_S) == {"signing_secrets": (new,)}


def test_without_a_signing_secret_nothing_is_signed() -> None:
    _, secrets = new_signing_secret({"header:X-One": "1"}, bytes(32), NOW)
    _, secrets = new_signing_secret(secrets, b"n" * 32, NOW)
    assert without_signing_secret(secrets) == {"header:X-One": "1"}


def test_media_is_told_headers_by_their_names() -> None:
    assert for_media({"header:X-One": "1"}, NOW) == {"headers": {"X-One": "1"}}
    assert for_media({}, NOW) == {}


def test_a_token_comes_and_goes() -> None:
    secrets = with_twilio_token({"header:X-One": "1"}, SecretStr("t"))
    assert for_media(secrets, NOW) == {"headers": {"X-One": "1"}, "twilio_auth_token": "t"}
    assert with_twilio_token(secrets, None) == {"header:X-One": "1"}
