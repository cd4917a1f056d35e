"""The phone leg beyond plain G.711: SRTP, wideband, comfort noise, RTCP on RTP's port, digits in the audio."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from media import g711, rtcp, rtp
from media.agents.base import Encoding
from media.codecs import Reader, Writer, opus
from media.crypto import SUITES, Agreement, Crypto, parse
from media.leg import LegSettings, PhoneLeg
from media.messages import LegPolicy
from media.rtcp import ReceiverReport, ReportBlock, SourceDescription
from media.sdp import SdpError
from media.srtp import SecureMedia
from media.ticker import FRAME_S
from media.udp import Address
from tests.media.rooms import offer
from tests.media.test_dtmf_inband import key, pause
from tests.support.clock import FakeClock
from tests.support.opus import needs_opus

PEER: Address = ("127.0.0.1", 4000)
STRANGER: Address = ("127.0.0.2", 4000)
STRONG, SHORT = SUITES
KEY, NEW_KEY = bytes(range(30)), bytes(range(60, 90))
EVERY = ("OPUS", "G722", "PCMU", "PCMA")


def policy(**changes: object) -> LegPolicy:
    return LegPolicy(allow_private=True, **changes)  # type: ignore[arg-type]


def sdp(formats: str, *lines: str, profile: str = "RTP/AVP", port: int = 4000) -> bytes:
    rows = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0"]
    return "\r\n".join([*rows, f"m=audio {port} {profile} {formats}", *lines, ""]).encode()


def crypto(tag: int = 1, suite: str = STRONG, key: bytes = KEY) -> str:
    return f"a=crypto:{Crypto(tag, suite, key)}"


EVENTS = "a=rtpmap:101 telephone-event/8000"
OPUS = ("a=rtpmap:96 opus/48000/2", "a=fmtp:96 useinbandfec=1", "a=rtpmap:97 telephone-event/48000")


class Line:
    """A leg that has answered ``offered``, and what leaves it and is told by it."""

    def __init__(self, given: LegPolicy, offered: bytes) -> None:
        self.clock = FakeClock()
        self.digits: list[tuple[str, int]] = []
        self.sources: list[Address] = []
        self.out: list[tuple[bytes, Address]] = []
        self.out_rtcp: list[tuple[bytes, Address]] = []
        self.leg = PhoneLeg(
            LegSettings(address="127.0.0.1", rtp_port=20000, policy=given),
            entropy=Random(1).randbytes,
            on_source=self.sources.append,
            on_lost=lambda kind, after_s: None,
        )
        self.leg.on_digit = lambda digit, duration_ms: self.digits.append((digit, duration_ms))
        self.answer = self.leg.answer(offered, self.clock())
        self.leg.connect(
            lambda data, target: self.out.append((data, target)),
            lambda data, target: self.out_rtcp.append((data, target)),
        )
        self.leg.start(self.clock())
        self.sequence, self.timestamp = 500, 1000

    @property
    def ours(self) -> Crypto:
        """Our key, by our SDP."""
        [line] = [row for row in self.answer.decode().splitlines() if row.startswith("a=crypto:")]
        return parse(line.removeprefix("a=crypto:"))

    def reoffer(self, offered: bytes) -> None:
        self.answer = self.leg.answer(offered, self.clock())

    def packet(self, payload: bytes, payload_type: int, step: int = 160, ssrc: int = 7) -> bytes:
        self.sequence += 1
        self.timestamp = (self.timestamp + step) & 0xFFFFFFFF
        return rtp.build(payload_type, self.sequence & 0xFFFF, self.timestamp, ssrc, payload)

    def receive(self, data: bytes | None, source: Address = PEER) -> None:
        if data is not None:
            self.leg.receive_rtp(data, source, self.clock())

    def tick(self, frame: bytes | None = None) -> bytes:
        self.clock.advance(FRAME_S)
        self.leg.say(lambda: frame, self.clock())
        heard = self.leg.hear(self.clock())
        if self.clock() >= self.leg.attend_at:
            self.leg.attend(self.clock())
        return heard

    def run(self, seconds: float) -> bytes:
        return b"".join(self.tick() for _ in range(round(seconds / FRAME_S)))

    def sent(self) -> list[rtp.RtpPacket]:
        packets = [rtp.parse(data) for data, _ in self.out]
        assert all(packets)
        return [packet for packet in packets if packet is not None]


def loudest_hz(audio: bytes, rate: int) -> float:
    samples = np.frombuffer(audio, np.int16).astype(float)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / rate)[spectrum.argmax()])


def sine(hz: float, rate: int, seconds: float) -> Iterable[bytes]:
    samples = (np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate) * 8000).astype(np.int16).tobytes()
    size = rate // 50 * 2
    return (samples[at : at + size] for at in range(0, len(samples), size))


def voice(seconds: float) -> Iterable[bytes]:
    """A steady vowel, 16 kHz."""
    at = np.arange(int(16000 * seconds)) / 16000
    samples = np.sum([np.sin(2 * np.pi * 140 * k * at + k * k) / k for k in range(1, 40)], axis=0) * 4000
    pcm16 = samples.astype(np.int16).tobytes()
    return (pcm16[start : start + 640] for start in range(0, len(pcm16), 640))


# --- SRTP -----------------------------------------------------------------------------------------


class Secure(Line):
    """A line whose peer protects with ``KEY``."""

    def __init__(self, suite: str = STRONG, srtp: str = "require", profile: str = "RTP/SAVP") -> None:
        super().__init__(policy(srtp=srtp), sdp("0 101", crypto(3, suite), EVENTS, profile=profile))
        self.peer = SecureMedia(Agreement(Crypto(3, suite, KEY), self.ours))

    def talk(self, payload: bytes = b"\x10" * 160, source: Address = PEER, ssrc: int = 7) -> None:
        self.receive(self.peer.protect_rtp(self.packet(payload, 0, ssrc=ssrc)), source)


@pytest.mark.parametrize("profile", ["RTP/SAVP", "RTP/AVP"])
@pytest.mark.parametrize("srtp", ["allow", "require"])
@pytest.mark.parametrize("suite", SUITES)
def test_a_call_is_protected_both_ways_by_the_suite_that_is_offered(suite: str, srtp: str, profile: str) -> None:
    """RFC 4568, and under RTP/AVP RFC 8643."""
    line = Secure(suite, srtp, profile)
    assert (line.ours.tag, line.ours.suite) == (3, suite)
    heard = b""
    for _ in range(20):
        line.talk()
        heard += line.tick(b"\x20" * 160)
    assert b"\x10" * 1600 in heard
    clear = [line.peer.unprotect_rtp(data, 0.0) for data, _ in line.out]
    assert all(clear) and all(b"\x20" * 160 not in data for data, _ in line.out)
    assert [packet.payload for packet in map(rtp.parse, filter(None, clear)) if packet] == [b"\x20" * 160] * 20
    statistics = line.leg.statistics(line.clock())
    assert (statistics.srtp, statistics.packets_unauthentic, statistics.packets_received) == (suite, 0, 20)


def test_reports_are_protected_too() -> None:
    """RFC 3711 §3.4."""
    line = Secure()
    line.talk()
    line.run(8)
    reports = [line.peer.unprotect_rtcp(data, 0.0) for data, _ in line.out_rtcp]
    assert reports and all(report is not None and rtcp.parse(report) for report in reports)
    block = ReportBlock(line.leg._out.ssrc, 64, 1, 1, 0, 0, 0)
    report = rtcp.build(ReceiverReport(7, (block,)), SourceDescription(((7, "x"),)))
    line.leg.receive_rtcp(report, (PEER[0], 4001), line.clock())
    assert line.leg.statistics(line.clock()).remote_fraction_lost is None
    line.leg.receive_rtcp(line.peer.protect_rtcp(report) or b"", (PEER[0], 4001), line.clock())
    assert line.leg.statistics(line.clock()).remote_fraction_lost == 0.25


def test_bad_packets_are_dropped_and_counted_and_end_nothing() -> None:
    """Clear, tampered with, replayed, random: the call goes on."""
    line, random = Secure(), Random(2)
    for _ in range(10):
        line.talk()
        line.tick()
    good = line.peer.protect_rtp(line.packet(b"\x10" * 160, 0)) or b""
    line.receive(good)
    tampered = good[:-1] + bytes((good[-1] ^ 1,))
    bad = [good, line.packet(b"\x66" * 160, 0), tampered, b"\x80\x00" + random.randbytes(180), b"\x80", b"\xff" * 40]
    for data in (*bad, b"", b"\0\1\0\0" + bytes(16)):  # the last two are a keep-alive and STUN
        line.receive(data)
    line.sequence -= 1
    line.timestamp -= 160
    heard = b""
    for _ in range(10):
        line.talk()
        heard += line.tick()
    assert b"\x66" not in heard
    statistics = line.leg.statistics(line.clock())
    assert (statistics.packets_unauthentic, statistics.packets_refused) == (len(bad), 2)
    assert heard.endswith(b"\x10" * 160)


def test_only_an_authentic_packet_takes_the_lock() -> None:
    """A stranger's packets are not even on probation, however well they look."""
    line = Secure()
    for _ in range(60):
        line.receive(line.packet(b"\x66" * 160, 0), STRANGER)
    assert line.sources == []
    line.talk(source=("127.0.0.1", 4567))
    line.talk(source=("127.0.0.1", 4567))
    assert line.sources == [("127.0.0.1", 4567)]
    assert line.leg.statistics(line.clock()).packets_unauthentic == 60


