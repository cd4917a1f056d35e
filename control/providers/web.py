"""The HTTP that both SDKs go over: one httpx client for a visit to a carrier, closed at its end.

Import it at its first use (:class:`control.providers.sdk.OnFirstUse`): httpx takes a while, reading the authorities'
certificates too.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import httpx

from control.providers.sdk import CarrierError, TimedOut, Unreachable, WrongAnswer
from media.http import bounded

__all__ = ["ERRORS", "MAX_ANSWER_BYTES", "client", "error_of", "rehearse"]

MAX_ANSWER_BYTES: Final = 1 << 20
"""Of one answer's body. The largest one asked for, a page of an account's subaccounts, has some hundred kilobytes."""

ERRORS: Final = (httpx.HTTPError, httpx.InvalidURL)
"""What a request can raise; :func:`error_of` knows what they mean."""

_TLS: Final = httpx.create_ssl_context()


class _Transport(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return bounded(await super().handle_async_request(request), MAX_ANSWER_BYTES)


def client(timeout_s: float) -> httpx.AsyncClient:
    """One whose every wait ends after ``timeout_s`` [s]; to be closed.

    Credentials go where the settings say and nowhere else: no redirect is followed, no proxy or netrc taken from the
    environment. Nothing is compressed, so that the bound on the body holds.
    """
    return httpx.AsyncClient(
        transport=_Transport(verify=_TLS, trust_env=False, retries=0),
        timeout=timeout_s,
        follow_redirects=False,
        trust_env=False,
        headers={"Accept-Encoding": "identity"},
    )


def error_of(error: BaseException | None) -> CarrierError:
    """What something that httpx raised says of the carrier."""
    match error:
        case httpx.TimeoutException():
            return TimedOut(type(error).__name__)
        case httpx.RemoteProtocolError() | httpx.DecodingError():
            return WrongAnswer(type(error).__name__)
        case _:
            return Unreachable(type(error).__name__)


def rehearse(visit: Callable[[httpx.AsyncClient], Awaitable[None]] | None = None, answer: object = None) -> None:
    """Have done what a first request does beside asking, in a thread of its own: more imports, and models to build.

    ``visit`` asks what it will ask; every answer is ``answer`` as JSON, and nothing leaves the process.
    """
    anyio.run(_connect_to_nothing)
    if visit is not None:
        anyio.run(_visit_nobody, visit, json.dumps(answer).encode())


async def _connect_to_nothing() -> None:
    async with client(1.0) as nothing:
        with contextlib.suppress(httpx.HTTPError):
            await nothing.get("http://127.0.0.1:0/")


async def _visit_nobody(visit: Callable[[httpx.AsyncClient], Awaitable[None]], answer: bytes) -> None:
    reply = httpx.Response(200, headers={"Content-Type": "application/json"}, content=answer)
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda request: reply)) as nobody:
        await visit(nobody)
