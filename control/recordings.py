"""Recordings of calls, from their key to their end: ordered, settled, read, deleted, and gone when their time is over.

Media writes them (:mod:`media.recorder`); here are their keys, each one's sealed by the vault within its file, and
what the calls' records tell of them, which goes through the journal as all does. The files are the truth: what a
process that died could not tell is read from them.

``recording`` events and members have a ``status``: ``recording``; ``completed``; ``cut``, where the end is missing or
a process died; ``failed``, where nothing was kept; ``deleted``; ``expired``. No status is final but the last two.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from config.settings import Recording
from control.entropy import new_id
from control.listening import recording_choice
from control.recording_files import OpenRecording, RecordingFiles, reseal, sealed_key
from control.registry.types import Agent, CallEvent, Number, Registry, RegistryError
from control.vault import Vault, VaultError
from edge.counters import Counters
from media.messages import RecordingEnded, RecordingOrder
from media.recording_file import (
    KEY_BYTES,
    Damaged,
    Head,
    make_head,
    read_head,
)

__all__ = ["NO_KEY", "CallRecordings", "Recordings"]

log = logging.getLogger("truedy.recordings")

NO_KEY: Final = "secrets.key is not set: nothing is recorded that cannot be encrypted"

_FILE_STATUS: Final = {True: "completed", False: "cut"}
_encode: Final = msgspec.json.Encoder().encode


class _Log(Protocol):
    def append(self, event: CallEvent) -> None: ...


class _Spawn(Protocol):
    def __call__(self, work: Coroutine[Any, Any, None], name: str) -> object: ...


class CallRecordings(Protocol):
    """What operations ask of recordings; :class:`Recordings`, or the way to it."""

    async def live(self, call_id: str) -> bool:
        """It is being written."""
        ...

    async def open(self, call_id: str, *, complete: bool) -> OpenRecording:
        """See :meth:`control.recording_files.RecordingFiles.open`."""
        ...

    async def read(self, call_id: str, reader: str) -> None:
        """Note in the call's record who read it."""
        ...

    async def delete(self, call_id: str, by: str) -> bool:
        """Remove it, and note who did; False where there is none. OSError when it cannot be removed."""
        ...