def test_a_new_ssrc_in_mid_call_is_heard_after_its_probation() -> None:
    line = Secure()
    for ssrc in (7, 8):
        for _ in range(12):
            line.talk(bytes((ssrc,)) * 160, ssrc=ssrc)
            heard = line.tick()
    assert heard.endswith(bytes((8,)) * 100)


def test_the_peers_new_key_leaves_no_gap() -> None:
    """RFC 4568 §7.1.4: a re-INVITE re-keys; packets of either key are heard while they cross."""
    line = Secure()
    for _ in range(10):
        line.talk(b"\x11" * 160)
        line.tick()
    before = line.ours
    old = [line.peer.protect_rtp(line.packet(b"\x12" * 160, 0)) for _ in range(3)]
    line.reoffer(sdp("0 101", crypto(1, STRONG, NEW_KEY), EVENTS, profile="RTP/SAVP"))
    assert line.ours.key == before.key
    line.peer = SecureMedia(Agreement(Crypto(1, STRONG, NEW_KEY), line.ours))
    heard = b""
    for each in old:
        line.receive(each)
        heard += line.tick()
    for _ in range(10):
        line.talk(b"\x13" * 160)
        heard += line.tick()
    assert heard.count(b"\x12" * 160) + 1 >= 3 and b"\x12\x13" in heard
    assert line.leg.statistics(line.clock()).packets_unauthentic == 0
    assert line.leg.statistics(line.clock()).frames_concealed == 0


