"""The phone leg without sockets: what it sends when, whom it believes, and what it tells."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import g711, rtcp, rtp
from media.bridge import Bridge
from media.leg import LegError, LegSettings, PhoneLeg
from media.messages import AgentSpec, LegPolicy
from media.sdp import SdpError
from media.telephone_event import Sender
from media.ticker import FRAME_S, Schedule, Tick
from media.udp import Address
from tests.media.rooms import LAB, offer
from tests.media.test_bridge import FakeAgent
from tests.support.audio import Samples, decode_ulaw, encode_ulaw, heard_s, tone
from tests.support.clock import FakeClock

PEER: Address = ("127.0.0.1", 4000)
PEER_RTCP: Address = ("127.0.0.1", 4001)
STRANGER: Address = ("127.0.0.2", 4000)
SPEECH = bytes(range(160))


class Line:
    """A leg on a fake clock, and the peer's side of it."""

    def __init__(self, policy: LegPolicy = LAB, sdp: bytes | None = None, *, start: bool = True) -> None:
        self.clock = FakeClock()
        self.digits: list[tuple[str, int]] = []
        self.sources: list[Address] = []
        self.losses: list[tuple[str, float]] = []
        self.rtp: list[tuple[rtp.RtpPacket, Address]] = []
        self.rtcp: list[tuple[tuple[rtcp.Packet, ...], Address]] = []
        self.leg = PhoneLeg(
            LegSettings(address="127.0.0.1", rtp_port=20000, policy=policy),
            entropy=Random(1).randbytes,
            on_source=self.sources.append,
            on_lost=lambda kind, after_s: self.losses.append((kind, after_s)),
        )
        self.leg.on_digit = lambda digit, duration_ms: self.digits.append((digit, duration_ms))
        self.answer = self.leg.answer(sdp or offer(4000), self.clock())
        self.leg.connect(self._send_rtp, self._send_rtcp)
        self.sequence, self.timestamp = 65530, 2**32 - 800
        if start:
            self.leg.start(self.clock())

    def _send_rtp(self, data: bytes, target: Address) -> None:
        packet = rtp.parse(data)
        assert packet is not None
        self.rtp.append((packet, target))

    def _send_rtcp(self, data: bytes, target: Address) -> None:
        packets = rtcp.parse(data)
        assert packets is not None
        self.rtcp.append((packets, target))

    @property
    def sent(self) -> list[rtp.RtpPacket]:
        return [packet for packet, _ in self.rtp]

    def tick(self, take: Callable[[], bytes | None] = lambda: None) -> bytes:
        self.clock.advance(FRAME_S)
        self.leg.say(take, self.clock())
        heard = self.leg.hear(self.clock())
        self.leg.attend(self.clock())
        return heard

    def run(self, seconds: float, audio: Iterable[bytes | None] = ()) -> list[bytes]:
        frames = iter(audio)
        return [self.tick(lambda: next(frames, None)) for _ in range(round(seconds / FRAME_S))]

    def hear(
        self, payload: bytes = SPEECH, *, source: Address = PEER, payload_type: int = 0, ssrc: int = 7, **changes: int
    ) -> None:
        """One packet of the peer's, the next in sequence."""
        self.sequence = (self.sequence + 1) & 0xFFFF
        packet = rtp.build(
            payload_type,
            changes.get("sequence", self.sequence),
            changes.get("timestamp", self.timestamp),
            ssrc,
            payload,
        )
        if payload_type in (0, 8):
            self.timestamp = (self.timestamp + len(payload)) & 0xFFFFFFFF
        self.leg.receive_rtp(packet, source, self.clock())

    def talk(self, samples: Samples, **changes: int) -> bytes:
        """The peer says so, a packet every 20 ms; what the leg made of it."""
        data = encode_ulaw(samples)
        heard = []
        for start in range(0, len(data), 160):
            self.hear(data[start : start + 160], **changes)
            heard.append(self.tick())
        return b"".join(heard)

    def statistics(self) -> dict[str, object]:
        found = self.leg.statistics(self.clock())
        return {name: getattr(found, name) for name in found.__struct_fields__}


# --- to the phone ---------------------------------------------------------------------------------


def test_silence_is_in_the_codecs_own_law() -> None:
    line = Line()
    line.run(0.06)
    assert [(packet.payload_type, packet.payload) for packet in line.sent] == [(0, b"\xff" * 160)] * 3
    line = Line(sdp=offer(4000, codecs="8"))
    line.run(0.02)
    assert [(packet.payload_type, packet.payload) for packet in line.sent] == [(8, b"\xd5" * 160)]


