"""Who answers a call, made by a generator: voices, machines, faxes, music, noise, and how the detector takes them.

    python -m tests.media.data.answers > docs/reference/amd.md

Every sound is made of numbers that a seed gives, but for a few that are this project's own recordings. Voices are
harmonics of a moving pitch under formants that change with every syllable, with noise for consonants: they have the
cadence of speech, which is what the detector goes by, and none of its words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from media import g711
from media.agents import recordings
from media.machine_detection import Detection, MachineDetector

RATE_HZ = 8000
Sound = npt.NDArray[np.float64]
Draw = np.random.Generator

FORMANTS = (
    (730, 1090, 2440),
    (530, 1840, 2480),
    (390, 1990, 2550),
    (570, 840, 2410),
    (300, 870, 2240),
    (640, 1190, 2390),
)


@dataclass(frozen=True)
class Answer:
    """What the caller's side sends from the call's start on; ``beep_s``: when its beep has ended."""

    kind: str
    audio: bytes
    beep_s: float | None = None


# --- sounds -----------------------------------------------------------------------------------------


def quiet(seconds: float) -> Sound:
    return np.zeros(round(seconds * RATE_HZ))


def sine(hz: float, seconds: float, fade_s: float = 0.005) -> Sound:
    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return np.sin(2 * np.pi * hz * at) * np.minimum(1, np.minimum(at, at[::-1]) / fade_s)


def syllable(draw: Draw, pitch_hz: float, seconds: float) -> Sound:
    """A consonant's noise, then a vowel whose pitch moves."""
    count = round(seconds * RATE_HZ)
    at = np.arange(count) / RATE_HZ
    slope, wobble = draw.normal(0, 1.0), draw.uniform(0.005, 0.02)
    pitch = pitch_hz * (1 + slope * (at - seconds / 2) / 1.0 + wobble * np.sin(2 * np.pi * draw.uniform(3, 7) * at))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
    formants = FORMANTS[draw.integers(len(FORMANTS))]
    vowel = np.zeros(count)
    for harmonic in range(1, int(3400 / pitch_hz) + 1):
        hz = harmonic * pitch_hz
        gain = sum(
            weight / (1 + ((hz - formant) / width) ** 2)
            for formant, width, weight in zip(formants, (80, 100, 140), (1.0, 0.6, 0.3), strict=True)
        )
        vowel += (gain + 0.02) / harmonic**0.3 * np.sin(harmonic * phase + draw.uniform(0, 6.28))
    envelope = np.sin(np.pi * np.minimum(1, at / seconds)) ** 0.6
    noise = draw.normal(0, 1, count) * np.exp(-at / 0.03) * draw.uniform(0, 0.5)
    return vowel / (np.abs(vowel).max() + 1e-9) * envelope + noise * 0.3


def speech(draw: Draw, seconds: float, pauses: bool = True) -> Sound:
    """Words, and where it is long and ``pauses``, sentences."""
    pitch_hz = draw.uniform(90, 240)
    pieces, length, sentence = [], 0.0, draw.uniform(1.2, 3.0)
    while length < seconds:
        lasting = min(draw.uniform(0.11, 0.28), max(seconds - length, 0.08))
        piece = syllable(draw, pitch_hz * draw.uniform(0.85, 1.2), lasting) * draw.uniform(0.5, 1.0)
        pieces.append(piece)
        length += lasting
        gap = draw.uniform(0.02, 0.12) if draw.random() < 0.35 else 0.0
        if pauses and length > sentence:
            gap, sentence = draw.uniform(0.2, 0.6), length + draw.uniform(1.2, 3.0)
        if length + gap < seconds:
            pieces.append(quiet(gap))
            length += gap
    return np.concatenate(pieces)


def music(draw: Draw, seconds: float) -> Sound:
    """Notes of a scale with a bass under them."""
    out = quiet(seconds)
    root, beat = draw.uniform(180, 330), draw.uniform(0.25, 0.6)
    scale = [0, 2, 4, 5, 7, 9, 11, 12]
    for number in range(int(seconds / beat)):
        note_s = beat * draw.uniform(1.0, 2.0)
        at = np.arange(round(note_s * RATE_HZ)) / RATE_HZ
        start = round(number * beat * RATE_HZ)
        for hz, gain in ((root * 2 ** (scale[draw.integers(8)] / 12), 1.0), (root / 2, 0.5)):
            note = sum(np.sin(2 * np.pi * hz * part * at) / part**1.5 for part in (1, 2, 3, 4))
            piece = gain * np.asarray(note) * np.minimum(at / 0.02, 1) * np.exp(-at / draw.uniform(0.5, 2.0))
            out[start : start + len(piece)] += piece[: len(out) - start]
    return out


