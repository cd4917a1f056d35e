"""The HTTP client that both SDKs go over."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator

import httpx
import pytest

from control.providers.sdk import CarrierError, TimedOut, Unreachable, WrongAnswer
from control.providers.web import ERRORS, MAX_ANSWER_BYTES, client, error_of, rehearse
from tests.support.carriers.misbehaviour import Cut, Endless, Fails, Garbage, Misbehaviour, NotJson, Slow
from tests.support.carriers.twilio_rest import TwilioRest

on_loopback = pytest.mark.uvloop


@pytest.fixture
async def server() -> AsyncIterator[TwilioRest]:
    async with TwilioRest() as fake:
        yield fake


async def error(server: TwilioRest, timeout_s: float = 5.0) -> CarrierError:
    """What a request ends with."""
    async with client(timeout_s) as web:
        with pytest.raises(ERRORS) as caught:
            await web.get(server.url)
    return error_of(caught.value)


@on_loopback
@pytest.mark.parametrize(
    ("how", "meaning"),
    [(Slow(), TimedOut), (Cut(), WrongAnswer), (Endless(), WrongAnswer), (Garbage(), WrongAnswer)],
    ids=repr,
)
async def test_what_goes_wrong_has_a_meaning(
    server: TwilioRest, how: Misbehaviour, meaning: type[CarrierError]
) -> None:
    server.misbehave(how)
    assert type(await error(server, 0.1 if isinstance(how, Slow) else 5.0)) is meaning


@on_loopback
async def test_nobody_there_is_unreachable(server: TwilioRest) -> None:
    await server.down()
    assert type(await error(server)) is Unreachable


def test_what_is_no_url_is_unreachable() -> None:
    assert type(error_of(httpx.InvalidURL("no"))) is Unreachable


@on_loopback
@pytest.mark.parametrize("length", [MAX_ANSWER_BYTES, MAX_ANSWER_BYTES + 1])
async def test_an_answer_is_read_up_to_its_bound(server: TwilioRest, length: int) -> None:
    server.misbehave(NotJson("x" * length))
    if length > MAX_ANSWER_BYTES:
        assert type(await error(server)) is WrongAnswer
    else:
        async with client(5.0) as web:
            assert len((await web.get(server.url)).content) == length


@on_loopback
async def test_no_answer_is_asked_for_that_is_longer_than_it_looks(server: TwilioRest) -> None:
    """Compressed, a few bytes become any number of them."""
    async with client(5.0) as web:
        await web.get(server.url)
    assert server.requests[0].headers["accept-encoding"] == "identity"


@on_loopback
async def test_no_redirect_is_followed(server: TwilioRest) -> None:
    server.misbehave(Fails(302, {"Location": f"{server.url}/elsewhere"}))
    async with client(5.0) as web:
        assert (await web.get(server.url)).status_code == 302
    assert server.count() == 1


@on_loopback
def test_a_rehearsal_asks_and_nothing_leaves_the_process() -> None:
    """It runs in a thread, beside the loop."""
    heard: list[object] = []

    async def visit(web: httpx.AsyncClient) -> None:
        heard.append((await web.get("http://nowhere.invalid/")).json())

    thread = threading.Thread(target=rehearse, args=(visit, {"data": []}))
    thread.start()
    thread.join()
    assert heard == [{"data": []}]