def test_silence_is_sent_so_that_nat_and_watchdogs_stay_open() -> None:
    line = Line()
    line.run(1.0)
    assert len(line.sent) == 50
    assert {target for _, target in line.rtp} == {PEER}


def test_sequence_rises_by_one_and_the_timestamp_by_160_whatever_is_sent() -> None:
    line = Line()
    line.run(1.0, [SPEECH, None, SPEECH, None, None])
    packets = line.sent
    assert {(b.sequence - a.sequence) & 0xFFFF for a, b in itertools.pairwise(packets)} == {1}
    assert {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in itertools.pairwise(packets)} == {160}
    assert len({packet.ssrc for packet in packets}) == 1


def markers(line: Line) -> list[int]:
    return [index for index, packet in enumerate(line.sent) if packet.marker]


def test_the_marker_is_on_the_first_packet_and_on_the_first_word_after_a_pause() -> None:
    """RFC 3551 §4.1."""
    line = Line()
    line.run(0.6, [*[SPEECH] * 5, *[None] * 10, *[SPEECH] * 5])
    assert markers(line) == [0, 15]


def test_a_hiccup_of_the_agent_is_no_new_talkspurt() -> None:
    line = Line()
    line.run(0.4, [SPEECH, None, None, SPEECH, None, SPEECH])
    assert markers(line) == [0]


def test_time_that_was_skipped_shows_in_the_timestamp_and_sets_the_marker() -> None:
    line = Line()
    line.run(0.04, [SPEECH, SPEECH])
    line.leg.skip(10)
    line.run(0.02, [SPEECH])
    first, last = line.sent[1], line.sent[2]
    assert (last.timestamp - first.timestamp) & 0xFFFFFFFF == 11 * 160
    assert (last.sequence - first.sequence) & 0xFFFF == 1
    assert markers(line) == [0, 2]


def test_a_peer_that_takes_10_ms_packets_gets_them() -> None:
    line = Line(sdp=offer(4000, extra="a=ptime:10\r\na=maxptime:10\r\n"))
    line.run(0.04, [SPEECH, SPEECH])
    assert [packet.payload for packet in line.sent] == [SPEECH[:80], SPEECH[80:]] * 2
    stamps = [packet.timestamp for packet in line.sent]
    assert {(b - a) & 0xFFFFFFFF for a, b in itertools.pairwise(stamps)} == {80}
    assert markers(line) == [0]


def test_digits_take_the_place_of_audio_and_the_audio_goes_on_after_them() -> None:
    """RFC 4733 §2.5.1: one timestamp a digit, the end three times, the marker on the first."""
    line = Line()
    line.run(0.02, [SPEECH])
    line.leg.queue_digits("1")
    asked: list[int] = []

    def take() -> bytes:
        asked.append(len(line.sent))
        return SPEECH

    while line.leg.digits_pending:
        line.tick(take)
    for _ in range(10):
        line.tick(take)
    events = [packet for packet in line.sent if packet.payload_type == 101]
    assert asked[0] == 1 + len(events), "the agent's audio waits for the digit"
    assert len({packet.timestamp for packet in events}) == 1
    assert [packet.marker for packet in events] == [True] + [False] * (len(events) - 1)
    assert [packet.payload[1] >> 7 for packet in events[-4:]] == [0, 1, 1, 1]
    after = line.sent[1 + len(events)]
    assert after.marker
    assert (after.timestamp - line.sent[0].timestamp) & 0xFFFFFFFF == 160 * (1 + len(events))
    assert line.statistics()["digits_sent"] == 1


def test_w_pauses_half_a_second_and_audio_flows_meanwhile() -> None:
    line = Line()
    line.leg.queue_digits("w1")
    line.run(1.0)
    first = next(index for index, packet in enumerate(line.sent) if packet.payload_type == 101)
    assert first == Sender.PAUSE_MS // 20


