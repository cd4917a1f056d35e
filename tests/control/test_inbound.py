"""Twilio's webhooks: what is proved, what is answered, what is refused."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
from twilio.request_validator import RequestValidator

from config import settings as config
from control.announcements import Announcements
from control.inbound import (
    DIAL_STATUS_PATH,
    MOVED_PATH,
    REFER_PATH,
    STATUS_PATH,
    WEBHOOK_PATH,
    Answer,
    Outcome,
    TwilioInbound,
    WebhookRequest,
)
from control.passes import LIFETIME_S, CallPasses
from control.providers.twilio import signature_ok
from control.registry.memory import MemoryRegistry
from control.registry.types import Account, Agent, Integration, Number
from edge.auth import Challenger
from edge.counters import Counters
from edge.trunks import TrunkTable

BASE = "https://api.example.test"
SID = "AC" + "a" * 32
OTHER_SID = "AC" + "b" * 32
TOKEN = "12345"
NUMBER = "+14155550100"
ACCOUNT = "6f1c2f5e-8f0d-4d6e-9a53-0d6e7c7f4a01"
OTHER = "6f1c2f5e-8f0d-4d6e-9a53-0d6e7c7f4a02"


@dataclass
class World:
    inbound: TwilioInbound
    registry: MemoryRegistry
    passes: CallPasses
    counters: Counters
    now: list[float]
    draining: list[bool]
    heard: list[tuple[str, ...]]

    def request(
        self,
        path: str = WEBHOOK_PATH,
        *,
        token: str = TOKEN,
        method: str = "POST",
        base: str = BASE,
        signature: str | None = None,
        **fields: str,
    ) -> WebhookRequest:
        form = {"CallSid": "CA" + "1" * 32, "AccountSid": SID, "To": NUMBER, "From": "+14155550199", "FromCity": ""}
        form |= fields
        query = "&".join(f"{name}={value}".replace("+", "%2B") for name, value in form.items())
        url = base + path + (f"?{query}" if method == "GET" else "")
        made = RequestValidator(token).compute_signature(url, {} if method == "GET" else form)
        return WebhookRequest(
            method=method,
            path=path,
            query=query if method == "GET" else "",
            form=list(form.items()),
            signature=made if signature is None else signature,
            source="54.0.0.1",
        )

    async def call(self, **changes: Any) -> Answer:
        return await self.inbound.call(self.request(**changes))


@asynccontextmanager
async def world(
    *, listening: tuple[str, ...] = ("udp:203.0.113.5:5060",), capacity: int = 100, **changes: Any
) -> AsyncIterator[World]:
    registry = MemoryRegistry()
    for account in (ACCOUNT, OTHER):
        await registry.create_account(Account(account, account[-2:], 0.0))
    await registry.save_integration(
        Integration(ACCOUNT, "twilio", {"account_sid": SID}, {"auth_token": TOKEN, **changes.pop("secrets", {})})
    )
    await registry.save_integration(
        Integration(OTHER, "twilio", {"account_sid": OTHER_SID}, {"auth_token": "another-token"})
    )
    agent = Agent("agent-1", ACCOUNT, "A", {"protocol": "builtin", "name": "parrot", "agent_timeout_s": 12.0}, 0.0, 0.0)
    await registry.create_agent(agent)
    number = Number("n1", ACCOUNT, NUMBER, NUMBER, "twilio", "twilio", "active", 0, 0, provider_account_sid=SID)
    await registry.create_number(number)
    if changes.pop("assigned", True):
        await registry.change_number(ACCOUNT, "n1", {"agent_id": "agent-1"}, 0.0)
    counters, now, draining = Counters(), [100.0], [False]
    heard: list[tuple[str, ...]] = []

    def referred(sids: tuple[str, ...]) -> str | None:
        heard.append(sids)
        return "<Response><Dial/></Response>"

    trunks = TrunkTable((), realm="x", challenger=Challenger(bytes(32)), counters=counters)
    passes = CallPasses(trunks, "twilio", entropy=os.urandom, capacity=capacity)
    inbound = TwilioInbound(
        registry,
        Announcements(
            passes,
            now=lambda: now[0],
            draining=lambda: draining[0],
            referred=changes.pop("referred", referred),
            progressed=lambda call, status: heard.append((call, status)),
        ),
        config.Settings(
            api=config.Api(public_url=BASE),
            sip=config.Sip(domain="sip.example.test"),
            providers=config.Providers(twilio_srtp=changes.pop("twilio_srtp", None)),
        ),
        counters=counters,
        signed=signature_ok,
        now=lambda: now[0],
        wall=lambda: 1_800_000_000.0,
        listening=lambda: listening,
    )
    yield World(inbound, registry, passes, counters, now, draining, heard)


def verbs(answer: Answer) -> list[str]:
    return [verb.tag for verb in ElementTree.fromstring(answer.twiml)]


def leg(answer: Answer) -> tuple[dict[str, str], str, dict[str, str]]:
    dial = ElementTree.fromstring(answer.twiml).find("Dial")
    assert dial is not None
    sip = dial.find("Sip")
    assert sip is not None
    return dict(dial.attrib), sip.text or "", dict(sip.attrib)


# --- a genuine call ---------------------------------------------------------------------------


async def test_a_genuine_webhook_sends_the_call_here_with_credentials_of_its_own() -> None:
    async with world() as w:
        answer = await w.call()
        assert (answer.status, answer.outcome) == (200, Outcome.DIALED)
        dial, uri, credentials = leg(answer)
        assert dial["answerOnBridge"] == "true"
        assert dial["timeout"] == "17"
        assert dial["action"] == BASE + DIAL_STATUS_PATH
        given = w.passes.find(credentials["username"])
        assert given is not None
        assert credentials["password"] == given.password
        assert uri == f"sip:{NUMBER}@sip.example.test?X-Truedy-Token={given.token}"
        assert (given.account_id, given.number_id, given.call_sid) == (ACCOUNT, "n1", "CA" + "1" * 32)
        assert given.caller == "+14155550199"


@pytest.mark.parametrize(
    ("listening", "host"),
    [
        (("udp:0.0.0.0:5060", "tls:0.0.0.0:5061"), "sip.example.test;transport=tls;secure=true"),
        (("tls:0.0.0.0:5071",), "sip.example.test:5071;transport=tls;secure=true"),
        (("udp:127.0.0.1:5070", "tcp:127.0.0.1:5070"), "sip.example.test:5070"),
        (("tcp:127.0.0.1:5060",), "sip.example.test;transport=tcp"),
        (("udp:[::1]:5062",), "sip.example.test:5062"),
    ],
)
async def test_the_leg_comes_by_tls_where_it_is_listened_on(listening: tuple[str, ...], host: str) -> None:
    async with world(listening=listening) as w:
        _, uri, _ = leg(await w.call())
        assert uri.partition("@")[2].partition("?")[0] == host
        assert len(uri) < 255


@pytest.mark.parametrize(("srtp", "secure"), [(None, True), ("allow", True), ("require", True), ("off", False)])
async def test_encrypted_media_is_asked_for_with_tls_alone_and_where_the_settings_have_it(
    srtp: Literal["off", "allow", "require"] | None, secure: bool
) -> None:
    """Its keys are in the SDP: over UDP anybody on the way would have them."""
    for listening, wanted in ((("tls:0.0.0.0:5061",), secure), (("udp:0.0.0.0:5060", "tcp:0.0.0.0:5060"), False)):
        async with world(listening=listening, twilio_srtp=srtp) as w:
            _, uri, _ = leg(await w.call())
            assert (";secure=true" in uri) is wanted


async def test_a_repeated_webhook_gets_the_same_answer_while_the_pass_lives() -> None:
    """Twilio retries a webhook that was slow: one call, one pass."""
    async with world() as w:
        first = await w.call()
        w.now[0] += LIFETIME_S - 1
        second = await w.call()
        assert (second.twiml, second.outcome) == (first.twiml, Outcome.REPEATED)
        w.now[0] += 1
        late = await w.call()
        assert (verbs(late), late.outcome) == (["Hangup"], Outcome.TOO_LATE)


async def test_a_get_is_checked_and_answered_too_and_flagged() -> None:
    async with world() as w:
        assert (await w.call(method="GET")).outcome is Outcome.DIALED
        assert w.counters.get("twilio_webhooks", method="GET") == 1
        forged = await w.inbound.call(w.request(method="GET", token="guess"))
        assert forged.status == 403


async def test_blank_parameters_are_part_of_the_signature() -> None:
    async with world() as w:
        assert (await w.call(CallerName="", ToCity="")).status == 200


async def test_headers_of_a_call_to_a_sip_domain_go_with_the_pass_by_allow_list() -> None:
    """Twilio tells them as ``SipHeader_X-…``; those of the edge's own name come from nobody else."""
    async with world() as w:
        told = {"SipHeader_X-Campaign": "spring", "SipHeader_X-Truedy-Token": "guess", "SipHeader_Subject": "hello"}
        _, _, credentials = leg(await w.call(**told, **{"SipHeader_X-Bad": "a\r\nb"}))
        given = w.passes.find(credentials["username"])
        assert given is not None
        assert given.headers == (("X-Campaign", "spring"),)


