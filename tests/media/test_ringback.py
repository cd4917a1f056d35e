"""The ringing tones of some networks."""

from __future__ import annotations

import numpy as np
import pytest

from media.ringback import ringing_tone
from tests.support.audio import RATE_HZ, level_dbfs


@pytest.mark.parametrize(
    ("number", "frequencies_hz", "seconds"),
    [
        ("+14155550123", [440, 480], 6.0),
        ("+442079460123", [400, 450], 3.0),
        ("+4930901820", [425], 5.0),
        ("", [425], 5.0),
    ],
)
def test_each_network_has_its_own(number: str, frequencies_hz: list[int], seconds: float) -> None:
    """ITU-T E.180 §7 and supplement 2."""
    tone = np.frombuffer(ringing_tone(number), dtype="<i2")
    assert len(tone) == seconds * RATE_HZ
    spectrum = np.abs(np.fft.rfft(tone[: RATE_HZ // 5]))
    found = [5 * int(bin) for bin in np.flatnonzero(spectrum > spectrum.max() / 2)]
    assert found == frequencies_hz
    assert -30 < level_dbfs(tone[: RATE_HZ // 5]) < -15
    assert not tone[-RATE_HZ:].any(), "it ends with its pause"
