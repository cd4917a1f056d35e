"""An agent that may fail: the protocol's own agent, its second URL, and what to do when it is lost in mid-call.

:class:`Supervised` is the bridge's agent and the port of the protocol's agents, one after the other. It exists for
records with ``fallback_url`` or ``on_lost`` only. What it decides is the table below; an absent pair is ignored.

An agent that is connected to anew gets a fresh start, with ``truedy_resumed`` = ``true`` among its parameters. Until
then the caller hears silence, and what they press is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

import msgspec

from media.agents.announcement import transfer_failed
from media.agents.base import Agent, AgentCounts, AgentPort, BadAgent, Encoding, EndCause, Host, Timer
from media.messages import AgentSpec, OnLost
from media.websocket import FailureCause

__all__ = ["RESUMED", "TRANSITIONS", "Action", "Input", "State", "Supervised"]

RESUMED: Final = "truedy_resumed"
"""The parameter that tells an agent that the call had another connection before."""

_PLAYED: Final = "truedy:message played"
_KEPT_DIGITS: Final = 32
_ASKING_LIMIT_S: Final = 60.0
_PLAYING_MARGIN_S: Final = 10.0
_SAMPLES_PER_S: Final = 8000


class State(Enum):
    """Where the call is with its agents."""

    CONNECTING = "connecting"
    """No agent has been told of the call; a URL is being tried."""
    UP = "up"
    """An agent has been told of the call."""
    RECONNECTING = "reconnecting"
    """The agent was lost; a URL is being tried."""
    PLAYING = "playing"
    """The agent is gone; the message plays."""
    ASKING = "asking"
    """The agent is gone; control has been asked for a transfer."""
    OVER = "over"
    """The bridge has been told how it ended, or has closed the call."""


class Input(Enum):
    """What moves it."""

    STARTED = "told of the call"
    NEXT = "not reached, another URL is left"
    FAILED = "not reached, none is left"
    RECONNECT = "lost, to be reconnected"
    MESSAGE = "lost, a message to play"
    TRANSFER = "lost, a transfer to ask for"
    GIVE_UP = "lost, nothing left to do"
    LEFT = "left in order"
    CLOSE = "close"


_IN_CALL: Final = frozenset((Input.MESSAGE, Input.TRANSFER))


class Action(Enum):
    """What is done about it."""

    CONNECT = "connect to the next URL"
    TELL_STARTED = "tell started"
    RESUME = "resume"
    SILENCE = "silence"
    PLAY = "play the message"
    ASK = "ask for the transfer"
    TELL_FAILED = "tell failed"
    TELL_LOST = "tell lost"
    STOP_TIMER = "stop the timer"


S, I, A = State, Input, Action  # noqa: E741 - the table reads as one

_PLAY: Final = (S.PLAYING, (A.STOP_TIMER, A.SILENCE, A.PLAY))
_ASK: Final = (S.ASKING, (A.STOP_TIMER, A.SILENCE, A.ASK))
_LOST: Final = (S.OVER, (A.STOP_TIMER, A.TELL_LOST))
_DONE: Final = (S.OVER, (A.STOP_TIMER,))

TRANSITIONS: Final[Mapping[tuple[State, Input], tuple[State, tuple[Action, ...]]]] = {
    (S.CONNECTING, I.STARTED): (S.UP, (A.STOP_TIMER, A.TELL_STARTED)),
    (S.CONNECTING, I.NEXT): (S.CONNECTING, (A.CONNECT,)),
    (S.CONNECTING, I.FAILED): (S.OVER, (A.STOP_TIMER, A.TELL_FAILED)),
    (S.CONNECTING, I.CLOSE): _DONE,
    (S.UP, I.RECONNECT): (S.RECONNECTING, (A.SILENCE, A.CONNECT)),
    (S.UP, I.MESSAGE): _PLAY,
    (S.UP, I.TRANSFER): _ASK,
    (S.UP, I.GIVE_UP): _LOST,
    (S.UP, I.LEFT): _DONE,
    (S.UP, I.CLOSE): _DONE,
    (S.RECONNECTING, I.STARTED): (S.UP, (A.STOP_TIMER, A.RESUME)),
    (S.RECONNECTING, I.NEXT): (S.RECONNECTING, (A.CONNECT,)),
    (S.RECONNECTING, I.MESSAGE): _PLAY,
    (S.RECONNECTING, I.TRANSFER): _ASK,
    (S.RECONNECTING, I.GIVE_UP): _LOST,
    (S.RECONNECTING, I.CLOSE): _DONE,
    (S.PLAYING, I.TRANSFER): _ASK,
    (S.PLAYING, I.GIVE_UP): _LOST,
    (S.PLAYING, I.CLOSE): _DONE,
    (S.ASKING, I.GIVE_UP): _LOST,
    (S.ASKING, I.CLOSE): _DONE,
}


class _Line:
    """The port of one attempt: what it says counts as long as it is the supervisor's current one."""

    def __init__(self, owner: Supervised, port: AgentPort, which: int) -> None:
        self._owner: Supervised | None = owner
        self._port = port
        self.which = which
        self.started_once = False

    def cut(self) -> None:
        """Nothing more is heard of this agent."""
        self._owner = None

    @property
    def encoding(self) -> Encoding:
        return self._port.encoding

    @property
    def playing(self) -> bool:
        return self._port.playing

    @property
    def queued_ms(self) -> int:
        return self._port.queued_ms

    @property
    def played_ms(self) -> int:
        return self._port.played_ms

    def started(self) -> None:
        if self._owner is not None and not self.started_once:
            self.started_once = True
            self._owner.line_started(self)

    def ready(self) -> None:
        if self._owner is not None:
            self._port.ready()

    def play(self, audio: bytes, encoding: Encoding) -> None:
        if self._owner is not None:
            self._port.play(audio, encoding)

    def clear(self) -> tuple[str, ...]:
        return self._port.clear() if self._owner is not None else ()

    def mark(self, name: str) -> None:
        if self._owner is not None:
            self._port.mark(name)

    def send_digits(self, digits: str) -> None:
        if self._owner is not None:
            self._port.send_digits(digits)

    def ask(self, verb: str, arguments: Mapping[str, str]) -> None:
        if self._owner is not None:
            self._port.ask(verb, arguments)

    def note(self, event: str, detail: str = "") -> None:
        if self._owner is not None:
            self._port.note(event, detail)

    def hang_up(self, headers: Mapping[str, str] | None = None) -> None:
        if self._owner is not None:
            self._owner.line_left()
            self._port.hang_up(headers)

    def failed(self, cause: FailureCause, message: str) -> None:
        if self._owner is not None:
            self._owner.line_lost(cause, message)

    def ended(self, cause: EndCause, message: str) -> None:
        if self._owner is None:
            return
        if cause == "closed" and self.started_once:
            self._owner.line_left()
            self._port.ended(cause, message)
        else:
            self._owner.line_lost("error", message)


