"""Messages out of a byte stream (RFC 3261 §18.3), and the keep-alives between them (RFC 5626 §3.5.1)."""

from __future__ import annotations

import re
from typing import Final

from edge.headers import parse_integer
from edge.message import MAX_HEADER_LINES, MAX_HEADER_OCTETS, MAX_MESSAGE_OCTETS
from edge.uri import ParseError

__all__ = ["PING", "PONG", "FramingError", "StreamFramer"]

PING: Final = b"\r\n\r\n"
"""What a client sends to keep its connection alive."""

PONG: Final = b"\r\n"
"""What the other side answers."""

_LINE_ENDS = re.compile(rb"(?:\r\n)*+").match
_CONTENT_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*+:([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+)", re.IGNORECASE)


class FramingError(ParseError):
    """The stream has lost its framing: answer, if :func:`edge.message.salvage` can, and close.

    ``messages`` are the whole ones that came before; ``rejected`` is what arrived of the bad one.
    """

    def __init__(self, status: int, reason: str, messages: list[bytes], rejected: bytes) -> None:
        super().__init__(status, reason)
        self.messages = messages
        self.rejected = rejected


class StreamFramer:
    """Cuts one connection's octets into messages. Each octet is looked at a constant number of times.

    ``pings`` counts the keep-alives (CRLF CRLF between messages) not yet answered; the owner sends a
    :data:`PONG` for each and sets it back to 0.
    """

    __slots__ = ("_broken", "_buffer", "_line_ends", "_needed", "_searched", "pings")

    def __init__(self) -> None:
        self.pings = 0
        self._buffer = bytearray()
        self._searched = 0  # octets known not to begin the end of the headers
        self._needed = 0  # octets of the message at the start of the buffer, once its headers are whole
        self._line_ends = 0  # consecutive CRLFs since the last message
        self._broken: ParseError | None = None

    @property
    def pending(self) -> int:
        """Octets of a message that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now, in order. Raises :class:`FramingError` 400 or 413, then for ever."""
        messages: list[bytes] = []
        if self._broken is None:
            self._buffer += data
            try:
                while (message := self._next()) is not None:
                    messages.append(message)
            except ParseError as error:
                self._broken = error
        if self._broken is not None:
            rejected = bytes(self._buffer[: MAX_HEADER_OCTETS + len(PING)])
            self._buffer.clear()
            raise FramingError(self._broken.status, self._broken.reason, messages, rejected)
        return messages

    def _next(self) -> bytes | None:
        if not self._needed:
            self._skip_line_ends()
            self._find_end_of_headers()
        if not self._needed or len(self._buffer) < self._needed:
            return None
        message = bytes(self._buffer[: self._needed])
        del self._buffer[: self._needed]
        self._needed = self._searched = self._line_ends = 0
        return message

    def _skip_line_ends(self) -> None:
        run = _LINE_ENDS(self._buffer)
        if run is not None and run.end():
            before = self._line_ends
            self._line_ends += run.end() // 2
            self.pings += self._line_ends // 2 - before // 2
            end = run.end()
            del run  # it holds the buffer, which cannot be cut meanwhile
            del self._buffer[:end]
            self._searched = 0

    def _find_end_of_headers(self) -> None:
        end = self._buffer.find(b"\r\n\r\n", max(self._searched - 3, 0))
        self._searched = len(self._buffer)
        if end > MAX_HEADER_OCTETS or (end < 0 and len(self._buffer) > MAX_HEADER_OCTETS + 3):
            raise ParseError(413, "headers too large")
        if end >= 0:
            self._needed = end + 4 + _content_length(bytes(self._buffer[:end]))
            if self._needed > MAX_MESSAGE_OCTETS:
                raise ParseError(413, "message too large")


def _content_length(head: bytes) -> int:
    """RFC 3261 §20.14: mandatory on a stream, once, digits only."""
    if head.count(b"\r\n") > MAX_HEADER_LINES:
        raise ParseError(400, "too many headers")
    values = _CONTENT_LENGTH.findall(head)
    if len(values) != 1:
        raise ParseError(400, "several Content-Length" if values else "no Content-Length on a stream")
    text = values[0].decode("latin-1").strip(" \t\r\n")
    return parse_integer(text, 2**32 - 1, "Content-Length")