def test_another_suite_brings_a_new_key_of_ours_and_the_old_one_is_never_used_again() -> None:
    line = Secure()
    line.talk()
    first = line.ours
    line.reoffer(sdp("0 101", crypto(1, SHORT, NEW_KEY), EVENTS, profile="RTP/SAVP"))
    second = line.ours
    assert (second.suite, second.key != first.key) == (SHORT, True)
    line.reoffer(sdp("0 101", crypto(1, STRONG, KEY), EVENTS, profile="RTP/SAVP"))
    assert line.ours.suite == STRONG and line.ours.key != first.key


def test_our_new_key_is_used_once_the_peer_has_shown_its_own() -> None:
    line = Secure()
    for _ in range(3):
        line.talk()
        line.tick()
    line.reoffer(sdp("0 101", crypto(1, SHORT, NEW_KEY), EVENTS, profile="RTP/SAVP"))
    fresh = SecureMedia(Agreement(Crypto(1, SHORT, NEW_KEY), line.ours))
    line.out.clear()
    line.tick()
    assert fresh.unprotect_rtp(line.out[-1][0], 0.0) is None
    assert line.peer.unprotect_rtp(line.out[-1][0], 0.0) is not None
    line.receive(fresh.protect_rtp(line.packet(b"\x10" * 160, 0)))
    line.tick()
    assert fresh.unprotect_rtp(line.out[-1][0], 0.0) is not None


