"""Control's side of the messages."""

from __future__ import annotations

import asyncio

import pytest

from media.client import MediaClient, MediaGone, MediaTimeout
from media.messages import (
    AgentReady,
    Done,
    Envelope,
    Failed,
    Notice,
    NoticeBody,
    Ping,
    Reply,
    Request,
    StartMedia,
    decode,
    encode,
)


class Worker:
    """The other end of the pipe, by hand."""

    def __init__(self, epoch: int = 0) -> None:
        self.requests: list[Request] = []
        self.notices: list[NoticeBody] = []
        self.client = MediaClient(self._take, self.notices.append, epoch)

    def _take(self, data: bytes) -> None:
        request = decode(data)
        assert isinstance(request, Request)
        self.requests.append(request)

    def send(self, envelope: Envelope) -> None:
        self.client.receive(encode(envelope))

    async def asked(self, count: int = 1) -> None:
        while len(self.requests) < count:
            await asyncio.sleep(0)


async def test_a_reply_finds_its_request_whatever_their_order() -> None:
    worker = Worker()
    first = asyncio.ensure_future(worker.client.request(Ping()))
    second = asyncio.ensure_future(worker.client.request(StartMedia(call="c")))
    await worker.asked(2)
    ids = [request.request_id for request in worker.requests]
    assert len(set(ids)) == 2
    worker.send(Reply(request_id=ids[1], body=Failed(code="unknown_call", message="c")))
    worker.send(Reply(request_id=ids[0], body=Done()))
    assert await first == Done()
    assert await second == Failed(code="unknown_call", message="c")
    assert worker.client.pending == 0


async def test_the_deadline_travels_with_the_request() -> None:
    worker = Worker(epoch=4)
    asked = asyncio.ensure_future(worker.client.request(Ping(), deadline_s=0.25))
    await worker.asked()
    assert (worker.requests[0].deadline_s, worker.requests[0].epoch) == (0.25, 4)
    worker.send(Reply(request_id=worker.requests[0].request_id, body=Done(), epoch=4))
    await asked


async def test_no_reply_in_time_raises_media_timeout_and_a_late_one_is_ignored() -> None:
    worker = Worker()
    with pytest.raises(MediaTimeout, match="Ping") as late:
        await worker.client.request(Ping(), deadline_s=-MediaClient.GRACE_S)
    assert late.value.command == "Ping"
    worker.send(Reply(request_id=worker.requests[0].request_id, body=Done()))
    assert worker.client.pending == 0


async def test_a_worker_that_is_gone_fails_what_is_under_way_and_what_comes() -> None:
    worker = Worker()
    asked = asyncio.ensure_future(worker.client.request(Ping()))
    await worker.asked()
    worker.client.gone("exit status 9")
    with pytest.raises(MediaGone, match="exit status 9"):
        await asked
    with pytest.raises(MediaGone, match="exit status 9"):
        await worker.client.request(Ping())


def test_notices_go_to_their_handler() -> None:
    worker = Worker()
    worker.send(Notice(body=AgentReady(call="c", waited_s=0.1)))
    assert worker.notices == [AgentReady(call="c", waited_s=0.1)]


def test_what_an_earlier_life_still_sends_is_dropped() -> None:
    worker = Worker(epoch=2)
    worker.send(Notice(body=AgentReady(call="c", waited_s=0.1), epoch=1))
    assert worker.notices == []
    assert worker.client.dropped == 1


def test_junk_and_requests_from_media_are_dropped_and_counted() -> None:
    worker = Worker()
    worker.client.receive(b"junk")
    worker.send(Request(request_id=1, deadline_s=1.0, body=Ping()))
    assert worker.client.dropped == 2