class Recordings:
    """All of them, in the folder of the settings. ``wall`` is UTC [s], ``now`` monotonic [s]."""

    SETTLE_S: Final = 5.0
    """How long a recorder may take to finish its files after its worker died."""

    SWEEP_EVERY_S: Final = 3600.0
    """Between looks at what has had its time."""

    FIRST_SWEEP_S: Final = 3.0
    """After the start: the journal is applied by then."""

    def __init__(
        self,
        settings: Recording,
        vault: Vault | None,
        registry: Registry,
        *,
        journal: _Log,
        counters: Counters,
        spawn: _Spawn,
        entropy: Callable[[int], bytes],
        now: Callable[[], float],
        wall: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._files = RecordingFiles(settings.path.absolute(), vault)
        self._vault = vault
        self._registry = registry
        self._journal_ = journal
        self._counters = counters
        self._spawn = spawn
        self._entropy = entropy
        self._now = now
        self._wall = wall
        self._sleep = sleep
        self._live: dict[str, float] = {}
        self._ours: set[str] | None = set()  # begun since the start, until what was left before it is settled

    # --- while calls are up ---

    def order(
        self, call_id: str, agent: Agent, number: Number, started: float, wish: bool | None = None
    ) -> RecordingOrder | None:
        """How media is to record this call, if it is to; ``started`` [s] is when it was offered, monotonic.

        ``wish`` is the call's own to be recorded, or not to be.
        """
        choice = recording_choice(self._settings, agent, number, wish)
        if not choice.enabled:
            return None
        if self._vault is None:
            self._counters.add("recordings", status="failed")
            self._tell(call_id, started, {"status": "failed", "problem": NO_KEY})
            return None
        key = self._entropy(KEY_BYTES)
        text = _encode(Head(call=call_id, account=number.account_id, format=choice.format, started_at=self._wall()))
        return RecordingOrder(
            path=str(self._files.folder / call_id),
            head=make_head(text, sealed_key(text, key, self._vault)),
            key=key,
            format=choice.format,
            consent_tone=choice.consent_tone,
            consent_tone_every_s=choice.consent_tone_every_s,
        )

    def begun(self, call_id: str, started: float, order: RecordingOrder) -> None:
        """Media has been told to start."""
        self._live[call_id] = started
        if self._ours is not None:
            self._ours.add(call_id)
        self._tell(call_id, started, {"status": "recording", "format": order.format})

    def on_ended(self, ended: RecordingEnded) -> None:
        """Media tells what has come of one."""
        started = self._live.pop(ended.call, None)
        if started is None:
            return
        if ended.seconds is None:
            self._spawn(self._settle(ended.call, started, ended.problem), f"settle recording {ended.call}")
            return
        data = {"seconds": ended.seconds, "gaps_ms": ended.gaps_ms, "bytes": ended.bytes, "problem": ended.problem}
        self._ended(ended.call, started, {"status": ended.status, **data})

    def on_lost(self, calls: Iterable[str]) -> None:
        """The media worker of these calls died; its recorder finishes what it has."""
        for call_id in calls:
            if (started := self._live.pop(call_id, None)) is not None:
                self._spawn(self._settle(call_id, started, "the media worker died"), f"settle recording {call_id}")

    async def _settle(self, call_id: str, started: float | None, problem: str) -> None:
        """What became of a file that nobody can tell of any more; itself tells, once nobody writes it."""
        part, whole = self._files.paths(call_id)
        patience = self.SETTLE_S
        while patience > 0 and not whole.exists() and part.exists():
            await self._sleep(0.1)
            patience -= 0.1
        data = await asyncio.to_thread(self._inspect, call_id)
        if data is not None:
            self._ended(call_id, started, data | ({"problem": problem} if problem else {}))

    def _inspect(self, call_id: str) -> dict[str, Any] | None:
        """From the file itself, as far as there is a key; in a thread. Nothing where it cannot be read now."""
        part, whole = self._files.paths(call_id)
        with contextlib.suppress(FileNotFoundError):
            part.rename(whole)
        try:
            with whole.open("rb") as file:
                contents = self._files.reader(file, read_head(file)).check()
                size = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return {"status": "failed"}
        except Damaged as error:
            return {"status": "failed", "problem": str(error)}
        except (OSError, VaultError) as error:
            log.warning("a recording cannot be read now", extra={"call": call_id, "error": str(error)})
            return None
        complete = contents.trailer is not None and contents.trailer.complete
        count = contents.count
        return {
            "status": _FILE_STATUS[complete],
            "seconds": count.frames / 50,
            "gaps_ms": count.gap_frames * 20,
            "bytes": size,
        }

    def _ended(self, call_id: str, started: float | None, data: dict[str, Any]) -> None:
        self._counters.add("recordings", status=data["status"])
        self._tell(call_id, started, data)

    def _tell(self, call_id: str, started: float | None, data: dict[str, Any], kind: str = "recording") -> None:
        """A line of the call's record; after its process' death nobody knows how long after the offer."""
        offset_s = 0.0 if started is None else self._now() - started
        note = data.get("note", data.get("status", ""))
        event = CallEvent(
            id=new_id(self._entropy),
            kind=kind,
            at=self._wall(),
            call_id=call_id,
            offset_s=offset_s,
            data={**data, "note": note},
        )
        self._journal_.append(event)

    # --- for the API ---

    async def live(self, call_id: str) -> bool:
        """See :class:`CallRecordings`."""
        return call_id in self._live

    async def open(self, call_id: str, *, complete: bool) -> OpenRecording:
        """See :class:`CallRecordings`."""
        return await self._files.open(call_id, complete=complete)

    async def read(self, call_id: str, reader: str) -> None:
        """See :class:`CallRecordings`."""
        log.info("recording read", extra={"call": call_id, "by": reader})
        self._tell(call_id, None, {"note": reader}, kind="recording_read")

    async def delete(self, call_id: str, by: str) -> bool:
        """See :class:`CallRecordings`."""
        if not await asyncio.to_thread(self._files.remove, call_id):
            return False
        log.info("recording deleted", extra={"call": call_id, "by": by})
        self._tell(call_id, None, {"status": "deleted", "note": f"deleted by {by}", "bytes": 0})
        return True

    # --- what time does ---

    async def run(self) -> None:
        """Sweep for as long as the process lives."""
        await self._sleep(self.FIRST_SWEEP_S)
        while True:
            try:
                await self.sweep()
            except (RegistryError, OSError):
                log.exception("recordings could not be swept")
            await self._sleep(self.SWEEP_EVERY_S)

    async def sweep(self) -> None:
        """Settle what dead processes left, remove what has had its time or whose account is gone, renew sealed keys."""
        if self._ours is not None:
            await self._settle_left(self._ours)
            self._ours = None
        accounts = frozenset(account.id for account in await self._registry.accounts())
        for call_id in await asyncio.to_thread(self._had_their_time, accounts):
            if await asyncio.to_thread(self._files.remove, call_id):
                self._counters.add("recordings", status="expired")
                self._tell(call_id, None, {"status": "expired", "bytes": 0})
        if count := await self.reseal():
            log.info("recordings' keys sealed anew", extra={"count": count})

    async def _settle_left(self, ours: set[str]) -> None:
        """What the process before this one left, by its files and by the records, once."""
        unfinished = {path.stem for path in self._files.unfinished()}
        left = unfinished | set(await self._registry.calls_being_recorded())
        for call_id in sorted(left):
            if call_id not in ours:
                await self._settle(call_id, None, "the process died")

    def _had_their_time(self, accounts: frozenset[str]) -> list[str]:
        """By the file's age, which is its call's end; in a thread."""
        days = self._settings.retention_days
        oldest = None if days is None else self._wall() - days * 86400
        return [
            path.stem
            for path in self._files.finished()
            if (oldest is not None and _age(path) < oldest) or not _has_owner(path, accounts)
        ]

    async def reseal(self) -> int:
        """Seal anew the files' keys that a previous key had sealed; how many. Afterwards that key can be dropped."""
        if self._vault is None:
            return 0
        return (await asyncio.to_thread(reseal, self._files.folder, self._vault))[0]


def _has_owner(path: Path, accounts: frozenset[str]) -> bool:
    """False only for what was some account's that is gone; a file that is none of ours is left alone."""
    try:
        with path.open("rb") as file:
            return read_head(file).head.account in accounts
    except (OSError, Damaged):
        return True


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