def test_a_session_refresh_changes_no_key_and_no_stream() -> None:
    line = Secure()
    before, answer = line.ours, line.answer
    replay = line.peer.protect_rtp(line.packet(b"\x10" * 160, 0))
    line.receive(replay)
    line.reoffer(sdp("0 101", crypto(3), EVENTS, profile="RTP/SAVP"))
    assert (line.ours, line.answer) == (before, answer)
    line.receive(replay)
    assert line.leg.statistics(line.clock()).packets_unauthentic == 1


def test_a_refused_reoffer_leaves_srtp_as_it_was() -> None:
    line = Secure()
    with pytest.raises(SdpError) as caught:
        line.reoffer(offer(4000))
    assert caught.value.code == "no_common_crypto"
    line.talk()
    line.tick()
    assert line.leg.statistics(line.clock()).packets_unauthentic == 0


def test_where_it_is_only_allowed_a_call_may_leave_srtp_and_come_back_under_another_key() -> None:
    line = Secure(srtp="allow")
    line.talk()
    first = line.ours
    line.reoffer(sdp("0 101", EVENTS))
    line.receive(line.packet(b"\x31" * 160, 0))
    line.out.clear()
    line.tick(b"\x20" * 160)
    assert line.out[-1][0].endswith(b"\x20" * 160)
    line.reoffer(sdp("0 101", crypto(1), EVENTS, profile="RTP/SAVP"))
    assert line.ours.key != first.key


def test_under_rtp_avp_a_call_stays_encrypted_through_holds_and_offers_of_either_side() -> None:
    """RFC 8643 §3.4: ours have the profile and the keys that were agreed."""
    line = Secure(srtp="allow", profile="RTP/AVP")
    key = base64.b64encode(line.ours.key).decode()

    def expect_protected() -> None:
        line.talk()
        line.out.clear()
        line.tick()
        assert line.peer.unprotect_rtp(line.out[-1][0], 0.0) is not None
        assert line.leg.statistics(line.clock()).packets_unauthentic == 0

    expect_protected()
    line.reoffer(sdp("0 101", crypto(3), EVENTS, "a=sendonly"))
    line.reoffer(sdp("0 101", crypto(3), EVENTS))
    expect_protected()
    for offered, direction in (
        (lambda: line.leg.hold(True), "recvonly"),
        (lambda: line.leg.hold(False), "sendrecv"),
        (line.leg.offer, "sendrecv"),
    ):
        ours = offered().decode()
        assert " RTP/AVP " in ours and f"a=crypto:1 {STRONG} inline:{key}" in ours
        line.leg.apply_answer(sdp("0 101", crypto(), EVENTS, f"a={direction}"), line.clock())
        expect_protected()
    line.leg.apply_answer(sdp("0 101", crypto(), EVENTS), line.clock(), refresh=True)
    expect_protected()


def test_keys_that_a_peer_declined_and_takes_up_again_protect_another_stream() -> None:
    """RFC 3711 §9.1: no keystream twice, though a refresh offers what was offered before."""
    line = Secure(srtp="allow", profile="RTP/AVP")
    line.tick()
    first = line.sent()[-1].ssrc
    line.leg.offer()
    line.leg.apply_answer(sdp("0 101", EVENTS), line.clock())
    line.tick(b"\x20" * 160)
    assert line.out[-1][0].endswith(b"\x20" * 160)
    line.leg.apply_answer(sdp("0 101", crypto(), EVENTS), line.clock(), refresh=True)
    line.tick(b"\x20" * 160)
    assert not line.out[-1][0].endswith(b"\x20" * 160)
    assert line.sent()[-1].ssrc != first


