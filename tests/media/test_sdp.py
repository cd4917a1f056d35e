"""SDP offer/answer: what carriers and phones send, what attackers send, and what a session remembers."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.sdp import (
    Capabilities,
    Codec,
    Direction,
    RemoteMedia,
    SdpError,
    address_version,
    answer,
    apply_answer,
    make_offer,
    parse,
)

OURS = Capabilities(address="198.51.100.7", port=20000, session_id=77)
LAB = Capabilities(address="127.0.0.1", port=20000, session_id=77, allow_private=True)
SIX = Capabilities(address="2a00:1450::7", port=20000, session_id=77)

TWILIO = b"""v=0
o=root 1185447129 1185447129 IN IP4 168.86.138.121
s=Twilio Media Gateway
c=IN IP4 168.86.138.121
t=0 0
m=audio 12692 RTP/AVP 0 8 101
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=ptime:20
a=maxptime:20
a=sendrecv
""".replace(b"\n", b"\r\n")

TELNYX = b"""v=0
o=FreeSWITCH 1700000000 1700000001 IN IP4 36.255.198.130
s=FreeSWITCH
c=IN IP4 36.255.198.130
t=0 0
m=audio 19888 RTP/AVP 0 8 9 18 102 101 103
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:9 G722/8000
a=rtpmap:18 G729/8000
a=fmtp:18 annexb=no
a=rtpmap:102 opus/48000/2
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=rtpmap:103 telephone-event/48000
a=fmtp:103 0-15
a=ptime:20
a=rtcp:19889 IN IP4 36.255.198.130
"""


def offer(*lines: str, connection: str = "IN IP4 8.8.4.4", media: str = "audio 4000 RTP/AVP 0 101") -> bytes:
    """An offer of one stream; ``lines`` follow its m=."""
    rows = ["v=0", "o=- 1 1 IN IP4 8.8.4.4", "s=-", f"c={connection}", "t=0 0", f"m={media}", *lines]
    return ("\r\n".join(rows) + "\r\n").encode()


EVENTS = "a=rtpmap:101 telephone-event/8000"


def lines(sdp: bytes) -> list[str]:
    assert sdp.endswith(b"\r\n")
    return sdp.decode("ascii").split("\r\n")[:-1]


def version(sdp: bytes) -> int:
    found = re.search(rb"^o=- 77 (\d+) IN IP", sdp, re.MULTILINE)
    assert found is not None
    return int(found[1])


def refusal(body: bytes, capabilities: Capabilities = OURS) -> SdpError:
    with pytest.raises(SdpError) as caught:
        answer(body, capabilities)
    return caught.value


# --- answers --------------------------------------------------------------------------------------


def test_twilios_offer_is_answered_with_pcmu_and_digits() -> None:
    """RFC 3264 §6: the offer's own payload types, one codec, the reversed direction."""
    agreed = answer(TWILIO, OURS)
    assert lines(agreed.sdp) == [
        "v=0",
        "o=- 77 1 IN IP4 198.51.100.7",
        "s=-",
        "c=IN IP4 198.51.100.7",
        "t=0 0",
        "m=audio 20000 RTP/AVP 0 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=ptime:20",
        "a=sendrecv",
    ]
    assert agreed.remote == RemoteMedia("168.86.138.121", 12692, "168.86.138.121", 12693)
    assert agreed.codec == Codec("PCMU", 0, 0)
    assert agreed.telephone_event is not None
    assert agreed.telephone_event.events == frozenset(range(16))
    assert (agreed.held, agreed.direction, agreed.may_send, agreed.may_receive) == (
        False,
        Direction.SENDRECV,
        True,
        True,
    )


def test_telnyx_offer_takes_the_8_khz_telephone_event_among_two() -> None:
    """RFC 4733 §2.1: events share the clock of the audio."""
    agreed = answer(TELNYX, OURS)
    assert agreed.telephone_event is not None
    assert agreed.telephone_event.send_payload_type == 101
    assert b"103" not in agreed.sdp


def test_our_order_of_preference_decides() -> None:
    """RFC 3264 §6.1 leaves the order of the answer to the answerer."""
    assert answer(TWILIO, Capabilities("198.51.100.7", 20000, 77, codecs=("PCMA", "PCMU"))).codec.name == "PCMA"
    assert answer(offer(media="audio 4000 RTP/AVP 8 0"), OURS).codec.name == "PCMU"


def test_static_payload_types_need_no_rtpmap() -> None:
    """RFC 3551 §6."""
    assert answer(offer(media="audio 4000 RTP/AVP 8"), OURS).codec == Codec("PCMA", 8, 8)


def test_pcmu_under_a_dynamic_payload_type_is_taken_under_that() -> None:
    agreed = answer(offer("a=rtpmap:96 pcmu/8000/1", media="audio 4000 RTP/AVP 96"), OURS)
    assert agreed.codec == Codec("PCMU", 96, 96)
    assert "a=rtpmap:96 PCMU/8000" in lines(agreed.sdp)


@pytest.mark.parametrize("remap", ["L16/8000", "PCMU/16000", "PCMU/8000/2"])
def test_a_static_number_remapped_to_something_else_is_not_pcmu(remap: str) -> None:
    error = refusal(offer(f"a=rtpmap:0 {remap}", media="audio 4000 RTP/AVP 0"))
    assert error.code == "no_common_codec"


