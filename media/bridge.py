"""One call's media: the phone leg and the agent joined, paced by the process's one ticker.

The agent's side of the call is the table below; an absent pair is ignored. The bridge reads no
clock and does no I/O: ``now`` comes with ticks and commands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Final, Protocol

import msgspec

from media.agents.absent import Absent
from media.agents.base import Agent, AgentCounts, Encoding, EndCause
from media.convert import Converter, Converters, frame_bytes, silence
from media.digit_sources import DigitSources
from media.hold import HoldMusic
from media.machine_detection import Detection
from media.messages import (
    AgentAsks,
    AgentEnded,
    AgentFailed,
    AgentNoted,
    AgentReady,
    AgentSpec,
    DigitReceived,
    DigitsUnsent,
    LegStatistics,
    MachineDetected,
    MarkReached,
    NoticeBody,
)
from media.playout import PlayoutQueue
from media.tap import Tap
from media.ticker import FRAME_S, Tick
from media.websocket import FailureCause

__all__ = ["TRANSITIONS", "Action", "Bridge", "Input", "Leg", "State"]

FRAME_MS: Final = 20
Take = Callable[[], bytes | None]
PLAYOUT_LIMIT_S: Final = 30.0
_MOST_DIGITS: Final = 128
ASKS_PER_SECOND: Final = 10
"""How many requests of an agent's control is told of in a second; of the first beyond, the agent is."""


class Leg(Protocol):
    """What the bridge needs of the phone leg; audio is in the leg's ``law`` (its encoding), 20 ms a frame."""

    @property
    def law(self) -> Encoding:
        """The law of ``hear`` and ``say``."""

    @property
    def digits_pending(self) -> bool:
        """Digits are still to be sent."""

    def hear(self, now: float) -> bytes:
        """The next 20 ms of the caller: heard, concealed or silence."""

    def say(self, take: Callable[[], bytes | None], now: float) -> bool:
        """Send this frame's packet; ``take`` is asked for audio unless a digit has the frame. None: silence.

        False on hold: what was taken is lost.
        """

    def skip(self, frames: int) -> None:
        """Time has passed in which nothing was sent."""

    def send_digits(self, digits: str) -> bool:
        """Queue digits; nothing for what is none. False: the peer takes no telephone-event, INFO is to be tried."""

    def statistics(self, now: float) -> LegStatistics:
        """The leg's part of the statistics."""


class State(Enum):
    """Where the agent is in its call."""

    CONNECTING = "connecting"
    """It has not been told of the call yet."""
    STARTED = "started"
    """It knows of the call and has not spoken."""
    READY = "ready"
    """The phone may be, or has been, answered."""
    LEAVING = "leaving"
    """It has ended the call; what it has said is played out."""
    ENDED = "ended"
    """Control has been told of its end."""
    CLOSED = "closed"
    """The call is over."""


class Input(Enum):
    """What moves it."""

    STARTED = "told of the call"
    SPOKE = "spoke"
    ANSWER_DUE = "answer due"
    CONNECT_DUE = "connect due"
    FAILED = "failed"
    CLOSED = "closed"
    LOST = "lost"
    HUNG_UP = "hung up"
    PLAYED_OUT = "played out"
    PLAYOUT_DUE = "playout due"
    CLOSE = "close"


class Action(Enum):
    """What the bridge does about it."""

    AWAIT_ANSWER = "await the answer"
    AWAIT_PLAYOUT = "await the playout"
    TELL_READY = "tell ready"
    TELL_FAILED = "tell failed"
    TELL_ENDED = "tell ended"
    STOP_TIMER = "stop the timer"


S, I, A = State, Input, Action  # noqa: E741 - the table reads as one

_FAIL: Final = (S.ENDED, (A.STOP_TIMER, A.TELL_FAILED))
_LEAVE: Final = (S.LEAVING, (A.AWAIT_PLAYOUT,))
_END: Final = (S.ENDED, (A.STOP_TIMER, A.TELL_ENDED))

