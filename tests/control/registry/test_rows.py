"""Rows to values and back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace

import pytest

from control.registry import rows
from control.registry.schema import migrate
from control.registry.types import Account, Agent, ApiKey, Call, Connection, NotFound, Number

CALL = Call("c", "a1", "n1", "g1", "inbound", "lab", "+1", "+2", "completed", 1.0, statistics={"lost": 3})


@pytest.fixture
def empty() -> Iterator[sqlite3.Connection]:
    """A registry's tables, in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        yield connection


@pytest.mark.parametrize(
    ("columns", "kind"), [(rows.ACCOUNT, Account), (rows.KEY, ApiKey), (rows.AGENT, Agent), (rows.NUMBER, Number)]
)
def test_columns_stand_in_the_order_of_the_fields(columns: str, kind: type) -> None:
    assert columns.split(", ") == [field.name for field in fields(kind) if field.name != "secrets"]


def test_a_call_s_columns_end_with_its_documents_and_leave_the_timeline_out() -> None:
    names = rows.CALL.split(", ")
    assert names[-5:] == ["statistics", "carrier_ids", "recording", "identity", "reasons"]
    assert set(names) == {field.name for field in fields(Call)} - {"timeline"}
    whole = replace(CALL, identity={"hidden": True}, reasons=({"protocol": "SIP", "cause": 200, "text": ""},))
    values = [getattr(whole, name) for name in names[:-5]]
    assert rows.to_call((*values, *(rows.encode(getattr(whole, name)) for name in names[-5:]))) == whole


def test_a_connection_s_columns_end_with_what_is_sealed() -> None:
    names = rows.CONNECTION.split(", ")
    assert names[-1] == "sealed"
    assert set(names[:-1]) == {field.name for field in fields(Connection)} - {"secrets"}


def test_an_agent_s_pipeline_is_json() -> None:
    agent = Agent("g1", "a1", "Parrot", {"protocol": "builtin", "names": ["ü", None]}, 1.0, 2.0)
    assert rows.to_agent(rows.agent_values(agent)) == agent


def test_an_insert_has_a_place_for_each_column() -> None:
    assert rows.insert("things", "a, b, c") == "INSERT INTO things (a, b, c) VALUES (?, ?, ?)"


def test_what_is_not_there_is_not_found(empty: sqlite3.Connection) -> None:
    for question in (rows.agent, rows.number):
        with pytest.raises(NotFound):
            question(empty, "a1", "x")
    with pytest.raises(NotFound):
        rows.account(empty, "a1")
    assert rows.call(empty, "c") is None