# --- forged, foreign --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"token": "guess"},
        {"token": "another-token"},
        {"signature": ""},
        {"signature": "not base64 \u00e9"},
        {"AccountSid": ""},
        {"AccountSid": OTHER_SID},
        {"AccountSid": "AC" + "c" * 32},
        {"base": "http://api.example.test"},
        {"base": "https://evil.example.test"},
    ],
)
async def test_a_webhook_that_the_accounts_token_has_not_signed_is_403(changes: dict[str, str]) -> None:
    async with world() as w:
        answer = await w.call(**changes)
        assert (answer.status, answer.outcome, answer.twiml) == (403, Outcome.BAD_SIGNATURE, "")
        assert len(w.passes) == 0
        assert w.counters.get("twilio_webhooks", outcome="bad signature") == 1


async def test_a_signature_over_other_parameters_is_403() -> None:
    async with world() as w:
        genuine = w.request()
        forged = WebhookRequest(
            genuine.method,
            genuine.path,
            "",
            [(name, "+19005550100" if name == "From" else value) for name, value in genuine.form],
            genuine.signature,
        )
        assert (await w.inbound.call(forged)).status == 403


async def test_an_account_cannot_announce_calls_to_anothers_number() -> None:
    """Genuinely signed by its own account, for a number that is somebody else's: nothing is revealed."""
    async with world() as w:
        answer = await w.call(AccountSid=OTHER_SID, token="another-token")
        assert (verbs(answer), answer.outcome) == (["Reject"], Outcome.UNKNOWN_NUMBER)
        assert len(w.passes) == 0