def test_without_telephone_event_there_is_none() -> None:
    agreed = answer(offer(media="audio 4000 RTP/AVP 0"), OURS)
    assert agreed.telephone_event is None
    assert b"telephone-event" not in agreed.sdp


@pytest.mark.parametrize(
    ("fmtp", "events"),
    [
        ("0-15", set(range(16))),
        ("0-16", set(range(16))),
        ("0-11,16", set(range(12))),
        ("0,1,2, 11", {0, 1, 2, 11}),
        ("events=0-9", set(range(10))),
        ("0-99999", set(range(16))),
        ("nonsense", set(range(16))),
        ("66,70", set()),
    ],
)
def test_the_peers_events_are_read_from_fmtp(fmtp: str, events: set[int]) -> None:
    """RFC 4733 §2.4.1; without a list, or with one that cannot be read: 0-15."""
    agreed = answer(offer(EVENTS, f"a=fmtp:101 {fmtp}"), OURS)
    assert agreed.telephone_event is not None
    assert agreed.telephone_event.events == events


@pytest.mark.parametrize(
    ("attributes", "ptime_ms"),
    [
        ((), 20),
        (("a=ptime:30",), 30),
        (("a=ptime:5",), 10),
        (("a=ptime:200",), 60),
        (("a=ptime:0",), 20),
        (("a=ptime:-20",), 20),
        (("a=ptime:99999999999999999999",), 20),
        (("a=ptime:20.0",), 20),
        (("a=ptime:40", "a=maxptime:20"), 20),
        (("a=maxptime:10",), 10),
        (("a=maxptime:1",), 10),
    ],
)
def test_the_packet_time_is_held_within_10_to_60_ms(attributes: tuple[str, ...], ptime_ms: int) -> None:
    assert answer(offer(*attributes), OURS).ptime_ms == ptime_ms


# --- several m= lines -----------------------------------------------------------------------------


def test_other_streams_are_refused_with_port_0_in_their_places() -> None:
    """RFC 3264 §6: as many m= lines as in the offer, in its order."""
    body = (
        offer(media="video 5000 RTP/AVP 99")
        + b"m=audio 4000 RTP/AVP 18\r\nm=audio 4002/1 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n"
        + b"m=image 6000 udptl t38\r\nm=audio 4004 RTP/AVP 0\r\n"
    )
    agreed = answer(body, OURS)
    assert [line for line in lines(agreed.sdp) if line.startswith("m=")] == [
        "m=video 0 RTP/AVP 99",
        "m=audio 0 RTP/AVP 18",
        "m=audio 20000 RTP/AVP 8 101",
        "m=image 0 udptl t38",
        "m=audio 0 RTP/AVP 0",
    ]
    assert agreed.remote is not None
    assert agreed.remote.port == 4002


def test_a_stream_the_peer_disabled_is_not_taken() -> None:
    """RFC 3264 §8.2."""
    assert "port 0" in refusal(offer(media="audio 0 RTP/AVP 0")).message


def test_avpf_is_taken_and_echoed() -> None:
    """RFC 4585: feedback is optional; the profile in the answer is the offer's."""
    assert "m=audio 20000 RTP/AVPF 0" in lines(answer(offer(media="audio 4000 RTP/AVPF 0"), OURS).sdp)


@pytest.mark.parametrize("profile", ["RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVPF"])
def test_srtp_is_refused_and_the_message_says_so(profile: str) -> None:
    error = refusal(offer(media=f"audio 4000 {profile} 0"))
    assert error.code == "no_common_crypto"
    assert "SRTP" in error.message and profile in error.message


def test_a_plain_stream_beside_an_srtp_one_is_taken() -> None:
    """RFC 3264 §5.1: two m= lines are two ways to have one call."""
    body = offer(media="audio 4000 RTP/SAVP 0") + b"m=audio 4002 RTP/AVP 0\r\n"
    agreed = answer(body, OURS)
    assert "m=audio 0 RTP/SAVP 0" in lines(agreed.sdp)
    assert agreed.remote is not None
    assert agreed.remote.port == 4002


def test_no_common_codec_names_what_we_have() -> None:
    error = refusal(offer("a=rtpmap:9 G722/8000", media="audio 4000 RTP/AVP 9 18"))
    assert (error.code, "PCMU, PCMA" in error.message) == ("no_common_codec", True)


def test_no_media_at_all_is_no_common_codec() -> None:
    assert refusal(b"v=0\r\ns=-\r\n").code == "no_common_codec"


# --- directions and hold --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "answered", "held"),
    [
        ("sendrecv", "sendrecv", False),
        ("sendonly", "recvonly", True),
        ("recvonly", "sendonly", False),
        ("inactive", "inactive", True),
    ],
)
def test_the_direction_is_turned_round_and_hold_is_reported(offered: str, answered: str, held: bool) -> None:
    """RFC 3264 §6.1, §8.4: at media level, at session level, and media over session."""
    at_media = answer(offer(f"a={offered}"), OURS)
    at_session = answer(offer().replace(b"t=0 0\r\n", b"t=0 0\r\na=" + offered.encode() + b"\r\n"), OURS)
    both = answer(offer(f"a={offered}").replace(b"t=0 0\r\n", b"t=0 0\r\na=inactive\r\n"), OURS)
    for agreed in (at_media, at_session, both):
        assert f"a={answered}" in lines(agreed.sdp)
        assert (agreed.held, agreed.direction.value) == (held, answered)
        assert agreed.may_send == agreed.direction.sends


