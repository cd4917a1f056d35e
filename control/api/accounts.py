"""``/account``, ``/accounts`` and ``/keys``: who there is, and the keys they come in with."""

from __future__ import annotations

from fastapi import APIRouter, status

from control.api.door import Caller, Ops
from control.api.envelopes import Answer, RequestMeta, documented
from control.api.routing import PREFIX, GuardedRoute
from control.errors import Code
from control.resources.accounts import (
    AccountResource,
    CreateAccount,
    CreatedKey,
    CreateKey,
    DiallingResource,
    KeyResource,
    SetDialling,
)

__all__ = ["router"]

router = APIRouter(route_class=GuardedRoute)


class AccountAnswer(Answer[AccountResource]):
    """One account."""


class AccountsAnswer(Answer[list[AccountResource]]):
    """All accounts."""


class DiallingAnswer(Answer[DiallingResource]):
    """What an account may dial."""


class KeyAnswer(Answer[KeyResource]):
    """One API key, without its text."""


class CreatedKeyAnswer(Answer[CreatedKey]):
    """A new API key, with its text this once."""


class KeysAnswer(Answer[list[KeyResource]]):
    """The account's API keys, without their texts."""


@router.get(f"{PREFIX}/account", tags=["accounts"], responses=documented(Code.NOT_FOUND))
async def get_account(by: Caller, operations: Ops, meta: RequestMeta) -> AccountAnswer:
    """The account of the key."""
    return AccountAnswer(data=await operations.account(by), meta=meta)


@router.get(f"{PREFIX}/accounts", tags=["accounts"], responses=documented(Code.FORBIDDEN))
async def list_accounts(by: Caller, operations: Ops, meta: RequestMeta) -> AccountsAnswer:
    """All accounts; operator keys only."""
    return AccountsAnswer(data=await operations.accounts(by), meta=meta)


@router.post(
    f"{PREFIX}/accounts",
    tags=["accounts"],
    status_code=status.HTTP_201_CREATED,
    responses=documented(Code.FORBIDDEN, Code.CONFLICT, body=True),
)
async def create_account(body: CreateAccount, by: Caller, operations: Ops, meta: RequestMeta) -> AccountAnswer:
    """A new account, without keys; operator keys only."""
    return AccountAnswer(data=await operations.create_account(by, body), meta=meta)


@router.get(f"{PREFIX}/accounts/{{account_id}}/dialling", tags=["accounts"], responses=documented(Code.NOT_FOUND))
async def get_dialling(account_id: str, by: Caller, operations: Ops, meta: RequestMeta) -> DiallingAnswer:
    """What an account may dial, and what it has used of the day: your own, an operator's key any."""
    return DiallingAnswer(data=await operations.dialling(by, account_id), meta=meta)


@router.put(
    f"{PREFIX}/accounts/{{account_id}}/dialling",
    tags=["accounts"],
    responses=documented(Code.FORBIDDEN, Code.NOT_FOUND, body=True),
)
async def set_dialling(
    account_id: str, body: SetDialling, by: Caller, operations: Ops, meta: RequestMeta
) -> DiallingAnswer:
    """Set what an account may dial, in place of what was set before; operator keys only."""
    return DiallingAnswer(data=await operations.set_dialling(by, account_id, body), meta=meta)


@router.get(f"{PREFIX}/keys", tags=["keys"], responses=documented())
async def list_keys(by: Caller, operations: Ops, meta: RequestMeta) -> KeysAnswer:
    """The account's keys, revoked ones too, newest first."""
    return KeysAnswer(data=await operations.keys(by), meta=meta)


@router.post(
    f"{PREFIX}/keys",
    tags=["keys"],
    status_code=status.HTTP_201_CREATED,
    responses=documented(Code.FORBIDDEN, Code.NOT_FOUND, body=True),
)
async def create_key(body: CreateKey, by: Caller, operations: Ops, meta: RequestMeta) -> CreatedKeyAnswer:
    """A new key. Its text is shown this once; the edge keeps only a hash."""
    return CreatedKeyAnswer(data=await operations.create_key(by, body), meta=meta)


@router.post(
    f"{PREFIX}/keys/{{key_id}}/rotate",
    tags=["keys"],
    status_code=status.HTTP_201_CREATED,
    responses=documented(Code.FORBIDDEN, Code.NOT_FOUND, writes=True),
)
async def rotate_key(key_id: str, by: Caller, operations: Ops, meta: RequestMeta) -> CreatedKeyAnswer:
    """A new key in place of this one, which is refused from now on."""
    return CreatedKeyAnswer(data=await operations.rotate_key(by, key_id), meta=meta)


@router.delete(
    f"{PREFIX}/keys/{{key_id}}", tags=["keys"], responses=documented(Code.FORBIDDEN, Code.NOT_FOUND, writes=True)
)
async def revoke_key(key_id: str, by: Caller, operations: Ops, meta: RequestMeta) -> KeyAnswer:
    """The key is refused from now on."""
    return KeyAnswer(data=await operations.revoke_key(by, key_id), meta=meta)