@pytest.mark.parametrize("direction", ["sendonly", "inactive"])
def test_on_hold_nothing_is_sent_and_time_goes_on(direction: str) -> None:
    line = Line()
    line.run(0.1)
    line.leg.answer(offer(4000, extra=f"a={direction}\r\n"), line.clock())
    assert line.leg.held
    taken = []
    for _ in range(10):
        line.tick(lambda: taken.append(1) or SPEECH)  # type: ignore[func-returns-value]
    assert len(line.sent) == 5
    assert len(taken) == 10, "what the agent says to a held phone is said to nobody, and does not pile up"
    line.leg.answer(offer(4000), line.clock())
    assert not line.leg.held
    line.run(0.02, [SPEECH])
    assert (line.sent[5].timestamp - line.sent[4].timestamp) & 0xFFFFFFFF == 11 * 160
    assert line.sent[5].marker


def test_the_old_hold_of_a_zero_address_is_known() -> None:
    """RFC 3264 §8.4."""
    line = Line()
    line.leg.answer(offer(4000, address="0.0.0.0"), line.clock())
    assert line.leg.held
    line.run(0.1)
    assert line.sent == []


def test_digits_wait_while_the_phone_is_held() -> None:
    line = Line()
    line.leg.answer(offer(4000, extra="a=inactive\r\n"), line.clock())
    line.leg.queue_digits("1")
    line.run(1.0)
    assert line.leg.digits_pending
    line.leg.answer(offer(4000), line.clock())
    line.run(1.0)
    assert not line.leg.digits_pending


def test_a_codec_changed_in_mid_call_is_transcoded_at_the_wire() -> None:
    line = Line()
    line.leg.answer(offer(4000, codecs="8"), line.clock())
    assert (line.leg.codec, line.leg.law) == ("PCMA", "PCMU")
    line.run(0.02, [SPEECH])
    assert (line.sent[0].payload_type, line.sent[0].payload) == (8, g711.transcode(SPEECH, "PCMU", "PCMA"))
    line.run(0.02)
    assert line.sent[1].payload == g711.transcode(b"\xff" * 160, "PCMU", "PCMA")
    loud = tone(600, 1.0)
    data = g711.transcode(encode_ulaw(loud), "PCMU", "PCMA")
    heard = b""
    for start in range(0, len(data), 160):
        line.hear(data[start : start + 160], payload_type=8)
        heard += line.tick()
    assert heard_s(decode_ulaw(heard), 600) > 0.8


def test_after_the_close_nothing_leaves_but_the_goodbye() -> None:
    """RFC 3550 §6.3.7."""
    line = Line()
    line.run(0.1)
    line.leg.close(line.clock())
    assert isinstance(line.rtcp[-1][0][-1], rtcp.Goodbye)
    count = len(line.sent)
    line.run(0.1, [SPEECH] * 5)
    line.hear()
    assert len(line.sent) == count
    assert len(line.rtcp) == 1


def test_who_has_sent_nothing_says_no_goodbye() -> None:
    line = Line(start=False)
    line.leg.close(line.clock())
    assert line.rtcp == []


# --- from the phone -------------------------------------------------------------------------------


def test_the_callers_tone_is_heard() -> None:
    line = Line()
    assert heard_s(decode_ulaw(line.talk(tone(700, 2.0))), 700) > 1.8
    found = line.statistics()
    assert (found["packets_received"], found["packets_lost"], found["packets_refused"]) == (100, 0, 0)


def test_every_20_ms_gives_a_frame_also_when_nothing_comes() -> None:
    line = Line()
    heard = line.run(0.5)
    assert {len(frame) for frame in heard} == {160}
    assert set(b"".join(heard)) == {0xFF}


def test_rtp_before_the_call_is_established_is_not_looked_at() -> None:
    line = Line(start=False)
    for _ in range(10):
        line.hear(source=STRANGER)
    assert line.sources == []
    assert line.statistics()["packets_received"] == 0


def test_the_source_is_told_once() -> None:
    line = Line()
    line.talk(tone(700, 0.2))
    line.talk(tone(700, 0.2), ssrc=8)
    assert line.sources == [PEER]


def test_a_private_address_in_the_sdp_and_symmetric_rtp_both_ways_flow_where_the_rtp_comes_from() -> None:
    line = Line()
    natted = ("127.0.0.1", 61234)
    data = encode_ulaw(tone(700, 1.0))
    heard = b""
    for start in range(0, len(data), 160):
        line.hear(data[start : start + 160], source=natted)
        heard += line.tick()
    assert heard_s(decode_ulaw(heard), 700) > 0.7
    assert line.sources == [natted]
    assert line.rtp[0][1] == PEER
    assert line.rtp[-1][1] == natted


