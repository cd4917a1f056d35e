"""HTTP to agents goes where it may, and the name stays with it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from media.http import MAX_ANSWER_BYTES, client, refused
from media.targets import Targets
from tests.media.test_targets import named
from tests.support.pki import Pki

CONTEXT = ssl.create_default_context()
ANYWHERE = Targets(allow_private=True)
HERE = named("127.0.0.1", allow_private=True)


@asynccontextmanager
async def agent(answer: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Answers every connection's first request with these bytes; its port, and what it heard."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def test_a_private_address_is_not_asked() -> None:
    async with client(named("10.0.0.1"), CONTEXT, 1.0) as http:
        with pytest.raises(httpx.ConnectError) as caught:
            await http.post("http://inside.example.com/offer")
    assert refused(caught.value) is not None


async def test_another_failure_is_no_refusal() -> None:
    async with client(named(), CONTEXT, 1.0) as http:
        with pytest.raises(httpx.ConnectError) as caught:
            await http.post("http://nowhere.example.com/offer")
    assert refused(caught.value) is None


@pytest.mark.realtime
async def test_the_host_header_keeps_the_name() -> None:
    async with (
        agent(ok(b"hello")) as (port, heard),
        client(HERE, CONTEXT, 2.0) as http,
    ):
        answer = await http.get(f"http://agent.example.com:{port}/")
    assert answer.text == "hello"
    assert f"host: agent.example.com:{port}".encode() in heard[0].lower()
    assert str(answer.request.url) == f"http://agent.example.com:{port}/"


@pytest.mark.realtime
async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
    async with agent(moved) as (port, heard), client(ANYWHERE, CONTEXT, 2.0) as http:
        assert (await http.get(f"http://127.0.0.1:{port}/")).status_code == 302
    assert len(heard) == 1


@pytest.mark.realtime
async def test_an_endless_answer_is_cut() -> None:
    async with (
        agent(ok(bytes(MAX_ANSWER_BYTES + 1))) as (port, _),
        client(ANYWHERE, CONTEXT, 2.0) as http,
    ):
        with pytest.raises(httpx.DecodingError):
            await http.get(f"http://127.0.0.1:{port}/")


@pytest.mark.realtime
@pytest.mark.parametrize("name", ["agent.example", "other.example"])
async def test_the_certificate_is_the_names(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    pki = Pki.make(tmp_path_factory.mktemp("pki"), names=("agent.example",))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pki.certificate, pki.key)
    trust = ssl.create_default_context(cafile=str(pki.authority))
    async with (
        agent(ok(b"hello"), server) as (port, _),
        client(HERE, trust, 2.0) as http,
    ):
        if name == "agent.example":
            assert (await http.get(f"https://{name}:{port}/")).text == "hello"
        else:
            with pytest.raises(httpx.ConnectError, match="certificate"):
                await http.get(f"https://{name}:{port}/")
