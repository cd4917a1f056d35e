"""Python agents in whole calls: heard both ways, and whatever one does to its process ends only its own calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.audio import heard_s, level_dbfs, tone
from tests.support.edge import Edge, Keyring, Settings
from tests.support.phone import Call, Phone
from tests.support.rtp import MediaPort

EXAMPLES = Path(__file__).parents[2] / "docs" / "howto" / "agents" / "examples"

CODE = """
import asyncio, ctypes

async def echo(call):
    async for frame in call.audio():
        await call.play(frame)

async def raises(call):
    call.answer()
    await call.answered()
    {}["missing"]

async def loops(call):
    call.answer()
    await call.answered()
    while True:
        pass

async def crashes(call):
    call.answer()
    await call.answered()
    ctypes.string_at(0)

async def facts(call):
    print("facts", call.from_number, call.to_number, call.direction, call.parameters["language"], call.sample_rate)
"""


@asynccontextmanager
async def edge_with(
    tmp_path: Path, keyring: Keyring, pipelines: Mapping[str, Mapping[str, Any]]
) -> AsyncIterator[tuple[Edge, dict[str, str]]]:
    """An edge that runs these functions, each behind a number of its own."""
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "made.py").write_text(CODE)
    agents = {
        "python": list(pipelines),
        "python_path": [str(tmp_path / "agents"), str(EXAMPLES)],
        "python_processes": 2,
        "python_hang_s": 2.0,
    }
    numbers = {}
    async with Edge.open(tmp_path / "edge", keyring, Settings(agents=agents)) as edge:
        for place, (name, pipeline) in enumerate(pipelines.items()):
            numbers[name] = f"+1415555010{place}"
            await edge.add_number({"protocol": "python", "name": name, **pipeline}, numbers[name])
        yield edge, numbers


@asynccontextmanager
async def called(edge: Edge, *numbers: str) -> AsyncIterator[list[Call]]:
    """Established, each with media of its own."""
    async with Phone.open(edge.listeners["udp"]) as phone, AsyncExitStack() as stack:
        calls = []
        for place, number in enumerate(numbers):
            media = await stack.enter_async_context(MediaPort.open(ssrc=0x40000 + place))
            call = await phone.call(number, media=media)
            await call.establish()
            calls.append(call)
        yield calls


async def hears_itself(call: Call, hz: float = 700) -> None:
    await asyncio.gather(call.media.play(tone(hz, 0.6)), call.media.expect_tone(hz, 0.4))


@pytest.mark.realtime
@pytest.mark.parametrize("sample_rate", [8000, 48000])
async def test_an_agent_hears_and_is_heard(tmp_path: Path, keyring: Keyring, sample_rate: int) -> None:
    """The example of the manual, at the phone's own rate and at the widest."""
    async with edge_with(tmp_path, keyring, {"echo:agent": {"sample_rate": sample_rate}}) as (edge, numbers):
        async with called(edge, numbers["echo:agent"]) as [call]:
            await hears_itself(call)
            await call.bye()
        [record] = await edge.expect_records(1)
        assert record["end_reason"] == "caller_hung_up"
        assert record["statistics"]["agent_frames_dropped"] == 0
        assert record["statistics"]["agent_messages_ignored"] == 0


@pytest.mark.realtime
async def test_what_an_agent_does_to_itself_ends_its_call_and_no_other(tmp_path: Path, keyring: Keyring) -> None:
    """An exception, an endless loop, a segmentation fault: the call beside it goes on, and so do new ones."""
    harm = {
        "made:raises": "the agent raised KeyError",
        "made:loops": "the process that ran the agent ended",
        "made:crashes": "the process that ran the agent ended",
    }
    async with edge_with(tmp_path, keyring, {name: {} for name in ("made:echo", *harm)}) as (edge, numbers):
        edge.allowed += ["agent failed", "agent host (hangs|died)", "where an agent host was"]
        async with called(edge, numbers["made:echo"]) as [kept]:
            for place, name in enumerate(harm):
                async with called(edge, numbers[name]) as [cut]:
                    talking = asyncio.ensure_future(hears_itself(kept, 700 + 100 * place))
                    await cut.expect_request("BYE")
                    await talking
            async with called(edge, numbers["made:echo"]) as [fresh]:
                await asyncio.gather(hears_itself(fresh), hears_itself(kept, 1100))
                await fresh.bye()
            await kept.bye()
        lost = {record["to_number"]: record for record in await edge.expect_records(5)}
        for name, note in harm.items():
            record = lost.pop(numbers[name])
            assert (record["ended_by"], record["end_reason"]) == ("agent", "agent_lost")
            assert record["timeline"][-1]["event"].endswith(note)
            function = name.partition(":")[2]
            places = [line.get("exception", line.get("traceback", "")) for line in edge.log()]
            assert len([text for text in places if f"in {function}" in text]) == 1
        assert [record["end_reason"] for record in lost.values()] == ["caller_hung_up"]
        died = {f'truedy_agent_hosts_died_total{{status="{status}"}}': 1.0 for status in (-9, -11)}
        await edge.expect_metrics({"truedy_agent_hosts": 3.0, **died})


