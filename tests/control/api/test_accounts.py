"""Accounts and keys."""

from __future__ import annotations

import httpx
import pytest

from tests.support.desk import BASE, Desk


async def test_a_key_is_shown_once(acme: httpx.AsyncClient, desk: Desk) -> None:
    """When it is made; afterwards there is only its hint."""
    made = await acme.post(f"{BASE}/keys", json={})
    assert made.status_code == 201
    key = made.json()["data"]
    assert key["key"].startswith("truedy_")
    assert key["key"].endswith(key["hint"])
    assert key["role"] == "account"
    listed = (await acme.get(f"{BASE}/keys")).json()["data"]
    assert key["id"] in {row["id"] for row in listed}
    assert all("key" not in row for row in listed)
    desk.keys["new"] = key["key"]
    async with desk.client("new") as client:
        assert (await client.get(f"{BASE}/account")).json()["data"]["name"] == "acme"


async def test_a_revoked_key_is_refused_at_once(acme: httpx.AsyncClient, desk: Desk) -> None:
    """401, and the list says since when."""
    key = (await acme.post(f"{BASE}/keys", json={})).json()["data"]
    desk.keys["new"] = key["key"]
    gone = await acme.delete(f"{BASE}/keys/{key['id']}")
    assert gone.json()["data"]["revoked_at"] == "2026-09-21T14:13:20.000Z"
    async with desk.client("new") as client:
        assert (await client.get(f"{BASE}/account")).status_code == 401
    again = await acme.delete(f"{BASE}/keys/{key['id']}")
    assert again.json()["data"] == gone.json()["data"]


async def test_a_rotated_key_gives_way_to_its_successor(acme: httpx.AsyncClient, desk: Desk) -> None:
    """Same account and role; the old one is refused, and cannot be rotated again."""
    old = (await acme.post(f"{BASE}/keys", json={})).json()["data"]
    rotated = await acme.post(f"{BASE}/keys/{old['id']}/rotate")
    assert rotated.status_code == 201
    new = rotated.json()["data"]
    assert (new["account_id"], new["role"]) == (old["account_id"], old["role"])
    for key, status in ((old, 401), (new, 200)):
        desk.keys["it"] = key["key"]
        async with desk.client("it") as client:
            assert (await client.get(f"{BASE}/account")).status_code == status
    assert (await acme.post(f"{BASE}/keys/{old['id']}/rotate")).status_code == 404


async def test_only_an_operator_makes_operators_and_accounts(
    acme: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    """403 for an account's key."""
    for path, body in ((f"{BASE}/keys", {"role": "operator"}), (f"{BASE}/accounts", {"name": "initech"})):
        assert (await acme.post(path, json=body)).status_code == 403
        assert (await operator.post(path, json=body)).status_code == 201
    assert (await acme.get(f"{BASE}/accounts")).status_code == 403
    names = {row["name"] for row in (await operator.get(f"{BASE}/accounts")).json()["data"]}
    assert names == {"acme", "globex", "initech"}


async def test_an_operator_hands_a_new_account_its_first_key(operator: httpx.AsyncClient, desk: Desk) -> None:
    """The account's sid is what its agents hang up with."""
    account = (await operator.post(f"{BASE}/accounts", json={"name": "initech"})).json()["data"]
    assert account["sid"] == "AC" + account["id"].replace("-", "")
    key = (await operator.post(f"{BASE}/keys", json={"account_id": account["id"]})).json()["data"]
    desk.keys["initech"] = key["key"]
    async with desk.client("initech") as client:
        assert (await client.get(f"{BASE}/account")).json()["data"] == account


async def test_an_account_s_name_is_its_own(operator: httpx.AsyncClient, desk: Desk) -> None:
    """Taken: 409. Looking like another's id: 422, since trunks list accounts by either."""
    assert (await operator.post(f"{BASE}/accounts", json={"name": "acme"})).status_code == 409
    assert (await operator.post(f"{BASE}/accounts", json={"name": desk.accounts["acme"].id})).status_code == 422


async def test_a_key_for_another_account_needs_an_operator(acme: httpx.AsyncClient, desk: Desk) -> None:
    """403; and for an account that is not there, an operator gets 404."""
    answer = await acme.post(f"{BASE}/keys", json={"account_id": desk.accounts["globex"].id})
    assert answer.status_code == 403
    async with desk.client("operator") as operator:
        unknown = await operator.post(f"{BASE}/keys", json={"account_id": "0198c0de-0000-4000-8000-00000000dead"})
    assert unknown.status_code == 404


@pytest.mark.parametrize("verb", ["revoke", "rotate"])
async def test_keys_of_others_cannot_be_touched(
    acme: httpx.AsyncClient, globex: httpx.AsyncClient, desk: Desk, verb: str
) -> None:
    """Another account's: 404. An operator's, by an account's key: 403."""

    async def touch(client: httpx.AsyncClient, id: str) -> int:
        path = f"{BASE}/keys/{id}"
        answer = await (client.delete(path) if verb == "revoke" else client.post(f"{path}/rotate"))
        return answer.status_code

    rows = (await acme.get(f"{BASE}/keys")).json()["data"]
    ids = {row["role"]: row["id"] for row in rows}
    assert await touch(globex, ids["account"]) == 404
    assert await touch(globex, ids["operator"]) == 404
    assert await touch(acme, ids["operator"]) == 403
    assert await touch(acme, "x") == 404
    assert (await acme.get(f"{BASE}/account")).status_code == 200


async def test_what_an_account_may_dial_is_set_by_operators_and_read_by_its_own(
    desk: Desk, acme: httpx.AsyncClient, globex: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    path = f"{BASE}/accounts/{desk.accounts['acme'].id}/dialling"
    mine = (await acme.get(path)).json()["data"]
    assert (mine["calls"], mine["minutes_per_day"], mine["countries"], mine["used_minutes"]) == (10, 600, None, 0.0)
    assert (await globex.get(path)).status_code == 404
    assert (await acme.put(path, json={"calls": 99})).status_code == 403
    changed = await operator.put(path, json={"calls": 99, "countries": ["US", "CA", "US"]})
    assert changed.status_code == 200
    mine = (await acme.get(path)).json()["data"]
    assert (mine["calls"], mine["calls_per_minute"], mine["countries"]) == (99, 10, ["US", "CA"])
    for bad in ({"calls": 0}, {"countries": ["us"]}, {"minutes": 1}):
        assert (await operator.put(path, json=bad)).status_code == 422
    assert (await operator.put(path.replace(path.split("/")[-2], "nobody"), json={})).status_code == 404
