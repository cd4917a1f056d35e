"""Accounts, their keys, and what they may dial."""

from __future__ import annotations

from control.entropy import new_id
from control.errors import ResourceNotFound, Unauthorized
from control.operations.base import OperationsBase, known, told
from control.operations.principal import Principal, require_operator
from control.registry.types import Account, ApiKey, DiallingRules
from control.resources.accounts import (
    AccountResource,
    CreateAccount,
    CreatedKey,
    CreateKey,
    DiallingResource,
    KeyResource,
    SetDialling,
    account_resource,
    created_key,
    key_resource,
)
from control.resources.ids import id_of
from control.toll import day_began, limits_of

__all__ = ["AccountOperations"]


class AccountOperations(OperationsBase):
    """Operators make accounts and say what each may dial; an account has its own keys."""

    @told
    async def create_account(self, by: Principal, request: CreateAccount) -> AccountResource:
        """Operators only; the name is unique."""
        require_operator(by)
        account = Account(new_id(self._entropy), request.name, self._clock())
        await self._registry.create_account(account)
        return account_resource(account)

    @told
    async def accounts(self, by: Principal) -> list[AccountResource]:
        """All of them; operators only."""
        require_operator(by)
        return [account_resource(row) for row in await self._registry.accounts()]

    @told
    async def account(self, by: Principal) -> AccountResource:
        """The caller's own."""
        return account_resource(await self._registry.account(by.account))

    @told
    async def account_named(self, by: Principal, name: str) -> AccountResource:
        """Operators only."""
        require_operator(by)
        row = await self._registry.account_by_name(name)
        if row is None:
            raise ResourceNotFound("account")
        return account_resource(row)

    @told
    async def authenticate(self, key: str) -> Principal:
        """Whose key this is; :class:`Unauthorized` for any that is not live, without saying why."""
        row = await self._keys.authenticate(key)
        if row is None:
            raise Unauthorized
        return Principal(row.account_id, "operator" if row.role == "operator" else "account", row.id)

    @told
    async def create_key(self, by: Principal, request: CreateKey) -> CreatedKey:
        """The answer holds the key's text, this once."""
        account_id = str(request.account_id) if request.account_id else by.account
        if request.role == "operator" or account_id != by.account_id:
            require_operator(by)
        made = await self._keys.create(account_id, request.role)
        return created_key(made.row, made.text)

    @told
    async def keys(self, by: Principal) -> list[KeyResource]:
        """The account's, revoked ones too; from the console without an account, everybody's."""
        return [key_resource(row) for row in await self._registry.keys(by.account_id)]

    @told
    async def revoke_key(self, by: Principal, key_id: str) -> KeyResource:
        """From now on it is refused; a second time changes nothing."""
        key = await self._own_key(by, key_id)
        await self._keys.revoke(key.id)
        return key_resource(await self._own_key(by, key_id))

    @told
    async def rotate_key(self, by: Principal, key_id: str) -> CreatedKey:
        """A new key with the old one's account and role; the old one is revoked at once."""
        key = await self._own_key(by, key_id)
        made = await self._keys.rotate(key.id)
        return created_key(made.row, made.text)

    async def _own_key(self, by: Principal, key_id: str) -> ApiKey:
        id = id_of(key_id)
        key = next((row for row in await self._registry.keys(by.account_id) if row.id == id), None)
        if key is None:
            raise ResourceNotFound("key")
        if key.role == "operator":
            require_operator(by)
        return key

    @told
    async def dialling(self, by: Principal, account_id: str) -> DiallingResource:
        """What an account may dial: one's own, an operator anybody's."""
        id = known("account", account_id)
        if id != by.account_id and not by.operator:
            raise ResourceNotFound("account")
        limits = limits_of(await self._registry.dialling_rules(id), self.settings.outbound)
        used_s = await self._registry.outbound_seconds(id, day_began(self._clock()))
        return DiallingResource(
            account_id=id,
            calls=limits.calls,
            calls_per_minute=limits.calls_per_minute,
            minutes_per_day=limits.minutes_per_day,
            countries=None if limits.countries is None else list(limits.countries),
            used_minutes=round(used_s / 60, 2),
        )

    @told
    async def set_dialling(self, by: Principal, account_id: str, request: SetDialling) -> DiallingResource:
        """Operators only; it takes effect with the next call."""
        require_operator(by)
        id = known("account", account_id)
        countries = None if request.countries is None else tuple(dict.fromkeys(request.countries))
        rules = DiallingRules(id, request.calls, request.calls_per_minute, request.minutes_per_day, countries)
        await self._registry.save_dialling_rules(rules)
        return await self.dialling(by, id)
