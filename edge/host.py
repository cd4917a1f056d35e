"""What calls, registrations and the parts of a call need of those who have them. Protocols only."""

from __future__ import annotations

from typing import Protocol

from edge.dialog import Dialog
from edge.events import CallKey, Event, Flow
from edge.layer import TransactionLayer
from edge.uac import Credential

__all__ = ["DialogOwner", "Host"]


class Host(Protocol):
    """The endpoint."""

    @property
    def layer(self) -> TransactionLayer: ...
    def emit(self, event: Event) -> None:
        """Tell the user."""


class DialogOwner(Protocol):
    """A call, as whoever sends requests in its dialog needs it."""

    key: CallKey
    dialog: Dialog | None
    flow: Flow | None
    credential: Credential | None
