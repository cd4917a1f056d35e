"""SRTP and SRTCP (RFC 3711) of one call, by libsrtp: what is sent is protected, what is not authentic is dropped.

libsrtp keeps a stream for each SSRC, with its roll-over counter and its replay window; it makes one only for a
packet that is authentic. New keys (a re-INVITE) leave no gap: packets under the peer's old key are taken for a
while, and ours change when the peer shows that it has our answer.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import Final

import pylibsrtp

from media.crypto import Agreement

__all__ = ["SecureMedia"]

_PROFILES: Final = {
    "AES_CM_128_HMAC_SHA1_80": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
}
_ERRORS: Final = (pylibsrtp.Error, ValueError)
"""What libsrtp refuses, and what is too long for it."""


class _Inbound:
    """What the peer protects with one key."""

    MAX_STREAMS: Final = 8

    __slots__ = ("_latest", "_session", "_streams")

    def __init__(self, suite: str, key: bytes) -> None:
        policy = pylibsrtp.Policy(key=key, ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND, srtp_profile=_PROFILES[suite])
        self._session = pylibsrtp.Session(policy)
        self._streams: OrderedDict[bytes, None] = OrderedDict()
        self._latest = b""

    def rtp(self, packet: bytes) -> bytes | None:
        try:
            clear = self._session.unprotect(packet)
        except _ERRORS:
            return None
        if packet[8:12] != self._latest:
            self._remember(packet[8:12])
        return clear

    def rtcp(self, packet: bytes) -> bytes | None:
        try:
            clear = self._session.unprotect_rtcp(packet)
        except _ERRORS:
            return None
        if packet[4:8] not in self._streams:
            self._remember(packet[4:8])
        return clear

    def _remember(self, ssrc: bytes) -> None:
        """A peer that changes its SSRC with each packet gets no more than so many streams."""
        self._latest = ssrc
        self._streams[ssrc] = None
        self._streams.move_to_end(ssrc)
        if len(self._streams) > self.MAX_STREAMS:
            oldest, _ = self._streams.popitem(last=False)
            with suppress(pylibsrtp.Error):
                self._session.remove_stream(int.from_bytes(oldest, "big"))


class _Outbound:
    """What we protect with one key."""

    __slots__ = ("_session",)

    def __init__(self, suite: str, key: bytes) -> None:
        policy = pylibsrtp.Policy(key=key, ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND, srtp_profile=_PROFILES[suite])
        self._session = pylibsrtp.Session(policy)

    def rtp(self, packet: bytes) -> bytes | None:
        try:
            return self._session.protect(packet)
        except _ERRORS:
            return None

    def rtcp(self, packet: bytes) -> bytes | None:
        try:
            return self._session.protect_rtcp(packet)
        except _ERRORS:
            return None


class SecureMedia:
    """The four functions of a call's SRTP. Each gives None for what is to be dropped: it is counted in ``refused``.

    Packets are the whole datagrams. Times [s] are the call's monotonic clock.
    """

    OVERLAP_S: Final = 2.0
    """How long the peer's old key is still good."""
    PATIENCE_S: Final = 0.5
    """How long ours stays the old one when the peer does not show its new key."""

    __slots__ = ("_agreement", "_inbound", "_next", "_next_at", "_old", "_old_until", "_outbound", "refused")

    def __init__(self, agreement: Agreement) -> None:
        self._agreement = agreement
        self._inbound = _Inbound(agreement.theirs.suite, agreement.theirs.key)
        self._outbound = _Outbound(agreement.ours.suite, agreement.ours.key)
        self._old: _Inbound | None = None
        self._old_until = 0.0
        self._next: _Outbound | None = None
        self._next_at = 0.0
        self.refused = 0
        """Packets that were not authentic, replayed or too old, and any of ours that could not be protected."""

    @property
    def suite(self) -> str:
        """Of what we send."""
        return self._agreement.ours.suite

    def agree(self, agreement: Agreement, now: float, *, answered: bool) -> None:
        """Another offer has been answered: by us, or (``answered``) by the peer, which then knows our key already.

        A key that stays keeps its streams (RFC 4568 §7.1.4).
        """
        before, self._agreement = self._agreement, agreement
        theirs, ours = agreement.theirs, agreement.ours
        renewed = (theirs.suite, theirs.key) != (before.theirs.suite, before.theirs.key)
        if renewed:
            self._old, self._old_until = self._inbound, now + self.OVERLAP_S
            self._inbound = _Inbound(theirs.suite, theirs.key)
        if (ours.suite, ours.key) != (before.ours.suite, before.ours.key):
            self._next, self._next_at = _Outbound(ours.suite, ours.key), now + self.PATIENCE_S
            if answered or not renewed:
                self._change()

    def _change(self) -> None:
        if self._next is not None:
            self._outbound, self._next = self._next, None

    def attend(self, now: float) -> None:
        """A key of ours that waits does not wait for ever. To be called now and then."""
        if self._next is not None and now >= self._next_at:
            self._change()

    def protect_rtp(self, packet: bytes) -> bytes | None:
        """An RTP packet of ours."""
        return self._counted(self._outbound.rtp(packet))

    def protect_rtcp(self, packet: bytes) -> bytes | None:
        """An RTCP packet of ours."""
        return self._counted(self._outbound.rtcp(packet))

    def unprotect_rtp(self, packet: bytes, now: float) -> bytes | None:
        """An RTP packet of the peer's."""
        clear = self._inbound.rtp(packet)
        if clear is None:
            old = self._still_good(now)
            return self._counted(old.rtp(packet) if old else None)
        if self._next is not None:
            self._change()
        return clear

    def unprotect_rtcp(self, packet: bytes, now: float) -> bytes | None:
        """An RTCP packet of the peer's."""
        clear = self._inbound.rtcp(packet)
        if clear is None:
            old = self._still_good(now)
            return self._counted(old.rtcp(packet) if old else None)
        return clear

    def _still_good(self, now: float) -> _Inbound | None:
        if self._old is not None and now >= self._old_until:
            self._old = None
        return self._old

    def _counted(self, packet: bytes | None) -> bytes | None:
        if packet is None:
            self.refused += 1
        return packet
