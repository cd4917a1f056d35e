"""Links to agents: how they open, carry, refuse, stall and end (RFC 6455)."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from picows import WSCloseCode, WSMsgType

from media.targets import Targets
from media.tasks import Tasks
from media.websocket import MAX_MESSAGE_BYTES, Arrivals, FailureCause, Link, WebSocketClient
from tests.media.agents.server import AgentServer, mute_server, serve
from tests.support.pki import Pki
from tests.support.ports import free_port

pytestmark = pytest.mark.uvloop

HELLO = b'{"event":"hello"}'


class Handler:
    """Keeps what a link tells."""

    def __init__(self) -> None:
        self.log: asyncio.Queue[tuple[object, ...]] = asyncio.Queue()

    def on_open(self) -> None:
        self.log.put_nowait(("open",))

    def on_message(self, data: bytes, text: bool) -> None:
        self.log.put_nowait(("message", data, text))

    def on_writable(self) -> None:
        self.log.put_nowait(("writable",))

    def on_failed(self, cause: FailureCause, message: str) -> None:
        self.log.put_nowait(("failed", cause, message))

    def on_closed(self, orderly: bool, message: str) -> None:
        self.log.put_nowait(("closed", orderly, message))

    async def next(self) -> tuple[object, ...]:
        async with asyncio.timeout(5):
            return await self.log.get()


@asynccontextmanager
async def client(
    context: ssl.SSLContext | None = None, *, allow_private: bool = True
) -> AsyncIterator[WebSocketClient]:
    """Closed at the end, with its links."""
    tasks = Tasks()
    try:
        websockets = WebSocketClient(tasks, context, Targets(allow_private=allow_private))
        await websockets.prepare()
        yield websockets
    finally:
        await tasks.close(grace_s=3.0)
        assert tasks.failures == 0


async def opened(websockets: WebSocketClient, agent: AgentServer) -> tuple[Link, Handler]:
    handler = Handler()
    link = websockets.connect(agent.url, handler, 5.0, "link")
    assert await handler.next() == ("open",)
    return link, handler


async def at_ticks(arrivals: Arrivals, handler: Handler) -> tuple[object, ...]:
    """What the handler is told next, with ticks one after the other."""
    async with asyncio.timeout(5):
        while handler.log.empty():
            arrivals.receive()
            await asyncio.sleep(0)
    return handler.log.get_nowait()


async def test_messages_cross_both_ways_and_a_close_is_answered() -> None:
    async with serve() as agent, client() as websockets:
        link, handler = await opened(websockets, agent)
        assert agent.path == "/agent?token=t"
        assert link.writable
        link.send(HELLO)
        await agent.told("hello")
        agent.raw(b"text")
        agent.raw(b"\x00\x01", WSMsgType.BINARY)
        assert await handler.next() == ("message", b"text", True)
        assert await handler.next() == ("message", b"\x00\x01", False)
        link.close()
        await agent.disconnected.wait()
        assert agent.close_codes == [1000]
        assert handler.log.empty(), "who closes hears no more"
        link.send(HELLO)
        link.close()


async def test_a_message_in_fragments_is_put_together() -> None:
    async with serve() as agent, client() as websockets:
        link, handler = await opened(websockets, agent)
        agent.transport.send(WSMsgType.TEXT, b"one ", fin=False)
        agent.transport.send(WSMsgType.CONTINUATION, b"two ", fin=False)
        agent.transport.send(WSMsgType.CONTINUATION, b"three")
        agent.raw(b"whole")
        assert await handler.next() == ("message", b"one two three", True)
        assert await handler.next() == ("message", b"whole", True)
        link.close()


async def test_once_its_call_is_established_a_link_is_read_at_ticks_until_it_ends() -> None:
    arrivals = Arrivals()
    async with serve() as agent, serve() as other, client() as websockets:
        link, handler = await opened(websockets, agent)
        _, by_loop = await opened(websockets, other)
        link.read_at_ticks(arrivals)
        agent.raw(b"one")
        agent.raw(b"two")
        other.raw(b"read by the loop")
        await by_loop.next()
        assert handler.log.empty()
        assert await at_ticks(arrivals, handler) == ("message", b"one", True)
        assert await at_ticks(arrivals, handler) == ("message", b"two", True)
        agent.raw(bytes(500_000), WSMsgType.BINARY)
        assert await at_ticks(arrivals, handler) == ("message", bytes(500_000), False)
        link.send(HELLO)
        await agent.told("hello")
        agent.transport.send_close(WSCloseCode.OK)
        assert await at_ticks(arrivals, handler) == ("closed", True, "closed with 1000")
        arrivals.receive()


async def test_a_link_that_is_to_be_read_at_ticks_before_it_is_open_is_once_it_is() -> None:
    arrivals = Arrivals()
    async with serve() as agent, client() as websockets:
        handler = Handler()
        websockets.connect(agent.url, handler, 5.0, "link").read_at_ticks(arrivals)
        assert await handler.next() == ("open",)
        agent.transport.disconnect(False)
        assert await at_ticks(arrivals, handler) == ("closed", False, "the connection was lost")


async def test_without_a_descriptor_for_its_ticks_a_link_is_read_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async with serve() as agent, client() as websockets:
        link, handler = await opened(websockets, agent)
        monkeypatch.setattr("select.epoll", none_left)
        link.read_at_ticks(Arrivals())
        monkeypatch.undo()
        agent.raw(b"one")
        assert await handler.next() == ("message", b"one", True)
        link.close()


async def test_the_closing_handshake_of_a_link_read_at_ticks_needs_none() -> None:
    arrivals = Arrivals()
    async with serve() as agent, client() as websockets:
        link, handler = await opened(websockets, agent)
        link.read_at_ticks(arrivals)
        link.close()
        await agent.disconnected.wait()
        assert agent.close_codes == [1000]
        assert handler.log.empty()


async def test_a_binary_message_in_fragments_stays_binary() -> None:
    async with serve() as agent, client() as websockets:
        link, handler = await opened(websockets, agent)
        agent.transport.send(WSMsgType.BINARY, b"\x00\x01", fin=False)
        agent.transport.send(WSMsgType.CONTINUATION, b"\x02")
        assert await handler.next() == ("message", b"\x00\x01\x02", False)
        link.close()


async def test_the_handshake_has_the_headers_it_was_given_and_audio_goes_as_it_is() -> None:
    async with serve() as agent, client() as websockets:
        handler = Handler()
        given = (("Authorization", "Bearer t"), ("Sec-WebSocket-Protocol", "audio.jambonz.org"))
        link = websockets.connect(agent.url, handler, 5.0, "link", given)
        assert await handler.next() == ("open",)
        assert [agent.headers[name.lower()] for name, _ in given] == [value for _, value in given]
        link.send_binary(b"\x00\xff")
        link.send(HELLO)
        await agent.told("hello")
        assert agent.binary == [b"\x00\xff"]
        link.close()
        link.send_binary(b"late")


async def test_a_message_without_end_ends_the_link() -> None:
    async with serve() as agent, client() as websockets:
        _, handler = await opened(websockets, agent)
        agent.transport.send(WSMsgType.TEXT, bytes(MAX_MESSAGE_BYTES), fin=False)
        agent.transport.send(WSMsgType.CONTINUATION, b"x", fin=False)
        assert await handler.next() == ("closed", False, f"a message of more than {MAX_MESSAGE_BYTES} bytes")


async def test_a_frame_too_big_ends_the_link() -> None:
    async with serve() as agent, client() as websockets:
        _, handler = await opened(websockets, agent)
        agent.raw(bytes(MAX_MESSAGE_BYTES + 1))
        closed = await handler.next()
        assert closed[:2] == ("closed", False)


@pytest.mark.parametrize(
    ("code", "orderly"),
    [(1000, True), (1001, True), (1012, True), (1011, False), (1008, False), (1002, False)],
)
async def test_a_close_frame_says_whether_the_agent_ended_in_order(code: int, orderly: bool) -> None:
    async with serve() as agent, client() as websockets:
        _, handler = await opened(websockets, agent)
        agent.close(WSCloseCode(code))
        assert await handler.next() == ("closed", orderly, f"closed with {code}")


async def test_the_agents_last_words_are_made_fit_for_a_log() -> None:
    async with serve() as agent, client() as websockets:
        _, handler = await opened(websockets, agent)
        agent.transport.send_close(WSCloseCode.OK, b"bye\r\nGET /\x1b[2J")
        assert await handler.next() == ("closed", True, "closed with 1000 bye  GET / [2J")


async def test_a_private_close_code_is_the_agents_own_end() -> None:
    async with serve() as agent, client() as websockets:
        _, handler = await opened(websockets, agent)
        agent.transport.send(WSMsgType.CLOSE, (4000).to_bytes(2, "big"))
        assert await handler.next() == ("closed", True, "closed with 4000")


async def test_a_close_frame_without_a_code_is_an_orderly_end() -> None:
    """RFC 6455 §7.1.5."""
    async with serve() as agent, client() as websockets:
        _, handler = await opened(websockets, agent)
        agent.transport.send(WSMsgType.CLOSE, b"")
        assert await handler.next() == ("closed", True, "closed with 1005")


async def test_a_connection_that_vanishes_is_lost() -> None:
    async with serve() as agent, client() as websockets:
        _, handler = await opened(websockets, agent)
        agent.drop()
        assert await handler.next() == ("closed", False, "the connection was lost")


async def test_a_port_where_nobody_listens_is_refused() -> None:
    async with client() as websockets:
        handler = Handler()
        websockets.connect(f"ws://127.0.0.1:{free_port()}/", handler, 5.0, "link")
        assert await handler.next() == ("failed", "refused", "connection refused")


@pytest.mark.parametrize("status", [401, 403, 404, 500])
async def test_an_http_answer_that_is_no_101_is_refused_with_its_status(status: int) -> None:
    async with serve() as agent, client() as websockets:
        agent.status = status
        handler = Handler()
        websockets.connect(agent.url, handler, 5.0, "link")
        assert await handler.next() == ("failed", "refused", f"HTTP {status}")


async def test_a_redirect_is_not_followed() -> None:
    async with serve() as agent, client() as websockets:
        agent.status = 302
        handler = Handler()
        websockets.connect(agent.url, handler, 5.0, "link")
        assert (await handler.next())[:2] == ("failed", "refused")


async def test_a_handshake_that_is_never_answered_times_out_and_its_socket_is_closed() -> None:
    async with mute_server() as (url, gone), client() as websockets:
        handler = Handler()
        websockets.connect(url, handler, 0.1, "link")
        assert (await handler.next())[:2] == ("failed", "timeout")
        async with asyncio.timeout(2):
            await gone.wait()


async def test_closing_while_connecting_gives_up_the_attempt_and_its_socket() -> None:
    async with mute_server() as (url, gone), client() as websockets:
        handler = Handler()
        link = websockets.connect(url, handler, 30.0, "link")
        await asyncio.sleep(0.05)
        link.close()
        async with asyncio.timeout(2):
            await gone.wait()
        assert handler.log.empty()


async def test_a_peer_that_never_answers_the_close_is_cut_after_two_seconds() -> None:
    async with serve() as agent, client() as websockets:
        link, _ = await opened(websockets, agent)
        agent.stall()
        began = asyncio.get_running_loop().time()
        link.close()
        while len(websockets._tasks):
            await asyncio.sleep(0.05)
        assert 1.5 < asyncio.get_running_loop().time() - began < 3.0


async def test_a_name_that_does_not_resolve_is_an_error() -> None:
    async with client() as websockets:
        handler = Handler()
        websockets.connect("ws://no-such-host.invalid/", handler, 10.0, "link")
        assert (await handler.next())[:2] == ("failed", "error")


async def test_a_slow_reader_is_noticed_and_writing_goes_on_when_it_reads_again() -> None:
    async with serve() as agent, client() as websockets:
        link, handler = await opened(websockets, agent)
        agent.stall()
        filler = b'{"event":"filler","text":"' + b"x" * 60_000 + b'"}'
        sent = 0
        while link.writable:
            link.send(filler)
            sent += 1
            assert sent < 1000
            await asyncio.sleep(0)
        agent.wake()
        assert await handler.next() == ("writable",)
        assert link.writable
        async with asyncio.timeout(5):
            while len(agent.messages) < sent:
                await asyncio.sleep(0.01)
        link.close()


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.make(tmp_path_factory.mktemp("pki"), names=("localhost",))


def server_context(pki: Pki) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.certificate, pki.key)
    return context


async def test_a_secure_link_is_made_when_the_certificate_is_trusted(pki: Pki) -> None:
    async with (
        serve(server_context(pki)) as agent,
        client(ssl.create_default_context(cafile=str(pki.authority))) as websockets,
    ):
        link, _ = await opened(websockets, agent)
        link.send(HELLO)
        await agent.told("hello")
        link.close()


async def test_a_certificate_nobody_vouches_for_is_refused(pki: Pki) -> None:
    async with serve(server_context(pki)) as agent, client() as websockets:
        handler = Handler()
        websockets.connect(agent.url, handler, 5.0, "link")
        failed = await handler.next()
        assert failed[:2] == ("failed", "error")
        assert "certificate" in str(failed[2]).lower()


async def test_a_certificate_of_another_name_is_refused(pki: Pki, tmp_path: Path) -> None:
    other = Pki.make(tmp_path, names=("agent.example",))
    context = ssl.create_default_context(cafile=str(other.authority))
    async with serve(server_context(other)) as agent, client(context) as websockets:
        handler = Handler()
        websockets.connect(agent.url.replace("127.0.0.1", "localhost"), handler, 5.0, "link")
        failed = await handler.next()
        assert failed[:2] == ("failed", "error")
        assert "localhost" in str(failed[2])


# --- where links may go -------------------------------------------------------------------------


async def test_a_private_address_is_forbidden_and_never_connected_to() -> None:
    async with serve() as agent, client(allow_private=False) as websockets:
        handler = Handler()
        websockets.connect(agent.url, handler, 5.0, "link")
        assert await handler.next() == (
            "failed",
            "forbidden",
            "127.0.0.1 has a loopback address, and agents.allow_private is off",
        )
        assert agent.path == ""


async def test_headers_go_with_the_handshake() -> None:
    async with serve() as agent, client() as websockets:
        handler = Handler()
        link = websockets.connect(agent.url, handler, 5.0, "link", (("Authorization", "Bearer t"), ("X-One", "1")))
        assert await handler.next() == ("open",)
        assert agent.headers["authorization"] == "Bearer t"
        assert agent.headers["x-one"] == "1"
        link.close()


async def test_a_url_that_the_operator_has_chosen_may_be_private() -> None:
    async with serve() as agent, client(allow_private=False) as websockets:
        handler = Handler()
        link = websockets.connect(agent.url, handler, 5.0, "link", anywhere=True)
        assert await handler.next() == ("open",)
        link.close()