def test_a_stranger_is_not_heard_and_gets_nothing() -> None:
    line = Line()
    line.talk(tone(700, 0.5))
    before = line.statistics()["packets_received"]
    loud = encode_ulaw(tone(1900, 0.02))
    for number in range(200):
        line.hear(loud, source=STRANGER, ssrc=7, sequence=number, timestamp=number * 160)
    assert line.statistics()["packets_received"] == before
    assert line.statistics()["packets_refused"] == 200
    line.run(0.1)
    assert STRANGER not in {target for _, target in line.rtp}


@pytest.mark.parametrize(
    "junk",
    [b"", b"x", b"\x80", bytes(12), b"\x00" * 200, b"\xff" * 172, bytes(rtcp.build(rtcp.ReceiverReport(1)))],
    ids=range(7),
)
def test_junk_on_the_rtp_port_is_counted_and_dropped(junk: bytes) -> None:
    line = Line()
    line.leg.receive_rtp(junk, PEER, line.clock())
    line.leg.receive_rtcp(junk, PEER_RTCP, line.clock())
    line.run(0.1)
    assert line.statistics()["packets_received"] == 0


@given(data=st.data())
def test_no_datagram_raises(data: st.DataObject) -> None:
    line = Line()
    line.talk(tone(700, 0.06))
    valid = rtp.build(data.draw(st.sampled_from([0, 8, 13, 101])), 65535, 0, 7, data.draw(st.binary(max_size=400)))
    report = rtcp.build(rtcp.ReceiverReport(7, (rtcp.ReportBlock(1, 2, 3, 4, 5, 6, 7),)))
    for kind, receive, source in ((valid, line.leg.receive_rtp, PEER), (report, line.leg.receive_rtcp, PEER_RTCP)):
        mutated = bytearray(kind)
        for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(kind) - 1), st.integers(0, 255)), max_size=6)):
            mutated[at] = value
        for datagram in (bytes(mutated), bytes(mutated[: data.draw(st.integers(0, len(kind)))])):
            receive(datagram, source, line.clock())
    line.run(0.1)


def test_a_payload_type_that_was_not_agreed_is_refused_and_is_no_loss() -> None:
    line = Line()
    line.talk(tone(700, 0.2))
    for _ in range(5):
        line.hear(b"\x00" * 33, payload_type=18)
    line.talk(tone(700, 0.2))
    found = line.statistics()
    assert (found["packets_refused"], found["packets_lost"]) == (5, 0)


def test_another_ssrc_of_the_right_address_is_heard_after_its_probation() -> None:
    """Carriers change media servers in mid-call (RFC 3550 §A.1)."""
    line = Line()
    line.talk(tone(700, 0.5))
    line.sequence, line.timestamp = 100, 500_000
    assert heard_s(decode_ulaw(line.talk(tone(1100, 1.0), ssrc=99)), 1100) > 0.8


def test_loss_is_concealed_and_counted() -> None:
    line = Line()
    data = encode_ulaw(tone(440, 2.0))
    heard = b""
    for number, start in enumerate(range(0, len(data), 160)):
        frame = data[start : start + 160]
        if number % 20 == 19:
            line.sequence += 1
            line.timestamp += 160
        else:
            line.hear(frame)
        heard += line.tick()
    found = line.statistics()
    assert found["packets_lost"] == pytest.approx(5, abs=1)
    assert found["frames_concealed"] == pytest.approx(5, abs=2)
    middle = decode_ulaw(heard)[4000:-2000].astype(np.float64).reshape(-1, 80)
    assert float(np.sqrt((middle**2).mean(axis=1)).min()) > 3000, "no hole in the tone"


def test_digits_are_told_once_however_often_their_packets_come() -> None:
    """RFC 4733 §2.5.1.2."""
    line = Line()
    sender = Sender()
    sender.queue("5#")
    line.talk(tone(400, 0.1))
    while sender.waiting:
        event = sender.next(line.timestamp)
        if event is not None:
            line.hear(event.payload, payload_type=101, timestamp=event.timestamp)
        line.timestamp = (line.timestamp + 160) & 0xFFFFFFFF
        line.tick()
    assert [digit for digit, _ in line.digits] == ["5", "#"]
    assert all(100 <= duration_ms <= 200 for _, duration_ms in line.digits)
    found = line.statistics()
    assert (found["digits_received"], found["packets_lost"]) == (2, 0)
    assert found["frames_concealed"] == 0, "a digit in audio's place is no loss"


