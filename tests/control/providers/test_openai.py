"""OpenAI's key, tried at an OpenAI on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from config.settings import Providers, Settings
from control.errors import ProviderVerificationFailed
from control.providers import Check, Claim
from control.providers.openai import OpenAiProvider
from control.registry.types import Integration
from tests.support.openai_realtime import FakeOpenAi
from tests.support.ports import free_port

pytestmark = pytest.mark.uvloop

KEY = "sk-planted-4711"
SAVED = Integration("account", "openai", {}, {"api_key": KEY})


def provider(url: str) -> OpenAiProvider:
    return OpenAiProvider(Settings(providers=Providers(openai_base_url=url)))


@asynccontextmanager
async def answering(status: int) -> AsyncIterator[str]:
    """Says the same to everybody."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d Status\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}" % status)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def test_a_key_that_lists_models_is_good() -> None:
    async with FakeOpenAi.open(KEY) as openai:
        assert (await provider(openai.url).check_credentials(SAVED)).warnings == ()


async def test_a_key_that_openai_refuses_is_refused_with_what_to_do() -> None:
    async with FakeOpenAi.open("another") as openai:
        with pytest.raises(ProviderVerificationFailed) as refused:
            await provider(openai.url).check_credentials(SAVED)
    assert (refused.value.check, "Make a new secret key" in str(refused.value)) == (Check.CREDENTIALS, True)
    assert KEY not in repr(refused.value)


async def test_a_restricted_key_is_kept_with_a_warning() -> None:
    async with answering(403) as url:
        [warning] = (await provider(url).check_credentials(SAVED)).warnings
    assert warning.code == "key_not_tried"


@pytest.mark.parametrize(("status", "check"), [(429, Check.RATE_LIMITED), (503, Check.UNREACHABLE)])
async def test_what_keeps_openai_from_judging_is_named(status: int, check: Check) -> None:
    async with answering(status) as url:
        with pytest.raises(ProviderVerificationFailed) as failed:
            await provider(url).check_credentials(SAVED)
    assert failed.value.check == check
    assert "OpenAI" in str(failed.value)


async def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(ProviderVerificationFailed) as failed:
        await provider(f"http://127.0.0.1:{free_port()}").check_credentials(SAVED)
    assert failed.value.check == Check.UNREACHABLE


async def test_it_has_no_numbers() -> None:
    with pytest.raises(ProviderVerificationFailed):
        await provider("http://127.0.0.1:1").verify(Claim("account", "+14155550100", ""), SAVED)
