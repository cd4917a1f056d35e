"""Bodies: bounded, and strict JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from control.api.body import parse_json, read_body
from control.errors import PayloadTooLarge, RequestTimeout, ValidationFailed
from tests.support.desk import BASE, Desk

AGENTS = f"{BASE}/agents"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a": 1, "a": 2}', "same name twice"),
        (b'[{"x": {"a": 1, "a": 2}}]', "same name twice"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 9223372036854775808}', "64 bits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "64 bits"),
        (b'{"a": "\\u0000"}', "NUL"),
        (b'{"\\u0000": 1}', "NUL"),
        (b'[[["\\u0000"]]]', "NUL"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'{"a": "\x01"}', "not JSON"),
        (b"[" * 33 + b"]" * 33, "nested"),
        (b"[" * 30_000, "nested"),
        (b'{"a":' * 30_000, "nested"),
    ],
)
def test_what_parsers_disagree_on_is_refused(body: bytes, problem: str) -> None:
    """RFC 8259 §9, RFC 7493 §2."""
    with pytest.raises(ValidationFailed) as refusal:
        parse_json(body)
    assert problem in refusal.value.problems[0].problem


@pytest.mark.parametrize(
    "text", ["{}", "[]", "null", '"\\ud83d\\ude00"', "-9223372036854775808", "1.5e3", "[" * 31 + "]" * 31]
)
def test_what_is_json_is_taken(text: str) -> None:
    """As the standard library reads it."""
    assert parse_json(text.encode()) == json.loads(text)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_json_or_a_validation_error(body: bytes) -> None:
    """And what is taken can be written again."""
    try:
        value = parse_json(body)
    except ValidationFailed:
        return
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    "content", [b"{", b'{"name": NaN}', b"[" * 20_000, b'{"name": "\\ud800"}', b'{"name":"a","name":"b"}', b"\xff\xfe"]
)
async def test_a_broken_body_is_422_in_the_envelope(acme: httpx.AsyncClient, content: bytes) -> None:
    """Never a bare text, never a 500."""
    answer = await acme.post(AGENTS, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "validation_error"
    assert answer.json()["error"]["details"]["errors"][0]["field"] == "body"


async def test_no_body_at_all_is_a_missing_body(acme: httpx.AsyncClient) -> None:
    """422, and it says so."""
    answer = await acme.post(AGENTS)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"] == "body: Field required"


@pytest.mark.parametrize("content", ["[]", "null", "5", '"x"', "true"])
async def test_a_body_that_is_no_object_is_refused(acme: httpx.AsyncClient, content: str) -> None:
    """422."""
    answer = await acme.post(AGENTS, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "media_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/xml", "multipart/form-data"]
)
async def test_only_json_is_a_body(acme: httpx.AsyncClient, media_type: str) -> None:
    """415: curl's default type is a frequent slip."""
    answer = await acme.post(AGENTS, content=b"{}", headers={"Content-Type": media_type})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]["details"]["resolution"]


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON; charset=utf-8"])
async def test_json_has_parameters_and_any_case(acme: httpx.AsyncClient, media_type: str) -> None:
    """RFC 9110 §8.3.1."""
    answer = await acme.post(AGENTS, content=b"{}", headers={"Content-Type": media_type})
    assert answer.status_code == 422


async def test_a_body_past_the_cap_is_413(desk: Desk, acme: httpx.AsyncClient) -> None:
    """Declared or streamed, before it is parsed."""
    limit = desk.settings.limits.api_body_bytes
    declared = await acme.post(AGENTS, content=b"x" * (limit + 1), headers={"Content-Type": "application/json"})

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(limit // 1024 + 1):
            yield b" " * 1024

    streamed = await acme.post(AGENTS, content=pieces(), headers={"Content-Type": "application/json"})
    for answer in (declared, streamed):
        assert answer.status_code == 413
        assert answer.json()["error"]["details"]["limit_bytes"] == limit


def incoming(*messages: dict[str, object], headers: tuple[tuple[bytes, bytes], ...] = ()) -> Request:
    """A request whose body arrives as these messages, and then no more."""
    waiting = list(messages)

    async def receive() -> dict[str, object]:
        if waiting:
            return waiting.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    return Request({"type": "http", "method": "POST", "path": "/", "headers": list(headers)}, receive)


async def test_a_declared_length_is_believed_only_against_the_sender() -> None:
    """Too large: refused unread. Small: counted all the same."""
    for declared in (b"11", b"9" * 5000):
        with pytest.raises(PayloadTooLarge):
            await read_body(incoming(headers=((b"content-length", declared),)), 10)
    lying = incoming(
        {"type": "http.request", "body": b"x" * 11, "more_body": False}, headers=((b"content-length", b"1"),)
    )
    with pytest.raises(PayloadTooLarge):
        await read_body(lying, 10)


async def test_a_body_that_never_ends_is_given_up() -> None:
    """408: a slow sender holds nothing for long."""
    with pytest.raises(RequestTimeout):
        await read_body(incoming({"type": "http.request", "body": b"{", "more_body": True}), 10, timeout_s=0)