def test_a_digit_whose_end_is_lost_is_told_when_its_packets_cease() -> None:
    line = Line()
    line.talk(tone(400, 0.1))
    line.hear(b"\x05\x0a\x00\xa0", payload_type=101)
    line.run(0.1)
    assert line.digits == []
    line.run(0.3)
    assert [digit for digit, _ in line.digits] == ["5"]


# --- the watchdog ---------------------------------------------------------------------------------


WATCHED = LegPolicy(allow_private=True, first_packet_timeout_s=5.0, silence_timeout_s=3.0)


def test_no_media_at_all_is_told_after_its_time_out_once() -> None:
    line = Line(WATCHED)
    line.run(4.9)
    assert line.losses == []
    line.run(6.0)
    assert [kind for kind, _ in line.losses] == ["never"]


def test_media_that_ceases_is_told() -> None:
    line = Line(WATCHED)
    line.talk(tone(700, 1.0))
    line.run(4.0)
    [(kind, after_s)] = line.losses
    assert kind == "silence"
    assert after_s == pytest.approx(3.0, abs=0.15)


@pytest.mark.parametrize("direction", ["sendonly", "inactive", "recvonly"])
def test_a_call_on_hold_is_not_lost_for_its_silence(direction: str) -> None:
    line = Line(WATCHED)
    line.talk(tone(700, 0.5))
    line.leg.answer(offer(4000, extra=f"a={direction}\r\n"), line.clock())
    line.run(60)
    assert line.losses == []
    line.leg.answer(offer(4000), line.clock())
    line.run(2.5)
    assert line.losses == []
    line.run(1.0)
    assert [kind for kind, _ in line.losses] == ["silence"]


def test_a_muted_phone_that_still_reports_is_not_lost() -> None:
    line = Line(WATCHED)
    line.talk(tone(700, 0.5))
    for _ in range(10):
        line.run(1.0)
        line.leg.receive_rtcp(rtcp.build(rtcp.ReceiverReport(7)), PEER_RTCP, line.clock())
    assert line.losses == []


def test_without_time_outs_nothing_is_ever_lost() -> None:
    line = Line(LegPolicy(allow_private=True, first_packet_timeout_s=None, silence_timeout_s=None))
    line.run(300)
    assert line.losses == []


# --- RTCP -----------------------------------------------------------------------------------------


def test_reports_go_about_every_five_seconds_to_the_rtcp_port() -> None:
    """RFC 3550 §6.2."""
    line = Line(WATCHED)
    line.talk(tone(300, 60.0))
    assert 8 <= len(line.rtcp) <= 22
    assert {target for _, target in line.rtcp} == {PEER_RTCP}
    report, names = line.rtcp[-1][0]
    assert isinstance(report, rtcp.SenderReport)
    assert isinstance(names, rtcp.SourceDescription)
    assert report.sender.packets <= len(line.sent)
    assert report.sender.octets == report.sender.packets * 160
    assert report.blocks[0].ssrc == 7
    assert report.blocks[0].cumulative_lost == 0
    ahead = (line.sent[-1].timestamp - report.sender.rtp_timestamp) & 0xFFFFFFFF
    assert ahead < 8 * 8000


def test_who_may_not_send_reports_as_a_receiver() -> None:
    line = Line()
    line.leg.answer(offer(4000, extra="a=inactive\r\n"), line.clock())
    line.run(10.0)
    assert all(isinstance(packets[0], rtcp.ReceiverReport) for packets, _ in line.rtcp)
    assert line.rtcp


def test_the_peers_report_gives_round_trip_loss_and_jitter() -> None:
    line = Line()
    line.talk(tone(300, 10.0))
    report = line.rtcp[-1][0][0]
    assert isinstance(report, rtcp.SenderReport)
    ssrc = line.sent[0].ssrc
    sent_at = report.sender.ntp / 2**32
    line.clock.advance_to(sent_at + 0.3)
    delay_s = line.clock() - sent_at - 0.12
    block = rtcp.ReportBlock(ssrc, 64, 5, 0, 80, report.sender.ntp >> 16 & 0xFFFFFFFF, int(delay_s * 65536))
    line.leg.receive_rtcp(rtcp.build(rtcp.ReceiverReport(7, (block,))), PEER_RTCP, line.clock())
    found = line.statistics()
    assert found["round_trip_ms"] == pytest.approx(120, abs=1)
    assert found["remote_fraction_lost"] == 0.25
    assert found["remote_jitter_ms"] == 10.0


