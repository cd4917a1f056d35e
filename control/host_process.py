"""What ``python -m control.host_process`` runs: a host of agents, started by :mod:`control.hosts`.

It logs as the process that started it does, each line with the host's epoch and the call whose agent wrote it. What an
agent prints becomes log lines too.
"""

from __future__ import annotations

import argparse
import io
import logging
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from control import logs
from control.entropy import wall_clock
from media.hosting.settings import HostSettings

__all__ = ["Printed", "arguments", "main"]

log = logging.getLogger("truedy.agents.printed")


def arguments(settings: HostSettings, paths: Sequence[Path], epoch: int, level: str) -> list[str]:
    """The command line that :func:`main` reads."""
    return [
        *("--pipe", str(settings.pipe), "--way", str(settings.way), "--notes", str(settings.notes)),
        *("--epoch", str(epoch), "--beat", str(settings.beat_s), "--log-level", level),
        *(word for agent in settings.agents for word in ("--agent", agent)),
        *(word for path in paths for word in ("--path", str(path))),
        *(("--allow-private",) if settings.allow_private else ()),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until the keeper closes the pipe; returns the exit status."""
    parser = argparse.ArgumentParser(prog="truedy-edge agent host")
    parser.add_argument("--pipe", type=int, required=True)
    parser.add_argument("--way", type=int, required=True)
    parser.add_argument("--notes", type=int, required=True)
    parser.add_argument("--epoch", type=int, required=True)
    parser.add_argument("--beat", type=float, required=True)
    parser.add_argument("--log-level", required=True)
    parser.add_argument("--agent", action="append", default=[])
    parser.add_argument("--path", action="append", default=[])
    parser.add_argument("--allow-private", action="store_true")
    given = parser.parse_args(argv)
    logs.set_up(given.log_level, sys.stderr)
    _name_in_logs(given.epoch)
    sys.stdout = sys.stderr = Printed()
    sys.path += given.path
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from media.hosting import host  # noqa: PLC0415 - control takes only the arguments from here

    settings = HostSettings(
        given.pipe,
        given.way,
        given.notes,
        given.agent,
        given.beat,
        given.allow_private,
    )
    return uvloop.run(host.run(settings, wall=wall_clock))


def _name_in_logs(epoch: int) -> None:
    from media.hosting.session import CALL  # noqa: PLC0415 - as above

    def named(record: logging.LogRecord) -> bool:
        record.host = epoch
        if (call := CALL.get()) is not None:
            record.call = call
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(named)


class Printed(io.TextIOBase):
    """Stands for standard output and error: each line becomes one of the log."""

    LONGEST = 4000

    def __init__(self) -> None:
        self._line = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        if len(self._line) > self.LONGEST:
            lines.append(self._line)
            self._line = ""
        for line in lines:
            if line.strip():
                log.info("%s", line)
        return len(text)


if __name__ == "__main__":
    sys.exit(main())
