"""What all operations stand on: the registry, the settings, clocks, and what a store's errors become."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar

from config.settings import Settings, Trunk
from control.carriers import Carriers
from control.errors import ResourceNotFound, ValidationFailed, from_registry
from control.keys import KeyAuthority
from control.live_calls import LiveCalls
from control.outgoing import NothingPlaced, Outgoing
from control.providers import Connections, NoConnections, Provider
from control.recordings import CallRecordings
from control.registry.types import Registry, RegistryError
from control.resources.ids import id_of
from media.agents import recordings

__all__ = ["OperationsBase", "known", "told"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Self = TypeVar("_Self")


def told(
    operation: Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _R]],
) -> Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _R]]:
    """What a store raises becomes what a caller is told."""

    async def translated(self: _Self, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return await operation(self, *args, **kwargs)
        except RegistryError as error:
            raise from_registry(error) from error

    update_wrapper(translated, operation)
    return translated


class OperationsBase:
    """Over one registry."""

    def __init__(
        self,
        registry: Registry,
        calls: LiveCalls,
        settings: Settings,
        *,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
        providers: Mapping[str, Provider] | None = None,
        connections: Connections | None = None,
        recordings: CallRecordings | None = None,
        outward: Outgoing | None = None,
    ) -> None:
        """``clock`` gives UTC [s since the epoch]; ``providers`` are the carriers in service, by name.

        ``connections`` hears of carriers' connections that come, change and go; by default nobody does.
        """
        self._registry = registry
        self._calls = calls
        self._trunks: Mapping[str, Trunk] = {trunk.name: trunk for trunk in settings.trunks}
        self._clock = clock
        self._entropy = entropy
        self._carriers = Carriers(
            registry,
            settings,
            clock=clock,
            entropy=entropy,
            providers=dict(providers or {}),
            connections=connections if connections is not None else NoConnections(),
        )
        self.recordings = recordings
        self._outward = outward if outward is not None else NothingPlaced()
        self._keys = KeyAuthority(registry, entropy=entropy, clock=clock)
        self.settings = settings

    @property
    def clock(self) -> Callable[[], float]:
        """UTC [s since the epoch]."""
        return self._clock

    @property
    def entropy(self) -> Callable[[int], bytes]:
        """The operating system's randomness, or a test's."""
        return self._entropy

    async def _check_recording(self, field: str, name: str) -> None:
        """Media reads its folder at the start; here it is the folder's word that counts."""
        if name not in await asyncio.to_thread(recordings.names, self.settings.agents.recordings_path):
            raise ValidationFailed.of(field, "no recording of that name")


def known(kind: str, text: str) -> str:
    """The id ``text`` spells: what is no id names nothing."""
    id = id_of(text)
    if id is None:
        raise ResourceNotFound(kind)
    return id
