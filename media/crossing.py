"""Two phone legs joined: the caller's, and that of whom the caller is transferred to.

A :class:`Crossing` takes the caller's leg's place in the bridge (:meth:`media.bridge.Bridge.rewire`), so that a call
with one leg pays nothing for it. Both legs keep their own jitter buffer, law and clock; a frame heard on one is sent
on the other at the next tick, in the other's encoding. It reads no clock and does no I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from media import g711
from media.agents.base import Encoding
from media.bridge import Leg
from media.consent_tone import ConsentTone
from media.convert import Converters, decoder, encoder
from media.hold import HoldMusic
from media.messages import LegStatistics

__all__ = ["Crossing", "PeerLeg", "mixed"]

_FRAMES: Final = 5
"""What waits to be sent on the other leg [frames of 20 ms]: both have one clock, so more is a fault, not jitter."""


class PeerLeg(Leg, Protocol):
    """What a crossing needs of the second leg, beside what a bridge needs of its own."""

    attend_at: float

    @property
    def codec(self) -> str | None:
        """What was agreed on; None as long as nothing was."""

    def attend(self, now: float) -> None:
        """Its own timers, from ``attend_at`` on."""


class Crossing:
    """The caller's leg and the peer's, as one leg of the bridge.

    Until :meth:`join`, the caller hears the agent and the peer's early media, or its ringing tone, together; the peer
    hears nothing. From then on caller and peer hear each other and digits cross; an agent that has stayed hears both
    and is not heard.
    """

    def __init__(self, caller: Leg, peer: PeerLeg) -> None:
        self.joined = self._listened = False
        self._caller = caller
        self._peer = peer
        self._to_caller: deque[bytes] = deque(maxlen=_FRAMES)
        self._to_peer: deque[bytes] = deque(maxlen=_FRAMES)
        self._converters = Converters()
        self._overheard: bytes | None = None
        self._tone: ConsentTone | None = None
        self._ringing: HoldMusic | None = None

    def ring(self, tone: bytes) -> None:
        """The peer rings: until it is heard itself, the caller hears ``tone`` (PCM16, 8 kHz) over and over."""
        self._ringing = HoldMusic(tone, self._caller.law, _nothing)

    def join(self, *, listened: bool = False, tone: ConsentTone | None = None) -> None:
        """The peer has answered: both hear each other from the next tick; the agent, too, where it has stayed.

        ``tone`` tells the peer that the call is recorded.
        """
        self.joined, self._listened, self._tone = True, listened, tone
        self._to_caller.clear()

    def peer_changed(self) -> None:
        """The peer's encoding may be another from here on."""
        self._to_peer.clear()
        if self._tone is not None:
            self._tone.change(self._peer.law)

    def caller_digit(self, digit: str) -> bool:
        """The caller pressed a digit: the peer gets it. False where it takes no telephone-event."""
        return not self.joined or self._peer.send_digits(digit)

    def peer_digit(self, digit: str) -> bool:
        """The same the other way."""
        return not self.joined or self._caller.send_digits(digit)

    # --- the leg that the bridge sees ---

    @property
    def law(self) -> Encoding:
        """The caller's."""
        return self._caller.law

    @property
    def digits_pending(self) -> bool:
        """Of the caller's leg."""
        return self._caller.digits_pending

    def send_digits(self, digits: str) -> bool:
        """The agent's, to the caller."""
        return self._caller.send_digits(digits)

    def mix(self, take: Callable[[], bytes | None]) -> bytes | None:
        """What the caller is to hear of this frame; ``take`` gives the agent's audio."""
        said = take()
        other = self._to_caller.popleft() if self._to_caller else self._ringback()
        if self.joined or said is None:
            return other
        return said if other is None else mixed(said, other, self._caller.law)

    def _ringback(self) -> bytes | None:
        """Nothing any more once the peer's own media may come."""
        ringing = self._ringing
        return None if ringing is None or self._peer.codec is not None else ringing.take()

    def say(self, take: Callable[[], bytes | None], now: float) -> bool:
        """Both legs' packets of this frame; whether the caller's was sent."""
        sent = self._caller.say(take, now)
        self._peer.say(self._for_peer, now)
        return sent

    def _for_peer(self) -> bytes | None:
        return self._crossed() if self._tone is None else self._tone.take(self._crossed)

    def _crossed(self) -> bytes | None:
        return self._to_peer.popleft() if self._to_peer else None

    def overhear(self, heard: bytes) -> bytes:
        """What the agent hears of this frame: the caller, and once joined the peer too, where it has stayed."""
        return heard if self._overheard is None else mixed(heard, self._overheard, self._caller.law)

    def hear(self, now: float) -> bytes:
        """The next 20 ms of the caller."""
        if now >= self._peer.attend_at:
            self._peer.attend(now)
        heard = self._caller.hear(now)
        if self._peer.codec is None:
            return heard
        other = self._converted(self._peer.hear(now), self._peer.law, self._caller.law)
        self._to_caller.append(other)
        if self.joined:
            self._to_peer.append(self._converted(heard, self._caller.law, self._peer.law))
            self._overheard = other if self._listened else None
        return heard

    def skip(self, frames: int) -> None:
        """Time has passed in which nothing was sent."""
        self._caller.skip(frames)
        self._peer.skip(frames)

    def statistics(self, now: float) -> LegStatistics:
        """The caller's leg's; the peer's are told when it closes."""
        return self._caller.statistics(now)

    def _converted(self, frame: bytes, source: Encoding, target: Encoding) -> bytes:
        return frame if source == target else self._converters[source, target](frame)


def _nothing() -> bytes | None:
    return None


def mixed(one: bytes, other: bytes, encoding: Encoding) -> bytes:
    """The sum of two frames of one encoding, clipped."""
    decode = decoder(encoding)
    return encoder(encoding)(g711.mix(decode(one), decode(other)))
