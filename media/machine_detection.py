"""Who answered: a person, an answering machine, a fax, or nobody that can be told. By listening to the caller's side.

A person says a word or two and waits; a machine talks on. That, a tone after speech (the machine's beep) and the tones
of faxes are what is listened for; where the sound is neither speech nor such a tone, or its length lies between the
two, the result is ``unsure``: a wrong word costs a caller more than none. ``docs/reference/amd.md`` says how well.

No I/O and no clock: 20 ms frames in, results out. Each frame costs one short Fourier transform, and only until the
result, and the beep that may follow it, are out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from media import g711
from media.agents.base import Encoding
from media.convert import Converter
from media.voice import VoiceDetector

__all__ = ["Detection", "MachineDetector", "Verdict"]

Verdict = Literal["human", "machine", "machine_beep", "beep", "fax", "unsure"]

_RATE_HZ: Final = 8000
_WINDOW: Final = 320
_SIZE: Final = 512
_HANN: Final = np.hanning(_WINDOW).astype(np.float32)
_BIN_HZ: Final = _RATE_HZ / _SIZE
_NARROW_BINS: Final = 5
"""Each side of a peak: 78 Hz."""

_HUMAN_FRAMES: Final = 90
"""A greeting of at most 1.8 s…"""
_ANSWER_PAUSE: Final = 40
"""…and then 0.8 s of silence: somebody waits for an answer."""
_MACHINE_FRAMES: Final = 150
"""3 s without such a pause: nobody waits. What ends between the two is either."""
_LEAST_SPEECH: Final = 5
_BEEP_FRAMES: Final = (6, 75)
"""A beep lasts 0.12 to 1.5 s."""
_SPEECH_BEFORE_BEEP: Final = 20
_CNG_HZ, _CNG_FRAMES = 1100.0, (20, 35)
"""T.30 §4.3.3.2: 1100 ± 38 Hz for 0.5 s ± 15 %."""
_CED_HZ, _CED_FRAMES = 2100.0, 40
"""T.30 §4.3.3.1 and V.8: 2100 ± 15 Hz for 2.6 s and more; V.8 turns its phase every 0.45 s."""

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Detection:
    """``beep`` follows ``machine`` or ``unsure``; all others come once. ``after_ms`` [ms] after the call's start."""

    result: Verdict
    after_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Spectrum:
    """Of 40 ms: the strongest frequency, and whether nearly all power lies there."""

    hz: float
    narrow: bool


def _spectrum(window: Samples) -> _Spectrum:
    power = np.abs(np.fft.rfft(window * _HANN, _SIZE)) ** 2
    peak = int(power.argmax())
    low, high = max(peak - _NARROW_BINS, 0), peak + _NARROW_BINS + 1
    narrow = bool(power[low:high].sum() > 0.92 * power.sum())
    if 0 < peak < len(power) - 1:
        before, at, after = np.log(power[peak - 1 : peak + 2] + 1e-9)
        bend = before - 2 * at + after
        offset = float((before - after) / (2 * bend)) if bend else 0.0
    else:
        offset = 0.0
    return _Spectrum((peak + offset) * _BIN_HZ, narrow)


class _Tone:
    """A run of frames of one steady tone."""

    __slots__ = ("frames", "hz")

    def __init__(self) -> None:
        self.frames = 0
        self.hz = 0.0

    def hear(self, hz: float | None) -> tuple[float, int] | None:
        """The frame's tone, if it is one; the run that it has ended: its frequency and its frames."""
        if hz is not None and self.frames and abs(hz - self.hz) < 15:
            self.hz += (hz - self.hz) / (self.frames + 1)
            self.frames += 1
            return None
        ended = (self.hz, self.frames) if self.frames else None
        self.hz, self.frames = (hz, 1) if hz is not None else (0.0, 0)
        return ended


