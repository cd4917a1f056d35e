"""One RTP port of a test: plays tones and digits at their pace, keeps and judges what it hears (RFC 3550, RFC 4733)."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncio_dgram
import numpy as np

from tests.support.audio import RATE_HZ, Samples, decode_alaw, decode_ulaw, encode_ulaw, heard_s, loudest_hz

__all__ = ["EVENTS", "MediaPort", "Packet", "digits_in", "hear", "parse_rtp"]

EVENTS = "0123456789*#ABCD"
FRAME_S = 0.02
FRAME = 160


@dataclass(frozen=True, slots=True)
class Packet:
    """An RTP packet; ``arrival_s`` on the loop's clock."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    arrival_s: float


def parse_rtp(data: bytes, arrival_s: float) -> Packet | None:
    """None for what is no RTP version 2 packet."""
    if len(data) < 12 or data[0] >> 6 != 2:
        return None
    _, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", data)
    if 72 <= second & 0x7F <= 76:  # RTCP
        return None
    start = 12 + 4 * (data[0] & 0x0F)
    return Packet(second & 0x7F, bool(second & 0x80), sequence, timestamp, ssrc, data[start:], arrival_s)


def hear(packets: Sequence[Packet]) -> Samples:
    """The G.711 audio of a stream, each packet where its timestamp puts it, silence where there was none."""
    audio = [packet for packet in packets if packet.payload_type in (0, 8)]
    if not audio:
        return np.zeros(0, dtype=np.int16)
    first = min(audio, key=lambda p: p.arrival_s).timestamp
    offsets = [(packet.timestamp - first + 2**31) % 2**32 - 2**31 for packet in audio]
    base = min(offsets)
    spread = max(offsets) - base
    if spread > 600 * RATE_HZ:
        raise AssertionError(f"timestamps of one stream are {spread / RATE_HZ:.0f} s apart")
    heard = np.zeros(spread + max(len(packet.payload) for packet in audio), dtype=np.int16)
    for offset, packet in zip(offsets, audio, strict=True):
        samples = (decode_ulaw if packet.payload_type == 0 else decode_alaw)(packet.payload)
        heard[offset - base : offset - base + len(samples)] = samples
    return heard


def digits_in(packets: Sequence[Packet], payload_type: int = 101) -> str:
    """The telephone-events of a stream, each once however often its packets were repeated (RFC 4733 §2.5.1.2)."""
    seen: dict[int, str] = {}
    for packet in packets:
        if packet.payload_type == payload_type and len(packet.payload) >= 4 and packet.payload[0] < len(EVENTS):
            seen.setdefault(packet.timestamp, EVENTS[packet.payload[0]])
    return "".join(seen.values())


class MediaPort:
    """Open with :meth:`open`. ``target`` is where it sends; ``packets`` is all it has heard."""

    shared_machine = False
    """Other tests run beside this one: what is heard would be of how busy they are."""

    def __init__(self, stream: asyncio_dgram.DatagramServer, ssrc: int) -> None:
        self._stream = stream
        self.address: tuple[str, int] = stream.sockname[:2]
        self.target: tuple[str, int] | None = None
        self.packets: list[Packet] = []
        self.sources: set[tuple[str, int]] = set()
        self.ssrc = ssrc
        self._sequence = ssrc & 0xFFFF
        self._timestamp = ssrc & 0xFFFFFF
        self._grew = asyncio.Condition()

    @classmethod
    @asynccontextmanager
    async def open(cls, host: str = "127.0.0.1", ssrc: int = 0x5EED5EED) -> AsyncIterator[MediaPort]:
        """On a fresh port; closed at the end of the block."""
        media = cls(await asyncio_dgram.bind((host, 0)), ssrc)
        reader = asyncio.create_task(media._read(), name=f"rtp {media.address}")
        try:
            yield media
        finally:
            media._stream.close()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    @property
    def port(self) -> int:
        """Its UDP port."""
        return self.address[1]

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data, source = await self._stream.recv()
            assert isinstance(source, tuple)
            if packet := parse_rtp(data, loop.time()):
                self.packets.append(packet)
                self.sources.add((source[0], source[1]))
                async with self._grew:
                    self._grew.notify_all()

    async def send_raw(self, data: bytes) -> None:
        """As it is, once, to where the audio goes."""
        if self.target is None:
            raise AssertionError("nowhere to send to: no answer has been taken")
        await self._stream.send(data, self.target)

    async def _send(self, payload_type: int, payload: bytes, *, timestamp: int, marker: bool = False) -> None:
        self._sequence = (self._sequence + 1) & 0xFFFF
        header = struct.pack(
            "!BBHII", 0x80, payload_type | marker << 7, self._sequence, timestamp & 0xFFFFFFFF, self.ssrc
        )
        await self.send_raw(header + payload)

    async def play(self, samples: Samples) -> None:
        """As PCMU, a frame every 20 ms on an absolute schedule."""
        data = encode_ulaw(samples)
        data += b"\xff" * (-len(data) % FRAME)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(len(data) // FRAME):
            await self._send(
                0, data[number * FRAME : (number + 1) * FRAME], timestamp=self._timestamp, marker=number == 0
            )
            self._timestamp += FRAME
            await asyncio.sleep(began + (number + 1) * FRAME_S - loop.time())

    async def press(self, digits: str, *, payload_type: int = 101, frames: int = 5, gap_s: float = 0.08) -> None:
        """Telephone-events: each with its packets every 20 ms, the last three times (RFC 4733 §2.5.1.4)."""
        for digit in digits:
            began = self._timestamp
            for number in range(1, frames + 3):
                duration = min(number, frames) * FRAME
                payload = struct.pack("!BBH", EVENTS.index(digit), (number >= frames) << 7 | 10, duration)
                await self._send(payload_type, payload, timestamp=began, marker=number == 1)
                await asyncio.sleep(FRAME_S)
            self._timestamp += frames * FRAME + round(gap_s * RATE_HZ)
            await asyncio.sleep(gap_s)

    def audio(self) -> Samples:
        """What has been heard so far; AssertionError where other tests run beside this one."""
        if self.shared_machine:
            raise AssertionError("what is heard is judged with the machine to itself: mark the test realtime")
        return hear(self.packets)

    def digits(self, payload_type: int = 101) -> str:
        """What has been pressed so far."""
        return digits_in(self.packets, payload_type)

    async def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
        """Judge anew with every tenth packet; AssertionError says what was heard instead."""
        try:
            async with asyncio.timeout(timeout_s), self._grew:
                while not condition():
                    many = len(self.packets) + 10
                    await self._grew.wait_for(lambda many=many: len(self.packets) >= many)  # type: ignore[misc]
        except TimeoutError:
            if condition():
                return
            loudest = loudest_hz(hear(self.packets))
            raise AssertionError(
                f"{what} was not heard on {self.address} within {timeout_s} s: {len(self.packets)} packets from "
                f"{self.sources or 'nobody'}, loudest at {loudest:.0f} Hz, digits {self.digits()!r}"
            ) from None

    async def expect_tone(self, hz: float, seconds: float = 0.5, timeout_s: float = 10.0) -> None:
        """Until a tone has been heard for so long in all."""
        await self.wait_until(
            lambda: heard_s(self.audio()[-30 * RATE_HZ :], hz) >= seconds, f"{seconds} s of {hz} Hz", timeout_s
        )

    async def expect_packets(self, count: int, timeout_s: float = 10.0) -> None:
        """Until so many packets have been heard in all."""
        await self.wait_until(lambda: len(self.packets) >= count, f"{count} packets", timeout_s)