def test_rtcp_of_a_stranger_is_refused() -> None:
    line = Line()
    line.talk(tone(300, 0.2))
    block = rtcp.ReportBlock(line.sent[0].ssrc, 255, 5, 0, 80, 0, 0)
    line.leg.receive_rtcp(rtcp.build(rtcp.ReceiverReport(7, (block,))), ("127.0.0.2", 4001), line.clock())
    assert line.statistics()["remote_fraction_lost"] is None


# --- offers and answers ---------------------------------------------------------------------------


def test_a_refused_re_offer_changes_nothing() -> None:
    line = Line()
    with pytest.raises(SdpError):
        line.leg.answer(offer(4000, codecs="18"), line.clock())
    line.run(0.02, [SPEECH])
    assert (line.leg.codec, line.sent[0].payload) == ("PCMU", SPEECH)


def test_an_answer_without_an_offer_and_a_start_without_an_answer_are_refused() -> None:
    line = Line()
    with pytest.raises(LegError) as error:
        line.leg.apply_answer(offer(4000), line.clock())
    assert error.value.code == "no_offer"
    leg = PhoneLeg(
        LegSettings("127.0.0.1", 20000, LAB),
        entropy=Random(1).randbytes,
        on_source=lambda _: None,
        on_lost=lambda *_: None,
    )
    leg.offer()
    with pytest.raises(LegError) as error:
        leg.start(0.0)
    assert error.value.code == "no_answer"


def test_an_answer_that_cannot_be_taken_leaves_the_offer_open() -> None:
    leg = PhoneLeg(
        LegSettings("127.0.0.1", 20000, LAB),
        entropy=Random(1).randbytes,
        on_source=lambda _: None,
        on_lost=lambda *_: None,
    )
    leg.offer()
    with pytest.raises(SdpError):
        leg.apply_answer(offer(4000, codecs="18"), 0.0)
    leg.apply_answer(offer(4000, codecs="8"), 0.0)
    assert (leg.codec, leg.law) == ("PCMA", "PCMA")


def test_a_phone_that_moves_by_a_re_invite_is_followed() -> None:
    line = Line()
    line.talk(tone(700, 0.2))
    line.leg.answer(offer(5000), line.clock())
    line.run(0.02)
    assert line.rtp[-1][1] == ("127.0.0.1", 5000)
    moved: Address = ("127.0.0.1", 5000)
    data = encode_ulaw(tone(900, 1.0))
    heard = b""
    for start in range(0, len(data), 160):
        line.hear(data[start : start + 160], source=moved)
        heard += line.tick()
    assert heard_s(decode_ulaw(heard), 900) > 0.8
    assert line.sources == [PEER, moved]


def test_a_re_invite_that_changes_nothing_keeps_the_learnt_source() -> None:
    line = Line()
    natted = ("127.0.0.1", 61234)
    for _ in range(5):
        line.hear(source=natted)
        line.tick()
    line.leg.answer(offer(4000), line.clock())
    line.run(0.02)
    assert line.rtp[-1][1] == natted


def test_digits_need_a_peer_that_takes_them() -> None:
    without = offer(4000).replace(b" 101\r\na=rtpmap:101 telephone-event/8000", b"")
    line = Line(sdp=without)
    with pytest.raises(LegError) as error:
        line.leg.queue_digits("1")
    assert error.value.code == "no_telephone_event"
    line.leg.send_digits("1")
    assert not line.leg.digits_pending


# --- two legs, joined ------------------------------------------------------------------------------


class Party:
    """A leg and a bridge whose agent says one tone and keeps what it hears."""

    def __init__(self, name: str, port: int, seed: int, clock: FakeClock) -> None:
        self.agent = FakeAgent()
        self.leg = PhoneLeg(
            LegSettings("127.0.0.1", port, LAB),
            entropy=Random(seed).randbytes,
            on_source=lambda _: None,
            on_lost=lambda *_: None,
        )
        spec = AgentSpec(protocol="builtin")
        self.bridge = Bridge(name, spec=spec, leg=self.leg, agent=self.agent, notify=lambda _: None, clock=clock)
        self.leg.on_digit = self.bridge.digit
        self.inbox: deque[tuple[float, bytes, Address]] = deque()
        self.reports: deque[tuple[float, bytes, Address]] = deque()

    def deliver(self, now: float) -> None:
        for waiting, receive in ((self.inbox, self.leg.receive_rtp), (self.reports, self.leg.receive_rtcp)):
            while waiting and waiting[0][0] <= now:
                at, data, source = waiting.popleft()
                receive(data, source, at)


