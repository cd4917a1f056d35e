"""Whether new calls are welcome, and why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from control.metrics import Readings

__all__ = ["Health", "Readiness", "RegistrationState"]

RegistrationState = Literal["pending", "registered", "failed"]


@dataclass(frozen=True, slots=True)
class Readiness:
    """What serving needs, as it stands.

    ``listening``: the bound SIP listeners (``udp:127.0.0.1:5060``). ``registrations``: by name. A failed one does not
    make the edge unready, since its trunk is one of many; one whose first attempt is still out does. ``media_up``:
    something is there to carry a call's audio.
    """

    listening: Sequence[str]
    registry_open: bool
    registrations: Mapping[str, RegistrationState] = field(default_factory=dict)
    draining: bool = False
    media_up: bool = True

    @property
    def ready(self) -> bool:
        """Send calls here."""
        pending = "pending" in self.registrations.values()
        return bool(self.listening) and self.registry_open and self.media_up and not self.draining and not pending


class Health(Protocol):
    """Whoever composes the edge knows."""

    async def readiness(self) -> Readiness:
        """As it stands."""
        ...

    async def readings(self) -> Readings:
        """What is counted and read where calls are carried."""
        ...