class MachineDetector:
    """One call's. Feed every frame of the caller to :meth:`hear` until :attr:`done`.

    ``timeout_s`` [s]: no result by then is ``unsure``. ``beep_timeout_s`` [s]: how long a beep is listened for.
    """

    __slots__ = (
        "_answer_tone",
        "_at",
        "_beep_frames",
        "_before",
        "_convert",
        "_decided",
        "_first",
        "_last",
        "_levels",
        "_loud",
        "_narrow",
        "_peak",
        "_speech",
        "_steady",
        "_timeout_frames",
        "_tone",
        "_voice",
        "done",
    )

    def __init__(self, encoding: Encoding, timeout_s: float = 6.0, beep_timeout_s: float = 45.0) -> None:
        self._timeout_frames = round(timeout_s * 50)
        self._beep_frames = round(beep_timeout_s * 50)
        self._convert = Converter(encoding, "L16")
        self._voice = VoiceDetector()
        self._before: Samples = np.zeros(g711.FRAME_BYTES, dtype=np.float32)
        self._at = 0
        self._first: int | None = None  # where the greeting began, and its last loud frame
        self._last = 0
        self._loud = self._narrow = self._steady = self._speech = self._answer_tone = 0
        self._peak = 0.0
        self._levels: list[int] = []
        self._tone = _Tone()
        self._decided: Verdict | None = None
        self.done = False

    def change(self, encoding: Encoding) -> None:
        """Frames are in ``encoding`` from here on."""
        self._convert = Converter(encoding, "L16")

    def hear(self, frame: bytes) -> Detection | None:
        """20 ms of the caller; what it has made sure."""
        if self.done:
            return None
        self._at += 1
        linear = self._convert(frame)
        samples = np.frombuffer(linear[-2 * g711.FRAME_BYTES :], dtype=np.int16).astype(np.float32)
        if len(samples) < g711.FRAME_BYTES:
            samples = np.concatenate([np.zeros(g711.FRAME_BYTES - len(samples), dtype=np.float32), samples])
        level = g711.level(linear)
        loud = self._voice.is_loud(level)
        ended = self._listen(samples, level) if loud else self._tone.hear(None)
        self._before = samples
        return self._tell(self._judge(ended))

    def _listen(self, samples: Samples, level: int) -> tuple[float, int] | None:
        """A loud frame; the tone that it has ended."""
        spectrum = _spectrum(np.concatenate((self._before, samples)))
        tone = spectrum.hz if spectrum.narrow and 280 <= spectrum.hz <= 2600 else None
        ended = self._tone.hear(tone)
        self._answer_tone += tone is not None and abs(tone - _CED_HZ) < 25
        if self._first is None:
            self._first = self._at
        self._last = self._at
        self._loud += 1
        self._narrow += spectrum.narrow
        self._steady += abs(spectrum.hz - self._peak) < 4
        self._speech += not spectrum.narrow
        self._peak = spectrum.hz
        if len(self._levels) < _MACHINE_FRAMES:
            self._levels.append(level)
        return ended

    # --- judgement --------------------------------------------------------------------------------

    def _judge(self, ended: tuple[float, int] | None) -> tuple[Verdict, str] | None:
        if self._answer_tone >= _CED_FRAMES and self._decided is None:
            return "fax", "2100 Hz: the answer tone of a fax or modem"
        if ended is not None and (found := self._ended(*ended)) is not None:
            return found
        return self._greeting() if self._decided is None else None

    def _ended(self, hz: float, frames: int) -> tuple[Verdict, str] | None:
        """A tone is over."""
        least, longest = _BEEP_FRAMES
        if frames < least:
            return None
        if self._speech >= _SPEECH_BEFORE_BEEP and self._is_speech():
            if frames <= longest and 300 <= hz <= 2500:
                return ("machine_beep" if self._decided is None else "beep"), f"a tone of {hz:.0f} Hz after speech"
        elif self._decided is None and abs(hz - _CNG_HZ) < 40 and _CNG_FRAMES[0] <= frames <= _CNG_FRAMES[1]:
            return "fax", "1100 Hz for half a second: a fax calls"
        return None

    def _greeting(self) -> tuple[Verdict, str] | None:
        """By what was said, and the silence after it."""
        if self._first is not None:
            length, silence = self._last - self._first + 1, self._at - self._last
            if silence >= _ANSWER_PAUSE and self._speech >= _LEAST_SPEECH:
                if not self._is_speech():
                    return "unsure", "a sound that is no speech"
                if length <= _HUMAN_FRAMES:
                    return "human", f"{length * 20} ms of speech, then silence"
                if length < _MACHINE_FRAMES:
                    return "unsure", f"{length * 20} ms of speech: long for a person, short for a machine"
            if length >= _MACHINE_FRAMES and silence < _ANSWER_PAUSE:
                if not self._is_speech():
                    return "unsure", "a lasting sound that is no speech"
                return "machine", f"{length * 20} ms of speech without a pause for an answer"
        if self._at >= self._timeout_frames:
            return "unsure", "nothing that tells, in time" if self._first is not None else "silence"
        return None

    def _is_speech(self) -> bool:
        """Syllables rise and fall, and a voice's pitch moves: noise lacks the one, music the other, tones both."""
        if self._narrow > 0.5 * self._loud or self._steady > 0.7 * self._loud:
            return False
        decibels = 20 * np.log10(np.maximum(np.array(self._levels[1:] or [1], dtype=np.float32), 1.0))
        if len(decibels) < 8:
            return True
        return float(decibels.std()) > 2.5 and float(np.abs(np.diff(decibels)).mean()) > 1.2

    def _tell(self, found: tuple[Verdict, str] | None) -> Detection | None:
        if found is not None:
            result, reason = found
            final = result not in ("machine", "unsure") or (result == "unsure" and not self._speech)
            self._decided, self.done = result, final
            return Detection(result, self._at * 20, reason)
        if self._at >= self._beep_frames:
            self.done = True
        return None