def test_an_address_of_0_0_0_0_is_hold() -> None:
    """RFC 3264 §8.4, the form of RFC 2543: nothing may be sent there, and it is no refused address."""
    agreed = answer(offer(connection="IN IP4 0.0.0.0"), OURS)
    assert (agreed.held, agreed.remote, agreed.may_send) == (True, None, False)
    assert agreed.direction is Direction.RECVONLY


def test_our_own_wish_narrows_the_answer() -> None:
    ours = Capabilities("198.51.100.7", 20000, 77, direction=Direction.SENDONLY)
    assert answer(offer(), ours).direction is Direction.SENDONLY
    assert answer(offer("a=sendonly"), ours).direction is Direction.INACTIVE


# --- addresses ------------------------------------------------------------------------------------


def test_the_medias_own_connection_wins() -> None:
    """RFC 8866 §5.7."""
    agreed = answer(offer("c=IN IP4 9.9.9.9/127"), OURS)
    assert agreed.remote is not None
    assert agreed.remote.address == "9.9.9.9"


def test_ipv6_is_taken_in_canonical_form() -> None:
    agreed = answer(offer(connection="IN IP6 2A00:1450:0::8"), SIX)
    assert agreed.remote is not None
    assert agreed.remote.address == "2a00:1450::8"
    assert "c=IN IP6 2a00:1450::7" in lines(agreed.sdp)


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.1.1",
        "224.0.1.1",
        "239.1.1.1",
        "255.255.255.255",
        "240.0.0.1",
        "192.0.2.1",
        "pbx.example.com",
        "localhost",
        "8.8.8",
        "08.8.8.8",
        "8.8.8.8.8",
    ],
)
def test_ipv4_that_is_not_public_unicast_is_refused(address: str) -> None:
    """Media sent there would go into our own network, to many, or nowhere."""
    assert refusal(offer(connection=f"IN IP4 {address}")).code == "media_address_refused"


@pytest.mark.parametrize(
    "address",
    ["::", "::1", "fe80::1", "fd00::1", "ff02::1", "::ffff:10.0.0.1", "2002:0a00:0001::1", "64:ff9b::10.0.0.1"],
)
def test_ipv6_that_is_not_public_unicast_is_refused(address: str) -> None:
    """Also where an IPv4 address is wrapped in it."""
    assert refusal(offer(connection=f"IN IP6 {address}"), SIX).code == "media_address_refused"


def test_the_other_ip_version_is_refused() -> None:
    assert "IPv6" in refusal(offer(connection="IN IP6 2a00:1450::8")).message


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "192.168.7.7"])
def test_a_lab_may_name_private_addresses(address: str) -> None:
    agreed = answer(offer(connection=f"IN IP4 {address}"), LAB)
    assert agreed.remote is not None
    assert agreed.remote.address == address


@pytest.mark.parametrize("address", ["224.0.0.1", "255.255.255.255"])
def test_a_lab_may_not_name_multicast(address: str) -> None:
    assert refusal(offer(connection=f"IN IP4 {address}"), LAB).code == "media_address_refused"


@pytest.mark.parametrize("port", [1, 53, 123, 1023])
def test_a_privileged_port_is_refused(port: int) -> None:
    """Nobody receives RTP on the ports of DNS or NTP."""
    assert refusal(offer(media=f"audio {port} RTP/AVP 0")).code == "media_address_refused"


@pytest.mark.parametrize(
    ("attribute", "rtcp"),
    [
        ("5005", ("8.8.4.4", 5005)),
        ("5005 IN IP4 9.9.9.9", ("9.9.9.9", 5005)),
        ("5005 IN IP4 10.0.0.1", ("8.8.4.4", 4001)),
        ("9 IN IP4 0.0.0.0", ("8.8.4.4", 4001)),
        ("70000", ("8.8.4.4", 4001)),
        ("x", ("8.8.4.4", 4001)),
        ("5005 IN", ("8.8.4.4", 4001)),
    ],
)
def test_the_rtcp_attribute_is_read_and_never_leads_where_rtp_may_not_go(attribute: str, rtcp: tuple[str, int]) -> None:
    """RFC 3605."""
    remote = answer(offer(f"a=rtcp:{attribute}"), OURS).remote
    assert remote is not None
    assert (remote.rtcp_address, remote.rtcp_port) == rtcp


def test_rtcp_mux_is_taken_when_it_is_offered_and_only_then() -> None:
    """RFC 5761 §5.1.1: with it in the answer RTCP goes to RTP's port, whatever a=rtcp says; without, to its own."""
    agreed = answer(offer("a=rtcp-mux", "a=rtcp:4005"), OURS)
    assert "a=rtcp-mux" in lines(agreed.sdp)
    assert agreed.rtcp_mux and agreed.remote is not None
    assert agreed.remote.rtcp_port == 4000
    plain = answer(offer(), OURS)
    assert b"rtcp-mux" not in plain.sdp and not plain.rtcp_mux
    assert plain.remote is not None and plain.remote.rtcp_port == 4001


