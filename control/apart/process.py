"""What ``python -m control.apart.process`` runs: the control API, started by :mod:`control.apart.kept`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import uvloop

from control import logs

__all__ = ["arguments", "main"]


def arguments(descriptor: int, listener: int, level: str) -> list[str]:
    """The command line that :func:`main` reads: the pipe's and the listening socket's descriptors."""
    return ["--fd", str(descriptor), "--listener", str(listener), "--log-level", level]


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until the process that carries calls closes the pipe; returns the exit status."""
    parser = argparse.ArgumentParser(prog="truedy-edge control API")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--listener", type=int, required=True)
    parser.add_argument("--log-level", required=True)
    given = parser.parse_args(argv)
    from control.apart import api  # noqa: PLC0415 - the calls' process takes only the arguments from here

    logs.set_up(given.log_level)
    return uvloop.run(api.run(given.fd, given.listener))


if __name__ == "__main__":
    sys.exit(main())
