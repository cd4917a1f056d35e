"""Which agents a host may run: those the operator lists, and those that installed packages offer.

A name is ``package.module:function``, or that of an entry point in the group ``truedy.agents``. What is on neither
list is never imported, whoever asks for it.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint
from typing import Any, cast

from media.hosting.settings import offered
from media.python_agent import AgentFunction

__all__ = ["AgentBroken", "AgentNotListed", "Agents", "load_function"]

log = logging.getLogger("truedy.agents")


class AgentNotListed(Exception):
    """Nobody said that this may be run."""


class AgentBroken(Exception):
    """It could not be imported; the log has the traceback."""


class Agents:
    """The agents of one process. Next: :meth:`load`, then :meth:`get`."""

    def __init__(self, listed: Iterable[str], points: Mapping[str, EntryPoint] | None = None) -> None:
        points = offered() if points is None else points
        values = {name: point.value for name, point in points.items()}
        self._places = {**values, **{name: name for name in listed}}
        self._found: dict[str, AgentFunction | AgentBroken] = {}

    def load(self) -> None:
        """Import all, so that no call waits for it; what is broken is logged, and refused when asked for."""
        for name, place in self._places.items():
            try:
                self._found[name] = load_function(place)
            except (Exception, SystemExit) as error:
                log.exception("agent cannot be loaded", extra={"agent": name})
                self._found[name] = AgentBroken(f"{name} cannot be loaded: {type(error).__name__}")

    def get(self, name: str | None) -> AgentFunction:
        """Raises :class:`AgentNotListed` or :class:`AgentBroken`."""
        found = self._found.get(name or "")
        if found is None:
            raise AgentNotListed(f"no agent {name!r} runs here")
        if isinstance(found, AgentBroken):
            raise found
        return found


def load_function(place: str) -> AgentFunction:
    """What ``package.module:function`` names; raises whatever importing it raises."""
    module, _, attributes = place.partition(":")
    found: Any = importlib.import_module(module)
    for attribute in attributes.split("."):
        found = getattr(found, attribute)
    if not callable(found):
        raise TypeError(f"{place} is not a function")
    return cast("AgentFunction", found)
