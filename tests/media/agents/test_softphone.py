"""The softphone: plays, records, presses digits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from media.agents.base import BadAgent
from media.agents.softphone import Softphone
from media.agents.wav import wav_bytes
from media.messages import AgentSpec
from tests.media.agents.fakes import FakePort, host
from tests.support.audio import read_wav, tone

SPOKEN = tone(440, 0.5).tobytes()
HEARD = tone(1000, 0.02).tobytes()


async def opened(port: FakePort, **parameters: str) -> Softphone:
    agent = Softphone(host(AgentSpec(protocol="softphone", parameters=parameters)))
    agent.open(port)
    while not port.log:
        await asyncio.sleep(0.001)
    return agent


def wav(tmp_path: Path) -> str:
    path = tmp_path / "said.wav"
    path.write_bytes(wav_bytes(SPOKEN))
    return str(path)


async def test_it_is_ready_once_its_file_is_read_and_speaks_from_the_start_of_the_call(tmp_path: Path) -> None:
    port = FakePort()
    agent = await opened(port, play=wav(tmp_path))
    assert port.take() == [("started",), ("ready",)]
    agent.on_start()
    assert port.take() == [("play", SPOKEN, "L16"), ("mark", "played")]
    await agent.close()


async def test_a_file_that_cannot_be_played_fails_the_call_with_its_reason(tmp_path: Path) -> None:
    port = FakePort()
    await opened(port, play=str(tmp_path / "gone.wav"))
    [(what, cause, message)] = port.take()
    assert (what, cause) == ("failed", "error")
    assert "gone.wav" in message


async def test_what_it_heard_is_on_disk_when_it_is_closed(tmp_path: Path) -> None:
    record = tmp_path / "heard.wav"
    agent = await opened(FakePort(), record=str(record))
    agent.on_start()
    for number in range(10):
        agent.on_audio(HEARD, number * 20)
    await agent.close()
    assert read_wav(record).tobytes() == HEARD * 10


async def test_time_that_was_skipped_is_silence_in_the_recording(tmp_path: Path) -> None:
    record = tmp_path / "heard.wav"
    agent = await opened(FakePort(), record=str(record))
    agent.on_audio(HEARD, 0)
    agent.on_audio(HEARD, 60)
    await agent.close()
    assert read_wav(record).tobytes() == HEARD + bytes(640) + HEARD


async def test_both_sides_are_recorded_heard_left_and_said_right(tmp_path: Path) -> None:
    both = tmp_path / "both.wav"
    agent = await opened(FakePort(), play=wav(tmp_path), record_both=str(both))
    agent.on_start()
    agent.on_audio(HEARD, 0)
    await agent.close()
    samples = np.frombuffer(both.read_bytes()[44:], dtype=np.int16).reshape(-1, 2)
    assert samples[:, 0].tobytes() == HEARD
    assert samples[:, 1].tobytes() == SPOKEN[:320]


async def test_digits_are_pressed_after_their_time_once() -> None:
    port = FakePort()
    agent = await opened(port, digits="12#", digits_after_ms="100")
    agent.on_start()
    port.take()
    for number in range(20):
        agent.on_audio(HEARD, number * 20)
        assert port.take() == ([("digits", "12#")] if number == 5 else [])
    await agent.close()


async def test_it_hangs_up_when_all_is_said_and_pressed_if_asked(tmp_path: Path) -> None:
    port = FakePort()
    agent = await opened(port, play=wav(tmp_path), digits="1", hang_up="after_play")
    agent.on_start()
    port.take()
    agent.on_mark("played")
    assert port.take() == []
    agent.on_audio(HEARD, 500)
    assert port.take() == [("digits", "1"), ("hang_up",)]
    await agent.close()


async def test_it_stays_when_not_asked_to_hang_up(tmp_path: Path) -> None:
    port = FakePort()
    agent = await opened(port, play=wav(tmp_path))
    agent.on_start()
    port.take()
    agent.on_mark("played")
    assert port.take() == []
    await agent.close()


async def test_a_recording_that_cannot_be_written_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    agent = await opened(FakePort(), record=str(tmp_path / "no" / "folder.wav"))
    await agent.close()
    assert "cannot write" in caplog.text


@pytest.mark.parametrize(
    "parameters", [{"volume": "11"}, {"hang_up": "now"}, {"digits_after_ms": "soon"}, {"digits": "12x"}]
)
def test_a_parameter_it_does_not_know_is_refused(parameters: dict[str, str]) -> None:
    with pytest.raises(BadAgent):
        Softphone(host(AgentSpec(protocol="softphone", parameters=parameters)))