class Supervised:
    """``protocol`` makes the agents. Raises :class:`BadAgent` for a first URL that cannot be used.

    Within ``agent_timeout_s`` the first URL has half the time, the second whatever is left.
    """

    def __init__(self, host: Host, protocol: Callable[[Host], Agent]) -> None:
        self.state = State.CONNECTING
        self._host = host
        self._protocol = protocol
        spec = host.spec
        self._urls = (spec.url, spec.fallback_url) if spec.fallback_url else (spec.url,)
        self._to_try: deque[int] = deque(range(len(self._urls)))
        self._on_lost = spec.on_lost or OnLost()
        self._steps = deque(_steps(self._on_lost))
        self._deadline = 0.0
        self._last = 0
        self._resumed = False
        self._established = False
        self._port: AgentPort | None = None
        self._agent: Agent = protocol(self._host_for(0, spec.agent_timeout_s / len(self._urls)))
        self._line: _Line | None = None
        self._timer: Timer | None = None
        self._failure: FailureCause = "error"
        self._message = ""
        self._past = AgentCounts()
        self._started_at_ms: int | None = None
        self._digits: deque[tuple[str, int]] = deque(maxlen=_KEPT_DIGITS)

    # --- the bridge calls these -----------------------------------------------------------------

    @property
    def encoding(self) -> Encoding | None:
        """The current agent's."""
        return self._agent.encoding

    @property
    def counts(self) -> AgentCounts:
        """Of all agents the call has had."""
        past, now = self._past, self._agent.counts
        return AgentCounts(past.sent + now.sent, past.dropped + now.dropped, past.ignored + now.ignored)

    def open(self, port: AgentPort) -> None:
        """The phone rings: connect."""
        self._port = port
        self._deadline = self._host.clock() + self._host.spec.agent_timeout_s
        self._connect()

    def on_start(self) -> None:
        """The call is established: from here a loss is one in mid-call."""
        self._established = True
        if self.state is State.UP:
            self._agent.on_start()

    def on_audio(self, frame: bytes, at_ms: int) -> None:
        """The agent's time begins with its first frame, whenever that is."""
        if self.state is not State.UP:
            return
        if self._started_at_ms is None:
            self._started_at_ms = at_ms
        self._agent.on_audio(frame, at_ms - self._started_at_ms)

    def on_digit(self, digit: str, duration_ms: int) -> None:
        """To the agent; kept while there is none."""
        if self.state is State.UP:
            self._agent.on_digit(digit, duration_ms)
        else:
            self._digits.append((digit, duration_ms))

    def on_mark(self, name: str) -> None:
        """The agent's own, or the end of the message."""
        if self.state is State.UP:
            self._agent.on_mark(name)
        elif self.state is State.PLAYING and name == _PLAYED:
            self._note("message_played")
            self._next_step()

    def on_event(self, event: str, data: Mapping[str, object]) -> None:
        """To the agent; a transfer that was asked for here and fails is the end."""
        if self.state is State.UP:
            self._agent.on_event(event, data)
        elif self.state is State.ASKING and transfer_failed(event, data):
            self._note("transfer_failed", str(data.get("message", data.get("phrase", ""))))
            self._next_step()

    async def close(self) -> None:
        """The call is over."""
        self._feed(Input.CLOSE)
        self._cut()
        self._port = None
        await self._agent.close()

    # --- the current line calls these -------------------------------------------------------------

    def line_started(self, line: _Line) -> None:
        """It has been told of the call."""
        self._note("agent_connected", "the second URL" if line.which else "")
        self._feed(Input.STARTED)

    def line_left(self) -> None:
        """It ends the call, as it may."""
        self._feed(Input.LEFT)

    def line_lost(self, cause: FailureCause, message: str) -> None:
        """It was not reached, or is lost; after its hang-up its connection may go as it likes."""
        if self.state is State.OVER:
            return
        was_up = self._line is not None and self._line.started_once
        self._failure, self._message = cause, message
        self._cut()
        if was_up:
            self._note("agent_lost", message)
            self._lost()
        else:
            self._note("agent_not_reached", message)
            self._not_reached()

    def _lost(self) -> None:
        if not self._established and self._to_try and Input.RECONNECT not in self._steps:
            self._steps.appendleft(Input.RECONNECT)  # a second URL is there to be tried while the phone rings
        self._next_step()

    def _not_reached(self) -> None:
        if self._to_try:
            self._feed(Input.NEXT)
        elif self.state is State.CONNECTING:
            self._feed(Input.FAILED)
        else:
            self._next_step()

    def _next_step(self) -> None:
        """The next of the record's that can be done: before the answer nobody is there to be played something."""
        step = self._steps.popleft() if self._steps else Input.GIVE_UP
        while step in _IN_CALL and not self._established:
            step = self._steps.popleft() if self._steps else Input.GIVE_UP
        self._feed(step)

    # --- the machine ------------------------------------------------------------------------------

    def _feed(self, event: Input) -> None:
        step = TRANSITIONS.get((self.state, event))
        if step is None:
            return
        if event is Input.RECONNECT:
            self._prepare_reconnection()
        self.state = step[0]
        for action in step[1]:
            self._do(action)

    def _do(self, action: Action) -> None:
        port = self._port
        match action:
            case Action.STOP_TIMER:
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
            case _ if port is None:
                pass
            case Action.CONNECT:
                self._connect_anew()
            case Action.TELL_STARTED:
                port.started()
                self._greet()
            case Action.RESUME:
                self._note("agent_reconnected")
                port.ready()
                self._greet()
            case Action.SILENCE:
                port.clear()
            case Action.PLAY:
                self._play(port)
            case Action.ASK:
                self._timer = self._host.call_later(_ASKING_LIMIT_S, self._next_step)
                port.ask("transfer", {"target": self._on_lost.transfer or ""})
            case Action.TELL_FAILED:
                port.failed(self._failure, self._message)
            case Action.TELL_LOST:
                port.ended("lost", self._message)

    def _prepare_reconnection(self) -> None:
        """To the URL that was up, then to the other; where the record asks for none, to one that was not tried."""
        if self._on_lost.reconnect:
            up = self._last
            self._to_try = deque((up, *(other for other in range(len(self._urls)) if other != up)))
        self._deadline = self._host.clock() + self._on_lost.reconnect_timeout_s
        self._resumed = True

    def _greet(self) -> None:
        """What the new agent has missed."""
        self._started_at_ms = None
        if self._established:
            self._agent.on_start()
        while self._digits:
            self._agent.on_digit(*self._digits.popleft())

    def _play(self, port: AgentPort) -> None:
        audio = self._host.recordings.get(self._on_lost.message or "")
        if audio is None:
            self._note("message_missing", self._on_lost.message or "")
            self._next_step()
            return
        limit_s = len(audio) / (2 * _SAMPLES_PER_S) + _PLAYING_MARGIN_S
        self._timer = self._host.call_later(limit_s, self._next_step)
        self._note("message", self._on_lost.message or "")
        port.play(audio, "L16")
        port.mark(_PLAYED)

    # --- attempts -----------------------------------------------------------------------------------

    def _connect_anew(self) -> None:
        """With an agent for the next URL; one that cannot even be made was not reached."""
        try:
            agent = self._protocol(self._host_for(self._to_try[0], self._share_s()))
        except BadAgent as error:
            self._to_try.popleft()
            self._failure, self._message = "error", str(error)
            self._note("agent_not_reached", str(error))
            self._not_reached()
            return
        self._retire()
        self._agent = agent
        self._connect()

    def _connect(self) -> None:
        port = self._port
        if port is None:
            return
        share_s = self._share_s()
        self._last = which = self._to_try.popleft()
        line = self._line = _Line(self, port, which)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._host.call_later(share_s, lambda: self._due(line, share_s))
        self._agent.open(line)

    def _share_s(self) -> float:
        """Of the time that is left, for the next URL: half of it, or all where it is the last."""
        left_s = max(self._deadline - self._host.clock(), 0.0)
        return left_s / len(self._to_try)

    def _due(self, line: _Line, share_s: float) -> None:
        if line is self._line:
            self.line_lost("timeout", f"no connection in {share_s:g} s")

    def _host_for(self, which: int, timeout_s: float) -> Host:
        spec: AgentSpec = msgspec.structs.replace(
            self._host.spec, url=self._urls[which], agent_timeout_s=max(timeout_s, 0.1)
        )
        if self._resumed:
            spec = msgspec.structs.replace(spec, parameters={**spec.parameters, RESUMED: "true"})
        return self._host.with_spec(spec)

    def _cut(self) -> None:
        if self._line is not None:
            self._line.cut()
            self._line = None

    def _retire(self) -> None:
        """The agent before lets go of what it holds; what it has counted stays."""
        self._past = self.counts
        self._host.spawn(self._agent.close(), f"retired agent {self._host.context.call_sid}")

    def _note(self, event: str, detail: str = "") -> None:
        if self._port is not None:
            self._port.note(event, detail)


def _steps(policy: OnLost) -> list[Input]:
    return [
        *((Input.RECONNECT,) if policy.reconnect else ()),
        *((Input.MESSAGE,) if policy.message else ()),
        *((Input.TRANSFER,) if policy.transfer else ()),
        Input.GIVE_UP,
    ]
