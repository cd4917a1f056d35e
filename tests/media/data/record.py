"""Record how RTP arrives over impaired paths, for the jitter buffer's tests. Linux, root.

    python -m tests.media.data.record [NAME …]

Two network namespaces are joined by two TUN devices, between which this process carries the
packets: it is the path. A sender in one namespace paces RTP by its own clock; a receiver in the
other notes when each packet arrived. What is written is what was received, one line a packet in
order of arrival. The namespaces are removed at the end.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import multiprocessing
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

from media import rtp

HERE = Path(__file__).parent
PHONE, EDGE = ("rec_phone", "10.78.0.1"), ("rec_edge", "10.78.0.2")
PORT, CROSS_PORT = 40000, 40002
SEED = 20
SECONDS = 60.0

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x0001 | 0x1000


@dataclass(frozen=True)
class Condition:
    """A path and its sender. Times in ms, probabilities in percent."""

    description: str
    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    bottleneck_kbit: float = 0.0
    stall_every_s: float = 0.0
    stall: tuple[float, float] = (0.0, 0.0)
    ptime: int = 20
    clock_ppm: float = 0.0
    cross_traffic: bool = False


CONDITIONS = {
    "lan": Condition("nothing but the machine's own scheduling"),
    "jitter": Condition("each packet delayed by 20 ± 15 ms, evenly; so some overtake others", delay=20, jitter=15),
    "loss": Condition("5 % lost at random, 20 ± 2 ms", delay=20, jitter=2, loss=5),
    "bursts": Condition(
        "a 2 Mbit/s bottleneck shared with another sender's bursts of 5 to 25 large packets",
        bottleneck_kbit=2000,
        cross_traffic=True,
    ),
    "wifi": Condition(
        "the link stalls for 60 to 250 ms about every 3 s, then all that was held comes at once; 1 % lost, ± 3 ms",
        delay=5,
        jitter=3,
        loss=1,
        stall_every_s=3,
        stall=(60, 250),
    ),
    "drift": Condition("the sender's clock runs 0.1 % fast; 20 ± 5 ms", delay=20, jitter=5, clock_ppm=1000),
    "ptime30": Condition("30 ms in a packet; 20 ± 12 ms", delay=20, jitter=12, ptime=30),
}


def enter(namespace: str) -> None:
    """Move this thread into a named network namespace."""
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    os.close(descriptor)


def open_end(end: tuple[str, str], peer: tuple[str, str], home: int) -> int:
    """A TUN device inside a namespace; its descriptor is ours."""
    enter(end[0])
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", b"path0", IFF_TUN_NO_PI))
    for command in (f"addr add {end[1]} peer {peer[1]} dev path0", "link set path0 up"):
        subprocess.run(["ip", *command.split()], check=True)
    if ctypes.CDLL(None, use_errno=True).setns(home, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    return descriptor


@contextmanager
def namespaces() -> Iterator[tuple[int, int]]:
    """Both ends; gone afterwards."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    made = []
    try:
        for name, _ in (PHONE, EDGE):
            subprocess.run(["ip", "netns", "add", name], check=True)
            made.append(name)
        ends = open_end(PHONE, EDGE, home), open_end(EDGE, PHONE, home)
        yield ends
        for descriptor in ends:
            os.close(descriptor)
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False)
        os.close(home)


def send(condition: Condition, start_at: float, packets: int) -> None:
    """Pace RTP by a clock that runs ``clock_ppm`` fast."""
    enter(PHONE[0])
    interval = condition.ptime / 1000 / (1 + condition.clock_ppm / 1e6)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        for sequence in range(packets):
            time.sleep(max(0.0, start_at + sequence * interval - time.monotonic()))
            packet = rtp.build(0, sequence, sequence * condition.ptime * 8, 1, b"\xff" * (condition.ptime * 8))
            phone.sendto(packet, (EDGE[1], PORT))