def test_our_offer_asks_for_rtcp_mux_where_the_trunk_wants_it_and_says_where_else_rtcp_goes() -> None:
    """RFC 5761 §5.1.1, RFC 3605."""
    asking = replace(OURS, rtcp_mux=True)
    body = make_offer(asking)
    assert {"a=rtcp-mux", "a=rtcp:20001"} <= set(lines(body))
    assert apply_answer(body, offer("a=rtcp-mux"), asking).rtcp_mux
    declined = apply_answer(body, offer(), asking)
    assert not declined.rtcp_mux and declined.remote is not None and declined.remote.rtcp_port == 4001
    assert b"rtcp" not in make_offer(OURS)
    assert not apply_answer(make_offer(OURS), offer("a=rtcp-mux"), OURS).rtcp_mux


# --- wideband, comfort noise ----------------------------------------------------------------------

WIDE = replace(OURS, codecs=("OPUS", "G722", "PCMU"))
WIDE_OFFER = offer(
    "a=rtpmap:102 opus/48000/2",
    "a=fmtp:102 maxplaybackrate=16000; useinbandfec=1",
    EVENTS,
    "a=rtpmap:103 telephone-event/48000",
    "a=fmtp:103 0-15",
    "a=rtpmap:105 CN/16000",
    media="audio 4000 RTP/AVP 0 9 13 102 101 103 105",
)


def test_opus_is_answered_with_its_clock_and_events_of_the_same() -> None:
    """RFC 7587 §7, RFC 4733 §2.1: one stream has one clock."""
    agreed = answer(WIDE_OFFER, WIDE)
    assert agreed.codec == Codec("OPUS", 102, 102, 48000, "maxplaybackrate=16000; useinbandfec=1")
    assert agreed.telephone_event is not None
    assert agreed.telephone_event.receive_payload_type == 103
    assert agreed.comfort_noise is None
    ours = lines(agreed.sdp)
    assert "m=audio 20000 RTP/AVP 102 103" in ours
    assert {"a=rtpmap:102 opus/48000/2", "a=rtpmap:103 telephone-event/48000", "a=fmtp:103 0-15"} <= set(ours)
    assert any(line.startswith("a=fmtp:102 maxplaybackrate=16000;") for line in ours)


def test_g722_needs_no_rtpmap_and_has_a_clock_of_8_khz() -> None:
    """RFC 3551 §4.5.2: an error of old that is kept."""
    agreed = answer(WIDE_OFFER, replace(OURS, codecs=("G722", "PCMU")))
    assert (agreed.codec.name, agreed.codec.send_payload_type, agreed.codec.clock_rate_hz) == ("G722", 9, 8000)
    assert "a=rtpmap:9 G722/8000" in lines(agreed.sdp)
    assert agreed.telephone_event is not None and agreed.telephone_event.receive_payload_type == 101


def test_our_order_of_codecs_decides() -> None:
    for codecs, name in ((("PCMA", "PCMU", "G722"), "PCMU"), (("G722", "OPUS"), "G722"), (("OPUS", "G722"), "OPUS")):
        assert answer(WIDE_OFFER, replace(OURS, codecs=codecs)).codec.name == name


@pytest.mark.parametrize("rtpmap", ["opus/48000/6", "opus/24000/2", "PCMU/8000/2", "opus/8000"])
def test_a_format_of_another_clock_or_more_channels_is_not_ours(rtpmap: str) -> None:
    body = offer(f"a=rtpmap:96 {rtpmap}", media="audio 4000 RTP/AVP 96")
    assert refusal(body, WIDE).code == "no_common_codec"


def test_comfort_noise_is_agreed_where_it_is_offered() -> None:
    """RFC 3389 §4: the static type 13, beside codecs of 8 kHz; we never ask for it."""
    agreed = answer(offer(EVENTS, media="audio 4000 RTP/AVP 0 13 101"), OURS)
    assert agreed.comfort_noise == 13
    assert "m=audio 20000 RTP/AVP 0 13 101" in lines(agreed.sdp)
    assert b" 13" not in make_offer(WIDE)


def test_our_offer_has_every_codec_and_events_of_every_clock() -> None:
    ours = lines(make_offer(WIDE))
    assert "m=audio 20000 RTP/AVP 111 9 0 110 101" in ours
    assert {"a=rtpmap:111 opus/48000/2", "a=rtpmap:110 telephone-event/48000"} <= set(ours)


def test_an_answer_of_opus_has_the_events_of_its_clock() -> None:
    body = offer("a=rtpmap:111 opus/48000/2", EVENTS, "a=rtpmap:110 telephone-event/48000",
                 media="audio 4000 RTP/AVP 111 101 110")  # fmt: skip
    agreed = apply_answer(make_offer(WIDE), body, WIDE)
    assert agreed.codec.name == "OPUS"
    assert agreed.telephone_event is not None and agreed.telephone_event.send_payload_type == 110
    none = offer("a=rtpmap:111 opus/48000/2", media="audio 4000 RTP/AVP 111")
    assert apply_answer(make_offer(WIDE), none, WIDE).telephone_event is None


def test_events_of_8_khz_beside_opus_alone_are_better_than_none() -> None:
    """Against RFC 4733 §2.1, and what several phones offer."""
    body = offer("a=rtpmap:111 opus/48000/2", EVENTS, media="audio 4000 RTP/AVP 111 101")
    for agreed in (answer(body, WIDE), apply_answer(make_offer(WIDE), body, WIDE)):
        assert agreed.telephone_event is not None
        assert (agreed.telephone_event.send_payload_type, agreed.telephone_event.clock_rate_hz) == (101, 8000)
    assert "a=rtpmap:101 telephone-event/8000" in lines(answer(body, WIDE).sdp)