def test_of_one_seed_every_answer_is_the_same_to_the_byte_and_of_none_no_two() -> None:
    """RFC 3261 §13.2.1: a 200 has the answer that a 183 had, whichever process gives it; keys included."""
    offered = sdp("0 101", crypto(), EVENTS, profile="RTP/SAVP")

    def answer(seed: bytes, draw: int) -> bytes:
        given = LegSettings(address="127.0.0.1", rtp_port=20000, policy=policy(srtp="allow"), seed=seed)
        leg = PhoneLeg(
            given,
            entropy=Random(draw).randbytes,
            on_source=lambda source: None,
            on_lost=lambda kind, after_s: None,
        )
        return leg.answer(offered, 0.0)

    assert answer(b"one", 1) == answer(b"one", 2)
    assert len({answer(b"one", 1), answer(b"other", 1), answer(b"", 1), answer(b"", 2)}) == 4


def test_our_offer_is_answered_with_srtp() -> None:
    """A delayed offer, or a call out."""
    leg = PhoneLeg(
        LegSettings(address="127.0.0.1", rtp_port=20000, policy=policy(srtp="require")),
        entropy=Random(3).randbytes,
        on_source=lambda source: None,
        on_lost=lambda kind, after_s: None,
    )
    ours = leg.offer().decode()
    assert "RTP/SAVP " in ours and ours.count("a=crypto:") == 2
    out: list[bytes] = []
    leg.connect(lambda data, target: out.append(data), lambda data, target: None)
    leg.apply_answer(sdp("0 101", crypto(2, SHORT), EVENTS, profile="RTP/SAVP"), 0.0)
    leg.start(0.0)
    leg.say(lambda: b"\x20" * 160, 0.02)
    [row] = [row for row in ours.splitlines() if row.startswith(f"a=crypto:2 {SHORT}")]
    peer = SecureMedia(Agreement(Crypto(2, SHORT, KEY), parse(row.removeprefix("a=crypto:"))))
    clear = peer.unprotect_rtp(out[0], 0.0)
    assert clear is not None and clear.endswith(b"\x20" * 160)


def test_no_key_is_in_what_a_leg_tells() -> None:
    line = Secure()
    line.talk()
    told = repr(line.leg.statistics(line.clock())) + repr(line.leg._agreed) + repr(line.leg._capabilities)
    for each in (KEY, line.ours.key):
        assert base64.b64encode(each).decode() not in told and repr(each) not in told


# --- wideband -------------------------------------------------------------------------------------

WIDE = [
    pytest.param("9 101", (EVENTS,), "G722", 9, 160, 101, id="G722"),
    pytest.param("96 97", OPUS, "OPUS", 96, 960, 97, id="OPUS", marks=needs_opus),
]


@pytest.mark.parametrize(("formats", "lines", "codec", "number", "step", "event"), WIDE)
def test_wideband_is_heard_and_said_at_16_khz(
    formats: str, lines: tuple[str, ...], codec: str, number: int, step: int, event: int
) -> None:
    """A tone of 6 kHz, which no 8 kHz stream holds, crosses both ways."""
    line = Line(policy(codecs=EVERY), sdp(formats, *lines))
    assert line.leg.law == "L16/16000" and line.leg.codec == codec
    writer, heard = Writer(codec, "L16/16000"), b""
    for frame in sine(6000, 16000, 1.0):
        line.receive(line.packet(writer.write(frame), number, step))
        heard += line.tick(frame)
    assert len(heard) == 32000
    assert abs(loudest_hz(heard[16000:], 16000) - 6000) < 20
    packets, reader = line.sent(), Reader(codec, "L16/16000")
    assert {packet.payload_type for packet in packets} == {number}
    assert {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in pairwise(packets)} == {step}
    said = b"".join(coded.audio() for packet in packets if (coded := reader.packet(packet.payload)) is not None)
    assert abs(loudest_hz(said[16000:], 16000) - 6000) < 20
    statistics = line.leg.statistics(line.clock())
    assert (statistics.codec, statistics.packets_lost, statistics.packets_refused) == (codec, 0, 0)
    assert statistics.r_factor is not None and statistics.r_factor > 90 and statistics.jitter_ms == 0
    line.leg.send_digits("5")
    line.out.clear()
    line.run(0.5)
    digits = [packet for packet in line.sent() if packet.payload_type == event]
    assert {int.from_bytes(packet.payload[2:4], "big") % step for packet in digits} == {0}
    assert max(int.from_bytes(packet.payload[2:4], "big") for packet in digits) == 8 * step


