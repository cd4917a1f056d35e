"""What is around the carriers' SDKs."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from control.errors import ProviderVerificationFailed
from control.providers import Check
from control.providers.sdk import (
    CHECKS,
    CarrierError,
    OnFirstUse,
    Refused,
    TimedOut,
    Unreachable,
    WarningCode,
    WrongAnswer,
    failed,
    failure,
    field,
    required,
    warning,
)

# --- when they are imported -------------------------------------------------------------------

HEAVY = {"dns", "media.service", "twilio", "telnyx", "httpx", "httpcore", "aiohttp", "requests", "anyio._backends"}

STARTS = """
import json, sys
import control.main, control.cli
print(json.dumps(sorted(sys.modules)))
"""

VISITS = """
import asyncio, json, sys
from config.settings import Providers, Settings
from control.providers import Claim, telnyx, twilio
from control.registry.types import Integration
from tests.support.carriers.telnyx_rest import TelnyxRest
from tests.support.carriers.twilio_rest import TwilioRest

async def main():
    async with TwilioRest() as us, TelnyxRest() as them:
        settings = Settings(providers=Providers(twilio_base_url=us.url, telnyx_base_url=them.url))
        account = us.add_account("token")
        us.add_number(account, "+14155550100")
        key = them.add_account("KEY")
        connections = [
            them.add_connection(key, user_name="user1234", password="password"),
            them.add_connection(key, kind="fqdn", fqdns=["pbx.example.com"]),
            them.add_connection(key, kind="ip", ips=["198.51.100.1"]),
        ]
        providers = twilio.TwilioProvider(settings), telnyx.TelnyxProvider(settings, entropy=bytes)
        for provider in providers:
            await provider.load()
        before = set(sys.modules)
        ours = Integration("", "twilio", {"account_sid": account.sid}, {"auth_token": "token"})
        await providers[0].verify(Claim("account", "+14155550100", account.sid), ours)
        for number, connection in enumerate(connections, 14155550200):
            them.add_number(key, f"+{number}", connection)
            claim = Claim("account", f"+{number}", connection.id)
            await providers[1].verify(claim, Integration("", "telnyx", {}, {"api_key": "KEY"}))
        print(json.dumps(sorted(set(sys.modules) - before)))

asyncio.run(main())
"""


def modules(script: str) -> set[str]:
    """What a process of its own says it has imported."""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.uvloop
def test_the_start_imports_no_sdk_and_nothing_that_only_they_need() -> None:
    """Telnyx's alone takes a second; an edge without carriers' numbers needs neither."""
    imported = modules(STARTS)
    assert "control.providers.twilio" in imported
    assert not {name for name in imported if name.split(".")[0] in HEAVY or name in HEAVY}


@pytest.mark.uvloop
def test_once_an_sdk_is_loaded_its_visits_import_nothing_more() -> None:
    """They run on the loop that carries the calls. Modules, because the time of each is not to be relied on."""
    assert modules(VISITS) == set()


async def test_what_is_made_on_first_use_is_made_once_and_off_the_loop() -> None:
    made_in: list[int] = []

    def make() -> str:
        made_in.append(threading.get_ident())
        return "made"

    thing = OnFirstUse(make)
    assert [await thing.get(), await thing.get()] == ["made", "made"]
    assert len(made_in) == 1
    assert made_in[0] != threading.get_ident()


async def test_who_stops_waiting_for_the_imports_leaves_them_to_the_next() -> None:
    begin, ended = threading.Event(), threading.Event()

    def make() -> str:
        begin.wait(5)
        ended.set()
        return "made"

    thing = OnFirstUse(make)
    first = asyncio.create_task(thing.get())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait((first,))
    begin.set()
    assert await thing.get() == "made"
    assert ended.is_set()


async def test_what_fails_to_be_made_is_tried_again() -> None:
    outcomes = iter([False, True])

    def make() -> str:
        if not next(outcomes):
            raise ImportError("broken")
        return "made"

    thing = OnFirstUse(make)
    with pytest.raises(ImportError):
        await thing.get()
    assert gc.isenabled()
    assert await thing.get() == "made"


async def test_the_collector_rests_while_something_is_made_and_leaves_it_alone_from_then_on() -> None:
    """A full collection stops every thread, for 0.4 s with an SDK's objects to go through."""
    resting: list[bool] = []

    def make() -> list[list[int]]:
        resting.append(not gc.isenabled())
        return [[number] for number in range(1000)]

    frozen = gc.get_freeze_count()
    made = await OnFirstUse(make).get()
    assert resting == [True]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= frozen + len(made)


# --- what goes wrong --------------------------------------------------------------------------


def test_every_check_says_what_to_do() -> None:
    assert set(CHECKS) == set(Check)
    for sentence in CHECKS.values():
        assert sentence[0].isupper()
        assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("error", "check"),
    [
        (Refused(401, "20003"), Check.CREDENTIALS),
        (Refused(403), Check.CREDENTIALS),
        (Refused(404), Check.ANSWER),
        (Refused(302), Check.ANSWER),
        (Refused(429), Check.RATE_LIMITED),
        (Refused(500), Check.UNREACHABLE),
        (Refused(503), Check.UNREACHABLE),
        (TimedOut(), Check.TIMEOUT),
        (Unreachable(), Check.UNREACHABLE),
        (WrongAnswer("secret"), Check.ANSWER),
    ],
    ids=repr,
)
def test_what_a_carrier_does_wrong_becomes_a_check(error: CarrierError, check: Check) -> None:
    told = failure("twilio", error)
    assert isinstance(told, ProviderVerificationFailed)
    assert told.check == check
    assert told.message.startswith(("Twilio ", "Twilio's ", "There is no connection to Twilio"))
    assert told.message.endswith(CHECKS[check])
    assert "secret" not in told.message
    if isinstance(error, Refused):
        assert told.details["provider_status"] == error.status
        assert told.details.get("provider_code") == error.code


def test_advice_may_be_better_than_the_tables() -> None:
    told = failed("telnyx", Check.CONNECTION_KIND, "It is of another kind", advice="Make one of that kind.")
    assert told.message == "It is of another kind. Make one of that kind."
    assert told.details == {"provider": "telnyx", "check": "connection_kind"}


def test_a_warnings_code_is_its_text() -> None:
    assert warning(WarningCode.CUTOVER, "It is live on a PBX.").code == "cutover"


def test_what_others_have_named_spoils_no_message() -> None:
    """A registered device names itself; a terminal obeys what it is shown."""
    device = "Phone\x1b[2J\r\n\u202e"
    assert warning(WarningCode.REGISTERED_ELSEWHERE, f"{device} is there.").message == "Phone�[2J��� is there."
    assert failed("twilio", Check.NUMBER, f"the {device}").message.startswith("The Phone�[2J���. ")


def test_a_field_of_another_type_is_no_answer() -> None:
    answer = SimpleNamespace(name="it", number=5, nothing=None)
    assert field(answer, "name", str) == "it"
    assert field(answer, "nothing", str) is None
    assert field(answer, "absent", str) is None
    assert field("a page of HTML", "data", object) is None
    with pytest.raises(WrongAnswer, match="number is of type int"):
        field(answer, "number", str)
    with pytest.raises(WrongAnswer, match="absent is missing"):
        required(answer, "absent", str)
    with pytest.raises(WrongAnswer, match="nothing is missing"):
        required(answer, "nothing", str)
