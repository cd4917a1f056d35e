"""Credentials that an account keeps here."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from control.errors import ValidationFailed
from control.registry import types as rows
from control.resources.integrations import SaveTelnyxIntegration, SaveTwilioIntegration, twilio_integration

ID = "0198c0de-0000-4000-8000-00000000abcd"


@pytest.mark.parametrize(
    "request_type", [partial(SaveTwilioIntegration.of, account_sid="AC" + "0" * 32), SaveTelnyxIntegration.of]
)
def test_a_request_shows_no_credential(request_type: Any) -> None:
    """Whatever logs it."""
    name = "auth_token" if isinstance(request_type, partial) else "api_key"
    request = request_type(**{name: "planted"})
    assert getattr(request, name).get_secret_value() == "planted"
    assert "planted" not in repr(request) + str(request) + str(request.model_dump())
    with pytest.raises(ValidationFailed) as refused:
        request_type(**{name: "planted secret"})
    assert "planted" not in str(refused.value)


@pytest.mark.parametrize(("now", "shown"), [(99.0, True), (100.0, False)])
def test_the_token_before_is_shown_while_it_still_verifies(now: float, shown: bool) -> None:
    """By its end, never by its text."""
    secrets = {"auth_token": "new", "previous_auth_token": "old", "previous_auth_token_until": "100.0"}
    row = rows.Integration(ID, "twilio", {"account_sid": "AC" + "0" * 32}, secrets, 0.0, 0.0)
    integration = twilio_integration(row, now)
    assert integration.auth_token_set
    assert (integration.previous_auth_token_until is not None) is shown
