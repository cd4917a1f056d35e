"""The way out for a number, and what the INVITE that goes there says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control.dialling import Invitation, NoWay
from control.registry.types import Connection, Integration
from control.toll import Destination
from tests.control.inward import ACCOUNT
from tests.control.outward import DID, TARGET, desk

INVITATION = Invitation(Destination("number", TARGET), DID, b"sdp", "call-id", hops=1)


async def test_telnyx_is_called_under_the_connection_with_its_user_on_the_first_invite() -> None:
    """Caller ID by P-Asserted-Identity, which goes before Remote-Party-ID and From."""
    async with desk() as d:
        way = await d.dialler.way(await d.registry.number(ACCOUNT, "number-2"))
        call = d.dialler.invite(way, replace(INVITATION, from_number="+14155550200"))
        headers = dict(call.headers)
        assert call.target == f"sip:{TARGET}@sip.telnyx.com"
        assert (call.username, call.password, call.realm) == ("gw", "pw", "sip.telnyx.com")
        assert headers["X-Telnyx-Username"] == "gw"
        assert headers["P-Asserted-Identity"] == "<sip:+14155550200@sip.telnyx.com>"
        assert headers["X-Truedy-Hops"] == "1"
        assert "Privacy" not in headers
        assert call.from_uri == "sip:+14155550200@sip.telnyx.com"


async def test_a_hidden_caller_asks_for_privacy_and_is_nobody_in_from() -> None:
    """RFC 3323 §4.1, RFC 3325 §9.3."""
    async with desk() as d:
        way = await d.dialler.way(await d.registry.number(ACCOUNT, "number-2"))
        call = d.dialler.invite(way, replace(INVITATION, hidden=True))
        assert dict(call.headers)["Privacy"] == "id"
        assert (call.from_uri, call.from_name) == ("sip:anonymous@anonymous.invalid", "Anonymous")
        assert dict(call.headers)["P-Asserted-Identity"] == f"<sip:{DID}@sip.telnyx.com>"


async def test_an_fqdn_connection_is_called_without_credentials() -> None:
    async with desk() as d:
        await d.registry.save_connection(
            Connection("42", ACCOUNT, "telnyx", "fqdn", "By name", "telnyx:42", proxy="sip.telnyx.eu")
        )
        way = await d.dialler.way(await d.registry.number(ACCOUNT, "number-2"))
        assert (way.host, way.username, way.next_hop) == ("sip.telnyx.eu", None, None)


@pytest.mark.parametrize("kind", ["password", "connection"])
async def test_telnyx_without_what_it_takes_says_what_is_missing(kind: str) -> None:
    async with desk() as d:
        row = await d.registry.number(ACCOUNT, "number-2")
        if kind == "password":
            await d.registry.save_connection(
                Connection("42", ACCOUNT, "telnyx", "credential", "x", "telnyx:42", user_name="gw")
            )
        else:
            row = replace(row, provider_connection_id="43")
        with pytest.raises(NoWay, match=kind):
            await d.dialler.way(row)


async def test_a_static_trunk_is_called_at_its_address_with_credentials_of_its_own() -> None:
    async with desk() as d:
        way = await d.dialler.way(await d.registry.number(ACCOUNT, "number-1"))
        call = d.dialler.invite(way, INVITATION)
        assert call.target == f"sip:{TARGET}@192.0.2.9:5070"
        assert (call.username, call.password) == ("edge", "secret of the edge")
        assert "X-Telnyx-Username" not in dict(call.headers)


async def test_a_trunk_over_tcp_says_so_in_the_request_uri() -> None:
    async with desk(trunk={"outbound": "tcp:pbx.example.com:5060"}) as d:
        way = await d.dialler.way(await d.registry.number(ACCOUNT, "number-1"))
        call = d.dialler.invite(way, INVITATION)
        assert call.target == f"sip:{TARGET}@pbx.example.com:5060;transport=tcp"
        assert call.from_uri == f"sip:{DID}@pbx.example.com:5060"


async def test_twilio_is_called_by_rest_with_the_token_of_its_account() -> None:
    async with desk() as d:
        way = await d.dialler.way(await d.registry.number(ACCOUNT, "number-3"))
        assert (way.carrier, way.account_sid, way.auth_token) == ("twilio", "AC1", "token")
        assert "token" not in repr(way)


@pytest.mark.parametrize(
    ("secrets", "sid", "token"),
    [
        ({"auth_token": "t", "subaccount:AC2": "t2"}, "AC2", "t2"),
        ({"auth_token": "t"}, "AC2", None),
        (None, "AC1", None),
    ],
)
async def test_a_subaccounts_token_is_its_own(secrets: dict[str, str] | None, sid: str, token: str | None) -> None:
    async with desk() as d:
        row = replace(await d.registry.number(ACCOUNT, "number-3"), provider_account_sid=sid)
        if secrets is not None:
            await d.registry.save_integration(Integration(ACCOUNT, "twilio", {"account_sid": "AC1"}, secrets))
        else:
            await d.registry.delete_number(ACCOUNT, "number-3")
            await d.registry.delete_integration(ACCOUNT, "twilio")
        if token is None:
            with pytest.raises(NoWay):
                await d.dialler.way(row)
        else:
            assert (await d.dialler.way(row)).auth_token == token


async def test_a_diverted_call_says_from_where() -> None:
    async with desk() as d:
        way = await d.dialler.way(await d.registry.number(ACCOUNT, "number-1"))
        call = d.dialler.invite(way, replace(INVITATION, diverted_from=DID))
        assert dict(call.headers)["Diversion"] == f"<sip:{DID}@192.0.2.9:5070>;reason=unconditional"
