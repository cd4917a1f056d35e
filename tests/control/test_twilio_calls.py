"""Calls through Twilio: how they are placed, given up and moved, with its REST played by the test."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from xml.etree import ElementTree

import pytest

from config.settings import Settings
from control.call import Call, Outgoing
from control.dialling import Way
from control.outbound import CarrierRefused, Handover
from control.passes import CallPasses
from control.registry.types import Number, Route
from control.routing import Found
from control.toll import Destination, Ticket
from control.twilio_calls import TwilioCalls, TwilioRefused
from edge.auth import Challenger
from edge.counters import Counters
from edge.events import CallKey, CallOffered, Identification
from edge.trunks import TrunkTable
from tests.control.inward import ACCOUNT, FLOW

DID, CALLEE = "+14155550300", "+14155550123"
WAY = Way("twilio", "twilio", account_sid="AC1", auth_token="token")
NUMBER = Number("n3", ACCOUNT, DID, DID, "twilio", "twilio", "active", 0.0, 0.0, provider_account_sid="AC1")


@dataclass
class Rest:
    created: list[Mapping[str, Any]] = field(default_factory=list)
    updated: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    refuses: TwilioRefused | None = None

    async def create_call(self, account_sid: str, auth_token: str, fields: Mapping[str, object]) -> str:
        assert (account_sid, auth_token) == ("AC1", "token")
        if self.refuses:
            raise self.refuses
        self.created.append(fields)
        return "CAparent"

    async def update_call(self, account_sid: str, auth_token: str, sid: str, fields: Mapping[str, object]) -> None:
        if self.refuses:
            raise self.refuses
        self.updated.append((sid, fields))


class World:
    def __init__(self) -> None:
        trunks = TrunkTable((), realm="test", challenger=Challenger(bytes(32)), counters=Counters())
        self.rest = Rest()
        self.passes = CallPasses(trunks, "twilio", entropy=os.urandom, capacity=2)

        async def way(call: Call) -> Way | None:
            return WAY

        self.calls = TwilioCalls(
            self.rest,
            self.passes,
            Settings(),
            uri=lambda made: f"sip:{made.phone_number}@sip.test?X-Truedy-Token={made.token}",
            public_url="https://edge.test",
            way=way,
            now=lambda: 5.0,
        )

    def call(self, id: str = "id-1", **changes: Any) -> Call:
        outgoing = Outgoing(WAY, Destination("number", CALLEE), Ticket(ACCOUNT, 0.0), 20.0, 600.0)
        return Call(
            id=id,
            key=CallKey(""),
            trunk="twilio",
            started=0.0,
            from_number=DID,
            direction="outbound",
            route=Route(NUMBER, None),
            account_id=ACCOUNT,
            to_number=CALLEE,
            outgoing=outgoing,
            **changes,
        )

    def inbound(self) -> Call:
        call = self.call(found=Found(DID, Route(NUMBER, None), CALLEE, "CAinbound", "AC1"))
        call.outgoing = None
        return call

    def leg(self, identity: str, trunk: str = "twilio") -> CallOffered:
        return CallOffered(
            key=CallKey("t1"),
            trunk=trunk,
            identified_by=Identification.DIGEST,
            identity=identity,
            dialed=(DID,),
            caller=CALLEE,
            caller_name="",
            call_id="t1",
            offer=b"offer",
            flow=FLOW,
        )


async def test_a_call_is_placed_with_twiml_that_dials_us_with_a_pass_of_its_own() -> None:
    w = World()
    call = w.call()
    assert await w.calls.place(call, WAY) == "CAparent"
    (fields,) = w.rest.created
    assert (fields["to"], fields["from_"], fields["timeout"]) == (CALLEE, DID, 20)
    assert fields["status_callback"] == "https://edge.test/telephony/outbound/twilio/status?call=id-1"
    dial = ElementTree.fromstring(fields["twiml"]).find("Dial")
    assert dial is not None
    sip = dial.find("Sip")
    assert sip is not None
    made = w.passes.find(sip.attrib["username"])
    assert made is not None
    assert (made.password, dial.attrib["timeLimit"]) == (sip.attrib["password"], "601")
    assert dial.attrib["referUrl"] == "https://edge.test/telephony/inbound/twilio/refer"
    assert w.calls.of(w.leg(made.username)) == "id-1"
    assert w.calls.of(w.leg(made.username, "lab")) is None
    assert w.calls.of(w.leg("somebody")) is None
    w.calls.over(call)
    assert w.calls.of(w.leg(made.username)) is None
    assert w.passes.find(made.username) is None
    assert len(w.passes) == 0


@pytest.mark.parametrize(
    ("code", "reason"),
    [("21210", "caller_id_refused"), ("20003", "carrier_authentication_failed"), (None, "carrier_refused")],
)
async def test_what_twilio_refuses_has_its_reason(code: str | None, reason: str) -> None:
    w = World()
    w.rest.refuses = TwilioRefused("no", code)
    with pytest.raises(CarrierRefused) as refused:
        await w.calls.place(w.call(), WAY)
    assert refused.value.reason == reason


async def test_a_call_announced_twice_or_beyond_capacity_is_refused() -> None:
    w = World()
    await w.calls.place(w.call("id-1"), WAY)
    w.calls.over(w.call("id-1"))
    with pytest.raises(CarrierRefused, match="before"):
        await w.calls.place(w.call("id-1"), WAY)
    await w.calls.place(w.call("id-2"), WAY)
    await w.calls.place(w.call("id-3"), WAY)
    with pytest.raises(CarrierRefused, match="too many"):
        await w.calls.place(w.call("id-4"), WAY)


async def test_a_call_that_is_given_up_is_ended_at_twilio_once_it_has_a_name() -> None:
    w = World()
    call = w.call()
    await w.calls.give_up(call, WAY)
    assert w.rest.updated == []
    assert call.outgoing is not None
    call.outgoing.carrier_call = "CAparent"
    await w.calls.give_up(call, WAY)
    assert w.rest.updated == [("CAparent", {"status": "completed"})]
    w.rest.refuses = TwilioRefused("gone")
    await w.calls.give_up(call, WAY)


async def test_a_refer_leads_to_the_authorised_target_once_and_for_that_call_alone() -> None:
    w = World()
    call = w.inbound()
    assert w.calls.referred(("CAinbound",)) is None
    w.calls.authorise(call, Handover("leg", Destination("number", CALLEE), 600.0))
    assert w.calls.referred(("CAother",)) is None
    twiml = w.calls.referred(("CAchild", "CAinbound"))
    assert twiml is not None
    dial = ElementTree.fromstring(twiml).find("Dial")
    assert dial is not None
    assert (dial.attrib["callerId"], dial.findtext("Number")) == (DID, CALLEE)
    assert dial.attrib["timeLimit"] == "600"
    assert "action" not in dial.attrib, "whom nobody answers is ours again"
    (noun,) = dial
    assert noun.attrib["statusCallback"].endswith("/telephony/outbound/twilio/status?call=leg")
    assert noun.attrib["statusCallbackEvent"] == "answered completed"
    assert w.calls.referred(("CAinbound",)) is None, "one use"
    assert w.calls.revoke(call) is True
    assert w.calls.revoke(call) is False
    w.calls.authorise(call, Handover("leg", Destination("number", CALLEE), 600.0))
    w.calls.revoke(call)
    assert w.calls.referred(("CAinbound",)) is None


async def test_a_caller_is_moved_by_an_update_of_its_call() -> None:
    w = World()
    await w.calls.move(w.inbound(), Handover("leg", Destination("sip", "sip:hunt@pbx.example.com"), 600.0))
    ((sid, fields),) = w.rest.updated
    assert sid == "CAinbound"
    sip = ElementTree.fromstring(fields["twiml"]).find("Dial/Sip")
    assert sip is not None
    assert sip.text == "sip:hunt@pbx.example.com"
    w.rest.refuses = TwilioRefused("no", "20404")
    with pytest.raises(CarrierRefused):
        await w.calls.move(w.inbound(), Handover("leg", Destination("number", CALLEE), 600.0))
    nameless = replace(w.inbound(), found=None)
    with pytest.raises(CarrierRefused, match="name"):
        await w.calls.move(nameless, Handover("leg", Destination("number", CALLEE), 600.0))
