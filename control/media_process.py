"""What ``python -m control.media_process`` runs: one media worker, started by :mod:`control.workers`.

It logs as the process that started it does, each line with the worker's epoch.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from control import logs
from control.entropy import entropy
from media.settings import ServiceSettings

__all__ = ["arguments", "main"]

_NICE: Final = -5
"""Three shares of a core to control's one: control's threads would have all but a quarter of it."""


def arguments(descriptor: int, settings: ServiceSettings, level: str) -> list[str]:
    """The command line that :func:`main` reads: ``settings`` and the pipe's ``descriptor``."""
    addresses = {
        "--public-address": settings.public_address,
        "--listen-address-6": settings.listen_address_6,
        "--public-address-6": settings.public_address_6,
    }
    return [
        *("--fd", str(descriptor)),
        *("--epoch", str(settings.epoch)),
        *("--listen-address", settings.listen_address),
        *(word for name, value in addresses.items() if value is not None for word in (name, value)),
        *("--max-calls", str(settings.max_calls)),
        *(("--recordings", str(settings.recordings_path)) if settings.recordings_path is not None else ()),
        *(("--allow-private",) if settings.allow_private else ()),
        *(("--opus",) if settings.opus else ()),
        *([] if settings.agent_hosts is None else ["--agent-hosts", settings.agent_hosts]),
        *("--log-level", level),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until control closes the pipe; returns the exit status."""
    parser = argparse.ArgumentParser(prog="truedy-edge media worker")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--epoch", type=int, required=True)
    parser.add_argument("--listen-address", required=True)
    parser.add_argument("--public-address")
    parser.add_argument("--listen-address-6")
    parser.add_argument("--public-address-6")
    parser.add_argument("--max-calls", type=int, required=True)
    parser.add_argument("--allow-private", action="store_true")
    parser.add_argument("--agent-hosts")
    parser.add_argument("--opus", action="store_true")
    parser.add_argument("--recordings", type=Path)
    parser.add_argument("--log-level", required=True)
    given = parser.parse_args(argv)
    from media import worker  # noqa: PLC0415 - control takes only the arguments from here

    logs.set_up(given.log_level)
    _name_in_logs(given.epoch)
    settings = ServiceSettings(
        given.listen_address,
        given.public_address,
        given.listen_address_6,
        given.public_address_6,
        opus=given.opus,
        max_calls=given.max_calls,
        epoch=given.epoch,
        allow_private=given.allow_private,
        agent_hosts=given.agent_hosts,
        recordings_path=given.recordings,
    )
    return uvloop.run(worker.run(given.fd, settings, entropy=entropy))


def _name_in_logs(epoch: int) -> None:
    def named(record: logging.LogRecord) -> bool:
        record.worker = epoch
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(named)


def come_first() -> None:
    """Pacing goes before requests and records, where the system grants that; control still gets its share."""
    with contextlib.suppress(PermissionError):
        os.nice(_NICE)


if __name__ == "__main__":
    come_first()
    gc.disable()  # until it serves: what is loaded is no garbage
    sys.exit(main())
