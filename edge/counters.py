"""Counts and log lines that hostile input cannot blow up.

:class:`Counters` caps the distinct values of each label, so that a flood from a million forged sources
costs a fixed amount of memory; :class:`SourceLog` writes at most one line a second a source, with
everything that came off the wire escaped.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

__all__ = ["OTHER", "Counters", "Labels", "SourceLog", "printable"]

OTHER: Final = "other"
"""The label value that takes over where a label has reached its cap."""

Labels = tuple[tuple[str, str], ...]
"""Label names and values, sorted by name: one series of a counter."""

_VALUE_LENGTH: Final = 128
_BIDI_AND_BREAKS: Final = frozenset("\u2028\u2029\u200e\u200f\u061c\ufeff") | {
    chr(code) for span in (range(0x202A, 0x202F), range(0x2066, 0x206A)) for code in span
}


def printable(text: str, limit: int = 256) -> str:
    """``text`` for a log line: control, line-breaking and bidirectional characters escaped, ``limit`` characters kept.

    >>> printable("a" + chr(13) + chr(10) + "b")
    'a\\\\r\\\\nb'
    """
    cut = text[:limit]
    if not cut.isprintable() or not _BIDI_AND_BREAKS.isdisjoint(cut):
        cut = "".join(_escape(character) for character in cut)
    return cut + "…" if len(text) > limit else cut


def _escape(character: str) -> str:
    if character.isprintable() and character not in _BIDI_AND_BREAKS:
        return character
    return character.encode("unicode_escape").decode("ascii")


class Counters:
    """Labelled counters that only rise; one event loop's, so without locks.

    ``max_values`` caps the distinct values of each label of each counter; further ones count as
    ``other``, so the sum over a counter stays right.
    """

    __slots__ = ("_max_values", "_series", "_values")

    def __init__(self, max_values: int = 256) -> None:
        self._max_values = max_values
        self._series: dict[tuple[str, Labels], int] = {}
        self._values: dict[tuple[str, str], set[str]] = {}

    def add(self, name: str, amount: int = 1, /, **labels: str) -> None:
        """Count ``amount`` more of ``name`` with these labels, e.g. ``add("recordings", status="failed")``."""
        series = (name, tuple(sorted(labels.items())))
        if series not in self._series:
            series = (name, tuple((label, self._bounded(name, label, value)) for label, value in series[1]))
        self._series[series] = self._series.get(series, 0) + amount

    def get(self, name: str, /, **labels: str) -> int:
        """The sum of all series of ``name`` whose labels include ``labels``."""
        wanted = labels.items()
        return sum(
            count for (counter, having), count in self._series.items() if counter == name and wanted <= set(having)
        )

    def snapshot(self) -> Mapping[str, Mapping[Labels, int]]:
        """A copy of all counts: name → labels → count."""
        copy: dict[str, dict[Labels, int]] = {}
        for (name, labels), count in self._series.items():
            copy.setdefault(name, {})[labels] = count
        return copy

    def _bounded(self, name: str, label: str, value: str) -> str:
        value = printable(value, _VALUE_LENGTH)
        known = self._values.setdefault((name, label), set())
        if value in known:
            return value
        if len(known) >= self._max_values:
            return OTHER
        known.add(value)
        return value


class SourceLog:
    """Log lines about sources, at most one in ``interval_s`` [s] a source, with the number left out before it.

    At most ``max_sources`` sources are written about in one interval; the rest only count in
    ``suppressed``, so that forged sources cannot fill the disk either.
    """

    __slots__ = ("_interval_s", "_logger", "_max_sources", "_recent", "suppressed")

    def __init__(self, logger: logging.Logger, interval_s: float = 1.0, max_sources: int = 64) -> None:
        self._logger = logger
        self._interval_s = interval_s
        self._max_sources = max_sources
        self._recent: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self.suppressed = 0

    def write(
        self, level: int, event: str, source: str, now: float, *, exc_info: bool = False, **fields: object
    ) -> bool:
        """Log ``event`` (a fixed text of ours) about ``source``; True when the line was written.

        ``fields`` become attributes of the record (``extra``), strings in them made printable.
        ``exc_info`` adds the traceback of the exception being handled.
        """
        last, left_out = self._recent.get(source, (None, 0))
        if last is not None and now - last < self._interval_s:
            self._recent[source] = (last, left_out + 1)
            self.suppressed += 1
            return False
        if last is None and not self._make_room(now):
            self.suppressed += 1
            return False
        self._recent[source] = (now, 0)
        self._recent.move_to_end(source)
        if self._logger.isEnabledFor(level):
            extra = _extra(source, left_out, fields)
            detail = " ".join(f"{name[4:]}={value}" for name, value in extra.items())
            self._logger.log(level, "%s %s", event, detail, extra=extra, exc_info=exc_info)
        return True

    def _make_room(self, now: float) -> bool:
        if len(self._recent) < self._max_sources:
            return True
        last, _ = next(iter(self._recent.values()))
        if now - last < self._interval_s:
            return False
        self._recent.popitem(last=False)
        return True


def _extra(source: str, left_out: int, fields: Mapping[str, object]) -> dict[str, object]:
    extra: dict[str, object] = {
        f"sip_{name}": printable(value) if isinstance(value, str) else value for name, value in fields.items()
    }
    extra["sip_source"] = printable(source)
    if left_out:
        extra["sip_left_out"] = left_out
    return extra
