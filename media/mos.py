"""How a call sounds, estimated from its network: the E-model (ITU-T G.107) with what a receiver knows.

``R = 93.2 − Id − Ie,eff`` with Id the impairment of pure delay (G.107's Idd) and Ie,eff that of codec and loss:

    Ie,eff = Ie + (95 − Ie) · Ppl / (Ppl / BurstR + Bpl)

Ppl is the share of frames that were concealed: lost, or too late to be played [%]. BurstR is the mean length of the
runs of concealed frames over the one that as much random loss would have, 1 / (1 − Ppl): 1 for random loss, more for
bursts. Echo, noise and level are at their defaults, for a receiver does not know them. One scale serves for all
codecs, narrowband's: a wideband codec is rated as if its bandwidth were worth nothing, so that R tells of the line.
"""

from __future__ import annotations

from math import log2
from typing import Final, NamedTuple

__all__ = ["IMPAIRMENTS", "Impairment", "burst_ratio", "mos", "r_factor"]

_BEST: Final = 93.2
"""R0 − Is with every default (G.107 §7.7)."""


class Impairment(NamedTuple):
    """Of a codec: ``ie`` without loss, ``bpl`` its robustness against it (the greater, the more it bears)."""

    ie: float
    bpl: float


IMPAIRMENTS: Final = {
    "PCMU": Impairment(0, 25.1),
    "PCMA": Impairment(0, 25.1),
    "G722": Impairment(0, 25.1),
    "OPUS": Impairment(0, 30.0),
}
"""G.711 with concealment as in G.113 Appendix I. G.722 is concealed in the same way here and rated alike; Opus's own
concealment and redundancy bear more, by how much is our estimate."""


def burst_ratio(concealed: int, runs: int, share: float) -> float:
    """BurstR of so many concealed frames in so many runs; never below 1, which is random loss."""
    if not concealed or not runs or share >= 1:
        return 1.0
    return max(concealed / runs * (1 - share), 1.0)


def r_factor(codec: str, *, delay_ms: float, share: float, burst: float = 1.0) -> float:
    """R, 0 to 93.2. ``delay_ms`` mouth to ear [ms], ``share`` of frames concealed [0..1], ``burst`` BurstR."""
    ie, bpl = IMPAIRMENTS.get(codec, IMPAIRMENTS["PCMU"])
    loss_percent = min(max(share, 0.0), 1.0) * 100
    effective = ie + (95 - ie) * loss_percent / (loss_percent / max(burst, 1.0) + bpl)
    return min(max(_BEST - _delay(delay_ms) - effective, 0.0), _BEST)


def _delay(ms: float) -> float:
    """Idd (G.107 §7.4, with the default delay sensitivity)."""
    if ms <= 100:
        return 0.0
    x = log2(ms / 100)
    return 25 * (_sixth_root(1 + x**6) - 3 * _sixth_root(1 + (x / 3) ** 6) + 2)


def _sixth_root(value: float) -> float:
    return float(value ** (1 / 6))


def mos(r: float) -> float:
    """The mean opinion score of an R, 1 to 4.5 (G.107 Annex B)."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)