@pytest.mark.parametrize("to", ["+14155559999", "", "sip:x@y", "anonymous"])
async def test_a_number_that_is_not_here_is_rejected(to: str) -> None:
    async with world() as w:
        assert verbs(await w.call(To=to)) == ["Reject"]


async def test_an_unassigned_number_is_rejected() -> None:
    async with world(assigned=False) as w:
        answer = await w.call()
        assert (verbs(answer), answer.outcome) == (["Reject"], Outcome.UNASSIGNED_NUMBER)


async def test_the_previous_token_counts_for_a_day_after_a_rotation() -> None:
    for until, status in ((1_800_000_001.0, 200), (1_800_000_000.0, 403)):
        secrets = {"previous_auth_token": "old-token", "previous_auth_token_until": str(until)}
        async with world(secrets=secrets) as w:
            assert (await w.call(token="old-token")).status == status
            assert (await w.call(CallSid="CA" + "2" * 32)).status == 200


# --- limits -----------------------------------------------------------------------------------


async def test_draining_is_503_so_that_the_carrier_tries_elsewhere() -> None:
    async with world() as w:
        w.draining[0] = True
        assert (await w.call()).status == 503
        assert (await w.call(token="guess")).status == 403


async def test_too_many_announced_calls_are_503() -> None:
    async with world(capacity=1) as w:
        assert (await w.call()).status == 200
        assert (await w.call(CallSid="CA" + "2" * 32)).status == 503


# --- how the leg ended ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("completed", []),
        ("answered", []),
        ("failed", ["Say", "Hangup"]),
        ("busy", ["Say", "Hangup"]),
        ("no-answer", ["Say", "Hangup"]),
        ("canceled", ["Say", "Hangup"]),
        ("", ["Say", "Hangup"]),
    ],
)
async def test_a_failed_leg_says_something_fit_for_the_caller(status: str, expected: list[str]) -> None:
    async with world() as w:
        answer = await w.inbound.dial_status(w.request(DIAL_STATUS_PATH, DialCallStatus=status))
        assert verbs(answer) == expected


WEBHOOKS = {
    DIAL_STATUS_PATH: (TwilioInbound.dial_status, Outcome.LEG_FAILED, "Say"),
    REFER_PATH: (TwilioInbound.refer, Outcome.REFERRED, "Dial"),
    MOVED_PATH: (TwilioInbound.moved, Outcome.MOVED, "Say"),
    STATUS_PATH: (TwilioInbound.call_status, Outcome.CALL_STATUS, None),
}


@pytest.mark.parametrize("path", WEBHOOKS)
async def test_a_webhook_of_a_legs_fate_counts_when_it_is_signed_and_does_nothing_when_it_is_forged(path: str) -> None:
    """Whoever can guess a call's SID could else have a REFER's target, or end a call of ours."""
    handle, outcome, verb = WEBHOOKS[path]
    async with world() as w:
        given = {"CallStatus": "busy", "DialCallStatus": "busy"}
        forged = await handle(w.inbound, w.request(path, token="guess", **given))
        assert (forged.status, forged.outcome, forged.twiml) == (403, Outcome.BAD_SIGNATURE, "")
        assert w.heard == []
        answer = await handle(w.inbound, w.request(path, **given))
        assert (answer.status, answer.outcome) == (200, outcome)
        assert verbs(answer)[:1] == ([] if verb is None else [verb])
        assert w.heard == {REFER_PATH: [("CA" + "1" * 32,)], STATUS_PATH: [("", "busy")]}.get(path, [])


async def test_a_refer_that_nobody_authorised_leads_nowhere() -> None:
    async with world(referred=lambda sids: None) as w:
        answer = await w.inbound.refer(w.request(REFER_PATH))
        assert (answer.status, answer.outcome, verbs(answer)) == (200, Outcome.NOT_AUTHORISED, ["Hangup"])


async def test_a_forged_dial_status_is_403() -> None:
    async with world() as w:
        forged = await w.inbound.dial_status(w.request(DIAL_STATUS_PATH, token="guess", DialCallStatus="completed"))
        assert forged.status == 403


def test_the_paths_are_the_pages() -> None:
    assert urlsplit("https://api.truedy.ai/telephony/inbound/twilio").path == WEBHOOK_PATH
