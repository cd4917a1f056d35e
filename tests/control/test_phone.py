"""The softphone's own rules; whole calls with it are in ``test_main.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.entropy import entropy
from control.phone import PhoneCall, PhoneError, place_call


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("tel:+14155550100", "only sip: and sips:"),
        ("mailto:somebody@example.com", "only sip: and sips:"),
        ("sip:", "no SIP URI"),
        ("sip:a@no.such.host.invalid", "cannot find no.such.host.invalid"),
    ],
)
@pytest.mark.realtime
async def test_what_cannot_be_dialed_is_a_readable_error(target: str, complaint: str) -> None:
    with pytest.raises(PhoneError, match=complaint):
        await place_call(PhoneCall(target=target), entropy=entropy)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (PhoneCall("sip:a@127.0.0.1", play=Path("no/such.wav")), "no/such.wav"),
        (PhoneCall("sip:a@127.0.0.1", digits="12x"), "'X' is neither a digit"),
    ],
)
@pytest.mark.realtime
async def test_what_cannot_be_played_or_pressed_is_told_before_anybody_is_called(
    call: PhoneCall, complaint: str
) -> None:
    with pytest.raises(PhoneError, match=complaint):
        await place_call(call, entropy=entropy)


def test_the_password_stays_out_of_sight() -> None:
    assert "hunter2" not in repr(PhoneCall(target="sip:a@b", username="a", password="hunter2"))
