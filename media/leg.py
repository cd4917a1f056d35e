"""The phone leg: one call's RTP both ways, without I/O.

Datagrams and time come in, datagrams go out through the two functions given to
:meth:`PhoneLeg.connect`. The ticker drives it: ``say`` sends exactly one packet for each 20 ms (a
digit's, the agent's audio, or silence), ``hear`` gives exactly one frame.

Silence is sent, not left out: NAT bindings and carriers' own watchdogs stay open while the agent
thinks. The timestamp follows time, whatever is sent; the marker is set on the first packet after a
gap, and on the first word after a pause, where a receiver may adapt.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import shake_256
from io import BytesIO
from typing import Final

from media import g711, rtcp, rtp
from media.agents.base import Encoding
from media.codecs import encoding_of, known
from media.comfort_noise import ComfortNoise
from media.convert import silence
from media.crypto import KEY_BYTES, SUITES, Agreement
from media.digit_sources import DigitSources
from media.dtmf_inband import InbandDigits
from media.jitter import Gap, JitterBuffer
from media.latch import Latch, Verdict
from media.messages import LegPolicy, LegStatistics
from media.sdp import Capabilities, Direction, Negotiated, TelephoneEvent, answer, apply_answer, make_offer
from media.srtp import SecureMedia
from media.statistics import Reception, leg_statistics
from media.telephone_event import DigitEvent, EventPacket, Receiver, Sender
from media.udp import Address
from media.watchdog import Watchdog
from media.wire import Wire

__all__ = ["LegError", "LegSettings", "PhoneLeg", "Send", "address_text"]

Send = Callable[[bytes, Address], None]

_FRAME: Final = g711.FRAME_BYTES
_PAUSE_FRAMES: Final = 5
_ATTEND_EVERY_S: Final = 0.1
_MASK16: Final = 0xFFFF
_MASK32: Final = 0xFFFFFFFF
_pack: Final = rtp.HEADER.pack
_REFUSED: Final = Verdict.REFUSED
_MOVED: Final = Verdict.MOVED


class LegError(Exception):
    """A command the leg cannot carry out; ``code`` as in :class:`media.messages.Failed`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class LegSettings:
    """``address`` and ``rtp_port`` are what the peer is told; ``seed`` as in :class:`media.messages.OpenCall`."""

    address: str
    rtp_port: int
    policy: LegPolicy
    seed: bytes = field(default=b"", repr=False)


class _Outgoing:
    """The stream we send: its identity and its clock (RFC 3550 §5.1)."""

    __slots__ = ("_gap", "_pause", "_sequence", "frame", "octets", "packets", "ssrc", "timestamp")

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self.ssrc = int.from_bytes(entropy(4), "big")
        self.timestamp = int.from_bytes(entropy(4), "big")
        # Not in the upper half: SRTP's first packets, if lost, could not be told from a roll-over (RFC 3711 §3.3.1).
        self._sequence = int.from_bytes(entropy(2), "big") & 0x7FFF
        self.frame = _FRAME
        """Of 20 ms, in ticks of the codec's clock."""
        self._gap = True
        self._pause = 0
        self.packets = 0
        self.octets = 0

    def renew(self, entropy: Callable[[int], bytes]) -> None:
        """Another stream from here on; the counts go on."""
        self.ssrc = int.from_bytes(entropy(4), "big")
        self.timestamp = int.from_bytes(entropy(4), "big")
        self._gap = True

    def tick(self, frames: int = 1) -> int:
        """Time passes; the timestamp of the (first) frame."""
        timestamp = self.timestamp
        self.timestamp = (timestamp + frames * self.frame) & _MASK32
        return timestamp

    def interrupt(self) -> None:
        """Audio is not sent now: its next packet carries the marker."""
        self._gap = True

    def marker(self, speech: bool) -> bool:
        """Whether the audio packet of this frame begins a talkspurt (RFC 3551 §4.1)."""
        if speech and not self._pause and not self._gap:
            return False
        begins = self._gap or (speech and self._pause >= _PAUSE_FRAMES)
        self._gap = False
        self._pause = 0 if speech else self._pause + 1
        return begins

    def packet(self, payload_type: int, timestamp: int, payload: bytes, marker: bool) -> bytes:
        """The next packet."""
        sequence = self._sequence
        self._sequence = (sequence + 1) & _MASK16
        self.packets += 1
        self.octets += len(payload)
        return _pack(0x80, payload_type | 0x80 if marker else payload_type, sequence, timestamp, self.ssrc) + payload


