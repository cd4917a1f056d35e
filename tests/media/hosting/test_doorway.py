"""Knocking, and connections that are handed on."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from media.hosting import doorway

NAME = f"truedy-test-{os.getpid()}"


async def test_who_knocks_speaks_to_whoever_the_connection_was_handed_to() -> None:
    with doorway.open_doorway(NAME) as door:
        ours, theirs = doorway.channel()
        with ours, theirs, await doorway.knock(NAME) as caller:
            end = doorway.accept(door)
            assert end is not None
            with end:
                assert doorway.hand_over(ours, end)
            taken = doorway.take_over(theirs)
            assert taken is not None
            with taken:
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(caller, b"hello")
                assert await loop.sock_recv(taken, 10) == b"hello"


async def test_a_name_that_is_taken_or_that_nobody_has_is_an_oserror() -> None:
    with doorway.open_doorway(NAME), pytest.raises(OSError, match="in use"):
        doorway.open_doorway(NAME)
    with pytest.raises(OSError, match="refused"):
        await doorway.knock(NAME)


async def test_another_users_process_is_shown_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says whose it is (SO_PEERCRED): an abstract name has no permissions."""
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with doorway.open_doorway(NAME) as door, await doorway.knock(NAME) as caller:
        assert doorway.accept(door) is None
        assert await asyncio.get_running_loop().sock_recv(caller, 1) == b""


def test_nobody_at_the_door_is_none() -> None:
    with doorway.open_doorway(NAME) as door:
        assert doorway.accept(door) is None


def test_the_end_of_the_way_is_told_from_nothing_to_take() -> None:
    ours, theirs = doorway.channel()
    with theirs:
        assert doorway.take_over(theirs) is None
        ours.send(b"x")  # not a connection
        assert doorway.take_over(theirs) is None
        ours.close()
        with pytest.raises(EOFError):
            doorway.take_over(theirs)


def test_handing_over_to_one_that_is_gone_or_full_says_so() -> None:
    ours, theirs = doorway.channel()
    one, other = socket.socketpair()
    with ours, one, other:
        with theirs:
            handed = 0
            while doorway.hand_over(ours, one):
                handed += 1
            assert handed > 10
        assert not doorway.hand_over(ours, one)


def test_one_who_has_left_again_is_noticed() -> None:
    one, other = socket.socketpair()
    with one:
        with other:
            assert not doorway.left(one)
            other.send(b"something unread")
        assert doorway.left(one)
        doorway.say(one, b"nobody hears it")