@pytest.mark.parametrize(("formats", "lines", "codec", "number", "step", "event"), WIDE)
def test_digits_have_the_clock_of_the_codec_beside_them(
    formats: str, lines: tuple[str, ...], codec: str, number: int, step: int, event: int
) -> None:
    """RFC 4733 §2.1; Opus' ticks six times as fast."""
    line = Line(policy(codecs=EVERY), sdp(formats, *lines))
    line.timestamp += step
    for index in range(8):
        line.sequence += 1
        flags = 0x80 if index == 7 else 0
        payload = bytes((5, flags)) + ((index + 1) * step).to_bytes(2, "big")
        line.receive(rtp.build(event, line.sequence, line.timestamp, 7, payload))
        line.tick()
    assert line.digits == [("5", 160)]


@needs_opus
def test_events_of_8_khz_beside_opus_have_their_durations_in_8_khz() -> None:
    line = Line(policy(codecs=EVERY), sdp("96 101", *OPUS[:2], EVENTS))
    for index in range(8):
        line.sequence += 1
        payload = bytes((5, 0x80 if index == 7 else 0)) + ((index + 1) * 160).to_bytes(2, "big")
        line.receive(rtp.build(101, line.sequence, line.timestamp, 7, payload))
        line.tick()
    assert line.digits == [("5", 160)]
    line.leg.send_digits("5")
    line.out.clear()
    line.run(0.4)
    digits = [packet for packet in line.sent() if packet.payload_type == 101]
    assert max(int.from_bytes(packet.payload[2:4], "big") for packet in digits) == 8 * 160


@pytest.mark.parametrize(("formats", "lines", "codec", "number", "step", "event"), WIDE)
def test_a_lost_packet_of_a_wide_voice_is_concealed(
    formats: str, lines: tuple[str, ...], codec: str, number: int, step: int, event: int
) -> None:
    line = Line(policy(codecs=EVERY), sdp(formats, *lines))
    writer, levels = Writer(codec, "L16/16000", "useinbandfec=1"), []
    for index, frame in enumerate(voice(1.0)):
        data = line.packet(writer.write(frame), number, step)
        if index % 10 != 5:
            line.receive(data)
        levels.append(np.abs(np.frombuffer(line.tick(), np.int16).astype(float)).max())
    assert line.leg.statistics(line.clock()).frames_concealed == 5
    assert min(levels[15:]) > max(levels) / 4


@needs_opus
def test_packets_of_60_ms_and_what_is_no_packet_at_all() -> None:
    line = Line(policy(codecs=EVERY), sdp("96 97", *OPUS))
    for payload in (b"", b"\x0b", b"\xff" * 3, b"\x1b\x3f" + b"x" * 40):
        line.receive(line.packet(payload, 96, 960))
        line.tick()
    encoder = opus._library()[1]
    state = encoder.create_state(16000, 1, 2048)
    samples = b"".join(sine(500, 16000, 0.6))
    heard = b""
    for at in range(0, len(samples), 1920):
        line.receive(line.packet(encoder.encode(state, samples[at : at + 1920], 960, 1000), 96, 2880))
        for _ in range(3):
            heard += line.tick()
    encoder.destroy(state)
    assert abs(loudest_hz(heard[9600:], 16000) - 500) < 20


