"""A call as a ladder: what was said by whom and when, for people to read. Secrets are masked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge.counters import printable
from edge.events import Flow

__all__ = ["TraceEntry", "draw", "trace_entry"]


@dataclass(frozen=True, slots=True)
class TraceEntry:
    """One SIP message on the wire. ``at`` in seconds, as ``now``; ``note`` tells what else it carries."""

    at: float
    sent: bool
    flow: Flow
    first_line: str
    call_id: str
    cseq: str
    note: str = ""


_CALL_ID: Final = re.compile(rb"(?im)^(?:call-id|i)[ \t]*:[ \t]*([^\r\n]*)")
_CSEQ: Final = re.compile(rb"(?im)^cseq[ \t]*:[ \t]*([^\r\n]*)")
_CREDENTIALS: Final = re.compile(rb"(?im)^(?:proxy-)?authorization[ \t]*:")
_SECRET: Final = re.compile(r"(?i)([;?&](?:tk|token|x-[a-z-]*token)=)[^;?&> ]+")


def mask(text: str) -> str:
    """``text`` without the values of token parameters, and fit for a terminal."""
    return printable(_SECRET.sub(r"\1***", text), 512)


def trace_entry(data: bytes, flow: Flow, at: float, *, sent: bool) -> TraceEntry:
    """Note a message, also one that does not parse. Credentials become a word, tokens are masked."""
    head, _, body = data.lstrip(b"\r\n").partition(b"\r\n\r\n")
    first = head.partition(b"\r\n")[0].decode("utf-8", "replace")
    notes = ["SDP"] * body.startswith(b"v=0") + ["credentials"] * bool(_CREDENTIALS.search(head))
    return TraceEntry(at, sent, flow, mask(first), _field(_CALL_ID, head), _field(_CSEQ, head), ", ".join(notes))


def _field(pattern: re.Pattern[bytes], head: bytes) -> str:
    match = pattern.search(head)
    return printable(match[1].decode("utf-8", "replace")) if match else ""


_WIDTH: Final = 100
_TIME_WIDTH: Final = 8
_PAUSE_S: Final = 1.0


def draw(entries: Sequence[TraceEntry], left: str = "", right: str = "", *, width: int = _WIDTH) -> str:
    """The entries as a ladder, times in milliseconds since the first.

    ``left`` is who took the trace, what they sent goes to the right; the names default to addresses. A
    second's silence or more shows as a gap, a message seen before as ``again``.
    """
    if not entries:
        return ""
    first = entries[0]
    left = left or str(first.flow.local)
    right = right or str(first.flow.remote)
    inner = width - _TIME_WIDTH - 4
    blank = f"{'':{_TIME_WIDTH}}  │{'':{inner}}│"
    lines = [f"{'ms':>{_TIME_WIDTH}}  {left}{right:>{max(1, inner + 2 - len(left))}}", blank]
    seen: set[tuple[bool, str, str]] = set()
    previous = first.at
    for entry in entries:
        if entry.at - previous >= _PAUSE_S:
            lines.append(f"{'':{_TIME_WIDTH}}  ┆{_pause(entry.at - previous):^{inner}}┆")
        previous = entry.at
        known = (entry.sent, entry.first_line, entry.cseq)
        stray = "" if entry.flow.remote.host == first.flow.remote.host else str(entry.flow.remote)
        label = _label(entry, again=known in seen, stray=stray, limit=inner - 8)
        seen.add(known)
        lines.append(f"{(entry.at - first.at) * 1000:{_TIME_WIDTH}.0f}  │{_arrow(label, inner, sent=entry.sent)}│")
    return "\n".join([*lines, blank])


def _pause(seconds: float) -> str:
    return f"{seconds:.1f} s"


def _label(entry: TraceEntry, *, again: bool, stray: str, limit: int) -> str:
    """``INVITE sip:… (SDP)``, ``200 OK (INVITE, SDP)``."""
    line = entry.first_line
    if line[:8].upper() == "SIP/2.0 ":
        text, notes = line[8:], [entry.cseq.rpartition(" ")[2]]
    else:
        text, notes = line.removesuffix(" SIP/2.0"), []
    notes += [note for note in (entry.note, "again" * again, stray) if note]
    suffix = f" ({', '.join(notes)})" if notes else ""
    room = max(8, limit - len(suffix))
    return (text if len(text) <= room else text[: room - 1] + "…") + suffix


def _arrow(label: str, width: int, *, sent: bool) -> str:
    rest = "─" * max(0, width - len(label) - 5)
    return f"── {label} {rest}▶" if sent else f"◀{rest} {label} ──"
