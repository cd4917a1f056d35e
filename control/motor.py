"""What drives a call, for the modules that drive parts of it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from control.call import Call
from control.call_table import Input, State
from edge.events import CallKey
from media.messages import Command, Result, TellAgent

__all__ = ["Motor"]


class Note(Protocol):
    """:meth:`control.call_journal.CallJournal.note`."""

    def __call__(self, call: Call, kind: str, note: str = "") -> None: ...


@dataclass(frozen=True, slots=True)
class Motor:
    """:class:`control.calls.CallManager`'s own methods."""

    feed: Callable[[Call, Input], None]
    end: Callable[..., None]
    """``(call_id, by, reason, detail="", *, refused=False)``: the first reason counts."""
    begin: Callable[[Call], str | None]
    """Take in a call that is placed; the cap that it would break, and then it is not."""
    bind: Callable[[Call, CallKey], None]
    """The engine's name for it."""
    journal: Callable[[Call, str, Mapping[str, Any]], None]
    note: Note
    request: Callable[[Command], Coroutine[Any, Any, Result]]
    spawn: Callable[[Call, Coroutine[Any, Any, None], str], None]

    def refuse(self, call: Call, reason: str, detail: str = "") -> None:
        """It is not to be, for a reason of :data:`control.call_table.REFUSALS`."""
        self.end(call.id, "edge", reason, detail, refused=True)

    async def tell(self, call: Call, event: str, **data: str | int) -> None:
        """Have its agent hear of it."""
        if call.state is not State.ENDED:
            await self.request(TellAgent(call=call.id, event=event, data={**data}))
