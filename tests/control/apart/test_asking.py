"""The control API's side of its pipe: answers that are none, late or refusals; each of the others is next door."""

from __future__ import annotations

import asyncio
import logging

import msgspec
import pytest

from control.apart.asking import Asker
from control.apart.messages import Answer, Question, ReadLive, Refused, decode_from_api
from control.errors import CallNotFound, EdgeFull, Internal, RateLimited
from control.live_calls import LiveCall
from media.pipe import PipeFull

CALL = msgspec.msgpack.Decoder(LiveCall | None)


class Wire:
    """Keeps the questions; ``full`` takes no more."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.full = False

    def send(self, data: bytes) -> None:
        if self.full:
            raise PipeFull(4_000_000, 4_194_304)
        message = decode_from_api(data)
        assert isinstance(message, Question)
        self.asked.append(message)


async def asking(asker: Asker) -> asyncio.Task[LiveCall | None]:
    task = asyncio.create_task(asker.ask(ReadLive(account="a", call="c"), CALL))
    await asyncio.sleep(0)
    return task


def empty(number: int) -> Answer:
    return Answer(number=number, result=msgspec.Raw(msgspec.msgpack.encode(None)))


async def test_answers_find_their_questions_in_any_order() -> None:
    wire = Wire()
    asker = Asker(wire.send)
    first, second = await asking(asker), await asking(asker)
    assert [question.number for question in wire.asked] == [1, 2]
    asker.receive(empty(2))
    assert await second is None
    assert not first.done()
    asker.receive(empty(1))
    assert await first is None


async def test_an_answer_that_nobody_waits_for_has_no_effect() -> None:
    """Its request has gone away meanwhile."""
    wire = Wire()
    asker = Asker(wire.send)
    gone = await asking(asker)
    gone.cancel()
    await asyncio.wait([gone])
    asker.receive(empty(1))
    asker.receive(empty(99))


@pytest.mark.parametrize(
    ("refused", "kind"),
    [
        (Refused(number=1, error="CallNotFound", message="none", details={"resource": "call"}), CallNotFound),
        (Refused(number=1, error="RateLimited", message="m", details={}, retry_after_s=7), RateLimited),
        (Refused(number=1, error="Nonsense", message="m", details={}), Internal),
    ],
)
async def test_a_refusal_is_raised_as_it_was(refused: Refused, kind: type[Exception]) -> None:
    """One of a kind that is not known here is no less an error."""
    asker = Asker(Wire().send)
    task = await asking(asker)
    asker.receive(refused)
    with pytest.raises(kind) as raised:
        await task
    error = raised.value
    assert (error.message, error.details, error.retry_after_s) == (
        refused.message,
        refused.details,
        refused.retry_after_s,
    )


async def test_questions_under_way_and_later_ones_end_with_the_pipe() -> None:
    asker = Asker(Wire().send)
    waiting = await asking(asker)
    asker.gone()
    with pytest.raises(Internal):
        await waiting
    with pytest.raises(Internal):
        await (await asking(asker))


async def test_a_pipe_that_is_full_refuses_the_request(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()
    asker = Asker(wire.send)
    wire.full = True
    with pytest.raises(EdgeFull):
        await (await asking(asker))
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
