"""Where an agent is: the URLs of its protocols. Each stays as it was typed."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, StringConstraints

__all__ = [
    "AudioSocketUrl",
    "HttpUrl",
    "WebSocketUrl",
]


def _websocket_url(text: str) -> str:
    """``ws``/``wss``; no fragment either (RFC 6455 §3)."""
    return _agent_url(text, "ws", "wss")


def _http_url(text: str) -> str:
    """``http``/``https``."""
    return _agent_url(text, "http", "https")


def _agent_url(text: str, *schemes: str) -> str:
    """One of the schemes, a host, no credentials, no fragment."""
    url = _split(text, *schemes)
    if not url.hostname or url.port == 0:
        raise ValueError("has no host, or port 0")
    if "@" in url.netloc:
        raise ValueError("has credentials in it: pass them as parameters")
    if "#" in text:
        raise ValueError("has a fragment" + (" (RFC 6455 §3)" if "ws" in schemes else ""))
    return text


def _split(text: str, *schemes: str) -> SplitResult:
    """A URL of one of the two schemes, whose port is a number if it has any."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("has characters that a URL must escape")
    try:
        url = urlsplit(text)
        url.port  # noqa: B018 (it is parsed here)
    except ValueError as error:
        raise ValueError("is not a URL") from error
    if url.scheme not in schemes:
        raise ValueError(f"is neither {schemes[0]}:// nor {schemes[1]}://")
    return url


def _audiosocket_url(text: str) -> str:
    """``audiosocket://HOST:PORT`` or ``tcp://HOST:PORT``, and nothing more."""
    url = _split(text, "audiosocket", "tcp")
    if not url.hostname or not url.port:
        raise ValueError("has no host, or no port")
    if url.path not in {"", "/"} or "@" in url.netloc or "?" in text or "#" in text:
        raise ValueError("has more than a host and a port: the protocol has no place for it")
    return text


WebSocketUrl = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2000),
    AfterValidator(_websocket_url),
    Field(examples=["wss://agent.example.com/media"], json_schema_extra={"pattern": "^wss?://"}),
]
HttpUrl = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2000),
    AfterValidator(_http_url),
    Field(examples=["https://agent.example.com/whip"], json_schema_extra={"pattern": "^https?://"}),
]
AudioSocketUrl = Annotated[
    str,
    StringConstraints(min_length=1, max_length=300),
    AfterValidator(_audiosocket_url),
    Field(examples=["audiosocket://agent.example.com:9092"], json_schema_extra={"pattern": "^(audiosocket|tcp)://"}),
]