TRANSITIONS: Final[Mapping[tuple[State, Input], tuple[State, tuple[Action, ...]]]] = {
    (S.CONNECTING, I.STARTED): (S.STARTED, (A.AWAIT_ANSWER,)),
    (S.CONNECTING, I.CONNECT_DUE): _FAIL,
    (S.CONNECTING, I.FAILED): _FAIL,
    (S.CONNECTING, I.CLOSED): _FAIL,
    (S.CONNECTING, I.LOST): _FAIL,
    (S.CONNECTING, I.HUNG_UP): _FAIL,
    (S.STARTED, I.SPOKE): (S.READY, (A.STOP_TIMER, A.TELL_READY)),
    (S.STARTED, I.ANSWER_DUE): (S.READY, (A.STOP_TIMER, A.TELL_READY)),
    (S.STARTED, I.FAILED): _FAIL,
    (S.STARTED, I.CLOSED): _END,
    (S.STARTED, I.LOST): _END,
    (S.STARTED, I.HUNG_UP): _END,
    (S.READY, I.FAILED): _END,
    (S.READY, I.LOST): _END,
    (S.READY, I.CLOSED): _LEAVE,
    (S.READY, I.HUNG_UP): _LEAVE,
    (S.LEAVING, I.PLAYED_OUT): _END,
    (S.LEAVING, I.PLAYOUT_DUE): _END,
    (S.CONNECTING, I.CLOSE): (S.CLOSED, (A.STOP_TIMER,)),
    (S.STARTED, I.CLOSE): (S.CLOSED, (A.STOP_TIMER,)),
    (S.READY, I.CLOSE): (S.CLOSED, (A.STOP_TIMER,)),
    (S.LEAVING, I.CLOSE): (S.CLOSED, (A.STOP_TIMER,)),
    (S.ENDED, I.CLOSE): (S.CLOSED, ()),
}

_TALKING: Final = frozenset((S.STARTED, S.READY))
# For what every frame passes: an enumeration's own look-up and hash are ten times a global's.
_STARTED: Final = S.STARTED
_READY: Final = S.READY
_LEAVING: Final = S.LEAVING


class _OurMark(str):
    """A mark that control has set: the agent is not told of it."""

    __slots__ = ()


