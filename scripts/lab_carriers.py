"""The carriers of the lab: fakes of Twilio and Telnyx on loopback, and a call through the whole path of each.

They are those of the whole-call tests (``tests/support/carriers``) and need nothing but what the edge needs to run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from edge.events import Address, Flow, TransportName
from edge.ladder import draw, trace_entry
from tests.support.audio import RATE_HZ, Samples, level_dbfs, read_wav, silence, write_wav
from tests.support.carriers.sip import Passed
from tests.support.carriers.telnyx import FakeTelnyx
from tests.support.carriers.telnyx_rest import TelnyxConnection, TelnyxRest
from tests.support.carriers.twilio import FakeTwilio
from tests.support.carriers.twilio_rest import TwilioRest
from tests.support.rtp import MediaPort

__all__ = ["TELNYX_HOST", "TWILIO_HOST", "Carriers", "DemonstrationFailed"]

TWILIO_HOST, TELNYX_HOST = "127.0.0.2", "127.0.0.3"
TWILIO_NUMBER, TELNYX_NUMBER = "+14155550100", "+14155550200"
CALLER = "+12025550123"
ACCOUNT_SID, AUTH_TOKEN = "AC" + "1ab" * 10 + "ed", "lab-" + "0" * 28
API_KEY, USER_NAME, PASSWORD = "KEY-lab", "labconnection", "not-a-secret-in-a-lab"
LISTENS_S, REPEATED_S = 1.5, 5.6
LOUD_DBFS = -45.0

Request = Callable[[str, str, dict[str, Any] | None], Awaitable[Any]]
"""Method, path and body to the control API; the answer's data."""


class DemonstrationFailed(Exception):
    """A call did not go as it should; the text says how."""


