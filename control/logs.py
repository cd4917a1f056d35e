"""Logging as one JSON object a line on standard error.

JSON escapes every control and non-ASCII character, so hostile SIP text stays on its line. Values of
fields whose names speak of secrets are never written.
"""

from __future__ import annotations

import datetime
import json
import logging
import re
import sys
from functools import cache, lru_cache
from typing import Any, Final, TextIO

__all__ = ["JsonFormatter", "set_up"]

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_SECRET: Final = re.compile(r"password|secret|token|authorization|api_?key", re.IGNORECASE)
_API_KEY: Final = re.compile(r"truedy_[0-9A-Za-z]{8,}")
_LONGEST: Final = 2000
_encode: Final = json.JSONEncoder().encode


class JsonFormatter(logging.Formatter):
    """``{"ts", "level", "logger", "event", …extra}``; times are UTC, RFC 3339."""

    def format(self, record: logging.LogRecord) -> str:
        seconds, ms = divmod(int(record.created * 1000), 1000)
        line: dict[str, Any] = {
            "ts": f"{_utc(seconds)}.{ms:03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _masked(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                line[name] = "***" if _is_secret(name) else _plain(value)
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = _masked(self.formatException(record.exc_info))
        return _encode(line)


@lru_cache(1)
def _utc(seconds: int) -> str:
    """Without the fraction: lines come many in a second."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None).isoformat()


@cache
def _is_secret(name: str) -> bool:
    """Names are the program's own, and few."""
    return _SECRET.search(name) is not None


def _plain(value: object) -> object:
    if isinstance(value, str):
        return _masked(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value[:50]]
    return _masked(str(value))


def _masked(text: str) -> str:
    return (_API_KEY.sub("truedy_***", text) if "truedy_" in text else text)[:_LONGEST]


def set_up(level: str = "info", stream: TextIO | None = None) -> None:
    """Send all logging to ``stream`` (standard error) in this form, replacing what was set up before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # No line says where in the code, in which thread or process it was written: that is not looked up either.
    logging._srcfile = None
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False
