"""What all carriers share."""

from __future__ import annotations

import pytest

from control.providers import DISPROVING, Check, Claim, NoConnections, Verified, signing_tokens
from control.registry.types import Connection, Integration

ROTATED = Integration(
    "a1",
    "twilio",
    {"account_sid": "AC1"},
    {
        "auth_token": "new",
        "previous_auth_token": "old",
        "previous_auth_token_until": "1000.5",
        "subaccount:AC9": "sub",
    },
)


@pytest.mark.parametrize(
    ("sid", "now", "tokens"),
    [
        ("AC1", 1000.0, ("new", "old")),
        ("AC1", 1000.5, ("new",)),
        ("AC9", 0.0, ("sub",)),
        ("AC2", 0.0, ()),
        ("", 0.0, ()),
        ("auth_token", 0.0, ()),
    ],
)
def test_a_webhook_is_signed_with_a_token_of_its_own_account(sid: str, now: float, tokens: tuple[str, ...]) -> None:
    assert signing_tokens(ROTATED, sid, now) == tokens


def test_an_account_without_a_token_signs_nothing() -> None:
    assert signing_tokens(Integration("a1", "twilio", {"account_sid": "AC1"}, {}), "AC1", 0.0) == ()


def test_a_carrier_that_cannot_be_asked_disproves_nothing() -> None:
    assert DISPROVING.isdisjoint({Check.TIMEOUT, Check.UNREACHABLE, Check.RATE_LIMITED, Check.ANSWER})
    assert DISPROVING.isdisjoint({Check.OUT_OF_SERVICE, Check.SIP_PASSWORD})


def test_no_secret_is_shown() -> None:
    claim = Claim("a1", "+1", "42", sip_password="planted")
    verified = Verified("telnyx:42", secrets={"subaccount:AC9": "planted"})
    connection = Connection("42", "a1", "telnyx", "credential", "gw", "t", secrets={"sip_password": "planted"})
    assert "planted" not in repr((claim, verified, connection, ROTATED))


def test_a_process_without_registrations_can_be_told_of_connections() -> None:
    nobody = NoConnections()
    nobody.changed(Connection("42", "a1", "telnyx", "credential", "gw", "t"))
    nobody.removed("42")
