"""The samples of the page customers read, run as they stand there: only host, key and ids are put in."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.support.carriers.stage import PUBLIC, TELNYX_DID, TWILIO_DID, WEBHOOK, Stage
from tests.support.carriers.telnyx_rest import TelnyxConnection
from tests.support.edge import Keyring
from tests.support.process import needs, running

pytestmark = needs("curl")

PAGE = Path(__file__).with_name("data") / "importing-phone-numbers.txt"
HOST, KEY = "https://api.truedy.ai", "YOUR_API_KEY"


def samples(language: str) -> list[str]:
    """The page's samples in ``bash`` or ``python``, in order."""
    blocks = re.findall(rf"^( *)```{language} [^\n]*\n(.*?)^\1```$", PAGE.read_text(), re.M | re.S)
    return [dedent(text) for _, text in blocks]


@pytest.fixture
async def stage(tmp_path: Path, keyring: Keyring) -> AsyncIterator[Stage]:
    """Steps 1 and 2 of the page are done at both carriers."""
    async with Stage.open(tmp_path / "edge", keyring) as on_stage:
        on_stage.twilio_rest.add_number(on_stage.tenant.twilio, TWILIO_DID, voice_url=WEBHOOK)
        await on_stage.tenant.save_twilio()
        await on_stage.tenant.save_telnyx()
        yield on_stage


@pytest.fixture
def connection(stage: Stage) -> TelnyxConnection:
    """The SIP connection of Telnyx's step 1, with the number on it."""
    made = stage.telnyx_connection()
    stage.telnyx_rest.add_number(stage.tenant.telnyx, TELNYX_DID, made)
    return made


def filled(sample: str, stage: Stage, ids: Mapping[str, str]) -> str:
    """With the placeholders of the page replaced; every one of ``ids`` has to be there."""
    for placeholder, value in {HOST: stage.edge.url, KEY: stage.edge.key, **ids}.items():
        assert placeholder in sample, placeholder
        sample = sample.replace(placeholder, value)
    return sample


async def output(*command: str | Path) -> str:
    """What a sample prints; it has to succeed."""
    async with running(*command, name="sample") as program:
        if await program.wait(20.0) != 0:
            raise program.failure("failed")
        return "\n".join(program.lines)


async def data(sample: str) -> Any:
    """Of a curl sample's answer; the progress that curl draws is not part of it."""
    printed = await output("bash", "-c", sample)
    return json.loads(printed[printed.index('{"') :])["data"]


async def new_agent(stage: Stage) -> str:
    """The built-in echo."""
    return await stage.edge.create_agent({"protocol": "builtin", "name": "echo"})


async def expect_calls_on_both(stage: Stage, connection: TelnyxConnection) -> None:
    """Each number is called through its carrier's whole path."""
    await stage.telnyx.registered(connection.user_name or "")
    for call in (await stage.twilio.call(TWILIO_DID), await stage.telnyx.call(TELNYX_DID)):
        assert call.answered, call
        await call.hang_up()
    await stage.edge.expect_records(2)


def test_the_page_has_the_samples_that_are_run_here() -> None:
    """Import twice, assign, remove in curl; the first three in Python."""
    assert [text.split()[0] for text in samples("bash")] == ["curl"] * 4
    assert ["import requests" in text for text in samples("python")] == [True] * 3


def test_the_webhook_of_these_tests_is_the_one_the_page_has_customers_enter() -> None:
    assert WEBHOOK.replace(PUBLIC, HOST) in PAGE.read_text().split()


async def test_the_curl_samples_import_assign_and_remove(stage: Stage, connection: TelnyxConnection) -> None:
    import_twilio, import_telnyx, assign, remove = samples("bash")
    numbers = [
        await data(filled(import_twilio, stage, {"AC" + 32 * "X": stage.tenant.twilio.sid})),
        await data(filled(import_telnyx, stage, {"YOUR_TELNYX_CONNECTION_ID": connection.id})),
    ]
    agent_id = await new_agent(stage)
    for number in numbers:
        assert (number["status"], number["agent_id"]) == ("active", None)
        assigned = await data(filled(assign, stage, {"NUMBER_UUID": number["id"], "AGENT_UUID": agent_id}))
        assert assigned["agent_id"] == agent_id
    await expect_calls_on_both(stage, connection)
    for number in numbers:
        gone = await data(filled(remove, stage, {"NUMBER_UUID": number["id"]}))
        assert (gone["phone_number"], gone["released"]) == (number["phone_number"], True)
    assert (await stage.twilio.call(TWILIO_DID)).did == ["Reject"]


async def test_the_python_samples_import_and_assign(stage: Stage, connection: TelnyxConnection, tmp_path: Path) -> None:
    """With ``requests``; the variable ``number_id`` of the last one is what the first ones print."""
    import_twilio, import_telnyx, assign = samples("python")
    printed = [
        await python(tmp_path, filled(import_twilio, stage, {"AC" + 32 * "X": stage.tenant.twilio.sid})),
        await python(tmp_path, filled(import_telnyx, stage, {"YOUR_TELNYX_CONNECTION_ID": connection.id})),
    ]
    agent_id = await new_agent(stage)
    for line, did in zip(printed, (TWILIO_DID, TELNYX_DID), strict=True):
        imported = re.fullmatch(r"Imported: (\S+) \(id: (\S+)\)", line)
        assert imported is not None, line
        assert imported[1] == did
        sample = filled(assign, stage, {"AGENT_UUID": agent_id})
        assert await python(tmp_path, f"number_id = {imported[2]!r}\n{sample}") == agent_id
    await expect_calls_on_both(stage, connection)


async def python(folder: Path, sample: str) -> str:
    """What it prints."""
    script = folder / "sample.py"
    script.write_text(sample)
    return await output(sys.executable, script)