def test_payload_types_of_a_later_offer_keep_their_meaning_over_both_clocks() -> None:
    """RFC 3264 §8.3.2."""
    agreed = answer(WIDE_OFFER, WIDE)
    later = lines(make_offer(WIDE, agreed.sdp))
    assert any(line.startswith("m=audio 20000 RTP/AVP 102 ") and " 103" in line for line in later)
    assert "a=rtpmap:103 telephone-event/48000" in later


# --- SRTP -----------------------------------------------------------------------------------------

STRONG, SHORT = "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"
KEYS = {STRONG: b"a" * 30, SHORT: b"b" * 30}
THEIRS = base64.b64encode(bytes(range(30))).decode()
ALLOW = replace(OURS, srtp="allow", keys=KEYS)
REQUIRE = replace(OURS, srtp="require", keys=KEYS)
EVERYTHING = replace(WIDE, srtp="allow", keys=KEYS)
PROFILES = ("RTP/SAVP", "RTP/SAVPF", "RTP/AVP", "RTP/AVPF")


def secure_offer(profile: str) -> bytes:
    """Both suites; RTP/AVP is RFC 8643's."""
    keys = (f"a=crypto:1 {STRONG} inline:{THEIRS}|2^31", f"a=crypto:2 {SHORT} inline:{THEIRS}")
    return offer(*keys, EVENTS, media=f"audio 4000 {profile} 0 101")


SECURE_OFFER = secure_offer("RTP/SAVP")


@pytest.mark.parametrize("capabilities", [ALLOW, REQUIRE])
@pytest.mark.parametrize("profile", PROFILES)
def test_srtp_is_answered_with_the_offers_profile_tag_and_a_key_of_ours(
    profile: str, capabilities: Capabilities
) -> None:
    """RFC 4568 §5.1.2, RFC 8643 §3.2."""
    agreed = answer(secure_offer(profile), capabilities)
    ours = lines(agreed.sdp)
    assert f"m=audio 20000 {profile} 0 101" in ours
    assert [line for line in ours if "crypto" in line] == [
        f"a=crypto:1 {STRONG} inline:{base64.b64encode(KEYS[STRONG]).decode()}"
    ]
    assert agreed.crypto is not None
    assert (agreed.crypto.ours.key, agreed.crypto.theirs.key) == (KEYS[STRONG], bytes(range(30)))
    assert agreed.crypto.theirs.lifetime == 1 << 31


def test_media_in_the_clear_is_taken_where_srtp_is_allowed_and_refused_where_it_is_required() -> None:
    assert answer(offer(EVENTS), ALLOW).crypto is None
    error = refusal(offer(EVENTS), REQUIRE)
    assert error.code == "no_common_crypto" and "requires SRTP" in error.message


def test_keys_under_rtp_avp_are_declined_where_srtp_is_off_or_none_is_of_use() -> None:
    """RFC 8643 §3.2: an answer without keys is one in the clear."""
    unusable = offer(f"a=crypto:1 AEAD_AES_128_GCM inline:{THEIRS}", EVENTS)
    for body, capabilities in ((secure_offer("RTP/AVP"), OURS), (unusable, ALLOW)):
        agreed = answer(body, capabilities)
        assert agreed.crypto is None and b"crypto" not in agreed.sdp
        assert b"crypto" not in make_offer(capabilities, agreed.sdp)
    error = refusal(unusable, REQUIRE)
    assert error.code == "no_common_crypto"
    assert "AEAD_AES_128_GCM" in error.message and "requires SRTP" in error.message


@pytest.mark.parametrize("capabilities", [OURS, ALLOW])
def test_a_call_in_the_clear_without_a_common_codec_is_not_said_to_lack_keys(capabilities: Capabilities) -> None:
    error = refusal(offer(media="audio 4000 RTP/AVP 18"), capabilities)
    assert error.code == "no_common_codec" and "SRTP" not in error.message


@pytest.mark.parametrize("profile", PROFILES)
def test_of_two_streams_the_secure_one_is_taken_whichever_comes_first(profile: str) -> None:
    body = secure_offer(profile)
    at = body.index(b"m=")
    head, secure, plain = body[:at], body[at:], b"m=audio 4002 RTP/AVP 0\r\n"
    for both in (head + plain + secure, head + secure + plain):
        agreed = answer(both, ALLOW)
        assert agreed.crypto is not None and agreed.remote is not None and agreed.remote.port == 4000
        assert "m=audio 0 RTP/AVP 0" in lines(agreed.sdp)
    assert answer(head + plain + secure, OURS).crypto is None
    unusable = secure.replace(STRONG.encode(), b"F8_128_HMAC_SHA1_80").replace(SHORT.encode(), b"X")
    assert answer(head + unusable + plain, ALLOW).crypto is None


