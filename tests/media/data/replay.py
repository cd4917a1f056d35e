"""Replay the recorded traces through the jitter buffer; print ``docs/reference/jitter.md``.

python -m tests.media.data.replay > docs/reference/jitter.md
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean

from media.jitter import Gap, JitterBuffer

HERE = Path(__file__).parent
NAMES = ("lan", "drift", "loss", "jitter", "ptime30", "bursts", "wifi")
FIXED_MS = (20, 40, 60, 100)
TICK_S = 0.02
PHASES_S = (0.0, 0.005, 0.01, 0.015)
"""Where the pacing tick may lie between two packets."""


@dataclass(frozen=True)
class Trace:
    """``arrivals``: sequence number and arrival [s] since the first was sent, in order of arrival."""

    name: str
    description: str
    sent: int
    ptime_ms: int
    arrivals: tuple[tuple[int, float], ...]

    @property
    def delays_ms(self) -> list[float]:
        """Each packet's way above the fastest one's [ms]."""
        ways = [at * 1000 - sequence * self.ptime_ms for sequence, at in self.arrivals]
        return [way - min(ways) for way in ways]


@dataclass(frozen=True)
class Outcome:
    """Shares in percent of the packets sent, delay in ms above the fastest packet of the last 8 s."""

    late: float
    concealed: float
    merged: float
    delay_ms: float


@cache
def load(name: str) -> Trace:
    """A trace of ``record.py``."""
    lines = (HERE / f"{name}.csv").read_text().splitlines()
    head = [line.removeprefix("# ") for line in lines if line.startswith("#")]
    sent, ptime_ms = (int(line.partition(": ")[2]) for line in head[1:])
    rows = (line.split(",") for line in lines[len(head) :])
    arrivals = tuple((int(each), int(late) / 10000 + int(each) * ptime_ms / 1000) for each, late in rows)
    return Trace(name, head[0], sent, ptime_ms, arrivals)


@cache
def speech() -> bytes:
    """μ-law speech to put into the packets: what may be merged depends on it."""
    return (HERE / "speech.ulaw").read_bytes()


def payload(trace: Trace, sequence: int) -> bytes:
    """The packet's part of the speech, which goes round."""
    size = trace.ptime_ms * 8
    at = sequence * size % (len(speech()) - size)
    return speech()[at : at + size]


def replay(trace: Trace, buffer: JitterBuffer, phase_s: float = 0.0) -> Outcome:
    """Arrivals and 20 ms ticks in their order, on the trace's clock."""
    arrivals = iter([*trace.arrivals, (-1, float("inf"))])
    sequence, at = next(arrivals)
    delays, concealed = [], 0
    for tick in range(round(trace.sent * trace.ptime_ms / 1000 / TICK_S)):
        now = 1.0 + phase_s + tick * TICK_S
        while at <= now - 1.0:
            timestamp = sequence * trace.ptime_ms * 8
            buffer.put(sequence & 0xFFFF, timestamp, payload(trace, sequence), 1.0 + at, marker=sequence == 0)
            sequence, at = next(arrivals)
        frame = buffer.get(now)
        concealed += frame is Gap.LOST
        delay_ms = buffer.delay_ms(now)
        if isinstance(frame, bytes) and delay_ms is not None:
            delays.append(delay_ms)
    frames = buffer.frames_played + buffer.frames_concealed
    return Outcome(
        late=100 * buffer.late / trace.sent,
        concealed=100 * concealed / frames,
        merged=100 * buffer.frames_merged / frames,
        delay_ms=fmean(delays),
    )


@cache
def replayed(name: str) -> Outcome:
    """The mean over the tick's phases."""
    outcomes = [replay(load(name), JitterBuffer(), phase_s) for phase_s in PHASES_S]
    return Outcome(*(fmean(getattr(each, field) for each in outcomes) for field in Outcome.__dataclass_fields__))


def fixed(name: str, depth_ms: float) -> Outcome:
    """A buffer that starts ``depth_ms`` after the first packet and never moves, for comparison."""
    trace = load(name)
    delays = trace.delays_ms
    limit = delays[0] + depth_ms
    late = sum(delay > limit for delay in delays)
    fastest = fmean(min(delays[max(0, at - 400) : at + 1]) for at in range(0, len(delays), 50))
    return Outcome(100 * late / trace.sent, 100 * (late + trace.sent - len(delays)) / trace.sent, 0.0, limit - fastest)


HEAD = """# The jitter buffer

`media/jitter.py` takes G.711 packets of 10 to 60 ms and gives one 20 ms frame at each tick. Its module docstring
says how it adapts; this page says how well. The table is made by

    python -m tests.media.data.replay > docs/reference/jitter.md

from traces of RTP recorded over impaired paths (`tests/media/data/README.md`), a minute each, replayed with the tick
at four places between two packets; a test keeps it true.

**Late** is the share of the packets sent that came after their time and were dropped, **delay** the mean play-out
delay above the fastest packet of the last 8 s, **concealed** the share of frames that were lost or had not come when
they were due (after a stall of the network the frames come later and are played: a pause, and no word lost),
**merged** the share of frames made out of two to work the delay off again. For comparison, a buffer of fixed depth
that starts with the first packet: its late loss in percent and its delay in ms.

"""

FOOT = """
The delay of `lan` is near the least there can be with frames of 20 ms: 10 ms of safety, and on average half a frame
between a packet's arrival and the tick. At most 200 ms of delay are aimed at, and 260 ms kept. Concealment adds
nothing.
"""


def table() -> list[str]:
    """The rows."""
    head = ["path", "lost", "network p50 / p95 / p99", "**late**", "**delay**", "concealed", "merged"]
    head += [f"fixed {depth} ms" for depth in FIXED_MS]
    return [_row(head), _row(["---"] * len(head)), *map(_measured, NAMES)]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _measured(name: str) -> str:
    trace, ours = load(name), replayed(name)
    delays = sorted(trace.delays_ms)
    spread = " / ".join(f"{delays[len(delays) * share // 100]:.0f}" for share in (50, 95, 99))
    cells = [f"`{name}`", f"{100 - 100 * len(delays) / trace.sent:.1f} %", f"{spread} ms"]
    cells += [f"**{ours.late:.2f} %**", f"**{ours.delay_ms:.0f} ms**"]
    cells += [f"{ours.concealed:.1f} %", f"{ours.merged:.1f} %"]
    cells += [f"{each.late:.1f} / {each.delay_ms:.0f}" for each in (fixed(name, depth) for depth in FIXED_MS)]
    return _row(cells)


def page() -> str:
    """The whole of ``docs/reference/jitter.md``."""
    paths = [f"- `{name}`: {load(name).description}" for name in NAMES]
    return HEAD + "\n".join([*table(), "", "The paths:", "", *paths]) + "\n" + FOOT


if __name__ == "__main__":
    print(page(), end="")
