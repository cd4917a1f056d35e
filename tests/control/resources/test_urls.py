"""Where an agent is."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from control.resources.urls import AudioSocketUrl, HttpUrl, WebSocketUrl


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (WebSocketUrl, "wss://Agent.example.com:9443/media?a=b"),
        (WebSocketUrl, "ws://[::1]/"),
        (HttpUrl, "https://agent.example.com/whip"),
        (AudioSocketUrl, "audiosocket://agent.example.com:9092"),
        (AudioSocketUrl, "tcp://127.0.0.1:9092/"),
    ],
)
def test_a_url_stays_as_it_was_typed(kind: Any, text: str) -> None:
    """Agents sign and compare it."""
    assert TypeAdapter(kind).validate_python(text) == text


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        (WebSocketUrl, "wss://agent.example.com/a b", "must escape"),
        (WebSocketUrl, "wss://agent.example.com:65536/", "is not a URL"),
        (WebSocketUrl, "https://agent.example.com/", "is neither ws:// nor wss://"),
        (WebSocketUrl, "wss://agent.example.com:0/", "no host, or port 0"),
        (WebSocketUrl, "wss://user:password@agent.example.com/", "credentials"),
        (WebSocketUrl, "wss://agent.example.com/#part", "RFC 6455"),
        (HttpUrl, "wss://agent.example.com/", "is neither http:// nor https://"),
        (HttpUrl, "https://agent.example.com/#part", "has a fragment"),
        (AudioSocketUrl, "udp://agent.example.com:9092", "is neither audiosocket:// nor tcp://"),
        (AudioSocketUrl, "tcp://agent.example.com", "no host, or no port"),
        (AudioSocketUrl, "tcp://agent.example.com:9092/path", "more than a host and a port"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(kind: Any, text: str, problem: str) -> None:
    """Before any call meets it."""
    with pytest.raises(ValidationError, match=problem):
        TypeAdapter(kind).validate_python(text)
