"""Twilio's webhooks over HTTP: forms, their limits, and what comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from xml.etree import ElementTree

import httpx
import pytest
from twilio.request_validator import RequestValidator

from control.api.app import create_app
from tests.control.test_inbound import BASE, NUMBER, SID, TOKEN, world
from tests.support.desk import Desk

PATH = "/telephony/inbound/twilio"
FORM = {"CallSid": "CA" + "1" * 32, "AccountSid": SID, "To": NUMBER, "From": "+14155550199", "CallerCity": ""}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    desk = Desk()
    async with world() as w:
        app = create_app(desk.operations, desk.health, now=desk.now, twilio_inbound=w.inbound)
        transport = httpx.ASGITransport(app, client=("54.172.60.1", 40000))
        async with httpx.AsyncClient(transport=transport, base_url="http://inside.example.test") as made:
            yield made


def signature(path: str = PATH, form: dict[str, str] | None = None) -> dict[str, str]:
    return {
        "X-Twilio-Signature": RequestValidator(TOKEN).compute_signature(BASE + path, FORM if form is None else form)
    }


async def test_a_signed_form_is_answered_with_twiml(client: httpx.AsyncClient) -> None:
    """Signed for the public address, whatever host the request reached us by; blank parameters count."""
    answer = await client.post(PATH, data=FORM, headers=signature())
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/xml"
    assert ElementTree.fromstring(answer.text).find("Dial/Sip") is not None


async def test_the_query_of_the_public_address_is_signed_too(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH + "?tenant=7", data=FORM, headers=signature(PATH + "?tenant=7"))
    assert answer.status_code == 200
    assert (await client.post(PATH + "?tenant=8", data=FORM, headers=signature(PATH + "?tenant=7"))).status_code == 403


async def test_a_get_carries_its_parameters_in_the_query(client: httpx.AsyncClient) -> None:
    url = str(httpx.URL(PATH, params=FORM))
    answer = await client.get(url, headers=signature(url, {}))
    assert answer.status_code == 200


@pytest.mark.parametrize("headers", [{}, {"X-Twilio-Signature": ""}, {"X-Twilio-Signature": "AAAA"}])
async def test_no_signature_or_a_wrong_one_is_403_and_empty(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await client.post(PATH, data=FORM, headers=headers)
    assert (answer.status_code, answer.text) == (403, "")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 403),
        (b"\xff\xfe", 422),
        (b"a=1&" * 500, 422),
        (b"a=" + b"x" * 70_000, 413),
        (b'{"CallSid": "CA1"}', 403),
    ],
)
async def test_hostile_bodies_are_refused(client: httpx.AsyncClient, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded", **signature()}
    assert (await client.post(PATH, content=body, headers=headers)).status_code == status


async def test_dial_status_answers_nothing_after_a_completed_call(client: httpx.AsyncClient) -> None:
    path, form = PATH + "/dial-status", FORM | {"DialCallStatus": "completed"}
    answer = await client.post(path, data=form, headers=signature(path, form))
    assert answer.status_code == 200
    assert len(ElementTree.fromstring(answer.text)) == 0


async def test_without_the_path_in_service_it_is_not_found() -> None:
    desk = Desk()
    async with desk.client() as plain:
        assert (await plain.post(PATH, data=FORM, headers=signature())).status_code == 404