def test_two_calls_joined_in_memory_hear_each_others_tone_and_digits_over_a_lossy_network() -> None:
    """Ours calls ours: offer and answer, 40 ms of delay, every 25th packet lost."""
    clock = FakeClock()
    left, right = Party("left", 20000, 1, clock), Party("right", 30000, 2, clock)
    left.leg.apply_answer(right.leg.answer(left.leg.offer(), clock()), clock())
    count = 0

    def wire(to: Party, source: Address) -> Callable[[bytes, Address], None]:
        def send(data: bytes, target: Address) -> None:
            nonlocal count
            count += 1
            if count % 25:
                to.inbox.append((clock() + 0.04, data, source))

        return send

    def report(to: Party, source: Address) -> Callable[[bytes, Address], None]:
        return lambda data, target: to.reports.append((clock() + 0.04, data, source))

    left.leg.connect(wire(right, ("127.0.0.1", 20000)), report(right, ("127.0.0.1", 20001)))
    right.leg.connect(wire(left, ("127.0.0.1", 30000)), report(left, ("127.0.0.1", 30001)))
    for party, hz in ((left, 600), (right, 1500)):
        party.bridge.open()
        party.bridge.started()
        party.bridge.play(encode_ulaw(tone(hz, 4.0)), "PCMU")
        party.leg.start(clock())
        party.bridge.start()
    right.leg.queue_digits("w2*")
    for _ in range(round(10.0 / FRAME_S)):
        now = clock.advance(FRAME_S)
        tick = Tick(now=now, frames=1, skipped=0, late_s=0.0, due_at=now)
        for party in (left, right):
            party.deliver(now)
            party.bridge.say(tick)
        for party in (left, right):
            party.bridge.hear(tick)
            party.leg.attend(now)
    at_right = decode_ulaw(b"".join(frame for _, frame in right.agent.heard))
    at_left = decode_ulaw(b"".join(frame for _, frame in left.agent.heard))
    assert heard_s(at_right, 600) > 3.6
    assert heard_s(at_left, 1500) > 3.3
    assert left.agent.digits == ["2", "*"]
    for party in (left, right):
        found = party.leg.statistics(clock())
        assert found.round_trip_ms == pytest.approx(80, abs=25)
        assert found.remote_fraction_lost == pytest.approx(0.04, abs=0.02)
        assert found.packets_lost == pytest.approx(20, abs=2)
        assert found.frames_concealed <= 22


def test_late_ticks_cost_the_caller_no_audio() -> None:
    """A loop that was busy for 65 ms is no surplus of the jitter buffer: nothing is merged, and then missed."""
    clock = FakeClock()
    party = Party("late", 20000, 1, clock)
    party.leg.answer(offer(4000), clock())
    party.leg.connect(lambda *_: None, lambda *_: None)
    party.bridge.open()
    party.bridge.started()
    party.leg.start(clock())
    party.bridge.start()
    begun, schedule, delays_ms = clock(), Schedule(clock()), list[float]()
    for number in range(500):
        packet = rtp.build(0, number, number * 160, 7, bytes([number % 100]) + SPEECH[1:])
        party.inbox.append((begun + number * FRAME_S + 0.003, packet, PEER))
    for number in range(440):
        clock.advance_to(max(clock(), schedule.next_at + (0.065 if number % 25 == 24 else 0.0)))
        party.deliver(clock())
        tick = schedule.due(clock())
        party.bridge.say(tick)
        party.bridge.hear(tick)
        delays_ms.append(party.leg.statistics(clock()).jitter_buffer_ms or 0.0)
    found = party.leg.statistics(clock())
    assert (found.frames_concealed, found.packets_late) == (0, 0)
    assert min(delays_ms[5:]) > 10
    assert found.packets_received - found.frames_played <= 3, "no frames were merged"


# --- holding the phone ----------------------------------------------------------------------------


def test_a_phone_we_hold_is_offered_sendonly_and_its_silence_is_no_loss() -> None:
    """RFC 3264 §8.4; our packets go on, so that bindings and carriers' watchdogs stay open."""
    line = Line(WATCHED)
    line.talk(tone(700, 0.5))
    ours = line.leg.hold(True)
    assert b"a=sendonly\r\n" in ours
    assert not line.leg.holding
    line.leg.apply_answer(offer(4000, codecs="0", extra="a=recvonly\r\n"), line.clock())
    assert line.leg.holding
    assert not line.leg.held
    count = len(line.sent)
    line.run(60)
    assert len(line.sent) == count + 3000
    assert line.losses == []
    assert b"a=sendrecv\r\n" in line.leg.hold(False)
    line.leg.apply_answer(offer(4000, codecs="0"), line.clock())
    assert not line.leg.holding
    line.run(3.5)
    assert [kind for kind, _ in line.losses] == ["silence"]


