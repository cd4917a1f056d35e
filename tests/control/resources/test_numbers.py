"""Numbers, as they are imported and shown."""

from __future__ import annotations

import pytest

from control.errors import OperationError, ProviderNotSupported, ValidationFailed
from control.providers import ProviderWarning
from control.registry import types as rows
from control.resources.numbers import (
    ImportSipNumber,
    UpdateNumber,
    import_request,
    imported_number,
    number_resource,
)

ID = "0198c0de-0000-4000-8000-00000000abcd"


def number(**provider: str) -> rows.Number:
    """A row."""
    return rows.Number(
        id=ID,
        account_id=ID,
        phone_number="+14155550100",
        raw="+1 415 555 0100",
        trunk="secret-trunk-key",
        status="active",
        created_at=0.0,
        updated_at=0.0,
        **provider,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("provider", "field"),
    [("twilio", "provider_account_sid"), ("telnyx", "provider_connection_id"), ("sip", "provider_trunk")],
)
def test_a_number_shows_its_provider_s_field_and_no_inside(provider: str, field: str) -> None:
    """Neither the look-up key of its calls nor its account."""
    shown = number_resource(number(provider=provider, **{field: "x"})).model_dump()
    assert shown[field] == "x"
    assert "secret-trunk-key" not in str(shown)
    assert set(shown) == {
        "id", "phone_number", "provider", field, "agent_id", "fallback", "parameters", "status",
        "created_at", "updated_at"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "field"),
    [("twilio", "provider_account_sid"), ("telnyx", "provider_connection_id"), ("sip", "provider_trunk")],
)
def test_a_number_just_imported_has_its_warnings_besides(provider: str, field: str) -> None:
    """The same object, and what to look after."""
    row = number(provider=provider, **{field: "x"})
    shown = imported_number(row, [ProviderWarning("voice_url", "Not ours")]).model_dump()
    assert shown == {**number_resource(row).model_dump(), "warnings": [{"code": "voice_url", "message": "Not ours"}]}
    assert imported_number(row).warnings == []


def test_an_import_is_read_by_its_provider() -> None:
    """As the command line has it."""
    found = import_request(provider="sip", phone_number="+14155550100", provider_trunk="lab")
    assert isinstance(found, ImportSipNumber)
    with pytest.raises(ProviderNotSupported):
        import_request(provider="vonage", phone_number="+14155550100")
    with pytest.raises(OperationError):
        import_request(provider="sip")


def test_what_is_wrong_with_a_fallback_has_the_name_that_was_typed() -> None:
    with pytest.raises(ValidationFailed) as refusal:
        UpdateNumber.of(fallback={"message": "unavailable", "forward": "+14155550123"})
    assert {problem.field for problem in refusal.value.problems} == {"fallback.message", "fallback.forward"}
