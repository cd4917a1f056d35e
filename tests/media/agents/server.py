"""An agent's WebSocket server, scripted: what it was told, in order, and what it says when asked."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import picows
from picows import WSCloseCode, WSFrame, WSMsgType, WSTransport

__all__ = ["AgentServer", "mute_server", "serve"]


class _Connection(picows.WSListener):
    def __init__(self, server: AgentServer) -> None:
        self._server = server

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._server.connected(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            self._server.close_codes.append(int.from_bytes(frame.get_payload_as_bytes()[:2], "big"))
            if not transport.is_close_frame_sent:
                transport.send_close(WSCloseCode.OK)
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            self._server.heard(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.BINARY:
            self._server.binary.append(frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._server.disconnected.set()

    def pause_writing(self) -> None:
        """What a test sends it may send at once."""

    def resume_writing(self) -> None:
        """See above."""


class AgentServer:
    """One connection at a time; ``on_start`` is called when ``start`` has come."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.binary: list[bytes] = []
        self.arrivals_s: list[float] = []
        self.close_codes: list[int] = []
        self.disconnected = asyncio.Event()
        self.on_start: Callable[[], None] = lambda: None
        self.url = ""
        self.path = ""
        self.headers: dict[str, str] = {}
        self.status: int | None = None
        self._transport: WSTransport | None = None
        self._grew = asyncio.Event()

    def accept(self, request: picows.WSUpgradeRequest) -> Any:
        """The handshake: refused with ``status`` when that is set."""
        self.path = request.path.decode()
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        if self.status is not None:
            return picows.WSUpgradeResponseWithListener(
                picows.WSUpgradeResponse.create_error_response(self.status), None
            )
        return _Connection(self)

    def connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def heard(self, data: bytes) -> None:
        message = json.loads(data)
        self.messages.append(message)
        self.arrivals_s.append(asyncio.get_running_loop().time())
        if message["event"] == "start":
            self.on_start()
        self._grew.set()

    @property
    def transport(self) -> WSTransport:
        """The connection."""
        assert self._transport is not None, "nobody has connected"
        return self._transport

    @property
    def stream_sid(self) -> str:
        """As ``start`` told it."""
        return str(next(m["streamSid"] for m in self.messages if m["event"] == "start"))

    def events(self, *, without: str = "") -> list[str]:
        """The events in order."""
        return [message["event"] for message in self.messages if message["event"] != without]

    def ulaw(self) -> bytes:
        """All the caller's audio so far."""
        media = (message["media"]["payload"] for message in self.messages if message["event"] == "media")
        return b"".join(map(base64.b64decode, media))

    async def told(
        self, event: str, when: Callable[[dict[str, Any]], bool] = lambda _: True, within_s: float = 5.0
    ) -> dict[str, Any]:
        """The first message of that event, past or to come."""
        async with asyncio.timeout(within_s):
            while True:
                for message in self.messages:
                    if message["event"] == event and when(message):
                        return message
                self._grew.clear()
                await self._grew.wait()

    # --- what it says ---------------------------------------------------------------------------

    def say(self, message: dict[str, Any]) -> None:
        """Any JSON."""
        self.raw(json.dumps(message).encode())

    def raw(self, data: bytes, kind: WSMsgType = WSMsgType.TEXT) -> None:
        """Any frame."""
        self.transport.send(kind, data)

    def play(self, ulaw: bytes) -> None:
        """``media``."""
        payload = base64.b64encode(ulaw).decode()
        self.say({"event": "media", "streamSid": self.stream_sid, "media": {"payload": payload}})

    def mark(self, name: str | None) -> None:
        """``mark``; None leaves the name out."""
        body = {} if name is None else {"name": name}
        self.say({"event": "mark", "streamSid": self.stream_sid, "mark": body})

    def clear(self) -> None:
        """``clear``."""
        self.say({"event": "clear", "streamSid": self.stream_sid})

    def close(self, code: WSCloseCode = WSCloseCode.OK) -> None:
        """Close in order."""
        self.transport.send_close(code)

    def drop(self) -> None:
        """Vanish, as a killed process does."""
        self.transport.disconnect(graceful=False)

    def stall(self) -> None:
        """Stop reading."""
        self.transport.underlying_transport.pause_reading()

    def wake(self) -> None:
        """Read again."""
        self.transport.underlying_transport.resume_reading()


@asynccontextmanager
async def serve(tls: ssl.SSLContext | None = None) -> AsyncIterator[AgentServer]:
    """On a fresh port; closed at the end of the block."""
    agent = AgentServer()
    server = await picows.ws_create_server(
        agent.accept, "127.0.0.1", 0, ssl=tls, use_aiofastnet=False, enable_auto_pong=True
    )
    port = server.sockets[0].getsockname()[1]
    agent.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/agent?token=t"
    try:
        yield agent
    finally:
        server.close()
        if agent._transport is not None and not agent.disconnected.is_set():
            agent.drop()
        await server.wait_closed()


@asynccontextmanager
async def mute_server() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Accepts TCP and says nothing; the event is set when its client has gone."""
    gone = asyncio.Event()

    async def serve_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()
            gone.set()

    server = await asyncio.start_server(serve_nothing, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", gone
