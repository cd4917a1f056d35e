"""SRTP by libsrtp (RFC 3711): against the RFC's own vectors, what is refused, and new keys in mid-call."""

from __future__ import annotations

import hmac
import struct

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from media import rtp
from media.crypto import SUITES, Agreement, Crypto
from media.srtp import SecureMedia

STRONG, SHORT = SUITES
KEY = bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE4139") + bytes.fromhex("0EC675AD498AFEEBB6960B3AABE6")
OTHER = bytes(range(30))
THIRD = bytes(range(50, 80))
RR = struct.pack("!BBHI", 0x80, 201, 1, 7)


# --- the RFC, written down again ------------------------------------------------------------------


def keystream(key: bytes, iv: int, size: int) -> bytes:
    """AES in counter mode (§4.1.1)."""
    encryptor = Cipher(algorithms.AES(key), modes.CTR((iv & (2**128 - 1)).to_bytes(16, "big"))).encryptor()
    return encryptor.update(bytes(size))


def derived(master: bytes, label: int, size: int) -> bytes:
    """§4.3.1 and §4.3.3, with a key derivation rate of 0."""
    salt = int.from_bytes(master[16:], "big")
    return keystream(master[:16], (salt ^ label << 48) << 16, size)


def secured_rtp(master: bytes, packet: bytes, tag_bytes: int, index: int) -> bytes:
    """§3.3 of an RTP packet without extension or CSRC."""
    key, auth, salt = derived(master, 0, 16), derived(master, 1, 20), derived(master, 2, 14)
    ssrc = int.from_bytes(packet[8:12], "big")
    iv = int.from_bytes(salt, "big") << 16 ^ ssrc << 64 ^ index << 16
    stream = keystream(key, iv, len(packet) - 12)
    sealed = packet[:12] + bytes(a ^ b for a, b in zip(packet[12:], stream, strict=True))
    return sealed + hmac.digest(auth, sealed + (index >> 16).to_bytes(4, "big"), "sha1")[:tag_bytes]


def secured_rtcp(master: bytes, packet: bytes, index: int) -> bytes:
    """§3.4; SRTCP's tag has 80 bits in both suites (RFC 4568 §6.2.2)."""
    key, auth, salt = derived(master, 3, 16), derived(master, 4, 20), derived(master, 5, 14)
    iv = int.from_bytes(salt, "big") << 16 ^ int.from_bytes(packet[4:8], "big") << 64 ^ index << 16
    stream = keystream(key, iv, len(packet) - 8)
    sealed = packet[:8] + bytes(a ^ b for a, b in zip(packet[8:], stream, strict=True))
    sealed += (index | 1 << 31).to_bytes(4, "big")
    return sealed + hmac.digest(auth, sealed, "sha1")[:10]


def test_the_counter_mode_vector_of_the_rfc() -> None:
    """RFC 3711 §B.2."""
    key, salt = bytes.fromhex("2B7E151628AED2A6ABF7158809CF4F3C"), 0xF0F1F2F3F4F5F6F7F8F9FAFBFCFD
    stream = keystream(key, salt << 16, 16 * 0xFF02)
    assert stream[:32].hex().upper() == "E03EAD0935C95E80E166B16DD92B4EB4D23513162B02D0F72A43A2FE4A5F97AB"
    assert stream[16 * 0xFEFF : 16 * 0xFF02].hex().upper() == (
        "EC8CDF7398607CB0F2D21675EA9EA1E4362B7C3C6773516318A077D7FC5073AE6A2CC3787889374FBEB4C81B17BA6C44"
    )


def test_the_key_derivation_vector_of_the_rfc() -> None:
    """RFC 3711 §B.3."""
    assert derived(KEY, 0, 16).hex().upper() == "C61E7A93744F39EE10734AFE3FF7A087"
    assert derived(KEY, 2, 14).hex().upper() == "30CBBC08863D8C85D49DB34A9AE1"
    assert derived(KEY, 1, 94).hex().upper().startswith("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4")


# --- the two ends of a call -------------------------------------------------------------------------