def test_a_stream_that_makes_no_sense_is_refused_beside_one_that_does() -> None:
    agreed = answer(offer() + b"m=audio 4002 RTP/AVP 999\r\n", ALLOW)
    assert "m=audio 0 RTP/AVP 999" in lines(agreed.sdp)
    assert refusal(offer(media="audio 4000 RTP/AVP 999") + b"m=audio 4002 RTP/SAVP 0\r\n", ALLOW).code == "bad_sdp"


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        (f"a=crypto:1 {STRONG} inline:{THEIRS}|2^20|1:4", "MKI"),
        (f"a=crypto:1 AEAD_AES_128_GCM inline:{THEIRS}", "AEAD_AES_128_GCM"),
        (f"a=crypto:1 {STRONG} inline:{THEIRS} UNENCRYPTED_SRTP", "UNENCRYPTED_SRTP"),
        ("a=x", "no crypto attribute"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_with_the_reason(attribute: str, reason: str) -> None:
    error = refusal(offer(attribute, media="audio 4000 RTP/SAVP 0"), ALLOW)
    assert error.code == "no_common_crypto" and reason in error.message
    assert THEIRS not in error.message


def test_our_offer_is_secure_with_both_suites_where_srtp_is_required() -> None:
    ours = lines(make_offer(REQUIRE))
    assert any(line.startswith("m=audio 20000 RTP/SAVP ") for line in ours)
    assert [line.split()[0:2] for line in ours if "crypto" in line] == [
        ["a=crypto:1", STRONG],
        ["a=crypto:2", SHORT],
    ]
    assert any(line.startswith("m=audio 20000 RTP/AVP ") for line in lines(make_offer(ALLOW)))


def test_the_answer_to_a_secure_offer_chooses_a_suite() -> None:
    """RFC 4568 §5.1.3."""
    ours = make_offer(REQUIRE)
    chosen = offer(f"a=crypto:2 {SHORT} inline:{THEIRS}", media="audio 4000 RTP/SAVP 0")
    agreed = apply_answer(ours, chosen, REQUIRE)
    assert agreed.crypto is not None
    assert (agreed.crypto.ours.suite, agreed.crypto.ours.key) == (SHORT, KEYS[SHORT])
    for bad in ("a=x", f"a=crypto:3 {SHORT} inline:{THEIRS}", f"a=crypto:1 {SHORT} inline:{THEIRS}"):
        with pytest.raises(SdpError) as caught:
            apply_answer(ours, offer(bad, media="audio 4000 RTP/SAVP 0"), REQUIRE)
        assert caught.value.code == "no_common_crypto"
    with pytest.raises(SdpError) as caught:
        apply_answer(ours, offer(), REQUIRE)
    assert caught.value.code == "no_common_crypto"


@pytest.mark.parametrize("profile", PROFILES)
def test_a_later_offer_keeps_the_profile_and_the_keys_in_use(profile: str) -> None:
    agreed = answer(secure_offer(profile), ALLOW)
    later = lines(make_offer(ALLOW, agreed.sdp))
    assert any(line.startswith(f"m=audio 20000 {profile} ") for line in later)
    assert f"a=crypto:1 {STRONG} inline:{base64.b64encode(KEYS[STRONG]).decode()}" in later


def test_a_later_offer_under_rtp_avp_may_be_answered_without_keys_unless_the_trunk_requires_them() -> None:
    """RFC 8643 §3.3; an answer whose keys were not offered is no such answer."""
    later = make_offer(ALLOW, answer(secure_offer("RTP/AVP"), ALLOW).sdp)
    kept = apply_answer(later, offer(f"a=crypto:2 {SHORT} inline:{THEIRS}"), ALLOW).crypto
    assert kept is not None and kept.ours.key == KEYS[SHORT]
    assert apply_answer(later, offer(), ALLOW).crypto is None
    for body, capabilities in ((offer(), REQUIRE), (offer(f"a=crypto:3 {SHORT} inline:{THEIRS}"), ALLOW)):
        with pytest.raises(SdpError) as caught:
            apply_answer(later, body, capabilities)
        assert caught.value.code == "no_common_crypto"


def test_keys_in_the_answer_to_our_offer_in_the_clear_are_none() -> None:
    assert apply_answer(make_offer(ALLOW), secure_offer("RTP/AVP"), ALLOW).crypto is None


@pytest.mark.parametrize("profile", PROFILES)
def test_a_session_refresh_gets_the_same_answer_to_the_byte_with_srtp_too(profile: str) -> None:
    first = answer(secure_offer(profile), ALLOW)
    assert answer(secure_offer(profile), ALLOW, first.sdp).sdp == first.sdp


def test_no_key_is_in_the_repr_of_what_is_agreed() -> None:
    told = repr(answer(SECURE_OFFER, ALLOW)) + repr(ALLOW)
    for key in (THEIRS, repr(bytes(range(30))), base64.b64encode(KEYS[STRONG]).decode(), repr(KEYS[STRONG])):
        assert key not in told


# --- later offers ---------------------------------------------------------------------------------


def test_the_same_offer_again_gets_the_same_answer_to_the_byte() -> None:
    """RFC 3264 §8: the version stays while the SDP does (a session refresh)."""
    first = answer(TWILIO, OURS)
    assert answer(TWILIO, OURS, first.sdp).sdp == first.sdp


def test_hold_and_resume_raise_the_version_by_one_each() -> None:
    first = answer(TWILIO, OURS)
    held = answer(TWILIO.replace(b"a=sendrecv", b"a=sendonly"), OURS, first.sdp)
    resumed = answer(TWILIO, OURS, held.sdp)
    assert [version(each.sdp) for each in (first, held, resumed)] == [1, 2, 3]
    assert [each.held for each in (first, held, resumed)] == [False, True, False]


def test_a_re_offer_moves_port_address_and_codec() -> None:
    first = answer(TWILIO, OURS)
    body = offer(connection="IN IP4 9.9.9.9", media="audio 6000 RTP/AVP 8")
    moved = answer(body, OURS, first.sdp)
    assert moved.remote == RemoteMedia("9.9.9.9", 6000, "9.9.9.9", 6001)
    assert moved.codec.name == "PCMA"
    assert moved.telephone_event is None
    assert version(moved.sdp) == 2


# --- our offers -----------------------------------------------------------------------------------


def test_our_offer_has_all_our_codecs_and_digits() -> None:
    """RFC 3264 §5, for a delayed offer."""
    assert lines(make_offer(OURS))[5:] == [
        "m=audio 20000 RTP/AVP 0 8 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=ptime:20",
        "a=sendrecv",
    ]


def test_an_offer_in_a_session_keeps_its_lines_and_payload_types() -> None:
    """RFC 3264 §8, §8.3.2: no fewer m= lines, no number with another meaning."""
    body = offer("a=rtpmap:101 PCMU/8000", "a=rtpmap:96 telephone-event/8000", media="audio 4000 RTP/AVP 101 96")
    first = answer(body + b"m=video 5000 RTP/AVP 99\r\n", OURS)
    again = make_offer(OURS, first.sdp)
    assert version(again) == 2
    assert [line for line in lines(again) if line.startswith("m=")] == [
        "m=audio 20000 RTP/AVP 101 8 96",
        "m=video 0 RTP/AVP 99",
    ]
    assert "a=rtpmap:101 PCMU/8000" in lines(again)
    assert "a=rtpmap:96 telephone-event/8000" in lines(again)


def test_an_offer_keeps_the_audio_in_its_place() -> None:
    first = answer(offer(media="video 5000 RTP/AVP 99") + b"m=audio 4000 RTP/AVP 0\r\n", OURS)
    assert [line for line in lines(make_offer(OURS, first.sdp)) if line.startswith("m=")] == [
        "m=video 0 RTP/AVP 99",
        "m=audio 20000 RTP/AVP 0 8 101",
    ]


def test_the_same_offer_again_keeps_its_version() -> None:
    first = make_offer(OURS)
    assert make_offer(OURS, first) == first


def test_an_answer_may_use_payload_types_of_its_own() -> None:
    """RFC 3264 §5.1: each side sends what the other declared."""
    body = offer("a=rtpmap:96 telephone-event/8000", "a=fmtp:96 0-11", media="audio 4000 RTP/AVP 8 96")
    agreed = apply_answer(make_offer(OURS), body, OURS)
    assert agreed.codec == Codec("PCMA", 8, 8)
    assert agreed.telephone_event is not None
    assert (agreed.telephone_event.send_payload_type, agreed.telephone_event.receive_payload_type) == (96, 101)
    assert agreed.telephone_event.events == frozenset(range(12))
    assert agreed.sdp == make_offer(OURS)


def test_all_codecs_of_the_answer_may_arrive_and_its_first_is_sent() -> None:
    """RFC 3264 §7."""
    agreed = apply_answer(make_offer(OURS), offer(media="audio 4000 RTP/AVP 8 0"), OURS)
    assert [codec.name for codec in agreed.codecs] == ["PCMA", "PCMU"]
    assert agreed.codec.name == "PCMA"


def test_a_codec_never_offered_is_never_used() -> None:
    """RFC 3264 §6.1: an answer may list more, of which we may use nothing; with nothing else it is refused."""
    pcmu_only = Capabilities("198.51.100.7", 20000, 77, codecs=("PCMU",))
    ours = make_offer(pcmu_only)
    both = offer("a=rtpmap:9 G722/8000", media="audio 4000 RTP/AVP 9 8 0")
    agreed = apply_answer(ours, both, OURS)
    assert [codec.name for codec in agreed.codecs] == ["PCMU"]
    with pytest.raises(SdpError) as caught:
        apply_answer(ours, offer(media="audio 4000 RTP/AVP 8"), OURS)
    assert caught.value.code == "no_common_codec"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (offer(media="audio 0 RTP/AVP 0"), "no_common_codec"),
        (offer(media="audio 4000 RTP/SAVP 0"), "no_common_crypto"),
        (offer(media="video 4000 RTP/AVP 0"), "no_common_codec"),
        (offer() + b"m=video 5000 RTP/AVP 99\r\n", "bad_sdp"),
        (b"v=0\r\n", "bad_sdp"),
        (b"", "bad_sdp"),
        (offer(connection="IN IP4 10.0.0.1"), "media_address_refused"),
    ],
)
def test_answers_that_do_not_fit_are_refused(body: bytes, code: str) -> None:
    with pytest.raises(SdpError) as caught:
        apply_answer(make_offer(OURS), body, OURS)
    assert caught.value.code == code


