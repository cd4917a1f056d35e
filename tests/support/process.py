"""Programs as children of a test: their output is kept, waited for, and shown when something goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tests.support.zygote import Forked, Zygote

__all__ = ["Program", "forked", "needs", "running"]

STOP_S = 5.0
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip, visibly, where one of these programs is not installed."""
    missing = [name for name in names if shutil.which(name, path=_PATH) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


class Program:
    """A running child. ``lines`` is what it has printed so far, both streams as they came."""

    def __init__(self, name: str, process: asyncio.subprocess.Process | Forked) -> None:
        self.name = name
        self.lines: list[str] = []
        self._process = process
        self._grew = asyncio.Condition()
        self._reader = asyncio.create_task(self._read(), name=f"output of {name}")

    @property
    def pid(self) -> int:
        """The child's process id, also its process group's."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    async def _read(self) -> None:
        assert self._process.stdout is not None
        rest = b""
        while chunk := await self._process.stdout.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            self.lines += [line.decode(errors="replace").rstrip("\r") for line in lines]
            async with self._grew:
                self._grew.notify_all()
        if rest:
            self.lines.append(rest.decode(errors="replace"))
        async with self._grew:
            self._grew.notify_all()

    def failure(self, what: str) -> AssertionError:
        """``what`` with the last words of the program, ready to be raised."""
        state = "still running" if self.exit_code is None else f"exit code {self.exit_code}"
        tail = "\n  | ".join(self.lines[-40:]) or "(it printed nothing)"
        return AssertionError(f"{self.name}: {what} ({state})\n  | {tail}")

    async def expect(self, pattern: str, timeout_s: float = 10.0, *, start: int = 0) -> re.Match[str]:
        """The first line from number ``start`` on that matches; AssertionError with the output when none comes."""
        wanted = re.compile(pattern)
        at = start

        def found() -> re.Match[str] | None:
            nonlocal at
            while at < len(self.lines):
                at += 1
                if match := wanted.search(self.lines[at - 1]):
                    return match
            return None

        try:
            async with asyncio.timeout(timeout_s), self._grew:
                while (match := found()) is None:
                    if self._reader.done():
                        raise self.failure(f"ended before it printed {pattern!r}")
                    await self._grew.wait()
                return match
        except TimeoutError:
            raise self.failure(f"did not print {pattern!r} within {timeout_s} s") from None

    async def write(self, line: str) -> None:
        """A line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()

    async def wait(self, timeout_s: float) -> int:
        """Until it ends; its exit code."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._process.wait()
                await asyncio.shield(self._reader)
        except TimeoutError:
            raise self.failure(f"did not end within {timeout_s} s") from None
        assert self._process.returncode is not None
        return self._process.returncode

    def signal(self, number: signal.Signals) -> None:
        """To the child alone, if it still runs."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after five seconds; whatever it started goes with it."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()
        await self._reader
        if self._process.stdin is not None:
            self._process.stdin.close()


@contextlib.asynccontextmanager
async def running(
    *command: str | Path,
    name: str | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Program]:
    """A child in a process group of its own, stopped at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
        env={**os.environ, "PATH": _PATH, **(environment or {})},
        start_new_session=True,
    )
    program = Program(name or Path(command[0]).name, process)
    try:
        yield program
    finally:
        await program.stop()


@contextlib.asynccontextmanager
async def forked(zygote: Zygote, *arguments: str | Path) -> AsyncIterator[Program]:
    """``truedy-edge ARGUMENTS`` out of ``zygote``, in a process group of its own, stopped at the end of the block."""
    environment = {**os.environ, "PATH": _PATH}
    program = Program(
        f"truedy-edge {arguments[0]}", await zygote.fork(*map(str, arguments), cwd=None, environment=environment)
    )
    try:
        yield program
    finally:
        await program.stop()