def cadence(tones: tuple[float, ...], pattern: tuple[float, ...], seconds: float) -> Sound:
    """Tones on and off by turns, over and over."""
    pieces, length, number = [], 0.0, 0
    while length < seconds:
        lasting = pattern[number % len(pattern)]
        pieces.append(sum((sine(hz, lasting) for hz in tones), quiet(lasting)) if number % 2 == 0 else quiet(lasting))
        length, number = length + lasting, number + 1
    return np.concatenate(pieces)


def recording(name: str) -> Sound:
    return np.frombuffer(recordings.load()[name], dtype=np.int16).astype(np.float64) / 32768


# --- answers ----------------------------------------------------------------------------------------


def on_the_line(draw: Draw, kind: str, *pieces: Sound, tail_s: float = 4.0, beep_s: float | None = None) -> Answer:
    """After a moment, at some level, in some noise, through G.711."""
    lead = draw.uniform(0.1, 1.2)
    sound = np.concatenate([quiet(lead), *pieces, quiet(tail_s)])
    peak = np.abs(sound).max()
    if peak:
        sound *= 10 ** (draw.uniform(-28, -6) / 20) / peak
    sound += draw.normal(0, 10 ** (draw.uniform(-72, -46) / 20), len(sound))
    pcm = np.clip(np.rint(sound * 32767), -32768, 32767).astype(np.int16).tobytes()
    return Answer(kind, g711.encode_ulaw(pcm), None if beep_s is None else lead + beep_s)


def person(draw: Draw) -> Answer:
    if draw.random() < 0.15:
        return on_the_line(draw, "person: a word or two", recording(f"digit-{draw.integers(10)}"))
    words = speech(draw, draw.uniform(0.3, 1.5), pauses=False)
    again = [quiet(draw.uniform(1.5, 3.0)), speech(draw, draw.uniform(0.3, 0.8), pauses=False)]
    return on_the_line(draw, "person: a word or two", words, *(again if draw.random() < 0.4 else []))


def business(draw: Draw) -> Answer:
    return on_the_line(draw, "person: a company's greeting", speech(draw, draw.uniform(1.9, 2.9), pauses=False))


def talker(draw: Draw) -> Answer:
    return on_the_line(draw, "person: talks on", speech(draw, draw.uniform(3.2, 6.0), pauses=False))


def machine(draw: Draw) -> Answer:
    if draw.random() < 0.1:
        return on_the_line(draw, "machine, no beep", recording("greeting"), quiet(0.3), recording("goodbye"))
    return on_the_line(draw, "machine, no beep", speech(draw, draw.uniform(4, 12)))


def short_machine(draw: Draw) -> Answer:
    words, pause, length = (
        speech(draw, draw.uniform(1.2, 2.8), pauses=False),
        draw.uniform(0.1, 0.6),
        draw.uniform(0.2, 0.8),
    )
    ends_s = len(words) / RATE_HZ + pause + length
    beep = sine(draw.uniform(380, 2200), length)
    return on_the_line(draw, "machine, a short greeting and a beep", words, quiet(pause), beep, beep_s=ends_s)


def machine_and_beep(draw: Draw) -> Answer:
    words, pause, length = speech(draw, draw.uniform(3.5, 12)), draw.uniform(0.1, 0.9), draw.uniform(0.15, 1.1)
    beep = sine(draw.uniform(380, 2200), length) * draw.uniform(0.3, 1.0)
    ends_s = (len(words) + len(beep)) / RATE_HZ + pause
    return on_the_line(draw, "machine with a beep", words, quiet(pause), beep, beep_s=ends_s)


def fax(draw: Draw) -> Answer:
    if draw.random() < 0.5:
        return on_the_line(draw, "fax", cadence((1100 + draw.uniform(-30, 30),), (0.5, 3.0), 8.0))
    answer = np.concatenate([sine(2100, 0.45, 0.001) * (-1) ** turn for turn in range(7)])
    return on_the_line(draw, "fax", answer if draw.random() < 0.5 else sine(2100 + draw.uniform(-12, 12), 3.0))


def on_hold(draw: Draw) -> Answer:
    return on_the_line(draw, "music", music(draw, 10.0))