def test_an_answer_can_put_us_on_hold() -> None:
    agreed = apply_answer(make_offer(OURS), offer("a=inactive"), OURS)
    assert (agreed.held, agreed.may_send, agreed.may_receive) == (True, False, False)


def test_two_of_our_own_agree_with_each_other() -> None:
    peer = Capabilities("203.0.113.9", 30000, 5, allow_private=True)
    ours = Capabilities("198.51.100.7", 20000, 77, allow_private=True)
    made = make_offer(ours)
    theirs = answer(made, peer)
    agreed = apply_answer(made, theirs.sdp, ours)
    assert agreed.codec == theirs.codec == Codec("PCMU", 0, 0)
    assert agreed.remote is not None
    assert (agreed.remote.address, agreed.remote.port) == ("203.0.113.9", 30000)


# --- hostile input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\r\n\r\n",
        b"v=1\r\n",
        b"o=- 1 1 IN IP4 8.8.4.4\r\nv=0\r\n",
        offer().replace(b"s=-", b"s=\0"),
        offer() + b"nonsense\r\n",
        offer() + b" a=x\r\n",
        offer() + b"=x\r\n",
        offer() + b"1=x\r\n",
        offer() + b"a=" + b"x" * 3000,
        offer() + b"a=x\r\n" * 600,
        offer() + b"a=" + b"\r\na=".join([b"x" * 1000] * 17),
        offer() + b"m=video 1 RTP/AVP 99\r\n" * 16,
        offer(media="audio"),
        offer(media="audio 4000 RTP/AVP"),
        offer(media="audio 65536 RTP/AVP 0"),
        offer(media="audio -1 RTP/AVP 0"),
        offer(media="audio 0x1000 RTP/AVP 0"),
        offer(media="audio \xb2\xb2\xb2\xb2 RTP/AVP 0"),
        offer(media="audio 4000 RTP/AVP 128"),
        offer(media="audio 4000 RTP/AVP 0 -8"),
        offer(media="audio 4000 RTP/AVP pcmu"),
        offer(media=f"audio {'9' * 5000} RTP/AVP 0"),
        offer(media="audio 4000 RTP/AVP " + " ".join(["0"] * 65)),
        offer(media="audio 4000 RTP/AVP 0 " + "1" * 65),
        offer(connection="IN IP4"),
        offer(connection="IN IP5 8.8.4.4"),
        offer(connection="ATM NSAP 47"),
        offer().replace(b"c=IN IP4 8.8.4.4\r\n", b""),
    ],
)
def test_malformed_sdp_is_bad_sdp(body: bytes) -> None:
    assert refusal(body).code == "bad_sdp"