class PhoneLeg:
    """Next: :meth:`offer` or :meth:`answer`, :meth:`connect`, :meth:`start`, ticks, :meth:`close`.

    ``on_digit(digit, duration_ms)``, ``on_source(address)``, ``on_lost(kind, after_s)`` are told of
    what their names say. RTP that comes before :meth:`start` is not looked at.
    """

    __slots__ = (
        "_agreed",
        "_capabilities",
        "_concealer",
        "_digit_sources",
        "_digits",
        "_entropy",
        "_event_in",
        "_events",
        "_inband",
        "_inband_digits",
        "_jitter",
        "_latch",
        "_laws",
        "_loss_runs",
        "_lost_after",
        "_noise",
        "_offer",
        "_offered",
        "_on_lost",
        "_on_source",
        "_out",
        "_policy",
        "_reception",
        "_refused",
        "_reported_packets",
        "_reporter",
        "_sdp",
        "_secure",
        "_send_rtcp",
        "_send_rtp",
        "_silence",
        "_sockets",
        "_source",
        "_target",
        "_tracker",
        "_unauthentic",
        "_watchdog",
        "_wire",
        "attend_at",
        "law",
        "on_digit",
    )

    def __init__(
        self,
        settings: LegSettings,
        *,
        entropy: Callable[[int], bytes],
        on_source: Callable[[Address], None],
        on_lost: Callable[[str, float], None],
    ) -> None:
        self.on_digit: Callable[[str, int], None] = _unheard
        self._on_source = on_source
        self._on_lost = on_lost
        self._policy = settings.policy
        describe = _drawn_from(settings.seed) if settings.seed else entropy
        self._capabilities = Capabilities(
            address=settings.address,
            port=settings.rtp_port,
            session_id=int.from_bytes(describe(8), "big") >> 1,
            codecs=_known(settings.policy.codecs),
            allow_private=settings.policy.allow_private,
            srtp=settings.policy.srtp,
            keys={} if settings.policy.srtp == "off" else {suite: describe(KEY_BYTES) for suite in SUITES},
            rtcp_mux=settings.policy.rtcp_mux,
        )
        self.law: Encoding = encoding_of(self._capabilities.codecs[0])
        self._sdp: bytes | None = None
        self._offer: bytes | None = None
        self._offered: Capabilities | None = None
        self._agreed: Negotiated | None = None
        self._send_rtp: Send | None = None
        self._send_rtcp: Send | None = None
        self._sockets: tuple[Send, Send] | None = None
        self._secure: SecureMedia | None = None
        self._entropy = entropy
        self._reporter: rtcp.Reporter | None = None
        self._reported_packets = 0
        # to the phone
        self._out = _Outgoing(entropy)
        self._target: Address | None = None
        self._silence = silence(self.law)
        self._digits = Sender()
        # from the phone
        self._wire = Wire(self.law)
        self._laws = self._wire.laws
        self._event_in: int | None = None
        self._latch: Latch | None = None
        self._watchdog = Watchdog(settings.policy.first_packet_timeout_s, settings.policy.silence_timeout_s)
        self._refused = 0
        self._unauthentic = 0
        self._source: Address | None = None
        self._reception = Reception()
        self._tracker: rtp.SequenceTracker | None = None
        self._events = Receiver()
        self._jitter = JitterBuffer(self.law)
        self._concealer = self._wire.concealer
        self._noise: ComfortNoise | None = None
        self._inband: InbandDigits | None = None
        self._digit_sources: DigitSources | None = None
        self._inband_digits = 0
        self._loss_runs = 0
        self._lost_after = -1
        self.attend_at = 0.0
        """When :meth:`attend` has something to do [s]."""

    # --- offer and answer -------------------------------------------------------------------------

    @property
    def codec(self) -> str | None:
        """What is sent; None before the first agreement."""
        return self._agreed.codec.name if self._agreed else None

    @property
    def held(self) -> bool:
        """The peer has put us on hold."""
        return self._agreed.held if self._agreed else False

    def describe(self, offer: bytes | None, now: float, *, early: bool = False) -> bytes:
        """Our SDP: the answer to ``offer``, else an offer. Raises as :meth:`answer`, which ``early`` is for."""
        return self.offer() if offer is None else self.answer(offer, now, early=early)

    def answer(self, offer: bytes, now: float, *, early: bool = False) -> bytes:
        """Our answer. Raises SdpError; then nothing has changed.

        ``early``: the peer offers before our INVITE has its final answer, which another fork may give to our own offer.
        """
        ours = self._offer if early else None
        agreed = answer(offer, self._capabilities, self._sdp)
        self._agree(agreed, now, answered=False)
        self._offer = ours
        return agreed.sdp

    @property
    def holding(self) -> bool:
        """We have put the peer on hold."""
        return not self._capabilities.direction.receives

    def offer(self) -> bytes:
        """Our offer; nothing changes until :meth:`apply_answer`."""
        return self._offer_as(self._capabilities)

    def hold(self, held: bool) -> bytes:
        """An offer that holds the peer, or takes it back; nothing changes until :meth:`apply_answer`.

        RFC 3264 §8.4: what a held party was not sent before is marked inactive. Our packets go on otherwise,
        hold music or silence: NAT bindings and carriers' watchdogs stay open.
        """
        direction = Direction.of(sends=not (held and self.held), receives=not held)
        return self._offer_as(replace(self._capabilities, direction=direction))

    def _offer_as(self, capabilities: Capabilities) -> bytes:
        self._sdp = self._offer = make_offer(capabilities, self._sdp)
        self._offered = capabilities
        return self._offer

    def withdraw(self) -> None:
        """Our offer was refused (RFC 3261 §14.1): the session is as it was. Its number is not used again."""
        self._offer = self._offered = None

    def apply_answer(self, sdp: bytes, now: float, *, refresh: bool = False) -> None:
        """The peer's answer, with ``refresh`` to our description as it is.

        Raises SdpError, or LegError ``no_offer``; then nothing has changed.
        """
        offer = self._agreed.sdp if refresh and self._agreed is not None else self._offer
        if offer is None:
            raise LegError("no_offer", "no offer of ours is outstanding")
        capabilities = (None if refresh else self._offered) or self._capabilities
        agreed = apply_answer(offer, sdp, capabilities)
        self._capabilities = capabilities
        self._agree(agreed, now, answered=True)

    def apply_early(self, sdp: bytes, now: float) -> None:
        """The answer of a provisional response: media may flow, and the offer is still to be answered for good.

        Raises as :meth:`apply_answer`. A fork may say something else, and so may the final answer (RFC 3261 §13.2.1).
        """
        offer = self._offer
        self.apply_answer(sdp, now)
        self._offer = offer

    def _agree(self, agreed: Negotiated, now: float, *, answered: bool) -> None:
        first = self._agreed is None
        self._agreed, self._sdp, self._offer, self._offered = agreed, agreed.sdp, None, None
        if first and encoding_of(agreed.codec.name) != self.law:
            # The encoding inside stays what it was first: a later change of codec is converted at the wire.
            self.law = encoding_of(agreed.codec.name)
            self._silence = silence(self.law)
            self._jitter, self._wire = JitterBuffer(self.law), Wire(self.law)
        self._wire.agree(agreed)
        self._laws, self._concealer = self._wire.laws, self._wire.concealer
        self._set_clock(self._wire.clock_rate_hz)
        event = agreed.telephone_event
        if event is not None:
            self._events.scale = self._digits.scale = event.clock_rate_hz // 8000
        self._event_in = event.receive_payload_type if event else None
        self._listen_for_digits(event)
        self._secure_by(agreed.crypto, now, answered=answered)
        self._resignal(agreed, now)
        self._aim()

    def _set_clock(self, clock_rate_hz: int) -> None:
        """A stream has one clock rate: with another, ours is another stream (RFC 7160 §4.1)."""
        scale = clock_rate_hz // 8000
        self._reception.clock_rate_hz = clock_rate_hz
        if self._out.frame != _FRAME * scale:
            self._renew_stream()
            self._out.frame = _FRAME * scale

    def _renew_stream(self) -> None:
        """What has been sent so far was another stream of ours."""
        if self._out.packets:
            self._out.renew(self._entropy)
            if self._reporter is not None:
                self._reporter.identify(self._out.ssrc)

    def _listen_for_digits(self, event: TelephoneEvent | None) -> None:
        """In the audio too, where the trunk wants it or the peer has no other way."""
        wanted = self._policy.dtmf
        if wanted == "inband" or (wanted == "auto" and event is None):
            self._inband = self._inband or InbandDigits(self.law)
            self._digit_sources = self._digit_sources or DigitSources(DigitSources.TONE_S)
        else:
            self._inband = None

    def _secure_by(self, agreement: Agreement | None, now: float, *, answered: bool) -> None:
        """SRTP from here on, or none."""
        before = self._secure.suite if self._secure is not None else None
        if agreement is None:
            self._unauthentic += self._secure.refused if self._secure is not None else 0
            self._secure = None
        elif self._secure is None:
            # A refresh may take up keys of ours that have been used and then declined: no keystream comes twice.
            self._renew_stream()
            self._secure = SecureMedia(agreement)
        else:
            self._secure.agree(agreement, now, answered=answered)
        if before is not None and (agreement is None or agreement.ours.suite != before):
            # Its streams are gone, and with them what kept its keystream from being used twice.
            keys = {**self._capabilities.keys, before: self._entropy(KEY_BYTES)}
            self._capabilities = replace(self._capabilities, keys=keys)
        self._arm()

    def _aim(self) -> None:
        """Where packets go from here on; while nothing may be sent, nowhere."""
        agreed, latch = self._agreed, self._latch
        sends = agreed is not None and agreed.may_send and latch is not None
        self._target = latch.destination if sends and latch else None

    def _resignal(self, agreed: Negotiated, now: float) -> None:
        """The peer's media address, and whether it sends, as its SDP says now."""
        self._watchdog.hold(agreed.held or not agreed.may_receive, now)
        if agreed.remote is not None:
            signalled = (agreed.remote.address, agreed.remote.port)
            signalled_rtcp = (agreed.remote.rtcp_address, agreed.remote.rtcp_port)
            if self._latch is None:
                policy = self._policy
                self._latch = Latch(
                    signalled, signalled_rtcp, networks=policy.media_networks, symmetric=policy.symmetric, now=now
                )
            else:
                self._latch.resignal(signalled, signalled_rtcp, now)

    # --- commands ---------------------------------------------------------------------------------

    def connect(self, send_rtp: Send, send_rtcp: Send) -> None:
        """The sockets are bound."""
        self._sockets = send_rtp, send_rtcp
        self._arm()

    def _arm(self) -> None:
        """By which functions packets leave."""
        if self._sockets is not None:
            self._send_rtp, self._send_rtcp = self._sockets
            if self._agreed is not None and self._agreed.rtcp_mux:
                self._send_rtcp = self._send_rtp
            if self._secure is not None:
                self._send_rtp = _protected(self._secure.protect_rtp, self._send_rtp)
                self._send_rtcp = _protected(self._secure.protect_rtcp, self._send_rtcp)

    def start(self, now: float, *, early: bool = False) -> None:
        """The call is established. Raises LegError ``no_answer``; a second time it does nothing.

        ``early``: it rings, and is heard already; the peer's media is not missed before the call is up.
        """
        if self._agreed is None:
            raise LegError("no_answer", "our offer has had no answer")
        if self._reporter is None:
            # A name for this call alone: it tells nobody which machine this is (RFC 7022 §4.2).
            self._reporter = rtcp.Reporter(self._out.ssrc, self._entropy(12).hex(), now, self._entropy(4))
        if not early:
            self._watchdog.start(now)

    def queue_digits(self, digits: str) -> None:
        """Raises LegError ``bad_digits`` or ``no_telephone_event``."""
        if self._event is None:
            raise LegError("no_telephone_event", "the peer takes no telephone-event")
        try:
            self._digits.queue(digits)
        except ValueError as error:
            raise LegError("bad_digits", str(error)) from error

    def send_digits(self, digits: str) -> bool:
        """An agent's digits, ignored if they are none or too many; False where the peer takes no telephone-event."""
        if self._event is None:
            return not self._policy.info_digits
        with suppress(ValueError):
            self._digits.queue(digits)
        return True

    def close(self, now: float) -> None:
        """A BYE if anything was sent (RFC 3550 §6.3.7); no packet leaves after this."""
        if self._reporter is not None and self._out.packets:
            self._report(self._reporter.goodbye(now))
        self._reporter = self._send_rtp = self._send_rtcp = self._sockets = None
        self.on_digit = _unheard

    @property
    def _event(self) -> TelephoneEvent | None:
        return self._agreed.telephone_event if self._agreed else None

    @property
    def digits_pending(self) -> bool:
        """Digits are still to be sent."""
        return bool(self._digits.waiting) and self._event is not None

    # --- to the phone -----------------------------------------------------------------------------

    def say(self, take: Callable[[], bytes | None], now: float) -> bool:
        """This frame's packet: a digit's, else what ``take`` gives, else silence.

        While nothing may be sent (hold: False) time passes and audio is lost, as it is for a live speaker.
        """
        out, target, send, agreed = self._out, self._target, self._send_rtp, self._agreed
        timestamp = out.timestamp
        out.timestamp = (timestamp + out.frame) & _MASK32
        if target is None or send is None or agreed is None:
            take()
            out.interrupt()
            return False
        if self._digits.waiting and agreed.telephone_event is not None:
            event = self._digits.next(timestamp)
            if event is not None:
                out.interrupt()
                send(self._event_packet(event, agreed.telephone_event), target)
                return True
        frame = take()
        marker = out.marker(frame is not None)
        payload = self._silence if frame is None else frame
        codec = agreed.codec
        if codec.name != self.law:
            if self._wire.writer is not None:
                self._write(payload, timestamp, marker=marker, send=send, target=target)
                return True
            payload = g711.transcode(payload, self.law, codec.name)
        if agreed.ptime_ms < 20:
            half = len(payload) // 2
            send(out.packet(codec.send_payload_type, timestamp, payload[:half], marker), target)
            payload, timestamp, marker = payload[half:], (timestamp + half) & _MASK32, False
        send(out.packet(codec.send_payload_type, timestamp, payload, marker), target)
        return True

    def _write(self, audio: bytes, timestamp: int, *, marker: bool, send: Send, target: Address) -> None:
        """A frame in a codec that has to be encoded, in one packet or two."""
        writer, agreed, out = self._wire.writer, self._agreed, self._out
        if writer is None or agreed is None:
            return
        parts = 2 if agreed.ptime_ms < 20 else 1
        size = len(audio) // parts
        for part in range(parts):
            payload = writer.write(audio[part * size : (part + 1) * size])
            if payload:
                at = (timestamp + part * out.frame // parts) & _MASK32
                send(out.packet(agreed.codec.send_payload_type, at, payload, marker and not part), target)

    def _event_packet(self, event: EventPacket, agreed: TelephoneEvent) -> bytes:
        return self._out.packet(agreed.send_payload_type, event.timestamp, event.payload, event.marker)

    def skip(self, frames: int) -> None:
        """Time has passed in which nothing was sent: the timestamp follows it, the next packet has the marker."""
        self._out.tick(frames)
        self._out.interrupt()

    # --- from the phone ---------------------------------------------------------------------------

    def receive_rtp(self, data: bytes, source: Address, now: float) -> None:
        """A datagram on the RTP port; what is not the peer's is counted and dropped."""
        if self._reporter is None:
            return
        if self._secure is not None and not _is_rtcp(data) and data[:1] >= b"\x80":  # not STUN, nor a keep-alive
            clear = self._secure.unprotect_rtp(data, now)
            if clear is None:
                return
            data = clear
        packet, latch = rtp.parse(data), self._latch
        if packet is None or latch is None:
            if self._agreed is not None and self._agreed.rtcp_mux and _is_rtcp(data):
                self.receive_rtcp(data, source, now)
            else:
                self._refused += 1
            return
        verdict = latch.accept(source, packet.ssrc, packet.sequence, now)
        if verdict is _REFUSED:
            return
        if verdict is _MOVED:
            self._begin_source(source, packet.ssrc)
        self._watchdog.heard(now)
        if self._tracker is not None and self._tracker.update(packet.sequence, packet.timestamp, now):
            self._take(packet, now)

    def _take(self, packet: rtp.RtpPacket, now: float) -> None:
        """One packet of the peer's, by its payload type."""
        law = self._laws.get(packet.payload_type)
        if law is not None:
            payload = packet.payload if law == self.law else g711.transcode(packet.payload, law, self.law)
            self._jitter.put(packet.sequence, packet.timestamp, payload, now, marker=packet.marker)
            return
        reader = self._wire.readers.get(packet.payload_type)
        coded = reader.packet(packet.payload) if reader is not None else None
        if reader is not None and coded is not None:
            position = self._wire.units(reader, packet.timestamp)
            self._jitter.put(packet.sequence, position, coded, now, marker=packet.marker)
            return
        # Other payloads are no audio, yet their sequence numbers are not lost.
        self._jitter.put(packet.sequence, packet.timestamp, b"", now)
        if packet.payload_type == self._event_in:
            self._tell_digits(self._events.put(packet.payload, packet.timestamp, now), now)
        elif not self._take_noise(packet, now) and packet.payload:
            self._refused += 1

    def _take_noise(self, packet: rtp.RtpPacket, now: float) -> bool:
        """A descriptor of comfort noise (RFC 3389): the peer leaves its silence out from here."""
        if self._agreed is None or packet.payload_type != self._agreed.comfort_noise:
            return False
        noise = self._noise or ComfortNoise(self.law)
        if not noise.update(packet.payload):
            return False
        self._noise = noise
        self._watchdog.suppressed(now)
        return True

    def _begin_source(self, source: Address, ssrc: int) -> None:
        """A newly locked address or SSRC: its sequence and timestamps are its own."""
        if self._tracker is not None:
            self._jitter.restart()
            self._events.reset()
            self._wire.begin_source()
            self._concealer, self._noise = self._wire.concealer, None
        self._tracker = self._reception.new_source()
        if self._reporter is not None:
            self._reporter.source = (ssrc, self._tracker)
        self._aim()
        if source != self._source:
            self._source = source
            self._on_source(source)

    def receive_rtcp(self, data: bytes, source: Address, now: float) -> None:
        """A datagram on the RTCP port. A BYE of the peer's ends nothing: SIP does."""
        reporter, latch = self._reporter, self._latch
        if reporter is None or latch is None:
            return
        if self._secure is not None:
            clear = self._secure.unprotect_rtcp(data, now)
            if clear is None:
                return
            data = clear
        if not latch.accept_rtcp(source):
            return
        packets = rtcp.parse(data)
        if packets is None:
            self._refused += 1
            return
        self._watchdog.heard(now)
        reporter.receive(packets, now, self._wire.clock_rate_hz)
        if self._wire.writer is not None and reporter.remote_fraction_lost is not None:
            self._wire.writer.expect_loss(reporter.remote_fraction_lost)

    def _tell_digits(self, digits: tuple[DigitEvent, ...], now: float) -> None:
        sources = self._digit_sources
        for digit in digits:
            if sources is None or sources.first("telephone-event", digit.digit, now):
                self.on_digit(digit.digit, digit.duration_ms)

    def hear(self, now: float) -> bytes:
        """The next 20 ms in ``law``: what was said, concealment for what was lost, silence for a pause."""
        got = self._jitter.get(now)
        frame = self._bridged(got) if isinstance(got, Gap) else self._concealer.good(got)
        if self._inband is not None:
            self._hear_digits(self._inband, frame, now)
        return frame

    def _bridged(self, gap: Gap) -> bytes:
        """A frame that did not come."""
        if gap is Gap.NOTHING:
            return self._concealer.pause() if self._noise is None else self._concealer.good(self._noise.frame())
        if self._jitter.frames_played != self._lost_after:
            self._lost_after = self._jitter.frames_played
            self._loss_runs += 1
        return self._concealer.lost(self._jitter.following())

    def _hear_digits(self, inband: InbandDigits, frame: bytes, now: float) -> None:
        digit, sources = inband.hear(frame), self._digit_sources
        if digit is not None and sources is not None and sources.first("tone", digit.digit, now):
            self._inband_digits += 1
            self.on_digit(digit.digit, digit.duration_ms)

    def attend(self, now: float) -> None:
        """What has its own time: digits whose end was lost, the watchdog, reports. Call it from ``attend_at`` on."""
        self.attend_at = now + _ATTEND_EVERY_S
        reporter = self._reporter
        if reporter is None:
            return
        self._tell_digits(self._events.expire(now), now)
        if self._secure is not None:
            self._secure.attend(now)
        loss = self._watchdog.check(now)
        if loss is not None:
            self._on_lost(loss.kind, loss.after_s)
        if reporter.due(now):
            self._report(reporter.report(now, self._entropy(4), self._sender_info()))

    def _sender_info(self) -> rtcp.SenderInfo | None:
        """For an SR; None, and so an RR, where nothing was sent since the last report."""
        out = self._out
        if out.packets == self._reported_packets:
            return None
        self._reported_packets = out.packets
        return rtcp.SenderInfo(ntp=0, rtp_timestamp=out.timestamp, packets=out.packets, octets=out.octets)

    def _report(self, data: bytes) -> None:
        latch, agreed = self._latch, self._agreed
        if self._send_rtcp is not None and latch is not None:
            mux = agreed is not None and agreed.rtcp_mux
            self._send_rtcp(data, latch.destination if mux else latch.rtcp_destination)

    # --- statistics -------------------------------------------------------------------------------

    def statistics(self, now: float) -> LegStatistics:
        """The leg's part of the call's."""
        target = self._target
        return leg_statistics(
            codec=self.codec,
            remote=address_text(target) if target else None,
            packets_sent=self._out.packets,
            packets_refused=self._refused + (self._latch.refused if self._latch else 0),
            srtp=self._secure.suite if self._secure else None,
            packets_unauthentic=self._unauthentic + (self._secure.refused if self._secure else 0),
            loss_runs=self._loss_runs,
            digits_received=self._events.received + self._inband_digits,
            digits_sent=self._digits.sent,
            reception=self._reception,
            jitter=self._jitter,
            reporter=self._reporter,
            now=now,
        )


def address_text(address: Address) -> str:
    """``host:port``, an IPv6 host in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _drawn_from(seed: bytes) -> Callable[[int], bytes]:
    """What a description needs of randomness, the same for the same seed."""
    return BytesIO(shake_256(seed).digest(8 + KEY_BYTES * len(SUITES))).read


def _unheard(digit: str, duration_ms: int) -> None:
    """Nobody listens."""


def _known(codecs: tuple[str, ...]) -> tuple[str, ...]:
    spoken = known(codecs)
    if not spoken:
        raise LegError("no_common_codec", f"none of {', '.join(codecs) or 'no codecs'} is known here")
    return spoken


def _protected(protect: Callable[[bytes], bytes | None], send: Send) -> Send:
    """``send`` of what has been protected."""

    def protected(data: bytes, target: Address) -> None:
        sealed = protect(data)
        if sealed is not None:
            send(sealed, target)

    return protected


def _is_rtcp(data: bytes) -> bool:
    """By its packet type, where both share a port (RFC 5761 §4)."""
    return len(data) > 1 and 192 <= data[1] <= 223
