"""What the control API asks, from its side of the pipe to what it is about, and back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from control.announcements import Announcement, Fate
from control.apart.answering import Answerer
from control.apart.messages import Beat, Progressed, Question, Refused, Serving, Word, decode_from_calls, encode
from control.carrying import Carrying
from control.errors import CallNotFound, DestinationRefused, Internal, OperationError, ResourceNotFound
from control.hold import HoldOutcome
from control.instructions import Dial, Digits, HangUp, Pause
from control.live_calls import LiveCall
from control.outgoing import Begun
from control.passes import Announced, CallPass
from control.readiness import Readiness
from control.recording_files import RecordingFiles
from control.registry.types import Connection, NotFound
from control.resources.call_control import CallSettings, PlaceCall, TransferCall
from media.messages import Clear, Done, Failed, LegStatistics, Play, SendDigits, SetMark
from tests.support.apart import joined


class Played:
    """Notes what it is asked, and answers, or raises, what it was given."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answer: Any = None

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def method(*arguments: Any) -> Any:
            self.asked.append((name, *arguments))
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return method


class Told:
    def __init__(self) -> None:
        self.told: list[Any] = []

    def changed(self, connection: Connection) -> None:
        self.told.append(connection)

    def removed(self, connection_id: str) -> None:
        self.told.append(connection_id)


def played_by(player: Any) -> Carrying:
    return Carrying(
        calls=player, outgoing=player, recordings=player, announcer=player, connections=player, health=player
    )


LIVE = LiveCall(
    *("c1", "a1", "n1", "g1", "lab", "+12025550199", "+14155550100", "established", "inbound", 2.5),
    LegStatistics(codec="PCMU", packets_sent=3, mos=4.4),
)
ANNOUNCED = Announced("CA1", "AC1", "a1", "n1", "+14155550100", "+12025550199", "A", (("X-Case", "7"),))
PASS = CallPass("u", "p", "t", "CA1", "AC1", "a1", "n1", "+14155550100", "+1", 9.5, None, (("X-Case", "7"),))
PLACE = PlaceCall(
    agent_id=UUID(int=7),
    phone_number="+14155550123",
    variables={"name": "Ann"},
    call_settings=CallSettings(greeting="Hello", max_duration="60s", recording_enabled=True),
)
TRANSFER = TransferCall(target="+14155550123", agent="listens")
VERBS = (Dial("sip:a@b"), HangUp(), Pause(2.0), Digits("1w2"))
READINGS = {"calls": {(): 2.0}, "dropped": {(("reason", "x"), ("source", "y")): 1.0}}


@pytest.mark.parametrize(
    ("ask", "asked", "answer"),
    [
        (
            lambda far: far.calls.hang_up("a", "c", "agent", {"X": "y"}),
            ("hang_up", "a", "c", "agent", {"X": "y"}),
            True,
        ),
        (lambda far: far.calls.hang_up("a", "c", "operator"), ("hang_up", "a", "c", "operator", {}), False),
        *(
            (lambda far, command=command: far.calls.command("a", command), ("command", "a", command), result)
            for command, result in (
                (SendDigits(call="c", digits="1w"), Done()),
                (Play(call="c", recording="r", interrupt=True), Failed(code="overload", message="m")),
                (Clear(call="c"), None),
                (SetMark(call="c", name="m"), Done()),
            )
        ),
        (lambda far: far.calls.perform("a", "c", [*VERBS]), ("perform", "a", "c", VERBS), Done()),
        (lambda far: far.calls.hold("a", "c"), ("hold", "a", "c"), HoldOutcome.UNANSWERED),
        (lambda far: far.calls.resume("a", "c"), ("resume", "a", "c"), HoldOutcome.DONE),
        (lambda far: far.calls.live("a", "c"), ("live", "a", "c"), LIVE),
        (lambda far: far.calls.live("a", "c"), ("live", "a", "c"), None),
        (lambda far: far.outgoing.place("a", PLACE, "key"), ("place", "a", PLACE, "key"), "c9"),
        (
            lambda far: far.outgoing.transfer("a", "c", TRANSFER),
            ("transfer", "a", "c", TRANSFER),
            Begun("c", "t", "refer"),
        ),
        (lambda far: far.recordings.live("c"), ("live", "c"), True),
        (lambda far: far.recordings.read("c", "key k"), ("read", "c", "key k"), None),
        (lambda far: far.recordings.delete("c", "key k"), ("delete", "c", "key k"), True),
        (lambda far: far.announcer.announce(ANNOUNCED), ("announce", ANNOUNCED), Announcement(Fate.EXPECTED, PASS)),
        (lambda far: far.announcer.announce(ANNOUNCED), ("announce", ANNOUNCED), Announcement(Fate.FULL)),
        (lambda far: far.announcer.referred(("CA1", "CA2")), ("referred", ("CA1", "CA2")), "<Response/>"),
        (lambda far: far.announcer.referred(()), ("referred", ()), None),
        (lambda far: far.announcer.progressed("c", "busy"), ("progressed", "c", "busy"), None),
        (
            lambda far: far.health.readiness(),
            ("readiness",),
            Readiness(["udp:x:1"], True, {"r": "failed"}, True, False),
        ),
        (lambda far: far.health.readings(), ("readings",), READINGS),
    ],
)
async def test_whatever_is_asked_arrives_as_it_was_and_so_does_the_answer(
    ask: Callable[[Carrying], Awaitable[Any]], asked: tuple[Any, ...], answer: Any
) -> None:
    player = Played()
    player.answer = answer
    assert await ask(joined(played_by(player))) == answer
    assert player.asked == [asked]


