"""The payload formats we speak, by what SDP says of them (RFC 3551 §6, RFC 7587 §7, RFC 4733 §2.4, RFC 3389 §4)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

__all__ = ["COMFORT_NOISE", "FORMATS", "TELEPHONE_EVENT", "Format", "telephone_event"]

TELEPHONE_EVENT: Final = "TELEPHONE-EVENT"
COMFORT_NOISE: Final = "CN"


class Format(NamedTuple):
    """``encoding`` is the rtpmap's name, ``payload_type`` the static one or the one we like best.

    ``clock_rate_hz`` is RTP's: 8000 for G.722, whose audio has 16 kHz (RFC 3551 §4.5.2). ``parameters`` are our fmtp.
    """

    encoding: str
    clock_rate_hz: int
    payload_type: int
    channels: int = 1
    parameters: str = ""

    @property
    def rtpmap(self) -> str:
        """``opus/48000/2``."""
        return f"{self.encoding}/{self.clock_rate_hz}" + (f"/{self.channels}" if self.channels > 1 else "")


FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        "PCMU": Format("PCMU", 8000, 0),
        "PCMA": Format("PCMA", 8000, 8),
        "G722": Format("G722", 8000, 9),
        # Two channels whatever is sent (RFC 7587 §4.1); what we play has 16 kHz and one.
        "OPUS": Format(
            "opus", 48000, 111, 2, "maxplaybackrate=16000;sprop-maxcapturerate=16000;stereo=0;useinbandfec=1"
        ),
    }
)
"""By the names of :attr:`media.messages.LegPolicy.codecs`."""


def telephone_event(clock_rate_hz: int) -> Format:
    """Events at the clock rate of the codec they go beside (RFC 4733 §2.1)."""
    return Format("telephone-event", clock_rate_hz, 101 if clock_rate_hz == 8000 else 110, parameters="0-15")