def noise(draw: Draw) -> Answer:
    loud = draw.normal(0, 0.2, 10 * RATE_HZ) * draw.uniform(0.3, 1.0)
    return on_the_line(draw, "noise", loud)


def nobody(draw: Draw) -> Answer:
    return on_the_line(draw, "silence", quiet(8.0))


def ringing(draw: Draw) -> Answer:
    kinds = (
        ((440.0, 480.0), (2.0, 4.0)),
        ((425.0,), (1.0, 4.0)),
        ((400.0, 450.0), (0.4, 0.2, 0.4, 2.0)),
        ((480.0, 620.0), (0.5, 0.5)),
        ((425.0,), (0.5, 0.5)),
    )
    tones, pattern = kinds[draw.integers(len(kinds))]
    return on_the_line(draw, "ringing and busy tones", cadence(tones, pattern, 10.0))


MAKERS: dict[Callable[[Draw], Answer], int] = {
    person: 40,
    business: 10,
    talker: 10,
    machine: 20,
    machine_and_beep: 30,
    short_machine: 10,
    fax: 20,
    on_hold: 16,
    noise: 6,
    nobody: 4,
    ringing: 14,
}
"""How many of each."""


def corpus(seed: int) -> Iterator[Answer]:
    """The same for a seed, always."""
    for number, (make, count) in enumerate(MAKERS.items()):
        for index in range(count):
            yield make(np.random.default_rng([seed, number, index]))


def detect(answer: Answer, timeout_s: float = 6.0) -> list[Detection]:
    """What the detector says of it, in order."""
    detector = MachineDetector("PCMU", timeout_s)
    frames = (answer.audio[at : at + 160] for at in range(0, len(answer.audio) - 159, 160))
    return [detection for frame in frames if (detection := detector.hear(frame)) is not None]


SEED = 2026
"""Of the page. The detector's figures were chosen with other seeds."""

RESULTS = ("human", "machine", "fax", "unsure")


@cache
def confusion(seed: int = SEED) -> dict[str, Counter[str]]:
    """By kind: the results, and under ``beep`` those that heard one (within 0.3 s of its end where there was one)."""
    matrix: dict[str, Counter[str]] = {}
    for answer in corpus(seed):
        row = matrix.setdefault(answer.kind, Counter())
        found = detect(answer)
        row["machine" if found[0].result == "machine_beep" else found[0].result] += 1
        for each in found:
            if each.result in ("machine_beep", "beep"):
                right = answer.beep_s is not None and abs(each.after_ms / 1000 - answer.beep_s) < 0.3
                row["beep" if right else "false beep"] += 1
        row["after_ms"] += found[0].after_ms
    return matrix


HEAD = """# Answering-machine detection

`media/machine_detection.py` listens to the caller's side of an answered call and tells who answered; its docstring says
by what. This page says how well, **on sounds made by a generator**:

    python -m tests.media.data.answers > docs/reference/amd.md

What that means: the voices have the cadence, the moving pitch and the formants of speech and none of its words; there
are no accents, no children, no dogs, no bad mobile connections. The figures show that the detector does what it was
made to do, and that it abstains from what is no speech. They are no promise for your calls: measure there, with
`machine_detection` on the calls' records, before you hang up on anybody by it. A test keeps the table true; the
detector's own limits were chosen with other seeds than the table's.

A row is what answered, a column what was said. `unsure` is never wrong, only of no use.

"""

FOOT = """
**heard** counts beeps told of within 0.3 s of their end, **false** those told of elsewhere. **after** is the mean time
from the call's start to the result; the sound begins 0.1 to 1.2 s after the start.

A company's greeting by a person and a short greeting of a machine last equally long: what ends between 1.8 and 3 s is
`unsure`, and some of either will be. A person who goes on talking for 3 s is taken for a machine.
"""


def page() -> str:
    """The whole of ``docs/reference/amd.md``."""
    rows = [["answered by", "calls", *RESULTS, "beeps heard", "false", "after"]]
    rows.append(["---"] * len(rows[0]))
    for kind, row in confusion().items():
        calls = sum(row[result] for result in RESULTS)
        beeps = [str(row["beep"]) if kind.endswith("beep") and "no beep" not in kind else "", str(row["false beep"])]
        results = [str(row[result] or "") for result in RESULTS]
        rows.append([kind, str(calls), *results, *beeps, f"{row['after_ms'] / calls / 1000:.1f} s"])
    return HEAD + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n" + FOOT


if __name__ == "__main__":
    print(page(), end="")