def every_port(carrying: Carrying) -> set[str]:
    ports = (carrying.calls, carrying.outgoing, carrying.recordings, carrying.announcer, carrying.health)
    return {name for port in ports for name in dir(port) if not name.startswith("_")}


def test_the_table_above_is_complete() -> None:
    """But for what is read here, without a question."""
    [mark] = [
        mark
        for mark in test_whatever_is_asked_arrives_as_it_was_and_so_does_the_answer.pytestmark
        if mark.name == "parametrize"
    ]
    assert every_port(joined(played_by(Played()))) == {asked[0] for _, asked, _ in mark.args[1]} | {"open"}


@pytest.mark.parametrize(
    ("raised", "expected", "details"),
    [
        (CallNotFound("c"), CallNotFound, {"resource": "call"}),
        (DestinationRefused("no", reason="premium"), DestinationRefused, {"reason": "premium"}),
        (NotFound("agent", "x"), ResourceNotFound, {"resource": "agent"}),
        (KeyError("a bug"), Internal, {}),
    ],
)
async def test_what_is_raised_arrives_as_an_error_of_the_apis(
    raised: Exception, expected: type[OperationError], details: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of ours is logged where it is, and tells a caller nothing."""
    player = Played()
    player.answer = raised
    with pytest.raises(expected) as error:
        await joined(played_by(player)).outgoing.transfer("a", "c", TRANSFER)
    assert (type(error.value), error.value.details) == (expected, details)
    faults = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(faults) == (expected is Internal)
    assert "a bug" not in str(error.value)


async def test_a_recording_is_opened_without_a_question(tmp_path: Path) -> None:
    player = Played()
    with pytest.raises(FileNotFoundError):
        await joined(played_by(player), RecordingFiles(tmp_path, None)).recordings.open("c", complete=True)
    assert not player.asked


async def test_connections_that_change_and_go_are_told_of_in_order() -> None:
    told = Told()
    connection = Connection("7", "a1", "telnyx", "credential", "gw", "telnyx:7", "user", secrets={"sip_password": "p"})
    connections = joined(played_by(told)).connections
    connections.changed(connection)
    connections.removed("7")
    assert told.told == [connection, "7"]


async def test_it_hears_when_requests_are_taken_and_of_what_is_no_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[str] = []
    answerer = Answerer(
        played_by(Played()),
        lambda data: heard.append("answered"),
        spawn=lambda work, name: asyncio.create_task(work, name=name),
        serving=lambda: heard.append("serving"),
        broken=lambda: heard.append("broken"),
    )
    answerer.receive(encode(Word(body=Beat())))
    answerer.receive(encode(Word(body=Serving())))
    answerer.receive(b"\xc1")
    assert heard == ["serving", "broken"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_questions_are_answered_when_they_can_be_not_in_turn() -> None:
    """A transfer may take minutes; a hang-up does not wait for it."""
    answered: list[int] = []
    slow = asyncio.Event()

    class Slow(Played):
        async def progressed(self, call: str, status: str) -> None:
            if call == "slow":
                await slow.wait()

    def back(data: bytes) -> None:
        message = decode_from_calls(data)
        assert not isinstance(message, Refused)
        answered.append(message.number)

    tasks: list[asyncio.Task[None]] = []

    def spawn(work: Any, name: str) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(work, name=name))
        return tasks[-1]

    answerer = Answerer(played_by(Slow()), back, spawn=spawn, serving=print, broken=print)
    for number, call in enumerate(("slow", "quick")):
        answerer.receive(encode(Question(number=number, body=Progressed(call=call, status="ringing"))))
    await tasks[1]
    assert answered == [1]
    slow.set()
    await tasks[0]
    assert answered == [1, 0]