def ends(suite: str = STRONG) -> tuple[SecureMedia, SecureMedia]:
    """Us and the peer."""
    ours, theirs = Crypto(1, suite, KEY), Crypto(1, suite, OTHER)
    return SecureMedia(Agreement(ours, theirs)), SecureMedia(Agreement(theirs, ours))


def packet(sequence: int = 1, ssrc: int = 7, payload: bytes = bytes(range(160))) -> bytes:
    return rtp.build(0, sequence & 0xFFFF, sequence * 160 & 0xFFFFFFFF, ssrc, payload)


@pytest.mark.parametrize(("suite", "tag_bytes"), [(STRONG, 10), (SHORT, 4)])
def test_what_we_send_is_what_the_rfc_says(suite: str, tag_bytes: int) -> None:
    us, _ = ends(suite)
    assert us.protect_rtp(packet(5)) == secured_rtp(KEY, packet(5), tag_bytes, index=5)
    assert us.protect_rtcp(RR + bytes(20)) == secured_rtcp(KEY, RR + bytes(20), index=1)


@pytest.mark.parametrize(("suite", "tag_bytes"), [(STRONG, 10), (SHORT, 4)])
def test_what_the_rfc_says_is_taken(suite: str, tag_bytes: int) -> None:
    us, _ = ends(suite)
    assert us.unprotect_rtp(secured_rtp(OTHER, packet(9), tag_bytes, index=9), 0.0) == packet(9)
    assert us.unprotect_rtcp(secured_rtcp(OTHER, RR, index=4), 0.0) == RR


def test_the_roll_over_of_the_sequence_number_is_counted_on_both_sides() -> None:
    """RFC 3711 §3.3.1."""
    us, peer = ends()
    for number in range(65534, 65540):
        sealed = us.protect_rtp(packet(number))
        assert sealed == secured_rtp(KEY, packet(number), 10, index=number)
        assert sealed is not None and peer.unprotect_rtp(sealed, 0.0) == packet(number)


def test_a_packet_comes_once() -> None:
    """RFC 3711 §3.3.2: replay protection, for RTP and RTCP; order does not matter."""
    us, peer = ends()
    sealed = [peer.protect_rtp(packet(number)) or b"" for number in range(4)]
    for number in (0, 3, 1, 2):
        assert us.unprotect_rtp(sealed[number], 0.0) == packet(number)
    assert [us.unprotect_rtp(each, 0.0) for each in sealed] == [None] * 4
    report = peer.protect_rtcp(RR) or b""
    assert us.unprotect_rtcp(report, 0.0) == RR
    assert us.unprotect_rtcp(report, 0.0) is None
    assert us.refused == 5


@given(st.data())
def test_a_packet_with_any_bit_changed_is_refused(data: st.DataObject) -> None:
    us, peer = ends()
    sealed = bytearray(peer.protect_rtp(packet()) or b"")
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    assert us.unprotect_rtp(bytes(sealed), 0.0) is None
    assert us.refused == 1


@given(st.binary(max_size=2000))
def test_no_datagram_raises(data: bytes) -> None:
    us, _ = ends()
    us.unprotect_rtp(data, 0.0)
    us.unprotect_rtcp(data, 0.0)
    us.protect_rtp(data)
    us.protect_rtcp(data)


def test_clear_packets_are_refused() -> None:
    us, _ = ends()
    assert us.unprotect_rtp(packet(), 0.0) is None and us.unprotect_rtcp(RR, 0.0) is None


def test_a_new_ssrc_in_mid_call_has_its_own_stream() -> None:
    us, peer = ends()
    for ssrc, numbers in ((7, (1, 2, 3)), (8, (1, 2, 3)), (7, (4, 5)), (9, (65535, 65536))):
        for number in numbers:
            sealed = peer.protect_rtp(packet(number, ssrc)) or b""
            assert us.unprotect_rtp(sealed, 0.0) == packet(number, ssrc)
    assert us.refused == 0


def test_a_peer_of_a_thousand_ssrcs_is_kept_no_stream_for_each() -> None:
    us, peer = ends()
    for ssrc in range(1000):
        assert us.unprotect_rtp(peer.protect_rtp(packet(1, ssrc)) or b"", 0.0) is not None
        assert us.unprotect_rtcp(peer.protect_rtcp(struct.pack("!BBHI", 0x80, 201, 1, ssrc)) or b"", 0.0) is not None
    assert len(us._inbound._streams) <= 8


