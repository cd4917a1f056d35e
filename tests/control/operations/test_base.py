"""What all operations stand on."""

from __future__ import annotations

import pytest

from control.errors import Code, OperationError, ResourceNotFound
from control.live_calls import NoLiveCalls
from control.operations import Operations
from control.operations.base import known
from control.operations.principal import Principal
from control.registry.memory import MemoryRegistry
from control.registry.types import RegistryBusy
from control.resources.numbers import import_request
from tests.support.desk import Desk


class Busy(MemoryRegistry):
    """Locked by another process."""

    async def account(self, account_id: str):  # type: ignore[no-untyped-def]
        """Not now."""
        raise RegistryBusy


async def test_whatever_a_store_raises_is_an_operation_error() -> None:
    """Callers know one family of errors."""
    operations = Operations(Busy(), NoLiveCalls(), Desk().settings, clock=lambda: 0.0, entropy=bytes)
    with pytest.raises(OperationError) as refusal:
        await operations.account(Principal("a", "account"))
    assert refusal.value.code is Code.REGISTRY_BUSY
    request = import_request(provider="sip", phone_number="+14155550100", provider_trunk="lab")
    with pytest.raises(OperationError) as refusal:
        await operations.import_number(Principal("a", "account"), request)
    assert refusal.value.code is Code.REGISTRY_BUSY


def test_what_is_no_id_names_nothing() -> None:
    """Not an error in the request: there is no such agent."""
    assert known("agent", "0198C0DE-0000-4000-8000-000000000011") == "0198c0de-0000-4000-8000-000000000011"
    with pytest.raises(ResourceNotFound):
        known("agent", "../agents")