def send_cross_traffic(done: Event) -> None:
    """Bursts of large packets at random times."""
    enter(PHONE[0])
    draw = random.Random(SEED)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rival:
        while not done.wait(draw.expovariate(1.0)):
            for _ in range(draw.randint(5, 25)):
                rival.sendto(b"x" * 1200, (EDGE[1], CROSS_PORT))


def receive(path: Path, condition: Condition, packets: int, start_at: float, seconds: float) -> None:
    """Note each arrival; the first line's packet count is of those sent."""
    enter(EDGE[0])
    arrivals = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as edge:
        edge.bind((EDGE[1], PORT))
        while (left := start_at + seconds + 2 - time.monotonic()) > 0:
            edge.settimeout(left)
            try:
                data = edge.recv(2048)
            except TimeoutError:
                break
            packet = rtp.parse(data)
            if packet is not None:
                arrivals.append((packet.sequence, time.monotonic()))
    lines = [f"# {condition.description}", f"# sent: {packets}", f"# ptime_ms: {condition.ptime}"]
    for sequence, at in arrivals:
        lines.append(f"{sequence},{round((at - start_at - sequence * condition.ptime / 1000) * 10000)}")
    path.write_text("\n".join(lines) + "\n")


class Link:
    """The path itself: what goes in at one end comes out of the other, later or never."""

    def __init__(self, condition: Condition) -> None:
        self.condition = condition
        self.draw = random.Random(SEED)
        self.queue: list[tuple[float, int, bytes]] = []
        self.count = 0
        self.link_free_at = 0.0
        self.stall_from = self.stall_to = 0.0
        self.next_stall(time.monotonic())

    def next_stall(self, now: float) -> None:
        """Draw when the link stalls next, and for how long."""
        if self.condition.stall_every_s:
            self.stall_from = now + self.draw.expovariate(1 / self.condition.stall_every_s)
            self.stall_to = self.stall_from + self.draw.uniform(*self.condition.stall) / 1000

    def take(self, packet: bytes, now: float) -> None:
        """A packet enters."""
        path = self.condition
        if self.draw.random() * 100 < path.loss:
            return
        due = now + max(0.0, path.delay + self.draw.uniform(-path.jitter, path.jitter)) / 1000
        if path.bottleneck_kbit:
            self.link_free_at = due = max(due, self.link_free_at) + len(packet) * 8 / path.bottleneck_kbit / 1000
        if path.stall_every_s:
            if due > self.stall_to:
                self.next_stall(due)
            if due > self.stall_from:
                due = self.stall_to
        self.count += 1
        heapq.heappush(self.queue, (due, self.count, packet))

    def carry(self, source: int, target: int, until: float) -> None:
        """Relay from one end to the other."""
        while (now := time.monotonic()) < until:
            while self.queue and self.queue[0][0] <= now:
                os.write(target, heapq.heappop(self.queue)[2])
            wait = min(self.queue[0][0] - now if self.queue else 0.1, 0.1)
            if select.select([source], [], [], max(0.0, wait))[0]:
                packet = os.read(source, 65535)
                if packet[0] >> 4 == 4:
                    self.take(packet, time.monotonic())


def record(name: str) -> None:
    """One condition, one file."""
    condition = CONDITIONS[name]
    packets = round(SECONDS * 1000 / condition.ptime)
    with namespaces() as (phone_end, edge_end):
        start_at, done = time.monotonic() + 1.0, multiprocessing.Event()
        trace = HERE / f"{name}.csv"
        workers = [
            multiprocessing.Process(target=receive, args=(trace, condition, packets, start_at, SECONDS)),
            multiprocessing.Process(target=send, args=(condition, start_at, packets)),
        ]
        if condition.cross_traffic:
            workers.append(multiprocessing.Process(target=send_cross_traffic, args=(done,)))
        for worker in workers:
            worker.start()
        Link(condition).carry(phone_end, edge_end, start_at + SECONDS + 2)
        done.set()
        for worker in workers:
            worker.join()


def main() -> None:
    for name in sys.argv[1:] or CONDITIONS:
        record(name)
        print(name, sum(1 for line in (HERE / f"{name}.csv").open() if not line.startswith("#")))


if __name__ == "__main__":
    main()