class Bridge:
    """Joins ``leg`` and ``agent``; ``notify`` takes its notices. It is the agent's :class:`AgentPort`.

    The agent's audio is queued from its first word and played from :meth:`start`. Every tick sends
    one frame to the phone, also when the agent is silent (the leg sends silence), and then hands the
    agent one frame of the caller. Next: :meth:`open`, :meth:`start`, ticks, :meth:`close`.
    """

    __slots__ = (
        "_agent",
        "_agent_bytes",
        "_asked",
        "_asked_since",
        "_at_ms",
        "_clock",
        "_connected_s",
        "_converters",
        "_digits",
        "_dismissed",
        "_ending",
        "_established",
        "_failure",
        "_goodbye",
        "_held",
        "_hold_music",
        "_late_max_s",
        "_law",
        "_leg",
        "_message",
        "_mix",
        "_notify",
        "_opened_at",
        "_overhear",
        "_pass_digit",
        "_queue",
        "_spec",
        "_take",
        "_tap",
        "_timer",
        "call",
        "state",
    )

    def __init__(
        self,
        call: str,
        *,
        spec: AgentSpec,
        leg: Leg,
        agent: Agent,
        notify: Callable[[NoticeBody], None],
        clock: Callable[[], float],
        hold_music: bytes = b"",
    ) -> None:
        self.call = call
        self.state = State.CONNECTING
        self._spec = spec
        self._leg = leg
        self._agent = agent
        self._notify = notify
        self._clock = clock
        self._law: Encoding = leg.law
        self._converters = Converters()
        self._queue = PlayoutQueue(silence(leg.law))
        self._hold_music = hold_music
        self._opened_at = 0.0
        self._connected_s = 0.0
        self._established = False
        self._dismissed = False
        self._at_ms = 0
        self._timer: tuple[float, Input] | None = None
        self._failure: FailureCause = "error"
        self._ending: str = "closed"
        self._message = ""
        self._goodbye: dict[str, str] = {}
        self._digits = DigitSources()
        self._agent_bytes = 0
        self._late_max_s = 0.0
        self._asked = 0
        self._asked_since = 0.0
        self._tap: Tap | None = None
        self._mix: Callable[[Take], bytes | None] | None = None
        self._overhear: Callable[[bytes], bytes] | None = None
        self._pass_digit: Callable[[str], None] | None = None
        self._held = False
        self._take: Take = self._queue.take

    # --- control --------------------------------------------------------------------------------

    def open(self) -> None:
        """The phone rings: the agent connects."""
        self._opened_at = self._clock()
        self._timer = (self._opened_at + self._spec.agent_timeout_s, Input.CONNECT_DUE)
        self._agent.open(self)

    def start(self) -> None:
        """The call is established: both directions flow from the next tick. A second time it does nothing."""
        if not self._established and self.state is not State.CLOSED:
            self._established = True
            self._agent.on_start()

    def listen(self, tap: Tap) -> None:
        """Let ``tap`` hear both sides from the next tick on."""
        self._tap = tap
        tap.on_detection = self._detected
        self._retake()

    def _detected(self, detection: Detection) -> None:
        """Who answered: the agent hears of it, and control does."""
        result, after_ms, reason = detection.result, detection.after_ms, detection.reason
        self._notify(MachineDetected(call=self.call, result=result, after_ms=after_ms, reason=reason))
        self.tell("machine_detection", {"result": result, "after_ms": after_ms, "reason": reason})

    def law_changed(self) -> None:
        """The leg's law was not known before (our offer has been answered): recode what waits."""
        before, self._law = self._law, self._leg.law
        if before != self._law:
            self._converters.clear()
            self._queue.recode(Converter(before, self._law), silence(self._law))
            if self._tap is not None:
                self._tap.change(self._law)

    def hold(self, held: bool) -> None:
        """The phone is on hold from here, and hears the music; or no longer. What the agent says meanwhile is lost."""
        self._held = held
        self._retake()

    def digit(self, digit: str, duration_ms: int) -> None:
        """The caller pressed a digit: control hears of it and the agent does."""
        self._heard_digit("telephone-event", digit, duration_ms)

    def digit_by_info(self, digit: str, duration_ms: int) -> None:
        """One that came by INFO: told once, where the phone sends each key both ways."""
        self._heard_digit("INFO", digit, duration_ms)

    def _heard_digit(self, source: str, digit: str, duration_ms: int) -> None:
        over = self.state is State.CLOSED and not self._dismissed
        if over or not self._digits.first(source, digit, self._clock()):
            return
        self._notify(DigitReceived(call=self.call, digit=digit, duration_ms=duration_ms))
        self._agent.on_digit(digit, duration_ms)
        if self._pass_digit is not None:
            self._pass_digit(digit)

    def rewire(
        self,
        leg: Leg,
        mix: Callable[[Take], bytes | None] | None = None,
        overhear: Callable[[bytes], bytes] | None = None,
        pass_digit: Callable[[str], None] | None = None,
    ) -> None:
        """From now on the phone is ``leg``, of the same law: two legs that look like one, or one again.

        ``mix`` is given the agent's audio and gives what the caller is to hear; ``overhear`` is given the caller's
        and gives what the agent is to hear; ``pass_digit`` gets the digits that the caller presses.
        """
        self._leg = leg
        self._mix = mix
        self._overhear = overhear
        self._pass_digit = pass_digit
        if self._tap is not None:
            self._tap.pause(mix is not None)
        self._retake()

    def _retake(self) -> None:
        """What the phone hears: the agent, with a second leg beside it, or hold music instead; all of it tapped."""
        take: Take = self._queue.take if self._mix is None else partial(self._mix, self._queue.take)
        if self._held:
            take = HoldMusic(self._hold_music, self._law, take).take
        self._take = take if self._tap is None else self._tap.listen_to(take)

    def dismiss(self) -> Agent:
        """The agent leaves and the call goes on: its caller talks to somebody else. Next: close what is returned."""
        agent, self._agent = self._agent, Absent(self._agent.counts)
        self._dismissed = True
        self._queue.clear()
        self._feed(Input.CLOSE)
        return agent

    def announce(self, recording: bytes, *, interrupt: bool) -> bool:
        """Control plays a recording (PCM16, 8 kHz); False where nothing is played: not yet, or not any more."""
        if self.state not in _TALKING or not self._established:
            return False
        if interrupt:
            self.silence()
        self._queue.put(Converter("L16", self._law)(recording))
        return True

    def silence(self) -> None:
        """Control clears what is being played; the agent gets its marks back."""
        for name in self.clear():
            self._agent.on_mark(name)

    def set_mark(self, name: str) -> bool:
        """Control's own, see :class:`MarkReached`; False where nothing is played."""
        if self.state not in _TALKING or not self._established:
            return False
        if self._queue.mark(_OurMark(name)):
            self._notify(MarkReached(call=self.call, name=name))
        return True

    def tell(self, event: str, data: Mapping[str, object]) -> None:
        """Control tells the agent of something."""
        if self.state is not State.CLOSED:
            self._agent.on_event(event, data)

    async def close(self) -> None:
        """The call is over; the agent is told, and keeps what it has to keep."""
        self._feed(Input.CLOSE)
        if self._tap is not None:
            self._tap.end()
        await self._agent.close()

    def break_off(self, message: str) -> None:
        """Something here failed: end this call, and only this."""
        self._established = False
        self._ending, self._message = "lost", message
        if self._dismissed:
            self._do(Action.TELL_ENDED)
        self._feed(Input.LOST)
        self._feed(Input.PLAYOUT_DUE)

    def statistics(self, now: float) -> LegStatistics:
        """The whole call's."""
        counts: AgentCounts = self._agent.counts
        tap = self._tap
        return msgspec.structs.replace(
            self._leg.statistics(now),
            agent_frames_received=self._agent_bytes // frame_bytes(self._law),
            agent_frames_sent=counts.sent,
            agent_frames_dropped=counts.dropped,
            agent_messages_ignored=counts.ignored,
            playout_queued_ms=self._queue.queued_ms,
            playout_overflow_ms=self._queue.overflow_ms,
            pacing_late_max_ms=round(self._late_max_s * 1000, 3),
            machine_detection=None if tap is None else tap.detected,
            conversation=None if tap is None else tap.conversation,
        )

    # --- the ticker -----------------------------------------------------------------------------

    def say(self, tick: Tick) -> None:
        """Send what is due to the phone. All calls' ``say`` come before any ``hear``."""
        timer = self._timer
        if timer is not None and tick.now >= timer[0]:
            self._timer = None
            self._expired(timer[1])
        if self._established:
            if tick.late_s > self._late_max_s:  # noqa: PLR1730 - a call less, for every call and frame
                self._late_max_s = tick.late_s
            leg, take, tap, now = self._leg, self._take, self._tap, tick.now
            if tick.skipped:
                leg.skip(tick.skipped)
                if tap is not None:
                    tap.skip(tick.skipped)
            for _ in range(tick.frames):
                sent = leg.say(take, now)
                if tap is not None:
                    tap.said(sent)
        if self.state is _LEAVING and self._queue.idle and not self._leg.digits_pending:
            self._feed(Input.PLAYED_OUT)

    def hear(self, tick: Tick) -> None:
        """Hand the agent what the caller said, and the marks that playout has reached."""
        if not self._established:
            return
        agent, law, tap, overhear = self._agent, self._law, self._tap, self._overhear
        if self._queue.marks:
            for name in self._queue.reached():
                if isinstance(name, _OurMark):
                    self._notify(MarkReached(call=self.call, name=str(name)))
                else:
                    agent.on_mark(name)
        self._at_ms += tick.skipped * FRAME_MS
        due = tick.due_at
        for _ in range(tick.frames):
            frame = self._leg.hear(due)
            due += FRAME_S
            if tap is not None:
                tap.heard(frame)
            if overhear is not None:
                frame = overhear(frame)
            wanted = agent.encoding
            if wanted is not None and wanted != law:
                frame = self._converters[law, wanted](frame)
            agent.on_audio(frame, self._at_ms)
            self._at_ms += FRAME_MS

    # --- the agent's port -----------------------------------------------------------------------

    @property
    def encoding(self) -> Encoding:
        """See :class:`AgentPort`."""
        return self._law

    @property
    def playing(self) -> bool:
        """See :class:`AgentPort`."""
        return not self._queue.idle

    @property
    def played_ms(self) -> int:
        """See :class:`AgentPort`."""
        return self._queue.played_ms

    @property
    def queued_ms(self) -> int:
        """See :class:`AgentPort`."""
        return self._queue.queued_ms

    def started(self) -> None:
        """See :class:`AgentPort`."""
        self._feed(Input.STARTED)

    def ready(self) -> None:
        """See :class:`AgentPort`."""
        self._feed(Input.ANSWER_DUE)

    def play(self, audio: bytes, encoding: Encoding) -> None:
        """See :class:`AgentPort`. What comes after the agent's own end is not played."""
        state = self.state
        if not audio or (state is not _READY and state is not _STARTED):
            return
        if encoding != self._law:
            audio = self._converters[encoding, self._law](audio)
        self._agent_bytes += len(audio)
        self._queue.put(audio)
        if state is _STARTED and not self._spec.early_media:
            self._feed(Input.SPOKE)

    def clear(self) -> tuple[str, ...]:
        """See :class:`AgentPort`."""
        names = self._queue.clear()
        ours = [name for name in names if isinstance(name, _OurMark)]
        for name in ours:
            self._notify(MarkReached(call=self.call, name=str(name), cleared=True))
        return tuple(name for name in names if not isinstance(name, _OurMark)) if ours else names

    def mark(self, name: str) -> None:
        """See :class:`AgentPort`."""
        if self.state in _TALKING and self._queue.mark(name):
            self._agent.on_mark(name)

    def send_digits(self, digits: str) -> None:
        """See :class:`AgentPort`."""
        if self.state in _TALKING and not self._leg.send_digits(digits) and digits:
            self._notify(DigitsUnsent(call=self.call, digits=digits[:_MOST_DIGITS]))

    def ask(self, verb: str, arguments: Mapping[str, str]) -> None:
        """See :class:`AgentPort`."""
        if self.state in _TALKING and self._may_ask(verb):
            self._notify(AgentAsks(call=self.call, verb=verb, arguments=dict(arguments)))

    def _may_ask(self, verb: str) -> bool:
        """So many a second: an agent that asks without end fills no pipe."""
        now = self._clock()
        if now - self._asked_since >= 1.0:
            self._asked_since, self._asked = now, 0
        self._asked += 1
        if self._asked == ASKS_PER_SECOND + 1:
            self._agent.on_event("refused", {"verb": verb, "message": "too many requests"})
        return self._asked <= ASKS_PER_SECOND

    def note(self, event: str, detail: str = "") -> None:
        """See :class:`AgentPort`."""
        if self.state is not State.CLOSED:
            self._notify(AgentNoted(call=self.call, event=event, detail=detail))

    def hang_up(self, headers: Mapping[str, str] | None = None) -> None:
        """See :class:`AgentPort`."""
        self._ending, self._message = "hang_up", ""
        self._goodbye = dict(headers or {})
        self._feed(Input.HUNG_UP)

    def failed(self, cause: FailureCause, message: str) -> None:
        """See :class:`AgentPort`."""
        self._failure, self._ending, self._message = cause, "lost", message
        self._feed(Input.FAILED)

    def ended(self, cause: EndCause, message: str) -> None:
        """See :class:`AgentPort`. After a hang-up of the agent's own its link may go as it likes."""
        if self.state is State.LEAVING:
            return
        self._ending, self._message = cause, message
        self._feed(Input.CLOSED if cause == "closed" else Input.LOST)

    # --- the machine ----------------------------------------------------------------------------

    def _expired(self, due: Input) -> None:
        if due is Input.CONNECT_DUE:
            self._failure = "timeout"
            self._message = f"no connection in {self._spec.agent_timeout_s:g} s"
        self._feed(due)

    def _feed(self, event: Input) -> None:
        step = TRANSITIONS.get((self.state, event))
        if step is None:
            return
        self.state = step[0]
        for action in step[1]:
            self._do(action)

    def _await_answer(self) -> None:
        now = self._clock()
        self._connected_s = round(now - self._opened_at, 3)
        if self._spec.answer_after_s > 0:
            self._timer = (now + self._spec.answer_after_s, Input.ANSWER_DUE)
        else:
            self._timer = None
            self._feed(Input.ANSWER_DUE)

    def _do(self, action: Action) -> None:
        match action:
            case Action.AWAIT_ANSWER:
                self._await_answer()
            case Action.AWAIT_PLAYOUT:
                self._timer = (self._clock() + PLAYOUT_LIMIT_S, Input.PLAYOUT_DUE)
            case Action.STOP_TIMER:
                self._timer = None
            case Action.TELL_READY:
                waited_s = round(self._clock() - self._opened_at, 3)
                self._notify(AgentReady(call=self.call, waited_s=waited_s, connected_s=self._connected_s))
            case Action.TELL_FAILED:
                message = self._message or "the agent left before the answer"
                self._notify(AgentFailed(call=self.call, cause=self._failure, message=message))
            case Action.TELL_ENDED:
                self._notify(
                    AgentEnded(call=self.call, cause=self._ending, message=self._message, headers=self._goodbye)
                )
