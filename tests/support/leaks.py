"""What a test left behind: tasks, file descriptors (sockets with their ports) and child processes of this process."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Snapshot", "leaked_tasks", "open_descriptors", "own_ports"]

# Opened once a process by a library and kept: no test's doing.
_PERMANENT = ("/dev/urandom", "/dev/null")


def open_descriptors(pid: int | str = "self") -> dict[int, str]:
    """Descriptor → what it points to (``socket:[123]``, ``/tmp/x``), of this process or another."""
    found = {}
    directory = Path(f"/proc/{pid}/fd")
    for name in os.listdir(directory):  # noqa: PTH208 - half the cost, and it runs twice a test
        try:
            found[int(name)] = os.readlink(directory / name)  # noqa: PTH115 - the target is no path
        except FileNotFoundError:  # the one the listing itself used
            continue
    return found


def own_ports(descriptors: dict[int, str]) -> dict[str, str]:
    """``socket:[inode]`` → ``udp 127.0.0.1:5060``, for the sockets among ``descriptors``."""
    inodes = {target for target in descriptors.values() if target.startswith("socket:[")}
    ports = {}
    for protocol in ("udp", "udp6", "tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{protocol}").read_text().splitlines()[1:]:
            fields = line.split()
            if (inode := f"socket:[{fields[9]}]") in inodes:
                ports[inode] = f"{protocol} {_address(fields[1])}"
    return ports


def _address(text: str) -> str:
    """``0100007F:13C4`` (words of the machine's byte order) → ``127.0.0.1:5060``."""
    host, port = text.split(":")
    raw = b"".join(bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8))
    return f"{ipaddress.ip_address(raw)}:{int(port, 16)}"


def _children() -> frozenset[str]:
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update((task / "children").read_text().split())
        except FileNotFoundError:
            continue
    return frozenset(found)


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _wake_up_sockets(descriptors: dict[int, str]) -> set[str]:
    """The socket pair by which signals wake the running loop: uvloop makes a new one for each of its runs.

    Python knows the end that is written to. The other is the one where a zero byte written to it arrives; to the loop,
    that byte is no signal.
    """
    try:
        writing = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(writing)
    except ValueError:  # not the main thread
        return set()
    if writing not in descriptors:
        return set()
    os.write(writing, b"\0")
    return {descriptors[writing], *(target for number, target in descriptors.items() if _is_waiting(number, target))}


def _is_waiting(number: int, target: str) -> bool:
    """Is a zero byte the next thing to be read from this end of a pair?"""
    if not target.startswith("socket:["):
        return False
    try:
        with socket.socket(fileno=os.dup(number)) as end:
            return (
                end.family == socket.AF_UNIX
                and end.type == socket.SOCK_STREAM
                and not end.getsockname()
                and end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"\0"
            )
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What this process holds at one moment."""

    descriptors: dict[int, str]
    children: frozenset[str]

    @classmethod
    def take(cls) -> Snapshot:
        """Of now."""
        return cls(open_descriptors(), _children())

    def leaks(self) -> list[str]:
        """What is held now and was not then, a readable line each; empty is good."""
        now = open_descriptors()
        fresh = {
            number: target
            for number, target in now.items()
            if self.descriptors.get(number) != target and target not in _PERMANENT
        }
        loops_own = _wake_up_sockets(fresh)
        fresh = {number: target for number, target in fresh.items() if target not in loops_own}
        ports = own_ports(fresh)
        lines = []
        for number, target in sorted(fresh.items()):
            if target in ports:
                lines.append(f"port {ports[target]} (descriptor {number}) is still open")
            else:
                lines.append(f"descriptor {number} ({_described(number, target)}) is still open")
        lines += [
            f"child process {pid} is still there: {_command(pid) or '(ended, nobody waited for it)'}"
            for pid in sorted(_children() - self.children)
        ]
        return lines


def _described(number: int, target: str) -> str:
    """A socket without a port is a pair's end, or a connection both sides of which have ended: say which."""
    if not target.startswith("socket:["):
        return target
    try:
        with socket.socket(fileno=os.dup(number)) as ours:
            return f"{target}, {ours.family.name} {ours.type.name} {ours.getsockname()!r}"
    except OSError as error:
        return f"{target}, {error}"


def leaked_tasks(before: set[asyncio.Task[object]]) -> list[str]:
    """Tasks of the running loop that are not done, were not there ``before``, and are not the caller."""
    after = asyncio.all_tasks() - before - {asyncio.current_task()}
    return sorted(f"task {task.get_name()} is still running: {task.get_coro()!r}" for task in after)
