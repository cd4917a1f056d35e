"""The one table of errors."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest
from pydantic import BaseModel, ValidationError

from control import errors
from control.errors import ERRORS, Code, OperationError, Problem, from_registry, from_validation, revived
from control.registry import types as registry


def concrete() -> list[type[OperationError]]:
    """Every exception class, however deep."""
    found: list[type[OperationError]] = []
    waiting = [OperationError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting += kind.__subclasses__()
    return found


def test_every_code_has_its_row_and_every_row_its_words() -> None:
    """A code without a status, a message or something to do would be a riddle."""
    assert set(ERRORS) == set(Code)
    for code, kind in ERRORS.items():
        assert kind.code is code
        assert 400 <= HTTPStatus(kind.status) < 600
        assert kind.message
        assert kind.resolution


def test_every_code_has_an_exception_and_no_exception_is_unlisted() -> None:
    """So that no code is written by hand."""
    assert {kind.code for kind in concrete()} == set(Code)
    assert {kind.__name__ for kind in concrete()} <= set(errors.__all__)


@pytest.mark.parametrize("kind", sorted(concrete(), key=lambda kind: kind.__name__))
def test_an_error_of_another_process_is_one_of_the_same_kind(kind: type[OperationError]) -> None:
    """Whatever its constructor takes."""
    error = revived(kind.__name__, "words", {"field": 1}, 3)
    assert type(error) is kind
    assert (error.message, error.details, error.retry_after_s) == ("words", {"field": 1}, 3)
    assert (error.status, str(error)) == (ERRORS[kind.code].status, f"{kind.code}: words")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("validation_error", 422),
        ("unauthorized", 401),
        ("forbidden", 403),
        ("trunk_not_allowed", 403),
        ("not_found", 404),
        ("number_already_imported", 409),
        ("conflict", 409),
        ("call_not_live", 409),
        ("payload_too_large", 413),
        ("provider_verification_failed", 422),
        ("provider_not_supported", 422),
        ("rate_limited", 429),
        ("internal", 500),
        ("registry_busy", 503),
        ("secrets_unavailable", 503),
        ("storage_full", 507),
    ],
)
def test_the_contract_s_codes_keep_their_statuses(code: str, status: int) -> None:
    """Clients branch on both."""
    assert ERRORS[Code(code)].status == status


def test_the_page_s_words_are_used() -> None:
    """The troubleshooting table and the note on other providers, word for word."""
    taken = ERRORS[Code.NUMBER_ALREADY_IMPORTED]
    assert taken.message == "The number is already registered to your account (or another Truedy account)"
    other = ERRORS[Code.PROVIDER_NOT_SUPPORTED]
    assert "not officially tested or supported" in other.message
    assert "contact Truedy support before attempting an import" in other.resolution
    assert "Settings → Integrations" in ERRORS[Code.PROVIDER_VERIFICATION_FAILED].resolution


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (registry.NotFound("agent", "x"), Code.NOT_FOUND),
        (registry.PhoneNumberTaken("+14155550100"), Code.NUMBER_ALREADY_IMPORTED),
        (registry.AgentInUse("x", 2), Code.CONFLICT),
        (registry.Conflict("an account named 'a' exists"), Code.CONFLICT),
        (registry.RegistryBusy(), Code.REGISTRY_BUSY),
        (registry.RegistryFull(), Code.STORAGE_FULL),
        (registry.IntegrationInUse("telnyx", 2), Code.CONFLICT),
        (registry.SecretsUnavailable("secrets.key is not set"), Code.SECRETS_UNAVAILABLE),
        (registry.RegistryUnusable("damaged at page 3"), Code.INTERNAL),
        (registry.RegistryError("anything else"), Code.INTERNAL),
    ],
)
def test_a_store_s_errors_become_codes(raised: registry.RegistryError, code: Code) -> None:
    """What no code is for stays inside: nobody outside reads of pages and paths."""
    error = from_registry(raised)
    assert error.code is code
    if code is Code.INTERNAL:
        assert error.message == ERRORS[Code.INTERNAL].message


def test_a_busy_registry_says_when_to_come_back() -> None:
    """Retry-After."""
    assert from_registry(registry.RegistryBusy()).retry_after_s == 1
    assert errors.RateLimited(7).retry_after_s == 7


def test_an_error_prints_its_code_and_its_message() -> None:
    """For logs and the command line."""
    error = errors.ValidationFailed([Problem("phone_number", "is empty"), Problem("provider", "is missing")])
    assert str(error) == "validation_error: phone_number: is empty"
    assert error.details["errors"] == [
        {"field": "phone_number", "problem": "is empty"},
        {"field": "provider", "problem": "is missing"},
    ]


class _Form(BaseModel, extra="forbid"):
    secret: int


def test_a_validation_error_never_quotes_the_input() -> None:
    """It may be a secret, or hostile."""
    with pytest.raises(ValidationError) as caught:
        _Form.model_validate({"secret": "hunter2", "a\x1b[31m\u202e": 1})
    error = from_validation(caught.value.errors())
    text = json.dumps(error.details, ensure_ascii=False)
    assert error.code is Code.VALIDATION_ERROR
    assert "hunter2" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_thousand_problems_are_cut() -> None:
    """An answer is no larger than its cause deserves."""
    rows = [{"type": "missing", "loc": ("body", "x" * 10_000), "msg": "Field required"}] * 1000
    assert len(json.dumps(from_validation(rows).details)) < 10_000