# --- new keys ---------------------------------------------------------------------------------------


def test_the_same_keys_again_keep_the_streams() -> None:
    """RFC 4568 §7.1.4: a session refresh is no new key; what was sent before stays a replay."""
    us, peer = ends()
    sealed = peer.protect_rtp(packet()) or b""
    assert us.unprotect_rtp(sealed, 0.0) is not None
    us.agree(Agreement(Crypto(1, STRONG, KEY), Crypto(1, STRONG, OTHER)), 1.0, answered=False)
    assert us.unprotect_rtp(sealed, 1.0) is None


def test_the_peers_new_key_is_taken_and_its_old_one_for_a_while() -> None:
    us, peer = ends()
    late = [peer.protect_rtp(packet(number)) or b"" for number in (1, 2, 3)]
    us.agree(Agreement(Crypto(1, STRONG, KEY), Crypto(1, STRONG, THIRD)), 10.0, answered=False)
    fresh = SecureMedia(Agreement(Crypto(1, STRONG, THIRD), Crypto(1, STRONG, KEY)))
    assert us.unprotect_rtp(late[0], 10.1) == packet(1)
    assert us.unprotect_rtp(fresh.protect_rtp(packet(4)) or b"", 10.2) == packet(4)
    assert us.unprotect_rtp(late[1], 11.9) == packet(2)
    assert us.unprotect_rtcp(peer.protect_rtcp(RR) or b"", 11.9) == RR
    assert us.unprotect_rtp(late[2], 12.0) is None
    assert us.unprotect_rtcp(peer.protect_rtcp(RR) or b"", 12.0) is None


def test_our_new_key_is_used_when_the_peer_shows_that_it_has_our_answer() -> None:
    """The answer with it is still on its way: until then the old key, so that nothing is lost."""
    us, peer = ends()
    us.agree(Agreement(Crypto(2, SHORT, THIRD), Crypto(2, SHORT, OTHER)), 10.0, answered=False)
    assert peer.unprotect_rtp(us.protect_rtp(packet(1)) or b"", 10.0) == packet(1)
    peer.agree(Agreement(Crypto(2, SHORT, OTHER), Crypto(2, SHORT, THIRD)), 10.05, answered=True)
    assert peer.unprotect_rtp(us.protect_rtp(packet(2)) or b"", 10.1) == packet(2)
    assert us.unprotect_rtp(peer.protect_rtp(packet(1)) or b"", 10.1) == packet(1)
    assert us.protect_rtp(packet(3)) == secured_rtp(THIRD, packet(3), 4, index=3)
    assert peer.unprotect_rtp(secured_rtp(THIRD, packet(3), 4, index=3), 10.2) == packet(3)
    assert us.suite == SHORT


def test_our_new_key_does_not_wait_for_ever() -> None:
    us, _ = ends()
    us.agree(Agreement(Crypto(1, STRONG, THIRD), Crypto(1, STRONG, bytes(30))), 10.0, answered=False)
    us.attend(10.4)
    assert us.protect_rtp(packet(1)) == secured_rtp(KEY, packet(1), 10, index=1)
    us.attend(10.5)
    assert us.protect_rtp(packet(2)) == secured_rtp(THIRD, packet(2), 10, index=2)


@pytest.mark.parametrize("answered", [True, False])
def test_our_new_key_is_used_at_once_where_the_peer_knows_it_already(answered: bool) -> None:
    us, _ = ends()
    theirs = Crypto(1, STRONG, bytes(30)) if answered else Crypto(1, STRONG, OTHER)
    us.agree(Agreement(Crypto(1, STRONG, THIRD), theirs), 10.0, answered=answered)
    assert us.protect_rtp(packet(1)) == secured_rtp(THIRD, packet(1), 10, index=1)


def test_what_cannot_be_protected_is_dropped_and_counted() -> None:
    us, _ = ends()
    assert us.protect_rtp(bytes(12) + bytes(1500)) is None
    assert us.protect_rtcp(b"") is None
    assert us.refused == 2