@dataclass
class Carriers:
    """Both, with an account, a number and a connection in each; open with :meth:`open`."""

    twilio: FakeTwilio
    telnyx: FakeTelnyx
    connection: TelnyxConnection
    folder: Path
    speech: Samples

    @classmethod
    @asynccontextmanager
    async def open(
        cls, providers: dict[str, Any], domain: str, http: str, folder: Path, speech: Path
    ) -> AsyncIterator[Carriers]:
        """Where the edge's ``[providers]`` expect them. ``http`` is the API's base URL, ``speech`` what callers say."""
        _, host, port = str(providers["telnyx_sip_proxy"]).split(":")
        twilio_rest, telnyx_rest = TwilioRest(), TelnyxRest()
        await twilio_rest.start(urlsplit(providers["twilio_base_url"]).port or 0)
        await telnyx_rest.start(urlsplit(providers["telnyx_base_url"]).port or 0)
        try:
            async with (
                FakeTwilio.open(twilio_rest, hosts={domain: "127.0.0.1"}, host=TWILIO_HOST) as twilio,
                FakeTelnyx.open(telnyx_rest, addresses=(host,), port=int(port)) as telnyx,
            ):
                account = twilio_rest.add_account(AUTH_TOKEN, sid=ACCOUNT_SID, friendly_name="Lab")
                webhook = f"{http}/telephony/inbound/twilio"
                twilio_rest.add_number(account, TWILIO_NUMBER, voice_url=webhook)
                owner = telnyx_rest.add_account(API_KEY)
                connection = telnyx_rest.add_connection(
                    owner, name="Lab", user_name=USER_NAME, password=PASSWORD, outbound_voice_profile_id="1"
                )
                telnyx_rest.add_number(owner, TELNYX_NUMBER, connection)
                yield cls(twilio, telnyx, connection, folder, read_wav(speech))
        finally:
            await twilio_rest.close()
            await telnyx_rest.close()

    async def furnish(self, request: Request, agent_id: str) -> None:
        """Save both integrations, import a number of each and assign the agent; what is done already stays."""
        twilio = {"account_sid": ACCOUNT_SID, "auth_token": AUTH_TOKEN}
        await request("PUT", "/telephony/integrations/twilio", twilio)
        await request("PUT", "/telephony/integrations/telnyx", {"api_key": API_KEY})
        known = {number["phone_number"]: number for number in await request("GET", "/telephony/numbers", None)}
        for wanted in (
            {"phone_number": TWILIO_NUMBER, "provider": "twilio", "provider_account_sid": ACCOUNT_SID},
            {"phone_number": TELNYX_NUMBER, "provider": "telnyx", "provider_connection_id": self.connection.id},
        ):
            number = known.get(wanted["phone_number"])
            if number is None:
                number = await request("POST", "/telephony/numbers/import", wanted)
            if number["agent_id"] is None:
                await request("PATCH", f"/telephony/numbers/{number['id']}", {"agent_id": agent_id})

    # --- Twilio ---

    async def call_through_twilio(self, say: Callable[[str], None]) -> None:
        """Webhook → TwiML → INVITE → the parrot repeats what the caller says, says goodbye at ``#`` → BYE → action."""
        call = await self.twilio.call(TWILIO_NUMBER, CALLER)
        heard_s = 0.0
        if call.answered:
            heard_s = await self._talk(call.media)
            await call.media.press("#")
            await call.until_ended(timeout_s=10.0)
        for asked in call.exchanges:
            path = urlsplit(asked.url).path
            say(f"Twilio asks {path}: {asked.status} in {asked.took_s * 1000:.0f} ms, {_verbs(asked.body)}")
        if call.leg is not None:
            say("\n" + _ladder(self.twilio.border.traffic(call.leg.call_id), "Twilio") + "\n")
        if not call.answered:
            raise DemonstrationFailed(f"the call through Twilio was not answered: {call.error or call.status}")
        self._keep("twilio-caller-hears.wav", call.media, say)
        self._judge("Twilio", heard_s, self.twilio.border.complaints)

    # --- Telnyx ---

    async def call_through_telnyx(self, say: Callable[[str], None]) -> None:
        """Our REGISTER → INVITE to the Contact → the parrot repeats what the caller says → the caller's BYE."""
        binding = await self.telnyx.registered(USER_NAME)
        call = await self.telnyx.call(TELNYX_NUMBER, CALLER)
        heard_s = 0.0
        if call.answered:
            heard_s = await self._talk(call.media)
            await call.hang_up()
        if binding is not None:
            say(_ladder(self.telnyx.border.traffic(binding.call_id)[:4], "Telnyx") + "\n")
        if call.leg is not None:
            say(_ladder(self.telnyx.border.traffic(call.leg.call_id), "Telnyx") + "\n")
        if not call.answered:
            raise DemonstrationFailed(f"the call through Telnyx was not answered: {call.failure or call.status}")
        self._keep("telnyx-caller-hears.wav", call.media, say)
        self._judge("Telnyx", heard_s, self.telnyx.complaints)

    # --- both ---

    async def _talk(self, media: MediaPort) -> float:
        """Listen a little, say the sentence, hear it repeated; how long [s] something was heard after it was said."""
        await media.play(silence(LISTENS_S))
        await media.play(self.speech)
        said_at = len(media.audio())
        await media.play(silence(REPEATED_S))
        return _loud_s(media.audio()[said_at:])

    def _judge(self, carrier: str, heard_s: float, complaints: list[str]) -> None:
        spoken_s = _loud_s(self.speech)
        if heard_s < 0.7 * spoken_s:
            raise DemonstrationFailed(f"of {spoken_s:.1f} s said through {carrier}, {heard_s:.1f} s came back")
        if complaints:
            raise DemonstrationFailed(f"{carrier} complains: {'; '.join(complaints)}")

    def _keep(self, name: str, media: MediaPort, say: Callable[[str], None]) -> None:
        say(f"What the caller heard: {write_wav(self.folder / name, media.audio())}\n")


def _loud_s(samples: Samples) -> float:
    """How long [s] something was to be heard."""
    frame = RATE_HZ // 50
    frames = np.split(samples[: len(samples) // frame * frame], max(1, len(samples) // frame))
    return sum(level_dbfs(each) > LOUD_DBFS for each in frames) / 50


def _verbs(body: str) -> str:
    found = [verb for verb in ("Dial", "Sip", "Say", "Reject", "Hangup") if f"<{verb}" in body]
    return "".join(f"<{verb}>" for verb in found) or "nothing more to do"


def _ladder(passed: Iterable[Passed], carrier: str) -> str:
    entries = []
    for each in passed:
        flow = Flow(TransportName(each.transport), Address(*each.local), Address(*each.remote))
        entries.append(trace_entry(each.data, flow, each.at, sent=each.sent))
    return draw(entries, left=carrier, right="edge")
