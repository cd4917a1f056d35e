"""How a call's media reaches a process that runs agents: by one name, and a socket that is handed on.

Media knocks at the doorway, a Unix socket of the controlling process; that picks a host and passes the connection to
it (``SCM_RIGHTS``). From then on media and host speak directly. The name is abstract: it is no file, so nothing is
left of it and no permissions guard it. Instead each peer's user is asked of the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import struct
from typing import Final

__all__ = ["End", "accept", "channel", "hand_over", "knock", "left", "open_doorway", "say", "take_over"]

End = socket.socket
"""One end of a connection."""

_BACKLOG: Final = 1024
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: struct ucred
_HANDED: Final = b"\0"


def open_doorway(name: str) -> socket.socket:
    """Listen under ``name``. Raises OSError when another process does."""
    doorway = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        doorway.bind(f"\0{name}")
        doorway.listen(_BACKLOG)
        doorway.setblocking(False)
    except BaseException:
        doorway.close()
        raise
    return doorway


def accept(doorway: socket.socket) -> socket.socket | None:
    """The next who knocked, if it is this user's; strangers are shown out. None: nobody is there any more."""
    while True:
        try:
            end, _ = doorway.accept()
        except OSError:
            return None
        end.setblocking(False)
        credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(credentials)[1] == os.geteuid():
            return end
        end.close()


def say(end: socket.socket, data: bytes) -> None:
    """A last word to who knocked; lost if it has left."""
    with contextlib.suppress(OSError):
        end.send(data)


def left(end: socket.socket) -> bool:
    """Whether who knocked has gone again."""
    poll = select.poll()
    poll.register(end, select.POLLRDHUP)
    return bool(poll.poll(0))


async def knock(name: str) -> socket.socket:
    """A connection to whoever the doorway of that name passes it to. Raises OSError."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.setblocking(False)
        await asyncio.get_running_loop().sock_connect(end, f"\0{name}")
    except BaseException:
        end.close()
        raise
    return end


def channel() -> tuple[socket.socket, socket.socket]:
    """What connections are handed over by: two ends; neither is inherited by a child unless it is passed to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def hand_over(way: socket.socket, end: socket.socket) -> bool:
    """Pass ``end`` on; it stays open here. False when the other side takes no more, or is gone."""
    try:
        socket.send_fds(way, (_HANDED,), (end.fileno(),))
    except OSError:
        return False
    return True


def take_over(way: socket.socket) -> socket.socket | None:
    """The next connection that was passed; None when there is none. Raises EOFError when none will come."""
    try:
        data, descriptors, _, _ = socket.recv_fds(way, len(_HANDED), 1)
    except (BlockingIOError, InterruptedError):
        return None
    if not data:
        raise EOFError
    if not descriptors:
        return None
    end = socket.socket(fileno=descriptors[0])
    end.setblocking(False)
    return end
