"""Everything that can be asked of the edge: the typed operations that the API and the command line share.

They touch the registry, and live calls through :class:`control.live_calls.LiveCalls`; nothing else. Each raises only
:class:`control.errors.OperationError`. What another account owns does not exist.
"""

from __future__ import annotations

from control.operations.accounts import AccountOperations
from control.operations.agents import AgentOperations
from control.operations.calls import CallOperations
from control.operations.integrations import IntegrationOperations
from control.operations.numbers import NumberOperations
from control.operations.recordings import RecordingOperations

__all__ = ["Operations"]


class Operations(
    AccountOperations,
    AgentOperations,
    NumberOperations,
    IntegrationOperations,
    CallOperations,
    RecordingOperations,
):
    """The operations over one registry."""
