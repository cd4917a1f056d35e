"""Accounts, their API keys, and what they may dial."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from control.registry import types as rows
from control.resources.base import Request, Resource
from control.resources.fields import Name, Timestamp, moment, moment_if_any
from control.resources.ids import account_sid, id_of

__all__ = [
    "AccountName",
    "AccountResource",
    "CreateAccount",
    "CreateKey",
    "CreatedKey",
    "DiallingResource",
    "KeyResource",
    "SetDialling",
    "account_resource",
    "created_key",
    "key_resource",
]


def _not_an_id(text: str) -> str:
    """A trunk lists accounts by id or by name: no account is named like another's id."""
    if id_of(text) is not None:
        raise ValueError("looks like an id")
    return text


AccountName = Annotated[Name, AfterValidator(_not_an_id)]


class CreateAccount(Request):
    """A new account."""

    name: AccountName


class AccountResource(Resource):
    """An account; ``sid`` is its id in Twilio's shape, for agents that hang up through Twilio's REST path."""

    id: str
    sid: str
    name: str
    created_at: Timestamp


class CreateKey(Request):
    """A new API key. Only an operator makes operator keys, or keys of another account."""

    role: Literal["account", "operator"] = "account"
    account_id: UUID | None = Field(default=None, description="The caller's own account when absent.")


class KeyResource(Resource):
    """An API key without its text; ``hint`` is its last characters."""

    id: str
    account_id: str
    role: Literal["account", "operator"]
    hint: str
    created_at: Timestamp
    revoked_at: Timestamp | None


class CreatedKey(KeyResource):
    """A key just made: ``key`` is shown this once."""

    key: str = Field(repr=False)


class SetDialling(Request):
    """What an account may dial. Absent and null: as the edge's settings say (`[outbound]`)."""

    calls: Annotated[int, Field(ge=1, le=10_000, strict=True)] | None = Field(default=None, description="At once.")
    calls_per_minute: Annotated[int, Field(ge=1, le=10_000, strict=True)] | None = None
    minutes_per_day: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = Field(
        default=None, description="In a day of UTC, all calls together."
    )
    countries: list[Annotated[str, StringConstraints(pattern=r"^([A-Z]{2}|\*)$")]] | None = Field(
        default=None, max_length=300, description="Two capital letters each, `*` for all."
    )


class DiallingResource(Resource):
    """What an account may dial, the edge's own settings included, and what of the day is used."""

    account_id: str
    calls: int
    calls_per_minute: int
    minutes_per_day: int
    countries: list[str] | None = Field(description="null: that of the number called from.")
    used_minutes: float


def account_resource(row: rows.Account) -> AccountResource:
    """As the API shows it."""
    return AccountResource(id=row.id, sid=account_sid(row.id), name=row.name, created_at=moment(row.created_at))


def _key_fields(row: rows.ApiKey) -> dict[str, Any]:
    return {
        "id": row.id,
        "account_id": row.account_id,
        "role": row.role,
        "hint": row.hint,
        "created_at": moment(row.created_at),
        "revoked_at": moment_if_any(row.revoked_at),
    }


def key_resource(row: rows.ApiKey) -> KeyResource:
    """As the API shows it."""
    return KeyResource(**_key_fields(row))


def created_key(row: rows.ApiKey, text: str) -> CreatedKey:
    """As the API shows it, once."""
    return CreatedKey(**_key_fields(row), key=text)
