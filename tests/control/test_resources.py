"""What operations take and give."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control import resources
from control.errors import OperationError, ProviderNotSupported, ValidationFailed
from control.providers import ProviderWarning
from control.registry import types as rows
from control.resources import (
    CreateAccount,
    ImportSipNumber,
    SaveTelnyxIntegration,
    SaveTwilioIntegration,
    account_sid,
    call_detail,
    call_sid,
    id_of,
    import_request,
    imported_number,
    number_resource,
    parse_pipeline,
    timestamp,
)

ID = "0198c0de-0000-4000-8000-00000000abcd"
HEX = "0198c0de00004000800000000000abcd"


def test_sids_are_ids_in_twilio_s_shape() -> None:
    """AC and CA, 34 characters."""
    assert account_sid(ID) == "AC" + HEX
    assert call_sid(ID) == "CA" + HEX


@pytest.mark.parametrize(
    ("text", "prefix", "id"),
    [
        (ID, None, ID),
        (ID.upper(), None, ID),
        (ID, "CA", ID),
        ("CA" + HEX, "CA", ID),
        ("CA" + HEX.upper(), "CA", ID),
        ("CA" + HEX, None, None),
        ("AC" + HEX, "CA", None),
        ("ca" + HEX, "CA", None),
        (HEX, "CA", None),
        ("CA" + HEX[:-1], "CA", None),
        ("CA" + HEX[:-1] + "g", "CA", None),
        ("CA" + HEX[:-1] + "٣", "CA", None),
        ("CA" + HEX[:-1] + "_", "CA", None),
        ("{" + ID[1:-1] + "}", None, None),
        ("urn:uuid:" + ID, None, None),
        (ID.replace("-", "") + "----", None, None),
        ("-" * 36, None, None),
        (ID[:-1] + "\n", None, None),
        ("", "CA", None),
    ],
)
def test_an_id_is_spelled_in_two_ways_and_no_other(text: str, prefix: str | None, id: str | None) -> None:
    """RFC 9562 §4, and Twilio's."""
    assert id_of(text, prefix) == id


@given(st.text(max_size=40), st.sampled_from([None, "AC", "CA"]))
def test_any_text_is_an_id_or_none(text: str, prefix: str | None) -> None:
    """Without raising."""
    assert id_of(text, prefix) in (None, (id_of(text, prefix) or "").lower())


@given(st.uuids())
def test_ids_come_back_from_their_sids(id: object) -> None:
    """All of them."""
    assert id_of(account_sid(str(id)), "AC") == str(id)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00.000Z"),
        (datetime(2026, 1, 31, 12, 0, 0, 999_999, UTC), "2026-01-31T12:00:00.999Z"),
        (datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=2))), "2026-01-31T10:00:00.000Z"),
    ],
)
def test_times_are_utc_in_milliseconds(moment: datetime, text: str) -> None:
    """RFC 3339, always as long."""
    assert timestamp(moment) == text


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


def test_a_call_without_an_answer_has_no_durations() -> None:
    """None, not zero."""
    call = rows.Call(
        ID, ID, None, None, "inbound", "lab", "+12025550199", "+14155550100", "failed", 0.0, sip_status=404
    )
    shown = call_detail(call).model_dump()
    assert (shown["ring_s"], shown["duration_s"], shown["answered_at"], shown["sip_status"]) == (None, None, None, 404)


def test_spans_are_shown_to_the_millisecond() -> None:
    """Differences of a monotonic clock come with the noise of binary fractions."""
    call = rows.Call(
        ID, ID, None, None, "inbound", "lab", "+12025550199", "+14155550100", "completed", 0.0,
        ring_s=0.005000000000109139, duration_s=15.055999999999585, timeline=((3.17699999999968, "digit: 1"),),
    )  # fmt: skip
    shown = call_detail(call).model_dump()
    assert (shown["ring_s"], shown["duration_s"]) == (0.005, 15.056)
    assert shown["timeline"] == [{"at_s": 3.177, "event": "digit: 1"}]


def test_loose_values_become_requests_or_an_operation_error() -> None:
    """As the command line has them."""
    assert CreateAccount.of(name=" acme ").name == "acme"
    with pytest.raises(ValidationFailed) as refusal:
        CreateAccount.of(name="")
    assert refusal.value.problems[0].field == "name"
    found = import_request(provider="sip", phone_number="+14155550100", provider_trunk="lab")
    assert isinstance(found, ImportSipNumber)
    with pytest.raises(ProviderNotSupported):
        import_request(provider="vonage", phone_number="+14155550100")
    with pytest.raises(OperationError):
        import_request(provider="sip")


def test_a_stored_pipeline_reads_back() -> None:
    """As it was stored, without what was left out."""
    pipeline = parse_pipeline({"protocol": "twilio-media-streams", "url": "ws://127.0.0.1:9000/"})
    assert pipeline.model_dump(exclude_none=True) == {
        "protocol": "twilio-media-streams",
        "url": "ws://127.0.0.1:9000/",
        "parameters": {},
    }


def test_everything_public_is_listed() -> None:
    """A name missing from ``__all__`` would be missing from the reference."""
    defined = {
        name for name, value in vars(resources).items()
        if getattr(value, "__module__", None) == resources.__name__ and not name.startswith("_")
    }  # fmt: skip
    assert defined <= set(resources.__all__)


def test_resources_hold_no_secret() -> None:
    """The one exception is a key's text when it is made, and it is kept out of ``repr``."""
    made = resources.created_key(rows.ApiKey(ID, ID, "account", "abcd", 0.0), "truedy_secret")
    assert made.key == "truedy_secret"
    assert "truedy_secret" not in repr(made)
