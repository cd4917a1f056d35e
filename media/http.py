"""HTTP to agents: an httpx client that goes only where :mod:`media.targets` allows.

Import it at its first use: httpx takes a while.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from typing import Final

import httpx

from media.targets import Resolved, TargetRefused, Targets

__all__ = ["MAX_ANSWER_BYTES", "TooLong", "bounded", "client", "refused"]

MAX_ANSWER_BYTES: Final = 256 * 1024
"""Of one answer's body: an SDP answer has a few kilobytes."""

# It writes a line for each request, with its URL, of carriers too (:mod:`control.providers.web`).
logging.getLogger("httpx").setLevel(logging.WARNING)


class TooLong(httpx.DecodingError):
    """A body that goes on beyond what anybody asked for."""


class _Bounded(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, most_bytes: int) -> None:
        self._stream = stream
        self._most_bytes = most_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._most_bytes
        async for piece in self._stream:
            left -= len(piece)
            if left < 0:
                raise TooLong(f"more than {self._most_bytes} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Transport(httpx.AsyncHTTPTransport):
    """Connects to the addresses that were checked; the name stays in ``Host``, and for TLS and its certificate.

    No connection is kept: httpx would share one between names that have the same address.
    """

    def __init__(self, targets: Targets, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, trust_env=False, retries=0, limits=httpx.Limits(max_keepalive_connections=0))
        self._targets = targets

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        named = request.url
        request.extensions = {**request.extensions, "sni_hostname": named.host}
        failure = httpx.ConnectError(f"no address for {named.host}", request=request)
        try:
            for _, _, _, _, address in await self._allowed(request):
                request.url = named.copy_with(host=str(address[0]))
                try:
                    return bounded(await super().handle_async_request(request), MAX_ANSWER_BYTES)
                except httpx.ConnectError as error:
                    failure = error
        finally:
            request.url = named
        raise failure

    async def _allowed(self, request: httpx.Request) -> list[Resolved]:
        url = request.url
        try:
            return await self._targets.resolve(url.host, url.port or (443 if url.scheme == "https" else 80))
        except OSError as error:
            raise httpx.ConnectError(str(error), request=request) from error


def bounded(response: httpx.Response, most_bytes: int) -> httpx.Response:
    """One whose body, when it is read, raises :class:`TooLong` beyond ``most_bytes``."""
    if isinstance(response.stream, httpx.AsyncByteStream):
        response.stream = _Bounded(response.stream, most_bytes)
    return response


def refused(error: httpx.HTTPError) -> TargetRefused | None:
    """What kept the request from an address that no agent may have; None for any other failure."""
    return error.__cause__ if isinstance(error.__cause__, TargetRefused) else None


def client(targets: Targets, context: ssl.SSLContext, timeout_s: float) -> httpx.AsyncClient:
    """One whose every wait ends after ``timeout_s`` [s]; to be closed.

    No redirect is followed, no proxy or netrc is taken from the environment. Nothing is compressed, so that the bound
    on the body holds.
    """
    return httpx.AsyncClient(
        transport=_Transport(targets, context),
        timeout=timeout_s,
        follow_redirects=False,
        trust_env=False,
        headers={"Accept-Encoding": "identity"},
    )
