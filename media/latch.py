"""Whose RTP is taken: the peer's source address, learnt safely and then locked.

Without symmetric RTP the lock is the address of the peer's SDP from the start. With it, the first
valid packets set the lock: at once from the SDP's own address, after a probation (two packets in
sequence from one source, RFC 3550 §A.1) from another one that the trunk's media networks allow.
In the first 5 s the first packet from the SDP's own address takes the lock from a source that was
learnt: the networks are all the carrier's customers', and one who was there before may not keep the
peer out.
The lock moves on a re-INVITE that names another address, or, after 2 s of silence, to a source in
those networks; never to any other later stranger. From the locked address a new SSRC is taken
after its probation, so that no stray packet restarts the stream.

A trunk that names no networks learns from any address, but one that has nothing to do with a
public address in the SDP must keep up half a second of unbroken sequence: nobody who sprays ports
does, and the peer's own first packet from its SDP's address ends the matter.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from enum import Enum
from typing import Final

__all__ = ["Latch", "Source", "Verdict"]

Source = tuple[str, int]
"""Host (an address literal) and port."""


class Verdict(Enum):
    """What becomes of a packet."""

    REFUSED = "refused"
    """Not the peer's: drop it."""
    TAKEN = "taken"
    """The peer's, of the source known."""
    MOVED = "moved"
    """The peer's, and the first from a newly locked address or SSRC: start its bookkeeping anew."""


_TAKEN: Final = Verdict.TAKEN  # an enumeration's own look-up is ten times a global's, and every packet passes here


class _Candidate:
    """A source on probation: what its next packet must be, and how many are still asked of it."""

    __slots__ = ("left", "next_sequence", "source", "ssrc")

    def __init__(self, source: Source, ssrc: int, sequence: int, probation: int) -> None:
        self.source, self.ssrc = source, ssrc
        self.next_sequence = (sequence + 1) & 0xFFFF
        self.left = probation - 1

    def serve(self, source: Source, ssrc: int, sequence: int) -> bool:
        """Whether this packet goes on where the last one ended."""
        if sequence != self.next_sequence or ssrc != self.ssrc or source != self.source:
            return False
        self.next_sequence = (sequence + 1) & 0xFFFF
        self.left -= 1
        return True


class Latch:
    """The lock of one phone leg. Feed it only datagrams that parse, RTP and RTCP apart.

    ``signalled`` and ``signalled_rtcp``: the addresses of the peer's SDP. ``networks`` (CIDRs): where
    media may come from; empty with ``symmetric``: learnt from anywhere once, and then never moved but
    by a re-INVITE or back to the signalled address.
    """

    SILENCE_S: Final = 2.0
    SETTLING_S: Final = 5.0
    PROBATION: Final = 2
    PROBATION_STRANGER: Final = 25

    __slots__ = (
        "_candidate",
        "_heard_at",
        "_locked",
        "_networks",
        "_outgoing",
        "_rtcp",
        "_settles_at",
        "_signalled",
        "_signalled_rtcp",
        "_ssrc",
        "_symmetric",
        "refused",
    )

    def __init__(
        self,
        signalled: Source,
        signalled_rtcp: Source,
        *,
        networks: Iterable[str] = (),
        symmetric: bool = True,
        now: float,
    ) -> None:
        self._networks = tuple(map(ipaddress.ip_network, networks))
        self._symmetric = symmetric
        self.refused = 0
        self._outgoing: Source | None = None
        self._begin(signalled, signalled_rtcp, now)

    def _begin(self, signalled: Source, signalled_rtcp: Source, now: float) -> None:
        self._signalled, self._signalled_rtcp = signalled, signalled_rtcp
        self._locked: Source | None = None if self._symmetric else signalled
        self._ssrc: int | None = None
        self._candidate: _Candidate | None = None
        self._heard_at = now
        self._settles_at = now + self.SETTLING_S
        self._rtcp: Source | None = None

    def resignal(self, signalled: Source, signalled_rtcp: Source, now: float) -> None:
        """The peer's SDP again (a re-INVITE). Another address ends the lock; the same one changes nothing."""
        if signalled == self._signalled:
            self._signalled_rtcp = signalled_rtcp
            return
        self._outgoing = self._locked
        self._begin(signalled, signalled_rtcp, now)

    @property
    def locked(self) -> Source | None:
        """The source that is taken; None while it is to be learnt."""
        return self._locked

    @property
    def destination(self) -> Source:
        """Where our RTP goes: back to where the peer's comes from, with symmetric RTP."""
        return (self._locked or self._signalled) if self._symmetric else self._signalled

    @property
    def rtcp_destination(self) -> Source:
        """Where our RTCP goes."""
        return self._rtcp or self._signalled_rtcp

    def accept(self, source: Source, ssrc: int, sequence: int, now: float) -> Verdict:
        """Judge an RTP packet."""
        if source == self._locked:
            if ssrc == self._ssrc:
                self._heard_at = now
                self._candidate = None
                return _TAKEN
            if self._ssrc is None:
                return self._lock(source, ssrc, now)
        elif not self._may_lock(source, now):
            self.refused += 1
            return Verdict.REFUSED
        elif source == self._signalled:
            return self._lock(source, ssrc, now)
        return self._on_probation(source, ssrc, sequence, now)

    def _on_probation(self, source: Source, ssrc: int, sequence: int, now: float) -> Verdict:
        if self._candidate is None or not self._candidate.serve(source, ssrc, sequence):
            self._candidate = _Candidate(source, ssrc, sequence, self._probation(source))
        if self._candidate.left == 0:
            return self._lock(source, ssrc, now)
        self.refused += 1
        return Verdict.REFUSED

    def _probation(self, source: Source) -> int:
        known = source == self._locked or source[0] == self._signalled[0] or self._networks
        return self.PROBATION if known or not _is_public(self._signalled[0]) else self.PROBATION_STRANGER

    def _lock(self, source: Source, ssrc: int, now: float) -> Verdict:
        if source != self._locked:
            self._rtcp = None
        if source == self._signalled:
            self._settles_at = now
        self._locked, self._ssrc = source, ssrc
        self._candidate = self._outgoing = None
        self._heard_at = now
        return Verdict.MOVED

    def _may_lock(self, source: Source, now: float) -> bool:
        """Whether the lock may go to a source that does not hold it."""
        silent = now - self._heard_at >= self.SILENCE_S
        if source == self._signalled and now < self._settles_at:
            return True
        if self._locked is not None and not silent:
            return False
        if source == self._signalled:
            return True
        if source == self._outgoing and not silent:
            return False  # what was still on its way when the re-INVITE named another
        return self._in_networks(source[0]) or (not self._networks and self._locked is None)

    def _in_networks(self, host: str) -> bool:
        address = ipaddress.ip_address(host)
        return any(address in network for network in self._networks)

    def accept_rtcp(self, source: Source) -> bool:
        """Judge an RTCP packet: from the signalled address, or the one port of the locked host that began it."""
        if source in (self._rtcp, self._signalled_rtcp):
            return True
        if self._symmetric and self._rtcp is None and self._locked is not None and source[0] == self._locked[0]:
            self._rtcp = source
            return True
        self.refused += 1
        return False


def _is_public(host: str) -> bool:
    return ipaddress.ip_address(host).is_global
