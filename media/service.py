"""Media as a worker: commands in, replies and notices out, every call on one ticker.

Bound to the running loop. The pipe is two functions, ``send`` (given) and :meth:`MediaService.receive`,
so that the same service runs behind a queue in this process or a socket in its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from media.agents import recordings
from media.agents.base import BadAgent, Host
from media.agents.catalogue import create
from media.bridge import Bridge
from media.codecs import opus
from media.collector import Pauses
from media.consent_tone import ConsentTone
from media.conversation import ConversationMeter
from media.leg import LegError, LegSettings, PhoneLeg, address_text
from media.machine_detection import MachineDetector
from media.messages import (
    ApplyAnswer,
    CallClosed,
    CallOpened,
    Clear,
    CloseCall,
    CloseSecondLeg,
    Command,
    Done,
    Failed,
    HearDigit,
    Hold,
    JoinLegs,
    LegStatistics,
    MediaLost,
    Notice,
    NoticeBody,
    OpenCall,
    OpenSecondLeg,
    Ping,
    Play,
    ProtocolError,
    RecordingOrder,
    Renegotiate,
    Reply,
    Request,
    Result,
    Ring,
    SendDigits,
    SetMark,
    SourceLearnt,
    StartMedia,
    Statistics,
    TellAgent,
    Withdraw,
    decode,
    encode,
)
from media.recording import RecorderLink
from media.sdp import SdpError, address_version
from media.second_leg import SecondLeg
from media.settings import ServiceSettings
from media.stream import StreamClient
from media.tap import Tap
from media.targets import Targets
from media.tasks import Tasks
from media.ticker import FRAME_S, Lateness, Tick, Ticker
from media.udp import Address, Datagrams, PortPair, PortUnavailable
from media.websocket import Arrivals, WebSocketClient

__all__ = ["MediaService"]

log = logging.getLogger("truedy.media")

_STATISTICS_EVERY_S: Final = 1.0
_PORTIONS: Final = 100
_NOT_TALKING: Final = Failed(code="not_talking", message="nothing is played in the call, or not any more")
_TURNS: Final = 16
_CALLS_A_TURN: Final = 20
"""So many fill a turn: each costs a wake-up, whose caches are cold; a long one holds up whatever comes meanwhile."""


@dataclass(slots=True)
class _Call:
    bridge: Bridge
    leg: PhoneLeg
    ports: PortPair
    turn: _Turn
    opened: OpenCall | None = None
    second: SecondLeg | None = None
    recorded: RecordingOrder | None = None
    broken: bool = False


class _Turn:
    """The calls that are served at the same moments; ``tick`` is given it and each :class:`Tick`.

    However many turns have calls, counted from the first, they are spread over the 20 ms.
    """

    def __init__(self, number: int, tick: Callable[[_Turn, Tick], None], lateness: Lateness) -> None:
        self.calls: dict[str, _Call] = {}
        self.arrivals = Arrivals()
        self.datagrams = Datagrams()
        self.phase_s = int(f"{number:04b}"[::-1], 2) * FRAME_S / _TURNS
        self.ticker = Ticker(partial(tick, self), lateness)

    def begin(self, since: float) -> None:
        """There is to be a call; the frames are counted ``since`` [s]. Raises OSError where no descriptor is left."""
        if not self.ticker.running:
            self.ticker.start(since + self.phase_s)

    def rest(self) -> None:
        """Without calls there is no tick."""
        if not self.calls:
            self.ticker.stop()


class MediaService:
    """Carries out the commands of :mod:`media.messages`.

    The calls take turns, as many as they fill, up to sixteen, one every 1.25 ms; each call has its own every 20 ms, its
    sockets and its agent's link with it. So what is sent leaves evenly, and nothing else, the opening of a call least
    of all, waits for the work of many at once.

    A request that comes twice is carried out once and answered twice; the last ``REPLIES`` replies
    are remembered. Commands of one call are carried out in the order they come, each at once but for
    :class:`CloseCall`, which waits for what the agent has to keep. While ``congested`` (control is far
    behind with reading) no statistics are told. Next: :meth:`start`.
    """

    REPLIES: Final = 4096
    CLOSE_S: Final = 5.0
    GRACE_S: Final = 1.0
    LINK_GRACE_S: Final = 2.5

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        send: Callable[[bytes], None],
        entropy: Callable[[int], bytes],
        clock: Callable[[], float] = Ticker.now,
        wall: Callable[[], float] = Ticker.wall,
        congested: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._send = send
        self._congested = congested
        self._entropy = entropy
        self._clock = clock
        self._wall = wall
        self._tasks = Tasks()
        self._links = Tasks()
        self._targets = Targets(allow_private=settings.allow_private)
        self._websockets = WebSocketClient(self._links, settings.tls, self._targets)
        self._recorder = RecorderLink(self._notify, self._links.spawn)
        self._streams = StreamClient(self._links, self._targets)
        self._lateness = Lateness()
        self._turns = tuple(_Turn(number, self._tick, self._lateness) for number in range(_TURNS))
        self._beat: asyncio.TimerHandle | None = None
        self._recordings: Mapping[str, bytes] = {}
        self._calls: dict[str, _Call] = {}
        self._replies: OrderedDict[int, bytes | None] = OrderedDict()
        self._counted: dict[str, LegStatistics] = {}
        self._uncounted: list[str] = []
        self._portion = 1
        self._pauses = Pauses(clock)
        self._started_at = 0.0
        self._closing = False
        self.unreadable = 0

    @property
    def calls(self) -> int:
        """Calls open."""
        return len(self._calls)

    async def start(self) -> None:
        """Read the recordings and the system's trust, begin to tell statistics."""
        await self._websockets.prepare()
        self._recordings = await asyncio.to_thread(recordings.load, self._settings.recordings_path)
        if self._settings.opus:
            await asyncio.to_thread(opus.available)
        self._started_at = self._clock()
        self._beat = asyncio.get_running_loop().call_later(_STATISTICS_EVERY_S, self._every_second)
        self._pauses.watch()

    async def close(self) -> None:
        """End every call, free every port, wait a moment for the agents' closing handshakes."""
        self._closing = True
        await asyncio.gather(*(self._close_call(call) for call in tuple(self._calls)))
        if self._beat is not None:
            self._beat.cancel()
        self._pauses.close()
        await self._recorder.close()
        await self._tasks.close(grace_s=self.GRACE_S)
        await self._links.close(grace_s=self.LINK_GRACE_S)

    # --- requests -------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """One message from control. What is no request of this version is dropped and counted."""
        try:
            request = decode(data)
        except ProtocolError as error:
            self.unreadable += 1
            log.warning("unreadable message from control", extra={"error": str(error)})
            return
        if not isinstance(request, Request):
            self.unreadable += 1
            return
        if request.request_id in self._replies:
            if (reply := self._replies[request.request_id]) is not None:
                self._send(reply)
            return
        self._replies[request.request_id] = None
        self._forget_old_replies()
        self._carry_out(request)

    def _forget_old_replies(self) -> None:
        while len(self._replies) > self.REPLIES:
            self._replies.popitem(last=False)

    def _carry_out(self, request: Request) -> None:
        if request.epoch != self._settings.epoch:
            self._reply(request, Failed(code="stale_epoch", message=f"this is epoch {self._settings.epoch}"))
            return
        command = request.body
        if isinstance(command, OpenCall):
            self._reply(request, self._opened(command))
        elif isinstance(command, CloseCall):
            self._tasks.spawn(self._answer_close(request, command), f"close {command.call}")
        else:
            self._reply(request, self._at_once(command))

    def _reply(self, request: Request, result: Result) -> None:
        reply = encode(Reply(request_id=request.request_id, body=result, epoch=self._settings.epoch))
        if request.request_id in self._replies:
            self._replies[request.request_id] = reply
        self._send(reply)

    def _notify(self, body: NoticeBody) -> None:
        self._send(encode(Notice(body=body, epoch=self._settings.epoch)))

    def _at_once(self, command: Command) -> Result:
        """The commands that wait for nothing."""
        if isinstance(command, Ping):
            return Done()
        call = self._calls.get(command.call)
        if call is None:
            return Failed(code="unknown_call", message=command.call)
        try:
            return self._of_call(call, command)
        except (SdpError, LegError) as error:
            return Failed(code=error.code, message=str(error))
        except Exception as error:
            log.exception("command failed", extra={"command": type(command).__name__, "call": command.call})
            return Failed(code="internal", message=type(error).__name__)

    def _of_call(self, call: _Call, command: Command) -> Result:
        match command:
            case OpenSecondLeg() | CloseSecondLeg() | Ring() | JoinLegs():
                return self._of_second(call, command)
            case ApplyAnswer(second=True) | Renegotiate(second=True) | HearDigit(second=True):
                return self._of_second(call, command)
            case ApplyAnswer(early=True):
                call.leg.apply_early(command.answer, self._clock())
                call.bridge.law_changed()
                return Done()
            case ApplyAnswer():
                holding = call.leg.holding
                call.leg.apply_answer(command.answer, self._clock(), refresh=command.refresh)
                call.bridge.law_changed()
                if call.leg.holding is not holding:
                    call.bridge.hold(call.leg.holding)
                return Done()
            case StartMedia():
                call.leg.start(self._clock(), early=command.early)
                if not command.early:  # nobody has answered: nothing is recorded, and nobody told apart
                    self._listen(command.call, call)
                call.bridge.start()
                return Done()
            case Renegotiate():
                sdp = call.leg.describe(command.offer, self._clock(), early=command.early)
                call.bridge.law_changed()
                return CallOpened(sdp=sdp, codec=call.leg.codec, held=call.leg.held)
            case HearDigit():
                call.bridge.digit_by_info(command.digit, command.duration_ms)
                return Done()
            case Hold():
                return CallOpened(sdp=call.leg.hold(command.held), codec=call.leg.codec, held=call.leg.held)
            case Withdraw():
                call.leg.withdraw()
                return Done()
            case Play():
                return self._play(call, command)
            case Clear():
                call.bridge.silence()
                return Done()
            case SetMark():
                return Done() if call.bridge.set_mark(command.name) else _NOT_TALKING
            case TellAgent():
                call.bridge.tell(command.event, command.data)
                return Done()
            case SendDigits():
                call.leg.queue_digits(command.digits)
                return Done()
            case _:
                return Failed(code="internal", message=f"{type(command).__name__} is not handled")

    def _listen(self, name: str, call: _Call) -> None:
        """What is to hear both sides from the call's start; a second start changes nothing."""
        command, call.opened = call.opened, None
        if command is None:
            return
        law, order, detection = call.leg.law, command.recording, command.detection
        call.recorded = order
        if order is None and detection is None and not command.conversation:
            return
        tap = Tap(
            recording=self._recorder.begin(name, order, law) if order is not None else None,
            tone=ConsentTone.of(law, order),
            meter=ConversationMeter(law) if command.conversation else None,
            detector=MachineDetector(law, detection.timeout_s, detection.beep_timeout_s) if detection else None,
        )
        call.bridge.listen(tap)

    # --- a second leg ---------------------------------------------------------------------------

    def _of_second(self, call: _Call, command: Command) -> Result:
        """The commands of a call's second leg."""
        second, now = call.second, self._clock()
        match command:
            case OpenSecondLeg():
                return self._open_second(call, command)
            case CloseSecondLeg():
                call.second = None
                return CallClosed(statistics=None if second is None else second.close(now))
            case _ if second is None:
                return Failed(code="no_leg", message="the call has no second leg")
            case JoinLegs():
                if (agent := second.join(command, call.recorded)) is not None:
                    self._tasks.spawn(agent.close(), f"agent leaves {command.call}")
            case Ring():
                second.ring(command.number)
            case HearDigit():
                second.digit_by_info(command.digit)
            case Renegotiate():
                return second.renegotiate(command, now)
            case ApplyAnswer():
                second.apply_answer(command, now)
        return Done()

    def _open_second(self, call: _Call, command: OpenSecondLeg) -> Result:
        if call.second is not None:
            return Failed(code="leg_exists", message=command.call)
        listen, told = self._addresses(None)
        second = SecondLeg(
            command,
            call.bridge,
            call.leg,
            address=told,
            notify=self._notify,
            entropy=self._entropy,
            clock=self._clock,
        )
        try:
            opened = second.open(call.turn.datagrams, listen)
        except PortUnavailable as error:
            return Failed(code="port_unavailable", message=str(error))
        call.second = second
        return opened

    def _play(self, call: _Call, command: Play) -> Result:
        recording = self._recordings.get(command.recording)
        if recording is None:
            return Failed(code="no_recording", message=command.recording)
        return Done() if call.bridge.announce(recording, interrupt=command.interrupt) else _NOT_TALKING

    # --- opening and closing --------------------------------------------------------------------

    def _opened(self, command: OpenCall) -> Result:
        if (problem := self._refusal(command.call)) is not None:
            return problem
        try:
            return self._open(command)
        except (SdpError, LegError) as error:
            return Failed(code=error.code, message=str(error))
        except BadAgent as error:
            return Failed(code="bad_agent", message=str(error))
        except PortUnavailable as error:
            return Failed(code="port_unavailable", message=str(error))
        except Exception as error:
            log.exception("a call could not be opened", extra={"call": command.call})
            return Failed(code="internal", message=type(error).__name__)

    def _refusal(self, call: str) -> Failed | None:
        if self._closing:
            return Failed(code="closing", message="the worker is closing")
        if call in self._calls:
            return Failed(code="call_exists", message=call)
        if self.calls >= self._settings.max_calls:
            return Failed(code="overload", message=f"{self.calls} calls are open")
        return None

    def _open(self, command: OpenCall) -> CallOpened:
        """What can be refused is refused before a port is bound; what is bound is freed on any failure."""
        listen, told = self._addresses(command.offer)
        leg = self._leg(command, told)
        sdp = leg.describe(command.offer, self._clock())
        turn = self._next_turn()
        agent = create(
            Host(
                spec=command.agent,
                context=command.context,
                websockets=self._websockets,
                arrivals=turn.arrivals,
                streams=self._streams,
                targets=self._targets,
                recordings=self._recordings,
                entropy=self._entropy,
                spawn=self._tasks.spawn,
                wall=self._wall,
                clock=self._clock,
                call_later=asyncio.get_running_loop().call_later,
                agent_hosts=self._settings.agent_hosts,
            )
        )
        ports = turn.datagrams.open_pair(listen, command.rtp_port, leg.receive_rtp, leg.receive_rtcp)
        bridge = Bridge(
            command.call,
            spec=command.agent,
            leg=leg,
            agent=agent,
            notify=self._notify,
            clock=self._clock,
            hold_music=self._recordings.get(command.agent.hold_music, b""),
        )
        leg.connect(ports.send_rtp, ports.send_rtcp)
        leg.on_digit = bridge.digit
        try:
            turn.begin(self._started_at)
            bridge.open()
        except BaseException:
            turn.rest()
            leg.close(self._clock())
            ports.close()
            raise
        if command.recording is not None:
            self._recorder.prepare()
        self._serve(command.call, _Call(bridge, leg, ports, turn, command))
        return CallOpened(sdp=sdp, codec=leg.codec, held=leg.held)

    def _next_turn(self) -> _Turn:
        """For a new call: the first that has room, so that few serve all; where none has, the one with the fewest."""
        with_room = (each for each in self._turns if len(each.calls) < _CALLS_A_TURN)
        return next(with_room, min(self._turns, key=lambda each: len(each.calls)))

    def _serve(self, name: str, call: _Call) -> None:
        self._calls[name] = call.turn.calls[name] = call

    def _leave(self, name: str) -> _Call | None:
        call = self._calls.pop(name, None)
        if call is not None:
            del call.turn.calls[name]
            call.turn.rest()
        return call

    def _addresses(self, offer: bytes | None) -> tuple[str, str]:
        """What is bound and what is told: of the family that is offered, where there are two."""
        settings = self._settings
        if settings.listen_address_6 is not None and offer is not None and address_version(offer) == 6:
            return settings.listen_address_6, settings.public_address_6 or settings.listen_address_6
        return settings.listen_address, settings.public_address or settings.listen_address

    def _leg(self, command: OpenCall, address: str) -> PhoneLeg:
        call = command.call

        def learnt(source: Address) -> None:
            self._notify(SourceLearnt(call=call, address=address_text(source)))

        def lost(kind: str, after_s: float) -> None:
            self._notify(MediaLost(call=call, kind=kind, after_s=round(after_s, 3)))

        return PhoneLeg(
            LegSettings(
                address=address,
                rtp_port=command.rtp_port,
                policy=command.policy,
                seed=command.seed,
            ),
            entropy=self._entropy,
            on_source=learnt,
            on_lost=lost,
        )

    async def _answer_close(self, request: Request, command: CloseCall) -> None:
        statistics: LegStatistics | None = None
        try:
            statistics = await self._close_call(command.call, request.deadline_s)
        finally:
            self._reply(request, CallClosed(statistics=statistics))

    async def _close_call(self, name: str, deadline_s: float = CLOSE_S) -> LegStatistics | None:
        """No packet leaves after this has begun; the ports are free when it returns, at its deadline or before."""
        call = self._leave(name)
        if call is None:
            return None
        now = self._clock()
        try:
            statistics = call.bridge.statistics(now)
            call.leg.close(now)
            second, call.second = call.second, None
            if second is not None:
                second.close(now)
            async with asyncio.timeout(deadline_s):
                await call.bridge.close()
        except TimeoutError:
            log.error("an agent did not close in time", extra={"call": name})
        finally:
            call.ports.close()
        return statistics

    # --- the tickers ----------------------------------------------------------------------------

    def _tick(self, turn: _Turn, tick: Tick) -> None:
        """20 ms of each: first what agents have said, then all that is to be sent, that was received, that is heard."""
        turn.arrivals.receive()
        calls = tuple(turn.calls.items())
        for name, call in calls:
            if not call.broken:
                try:
                    call.bridge.say(tick)
                except Exception as error:
                    self._break(name, call, error)
        turn.datagrams.receive()
        now = tick.now
        for name, call in calls:
            if not call.broken:
                try:
                    call.bridge.hear(tick)
                    if now >= call.leg.attend_at:
                        call.leg.attend(now)
                except Exception as error:
                    self._break(name, call, error)
        if self._uncounted:
            self._count(now)

    def _break(self, name: str, call: _Call, error: Exception) -> None:
        log.error("a call's media failed", extra={"call": name}, exc_info=error)
        call.broken = True
        call.bridge.break_off("internal error")

    def _every_second(self) -> None:
        self._beat = asyncio.get_running_loop().call_later(_STATISTICS_EVERY_S, self._every_second)
        self._tell_statistics()

    def _count(self, now: float) -> None:
        """The statistics of a few calls, so that no tick has all of them to make."""
        for _ in range(min(self._portion, len(self._uncounted))):
            name = self._uncounted.pop()
            if (call := self._calls.get(name)) is not None:
                self._counted[name] = call.bridge.statistics(now)

    def _tell_statistics(self) -> None:
        """All calls' of the second that has passed."""
        counted, self._counted = self._counted, {}
        self._uncounted, self._portion = list(self._calls), 1 + len(self._calls) // _PORTIONS
        if self._congested():
            return
        now = self._clock()
        calls = {name: counted.get(name) or call.bridge.statistics(now) for name, call in self._calls.items()}
        self._notify(
            Statistics(
                calls=calls,
                tick_late_p99_ms=self._lateness.p99_ms,
                gc_pause_max_ms=self._pauses.longest_ms,
            )
        )
