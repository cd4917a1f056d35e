"""What a host of agents is told, and what control knows of hosts without being one: values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["GROUP", "WEBRTC_MISSING", "HostSettings", "offered"]

GROUP: Final = "truedy.agents"
"""Of the entry points that are agents."""

WEBRTC_MISSING: Final = "WebRTC needs aiortc: install truedy-edge[webrtc]"


def offered() -> Mapping[str, EntryPoint]:
    """The agents of installed packages, by name; nothing is imported."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - it takes long to import

    return {point.name: point for point in entry_points(group=GROUP)}


@dataclass(frozen=True, slots=True)
class HostSettings:
    """``agents`` may be run here, besides those that packages offer. Descriptors: ``pipe`` to the keeper, ``way``
    for connections handed over, ``notes`` a file for last words. ``beat_s`` [s] between signs of life."""

    pipe: int
    way: int
    notes: int
    agents: Sequence[str] = ()
    beat_s: float = 1.0
    allow_private: bool = False
