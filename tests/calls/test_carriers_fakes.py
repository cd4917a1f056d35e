"""The carriers that the whole-call tests and the lab rely on, tried without the edge: can they find fault?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from control.entropy import entropy
from control.phone import PhoneCall, place_call
from edge.events import TransportName
from tests.support.carriers.misbehaviour import NotJson
from tests.support.carriers.rest import RestServer
from tests.support.carriers.sip import Border, Path, fresh
from tests.support.carriers.telnyx import FakeTelnyx
from tests.support.carriers.telnyx_rest import TelnyxConnection, TelnyxRest
from tests.support.carriers.twilio import FakeTwilio
from tests.support.carriers.twilio_rest import TwilioRest
from tests.support.phone import Message, Phone, digest_answer, sdp_offer

DID = "+14155550200"
FQDN = "edge.example.com"
Answering = Callable[[Border, Message, Path], None]


@asynccontextmanager
async def peer(answering: Answering) -> AsyncIterator[Border]:
    """Somebody for the carriers to call, who answers requests as told."""
    async with Border.open("127.0.0.9") as border:
        border.handler = lambda request, path: answering(border, request, path)
        yield border


@asynccontextmanager
async def telnyx_calling(answering: Answering) -> AsyncIterator[tuple[FakeTelnyx, Border]]:
    """Telnyx with a number whose calls go to a peer by name."""
    async with TelnyxRest() as rest, FakeTelnyx.open(rest) as telnyx, peer(answering) as border:
        account = rest.add_account("KEY1")
        rest.add_number(account, DID, rest.add_connection(account, kind="fqdn", fqdns=[FQDN]))
        telnyx.hosts[FQDN] = (border.host, border.port)
        yield telnyx, border


def refusing(status: int) -> Answering:
    def answer(border: Border, request: Message, path: Path) -> None:
        if request.method == "INVITE":
            border.respond(request, path, status, "Refused", tag="peer")

    return answer


def ringing(*statuses: int) -> Answering:
    """These provisional responses and no more; cancelled when asked to."""
    invites: list[Message] = []

    def answer(border: Border, request: Message, path: Path) -> None:
        if request.method == "INVITE":
            invites.append(request)
            for status in statuses:
                border.respond(request, path, status, "Progress", tag="" if status == 100 else "peer")
        elif request.method == "CANCEL":
            border.respond(request, path, 200, "OK", tag="peer")
            border.respond(invites[-1], path, 487, "Request Terminated", tag="peer")

    return answer


def answering_and_leaving(*routes: str) -> Answering:
    """200, and a BYE with these Routes straight after the ACK."""
    invites: list[Message] = []

    def answer(border: Border, request: Message, path: Path) -> None:
        if request.method == "INVITE":
            invites.append(request)
            lines = (f"Contact: <sip:peer@{border.host}:{border.port}>", "Content-Type: application/sdp")
            border.respond(request, path, 200, "OK", *lines, tag="peer", body=sdp_offer(border.host, 4000))
        elif request.method == "BYE":
            border.respond(request, path, 200, "OK")
        elif request.method == "ACK":
            invite = invites[-1]
            bye = [
                f"BYE {invite.uri('contact')} SIP/2.0",
                f"Via: SIP/2.0/UDP {border.host}:{border.port};branch=z9hG4bK{fresh()}",
                *(f"Route: {route}" for route in routes or invite.all("record-route")),
                f"From: {invite.get('to')};tag=peer",
                f"To: {invite.get('from')}",
                f"Call-ID: {invite.get('call-id')}",
                "CSeq: 1 BYE",
                "Content-Length: 0",
                "\r\n",
            ]
            border.send("\r\n".join(bye).encode(), path)

    return answer


async def test_telnyx_gives_up_without_180_or_183() -> None:
    """Their timeout_1xx_secs; 100 is none, and is needed before a CANCEL (RFC 3261 §9.1)."""
    async with telnyx_calling(ringing()) as (telnyx, border):
        telnyx.patience_s = (0.2, 5.0)
        call = await telnyx.call(DID)
        assert call.leg is not None
        assert (call.leg.gave_up, call.tries_elsewhere) == ("no 180 or 183 in time", True)
        assert [passed.data[:6] for passed in border.passed] == [b"INVITE"]
    async with telnyx_calling(ringing(100)) as (telnyx, border):
        telnyx.patience_s = (0.2, 5.0)
        call = await telnyx.call(DID)
        assert call.status == 487
        assert not telnyx.complaints


async def test_telnyx_tries_elsewhere_after_some_refusals_only() -> None:
    """Their fail-over follows the final response: 503 goes on, 404 and 486 do not."""
    for status, elsewhere in ((404, False), (486, False), (480, True), (503, True)):
        async with telnyx_calling(refusing(status)) as (telnyx, _):
            call = await telnyx.call(DID)
            assert (call.status, call.tries_elsewhere) == (status, elsewhere)
            assert telnyx.border.passed[-1].data.startswith(b"ACK ")


async def test_a_number_nobody_registered_for_is_told_rg1() -> None:
    async with TelnyxRest() as rest, FakeTelnyx.open(rest) as telnyx:
        account = rest.add_account("KEY1")
        rest.add_number(account, DID, rest.add_connection(account, user_name="truedyuser"))
        call = await telnyx.call(DID)
        assert call.failure.startswith("480 User not registered RG1")


async def test_a_goodbye_past_the_route_set_is_not_taken() -> None:
    """RFC 3261 §12.2.1.1: the private Contact is reached through all Record-Routes, in order, or not at all."""
    async with telnyx_calling(answering_and_leaving()) as (telnyx, _):
        call = await telnyx.call(DID)
        await call.until_ended()
        assert not telnyx.complaints
        assert call.leg is not None
        assert call.leg.ended_by == "edge"
    async with telnyx_calling(answering_and_leaving("<sip:10.255.0.2;r2=on;lr>")) as (telnyx, border):
        call = await telnyx.call(DID)
        async with asyncio.timeout(5):
            while border.passed[-1].data[:11] != b"SIP/2.0 404":
                await asyncio.sleep(0.01)
        assert "10.255.0.2" in telnyx.complaints[0]
        assert call.leg is not None
        assert call.leg.up
        await call.hang_up()


async def test_twilio_cancels_after_the_dials_timeout_and_tells_the_action() -> None:
    """``timeout`` of Dial; DialCallStatus is no-answer."""
    async with TwilioRest() as rest, RestServer() as web, FakeTwilio.open(rest) as twilio, peer(ringing(180)) as border:
        account = rest.add_account("a" * 32)
        rest.add_number(account, DID, voice_url=f"{web.origin}/voice")
        twilio.hosts["edge.example.com"] = border.host
        dial = f"sip:+1@edge.example.com:{border.port}?X-Tag=1"
        twiml = f'<Response><Dial timeout="0.3" action="{web.origin}/done"><Sip>{dial}</Sip></Dial></Response>'
        web.misbehave(NotJson(twiml, "text/xml"), "/voice")
        web.misbehave(NotJson("<Response><Say>Sorry</Say></Response>", "text/xml"), "/done")
        call = await twilio.call(DID)
        assert (call.dial_status, call.did) == ("no-answer", ["Dial", "Say Sorry"])
        assert web.seen("/done")[0].form["DialCallStatus"] == "no-answer"
        assert b"X-Tag: 1\r\n" in border.passed[0].data


# --- Telnyx as a registrar, and for calls that go out ---


@asynccontextmanager
async def telnyx_with_a_user() -> AsyncIterator[tuple[FakeTelnyx, TelnyxConnection, Phone]]:
    async with (
        TelnyxRest() as rest,
        FakeTelnyx.open(rest) as telnyx,
        Phone.open((telnyx.border.host, telnyx.border.port)) as phone,
    ):
        account = rest.add_account("KEY1")
        connection = rest.add_connection(
            account, user_name="truedyuser", password="sesame, sesame", outbound_voice_profile_id="1"
        )
        rest.add_number(account, DID, connection)
        yield telnyx, connection, phone


async def register(phone: Phone, password: str, *headers: tuple[str, str], expires: int = 3600) -> Message:
    """REGISTER, and again with the answer to the challenge; the second response."""
    uri = "sip:sip.telnyx.com"
    first = await phone.ask(phone.request("REGISTER", uri, ("Expires", str(expires))))
    assert first.status == 401
    assert "qop" not in first.get("www-authenticate")
    assert "algorithm" not in first.get("www-authenticate")
    answer = digest_answer(first.get("www-authenticate"), "REGISTER", uri, "truedyuser", password)
    more = (("Expires", str(expires)), ("Authorization", answer), *headers)
    return await phone.ask(phone.request("REGISTER", uri, *more))


async def test_the_registrar_grants_less_than_asked_and_tells_the_rest_api() -> None:
    async with telnyx_with_a_user() as (telnyx, connection, phone):
        granted = await register(phone, "sesame, sesame")
        assert granted.status == 200
        assert granted.parameter("contact", "expires") == "3457"
        assert telnyx.bindings["truedyuser"].contact == phone.contact
        assert connection.registration is not None
        assert connection.registration.port == phone.local[1]
        assert (await register(phone, "sesame, sesame", expires=0)).status == 200
        assert connection.registration is None
        assert not telnyx.bindings


async def test_the_registrar_refuses_a_wrong_password_two_contacts_and_short_times() -> None:
    async with telnyx_with_a_user() as (telnyx, _, phone):
        assert (await register(phone, "open, sesame")).status == 401
        assert telnyx.refused_logins == 1
        assert (await register(phone, "sesame, sesame", ("Contact", "<sip:other@127.0.0.1>"))).status == 400
        assert len(telnyx.complaints) == 1
        telnyx.registrar.min_expires_s = 7200
        brief = await register(phone, "sesame, sesame")
        assert (brief.status, brief.get("min-expires")) == (423, "7200")
        assert not telnyx.bindings


async def test_a_call_out_is_challenged_and_answered() -> None:
    """With the softphone's digest; both sides hear a BYE."""
    async with telnyx_with_a_user() as (telnyx, _, _phone):
        dial = PhoneCall(
            target=f"sip:+12025550123@{telnyx.border.host}:{telnyx.border.port}",
            caller=DID,
            transport=TransportName.UDP,
            seconds=0.3,
            username="truedyuser",
            password="sesame, sesame",
        )
        result = await place_call(dial, entropy=entropy)
        assert result.answered
        received = [entry.first_line.split()[1] for entry in result.trace if not entry.sent]
        assert received[0] == "407"
        assert telnyx.outbound[0].ended.is_set()


@pytest.mark.parametrize(
    ("cause", "code"), [("caller", "D35"), ("profile", "D38"), ("limit", "D1")], ids=["caller", "profile", "limit"]
)
async def test_a_call_out_is_refused_with_its_d_code(cause: str, code: str) -> None:
    """The reason phrase has it; the digest is asked for first."""
    async with telnyx_with_a_user() as (telnyx, connection, _):
        if cause == "profile":
            connection.outbound_voice_profile_id = None
        elif cause == "limit":
            telnyx.outbound_refusal = (403, "User channel limit exceeded D1")
        dial = PhoneCall(
            target=f"sip:+12025550123@{telnyx.border.host}:{telnyx.border.port}",
            caller="+19995550000" if cause == "caller" else DID,
            username="truedyuser",
            password="sesame, sesame",
        )
        result = await place_call(dial, entropy=entropy)
        assert (result.answered, result.status) == (False, 403)
        assert result.phrase.endswith(code)
