"""Reading a request's body: bounded in bytes and time, and as strict JSON (RFC 8259, I-JSON of RFC 7493).

What parsers disagree on is refused: duplicate names, NaN, numbers past 64 bits, lone surrogates; and NUL anywhere.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from typing import Any, Final

from fastapi import Request

from control.errors import PayloadTooLarge, RequestTimeout, UnsupportedMediaType, ValidationFailed

__all__ = ["JsonRequest", "parse_json", "read_body", "read_json"]

BODY_TIMEOUT_S: Final = 10.0
MAX_DEPTH: Final = 32
_INT64: Final = 2**63
_LONGEST_NUMBER: Final = 40


async def read_body(request: Request, limit_bytes: int, timeout_s: float = BODY_TIMEOUT_S) -> bytes:
    """All of it. Raises :class:`PayloadTooLarge`, :class:`RequestTimeout`, or ClientDisconnect."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit_bytes):
        raise PayloadTooLarge(limit_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit_bytes:
                    raise PayloadTooLarge(limit_bytes)
    except TimeoutError as error:
        raise RequestTimeout from error
    return bytes(body)


def parse_json(body: bytes) -> Any:
    """Raises :class:`ValidationFailed`, with what is wrong and where."""
    try:
        value = json.loads(
            body.decode(), object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant
        )
    except UnicodeDecodeError as error:
        raise ValidationFailed.of("body", f"not UTF-8, at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise ValidationFailed.of("body", f"not JSON, at character {error.pos}: {error.msg}") from error
    except RecursionError as error:
        raise ValidationFailed.of("body", "nested too deeply") from error
    except ValueError as error:
        raise ValidationFailed.of("body", str(error)) from error
    _check(value)
    return value


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object has the same name twice")
    return value


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER or not -_INT64 <= (value := int(text)) < _INT64:
        raise ValueError("an integer is larger than 64 bits")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _check(value: Any) -> None:
    """Depth and strings, without recursion: the nesting is the sender's choice."""
    level = [value]
    for _ in range(MAX_DEPTH):
        if not level:
            return
        deeper: list[Any] = []
        for item in level:
            match item:
                case str():
                    _check_text(item)
                case dict():
                    for name in item:
                        _check_text(name)
                    deeper += item.values()
                case list():
                    deeper += item
        level = deeper
    raise ValidationFailed.of("body", "nested too deeply")


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ValidationFailed.of("body", "a string has a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValidationFailed.of("body", "a string has a lone surrogate") from error


class JsonRequest(Request):
    """A request whose body has been read and found to be strict JSON, or to be empty."""

    def __init__(self, request: Request, body: bytes, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._read = body
        self._value = value

    async def body(self) -> bytes:
        """As it was read."""
        return self._read

    async def json(self) -> Any:
        """As it was parsed."""
        return self._value


async def read_json(request: Request, limit_bytes: int) -> JsonRequest:
    """The same request, for FastAPI to validate. Raises what :func:`read_body` and :func:`parse_json` raise."""
    body = await read_body(request, limit_bytes)
    if not body:
        return JsonRequest(request, b"", None)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType
    return JsonRequest(request, body, parse_json(body))