def test_a_ptime_of_10_ms_makes_two_packets_of_a_wide_frame() -> None:
    line = Line(policy(codecs=EVERY), sdp("9", "a=ptime:10"))
    line.tick(bytes(640))
    assert [(len(packet.payload), packet.marker) for packet in line.sent()] == [(80, True), (80, False)]
    assert line.sent()[1].timestamp - line.sent()[0].timestamp == 80


@pytest.mark.parametrize(("formats", "lines", "codec", "number", "step", "event"), WIDE)
def test_a_change_of_codec_in_mid_call_is_converted_at_the_wire(
    formats: str, lines: tuple[str, ...], codec: str, number: int, step: int, event: int
) -> None:
    """The agent is told one encoding for the whole call."""
    line = Line(policy(codecs=EVERY), sdp("0 101", EVENTS))
    for frame in sine(1000, 8000, 0.2):
        line.receive(line.packet(g711.encode_ulaw(frame), 0))
        line.tick(g711.encode_ulaw(frame))
    before = line.sent()[-1].ssrc
    line.reoffer(sdp(formats, *lines))
    assert (line.leg.law, line.leg.codec) == ("PCMU", codec)
    writer, heard = Writer(codec, "L16/16000"), b""
    line.out.clear()
    for wide, narrow in zip(sine(1000, 16000, 0.6), sine(1000, 8000, 0.6), strict=True):
        line.receive(line.packet(writer.write(wide), number, step))
        heard += line.tick(g711.encode_ulaw(narrow))
    assert abs(loudest_hz(g711.decode_ulaw(heard[2400:]), 8000) - 1000) < 20
    assert (line.sent()[-1].ssrc == before) == (step == 160)  # RFC 7160 §4.1: another clock, another stream
    reader = Reader(codec, "L16/16000")
    said = b"".join(coded.audio() for p in line.sent() if (coded := reader.packet(p.payload)) is not None)
    assert abs(loudest_hz(said[9600:], 16000) - 1000) < 20


def test_a_wide_leg_takes_g711_after_a_reoffer() -> None:
    line = Line(policy(codecs=EVERY), sdp("9 101", EVENTS))
    line.reoffer(sdp("8 101", EVENTS))
    heard = b""
    for frame in sine(1000, 8000, 0.6):
        line.receive(line.packet(g711.encode_alaw(frame), 8))
        heard += line.tick(bytes(640))
    assert abs(loudest_hz(heard[9600:], 16000) - 1000) < 20
    assert {packet.payload_type for packet in line.sent()} == {8}
    assert len(line.sent()[-1].payload) == 160


# --- comfort noise --------------------------------------------------------------------------------


def test_comfort_noise_is_heard_in_the_pauses_and_no_concealment() -> None:
    """RFC 3389."""
    line = Line(policy(), sdp("0 13 101", EVENTS))
    for _ in range(20):
        line.receive(line.packet(b"\x10" * 160, 0))
        line.tick()
    line.receive(line.packet(bytes((40,)), 13))
    line.run(0.1)
    level = np.sqrt(np.mean(np.frombuffer(g711.decode_ulaw(line.run(1.0)), np.int16).astype(float) ** 2))
    assert 20 * np.log10(level / 32768) == pytest.approx(-40, abs=1)
    line.timestamp += 8000 + 800
    heard = b""
    for _ in range(10):
        line.receive(line.packet(b"\x20" * 160, 0))
        heard += line.tick()
    assert b"\x20" * 160 in heard
    statistics = line.leg.statistics(line.clock())
    assert (statistics.frames_concealed, statistics.packets_refused, statistics.packets_lost) == (0, 0, 0)


def test_comfort_noise_that_was_not_agreed_is_refused() -> None:
    line = Line(policy(), sdp("0 101", EVENTS))
    line.receive(line.packet(b"\x10" * 160, 0))
    line.receive(line.packet(bytes((40,)), 13))
    assert line.leg.statistics(line.clock()).packets_refused == 1