async def test_an_agent_knows_the_call_and_ends_it_by_returning(tmp_path: Path, keyring: Keyring) -> None:
    async with edge_with(tmp_path, keyring, {"made:facts": {"parameters": {"language": "en"}}}) as (edge, numbers):
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await phone.call(numbers["made:facts"])
            await call.invite()
            await call.expect(480)
        [record] = await edge.expect_records(1)
        [printed] = [line for line in edge.log() if line["event"].startswith("facts")]
        assert printed["event"] == f"facts {call.caller} {numbers['made:facts']} inbound en 16000"
        assert printed["call"] == record["sid"]


# --- the examples of the manual ---------------------------------------------------------------


async def menu(edge: Edge, number: str) -> None:
    """Interrupted by digits; hangs up."""
    async with called(edge, number) as [call]:
        await call.media.expect_tone(523, 0.3)
        await call.media.press("3")
        await call.media.expect_tone(659, 0.3)
        assert heard_s(call.media.audio(), 587) == 0.0
        await call.media.press("#")
        await call.expect_request("BYE")
        assert heard_s(call.media.audio(), 880) >= 0.25


async def barge_in(edge: Edge, number: str) -> None:
    """Falls silent when the caller speaks."""
    async with called(edge, number) as [call]:
        await call.media.expect_tone(440, 0.3)
        await call.media.play(tone(1000, 0.5))
        await call.media.wait_until(
            lambda: level_dbfs(call.media.audio()[-1600:]) < -60, "silence from the agent", timeout_s=3.0
        )
        await call.bye()


async def attendant(edge: Edge, number: str) -> None:
    """Stays where a transfer is refused."""
    async with called(edge, number) as [call]:
        await call.media.press("1")
        await edge.program.expect("was not transferred", 5.0)
        await call.bye()


async def pipecat_bot(edge: Edge, number: str) -> None:
    """A real pipeline, its own package unmodified: it counts in tones, is interrupted, and ends at ``#``."""
    async with called(edge, number) as [call]:
        await call.media.press("9")
        await call.media.expect_tone(900, 0.6)
        await call.media.press("1")
        await call.media.wait_until(
            lambda: heard_s(call.media.audio()[-3200:], 900) == 0.0, "silence after one tone more", timeout_s=3.0
        )
        await call.media.press("#")
        await call.expect_request("BYE")


@pytest.mark.realtime
async def test_the_examples_of_the_manual_do_what_they_say(tmp_path: Path, keyring: Keyring) -> None:
    """The echo has a test of its own above."""
    pipelines = {
        "menu:agent": {},
        "barge_in:agent": {},
        "attendant:agent": {"parameters": {"number_1": "+19005550123"}},
        "pipecat_bot:agent": {},
    }
    async with edge_with(tmp_path, keyring, pipelines) as (edge, numbers):
        async with asyncio.TaskGroup() as group:
            for example in (menu, barge_in, attendant, pipecat_bot):
                group.create_task(example(edge, numbers[f"{example.__name__}:agent"]))
        records = {record["to_number"]: record["end_reason"] for record in await edge.expect_records(4)}
        assert records == {
            numbers["menu:agent"]: "agent_hung_up",
            numbers["barge_in:agent"]: "caller_hung_up",
            numbers["attendant:agent"]: "caller_hung_up",
            numbers["pipecat_bot:agent"]: "agent_hung_up",
        }


def test_every_example_is_short_and_in_a_test_here() -> None:
    """An example nobody runs is wrong before long."""
    here = Path(__file__).read_text()
    examples = sorted(EXAMPLES.glob("*.py"))
    assert examples
    for path in examples:
        assert f'"{path.stem}:agent"' in here, path.name
        assert len(path.read_text().splitlines()) <= 40, path.name