@pytest.mark.parametrize(
    "line", ["a=rtpmap:300 PCMU/8000", "a=rtpmap:x", "a=rtpmap:96 /8000", "a=rtpmap:96 A/0/0/0", "a=fmtp:", "a=:", "a="]
)
def test_a_malformed_attribute_of_no_use_to_us_ends_no_call(line: str) -> None:
    assert answer(offer(line), OURS).codec.name == "PCMU"


def test_lf_alone_trailing_spaces_and_blank_lines_are_tolerated() -> None:
    body = offer(EVENTS).replace(b"\r\n", b" \n") + b"\n\n"
    assert answer(body, OURS).codec.name == "PCMU"


def test_text_in_any_encoding_is_carried_nowhere() -> None:
    """Session names and unknown attributes are the peer's own; none of it is in our answer."""
    body = offer("a=x:\x9f\x98 <script>").replace(b"s=-", b"s=\xff\xfe")
    agreed = answer(body, OURS)
    assert b"script" not in agreed.sdp
    agreed.sdp.decode("ascii")


def test_the_longest_body_is_parsed_in_no_time() -> None:
    bodies = [
        offer() + b"a=" + b"\r\na=".join([b":" * 1000] * 15),
        offer() + b"a=rtpmap:96 " + b" " * 2000 + b"x\r\n",
        offer("a=fmtp:101 " + ",".join(["0-255"] * 300), EVENTS),
        offer() + b"a=x\r\n" * 500,
    ]
    for body in bodies:
        started = time.perf_counter()
        answer(body, OURS)
        assert time.perf_counter() - started < 0.1


SEEDS = (
    SECURE_OFFER,
    WIDE_OFFER,
    TWILIO,
    TELNYX,
    offer(EVENTS, "a=rtcp:5005 IN IP4 9.9.9.9", "a=sendonly"),
    make_offer(OURS),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 12))] = draw(
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from(
                    [b"\r\n", b"\0", b" ", b":", b"/", b"=", b"-1", b"99999999999", b"m=audio 9 RTP/AVP 0\n"]
                ),
            )
        )
    return bytes(body)


@settings(max_examples=800, deadline=None)
@given(mutated())
def test_mutations_raise_nothing_but_sdp_error_and_our_answer_stays_sound(body: bytes) -> None:
    try:
        agreed = answer(body, EVERYTHING)
    except SdpError as error:
        assert error.code in ("bad_sdp", "no_common_codec", "no_common_crypto", "media_address_refused")
        return
    ours = parse(agreed.sdp)
    assert len(ours.media) == len(parse(body).media)
    assert [media.port for media in ours.media if media.port] == [20000]
    assert {line[:2] for line in lines(agreed.sdp)} <= {"v=", "o=", "s=", "c=", "t=", "m=", "a="}


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing_but_sdp_error(body: bytes) -> None:
    for data in (body, b"v=0\r\n" + body, offer() + body):
        try:
            answer(data, OURS)
        except SdpError:
            continue


@pytest.mark.parametrize(
    ("body", "version"),
    [
        (offer(), 4),
        (offer(connection="IN IP6 2001:db8::1"), 6),
        (offer("c=IN IP6 2001:db8::1"), 6),
        (offer(connection="IN IP4 media.example.com"), None),
        (b"nonsense", None),
        (b"v=0\r\n", None),
    ],
)
def test_the_family_of_an_offer_is_that_of_its_audio(body: bytes, version: int | None) -> None:
    assert address_version(body) == version