# --- RTCP on RTP's port ---------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True])
def test_with_rtcp_mux_reports_come_and_go_by_rtps_port(secure: bool) -> None:
    """RFC 5761."""
    profile, keys = ("RTP/SAVP", (crypto(),)) if secure else ("RTP/AVP", ())
    line = Line(policy(srtp="allow"), sdp("0 101", "a=rtcp-mux", *keys, EVENTS, profile=profile))
    peer = SecureMedia(Agreement(Crypto(1, STRONG, KEY), line.ours)) if secure else None
    audio = line.packet(b"\x10" * 160, 0)
    line.receive(peer.protect_rtp(audio) if peer else audio)
    block = ReportBlock(line.leg._out.ssrc, 64, 1, 1, 0, 0, 0)
    report = rtcp.build(ReceiverReport(7, (block,)), SourceDescription(((7, "x"),)))
    line.receive((peer.protect_rtcp(report) if peer else report) or b"")
    assert line.leg.statistics(line.clock()).remote_fraction_lost == 0.25
    line.out.clear()
    line.run(8)
    assert line.out_rtcp == []
    reports = [data for data, target in line.out if 192 <= data[1] <= 223 and target == PEER]
    assert reports
    clear = peer.unprotect_rtcp(reports[0], 0.0) if peer else reports[0]
    assert clear is not None and rtcp.parse(clear)


def test_with_rtcp_mux_reports_go_where_a_peer_behind_a_nat_is_heard_from() -> None:
    """RFC 5761: there is one port, and the SDP's own address is not where it is."""
    line = Line(policy(), sdp("0 101", "a=rtcp-mux", EVENTS))
    for _ in range(40):
        line.receive(line.packet(b"\x10" * 160, 0), STRANGER)
    line.out.clear()
    line.run(8)
    assert line.out_rtcp == []
    assert {target for data, target in line.out if 192 <= data[1] <= 223} == {STRANGER}


def test_rtcp_on_rtps_port_that_was_not_agreed_is_refused() -> None:
    line = Line(policy(), sdp("0 101", EVENTS))
    line.receive(line.packet(b"\x10" * 160, 0))
    line.receive(rtcp.build(ReceiverReport(7, ()), SourceDescription(((7, "x"),))))
    assert line.leg.statistics(line.clock()).packets_refused == 1


# --- digits in the audio --------------------------------------------------------------------------


def press(line: Line, text: str, encoding: Encoding = "PCMU") -> None:
    rate = 8000
    samples = np.concatenate([part for digit in text for part in (key(digit, 80, rate), pause(60, rate))])
    samples = np.concatenate((samples, pause(400, rate)))
    audio = g711.encode_ulaw(samples.astype(np.int16).tobytes())
    for at in range(0, len(audio) - 159, 160):
        line.receive(line.packet(audio[at : at + 160], 0))
        line.tick()


@pytest.mark.parametrize(
    ("dtmf", "events", "heard"),
    [
        ("auto", False, "12#"),
        ("auto", True, ""),
        ("inband", True, "12#"),
        ("inband", False, "12#"),
        ("rfc4733", False, ""),
        ("rfc4733", True, ""),
    ],
)
def test_digits_are_heard_in_the_audio_where_the_trunk_wants_it(dtmf: str, events: bool, heard: str) -> None:
    line = Line(policy(dtmf=dtmf), sdp("0 101", EVENTS) if events else sdp("0"))
    press(line, "12#")
    assert "".join(digit for digit, _ in line.digits) == heard
    assert line.leg.statistics(line.clock()).digits_received == len(heard)


def test_a_key_that_comes_by_tone_and_by_event_is_told_once() -> None:
    line = Line(policy(dtmf="inband"), sdp("0 101", EVENTS))
    for digit in "55":
        start = line.timestamp
        line.sequence += 1
        payload = bytes(("0123456789".index(digit), 0x80)) + (640).to_bytes(2, "big")
        line.receive(rtp.build(101, line.sequence, start, 7, payload))
        press(line, digit)
    assert [digit for digit, _ in line.digits] == ["5", "5"]