def test_a_phone_that_holds_us_is_offered_inactive() -> None:
    """RFC 3264 §8.4: what was not sent before is marked inactive."""
    line = Line()
    line.leg.answer(offer(4000, extra="a=sendonly\r\n"), line.clock())
    assert b"a=inactive\r\n" in line.leg.hold(True)


def test_our_hold_outlasts_the_phones_own_offers() -> None:
    """A session refresh of its, say: the answer still says that we hold."""
    line = Line()
    line.leg.hold(True)
    line.leg.apply_answer(offer(4000, codecs="0", extra="a=recvonly\r\n"), line.clock())
    assert b"a=sendonly\r\n" in line.leg.answer(offer(4000), line.clock())


def test_a_refused_hold_changes_nothing_and_its_version_is_not_used_again() -> None:
    line = Line()
    first = line.leg.hold(True)
    line.leg.withdraw()
    assert not line.leg.holding
    with pytest.raises(LegError):
        line.leg.apply_answer(offer(4000, codecs="0"), line.clock())
    line.run(0.02)
    assert len(line.sent) == 1
    again = line.leg.hold(False)
    versions = [int(sdp.split(b"o=- ", 1)[1].split()[1]) for sdp in (line.answer, first, again)]
    assert versions == [versions[0], versions[0] + 1, versions[0] + 2]


def test_a_refreshed_session_follows_the_phones_answer() -> None:
    """RFC 4028 §7.4: our description as it is, said again; the phone may have moved."""
    line = Line()
    line.leg.apply_answer(offer(5000, codecs="0"), line.clock(), refresh=True)
    line.run(0.02)
    assert line.rtp[-1][1] == ("127.0.0.1", 5000)


def test_a_refresh_leaves_an_offer_of_ours_open() -> None:
    line = Line()
    line.leg.hold(True)
    line.leg.apply_answer(offer(4000, codecs="0"), line.clock(), refresh=True)
    assert not line.leg.holding


def test_early_media_is_taken_without_consuming_the_offer() -> None:
    """Trouble elsewhere: 183 with SDP lost on outbound. A fork and the final answer may each say something else."""
    line = Line(start=False)
    offered = line.leg.offer()
    assert offered
    line.leg.apply_early(offer(4000, codecs="0"), line.clock())
    line.leg.start(line.clock())
    line.hear()
    line.tick()
    assert line.sources == [PEER]
    line.leg.apply_early(offer(4100, codecs="8"), line.clock())
    line.leg.apply_answer(offer(4200, codecs="8"), line.clock())
    assert line.leg.codec == "PCMA"
    with pytest.raises(LegError, match="no offer of ours"):
        line.leg.apply_answer(offer(4200), line.clock())
    with pytest.raises(LegError, match="no offer of ours"):
        line.leg.apply_early(offer(4200), line.clock())


def test_an_early_offer_of_the_peers_leaves_ours_to_be_answered_by_another_fork() -> None:
    """RFC 3311: the UPDATE of one fork; RFC 3261 §13.2.2.4: the 2xx of another."""
    line = Line()
    line.leg.offer()
    line.leg.apply_early(offer(4000, codecs="0"), line.clock())
    line.leg.answer(offer(4100, codecs="8"), line.clock(), early=True)
    assert line.leg.codec == "PCMA"
    line.leg.apply_answer(offer(4200, codecs="0"), line.clock())
    assert line.leg.codec == "PCMU"
    with pytest.raises(LegError):
        line.leg.apply_answer(offer(4200), line.clock())


def test_before_the_answer_the_phone_hears_and_is_not_missed() -> None:
    """Early media (RFC 3960): the watchdog begins with the call."""
    line = Line(WATCHED, start=False)
    line.leg.start(line.clock(), early=True)
    line.run(60, [SPEECH])
    assert line.sent[0].payload == SPEECH
    assert line.losses == []
    line.leg.start(line.clock())
    line.run(60)
    assert [kind for kind, _ in line.losses] == ["never"]
