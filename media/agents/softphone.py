"""The caller in a test or a demonstration: plays a file, keeps what it hears, presses digits.

For calls the edge places itself (``OpenCall`` without an offer), not for numbers. Parameters, all
optional, all text:

- ``play``: a WAV (8 kHz mono 16-bit) to say from the start of the call;
- ``record``: where to write what is heard (mono); ``record_both``: what is heard (left) and what is
  said (right);
- ``digits``: what to press (``0-9*#A-D``, ``w`` pauses 0.5 s), ``digits_after_ms`` after the start (500);
- ``hang_up``: ``after_play`` ends the call when the file has been played, and the digits pressed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from media.agents.base import AgentCounts, AgentPort, BadAgent, Encoding, Host
from media.agents.wav import WavError, read_wav, wav_bytes
from media.telephone_event import DIGITS

__all__ = ["Softphone"]

log = logging.getLogger("truedy.media.softphone")

_PARAMETERS: Final = frozenset(("play", "record", "record_both", "digits", "digits_after_ms", "hang_up"))
_DIALLED: Final = frozenset(DIGITS + "W")
_BYTES_PER_MS: Final = 16
_PLAYED: Final = "played"


class Softphone:
    """Files are read when the call opens and written when it closes, off the loop."""

    LONGEST_MS: Final = 60 * 60 * 1000
    """Recording stops after an hour (58 MB)."""

    encoding: Encoding | None = "L16"

    def __init__(self, host: Host) -> None:
        """Raises :class:`BadAgent` for a parameter it does not know."""
        given = host.spec.parameters
        if unknown := sorted(given.keys() - _PARAMETERS):
            raise BadAgent(f"the softphone has no parameter {unknown[0]!r}")
        if given.get("hang_up", "after_play") != "after_play":
            raise BadAgent("hang_up is after_play or absent")
        after_ms = given.get("digits_after_ms", "500")
        if not after_ms.isdecimal():
            raise BadAgent("digits_after_ms is a number of milliseconds")
        if odd := sorted(set(given.get("digits", "").upper()) - _DIALLED):
            raise BadAgent(f"digits: {odd[0]!r} is neither a digit nor w")
        self.counts = AgentCounts()
        self._given = given
        self._digits_after_ms = int(after_ms)
        self._spawn = host.spawn
        self._name = f"softphone {host.context.call_sid}"
        self._port: AgentPort | None = None
        self._said = b""
        self._heard = bytearray()
        self._digits_due = "digits" in given
        self._played = False

    def open(self, port: AgentPort) -> None:
        """Read the file, then ready."""
        self._port = port
        self._spawn(self._load(), self._name)

    async def _load(self) -> None:
        try:
            if path := self._given.get("play"):
                self._said = await asyncio.to_thread(read_wav, Path(path))
        except WavError as error:
            if self._port is not None:
                self._port.failed("error", str(error))
            return
        if self._port is not None:
            self._port.started()
            self._port.ready()

    def on_start(self) -> None:
        """Say what is to be said."""
        if self._port is not None and "play" in self._given:
            self._port.play(self._said, "L16")
            self._port.mark(_PLAYED)

    def on_audio(self, frame: bytes, at_ms: int) -> None:
        """Keep it; press the digits when their time has come."""
        self.counts.sent += 1
        start = at_ms * _BYTES_PER_MS
        if at_ms < self.LONGEST_MS:
            if start > len(self._heard):  # frames that a stall has skipped
                self._heard.extend(bytes(start - len(self._heard)))
            self._heard += frame
        if self._digits_due and at_ms >= self._digits_after_ms and self._port is not None:
            self._digits_due = False
            self._port.send_digits(self._given["digits"])
            self._leave_if_done()

    def on_digit(self, digit: str, duration_ms: int) -> None:
        """The notice of it goes to control; nothing to do here."""

    def on_mark(self, name: str) -> None:
        """The file has been played."""
        self._played = True
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self._played and not self._digits_due and "hang_up" in self._given and self._port is not None:
            self._port.hang_up()

    def on_event(self, event: str, data: Mapping[str, object]) -> None:
        """It asks for nothing that it would be told of."""

    async def close(self) -> None:
        """Write the recordings; they are on disk when this returns (a failure is logged)."""
        self._port = None
        await asyncio.to_thread(self._write)

    def _write(self) -> None:
        for name, channels in (("record", 1), ("record_both", 2)):
            if path := self._given.get(name):
                try:
                    Path(path).write_bytes(wav_bytes(self._samples(channels), channels))
                except OSError:
                    log.exception("cannot write a recording", extra={"path": path})

    def _samples(self, channels: int) -> bytes:
        if channels == 1:
            return bytes(self._heard)
        both = np.zeros((len(self._heard) // 2, 2), dtype=np.int16)
        both[:, 0] = np.frombuffer(self._heard, dtype=np.int16)
        said = np.frombuffer(self._said, dtype=np.int16)[: len(both)]
        both[: len(said), 1] = said
        return both.tobytes()
