"""Passes: one for each announced call."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import ip_network

import pytest

from control.passes import LIFETIME_S, Announced, CallPasses, PassesExhausted
from edge.auth import Challenger
from edge.counters import Counters
from edge.trunks import TrunkRule, TrunkTable

CALL = Announced("CA1", "AC1", "account-1", "number-1", "+14155550100", "+14155550199")


def passes(capacity: int = 10) -> CallPasses:
    rule = TrunkRule("twilio", (ip_network("54.172.60.0/30"),), auth="pass", shared_addresses=True)
    trunks = TrunkTable((rule,), realm="test", challenger=Challenger(bytes(32)), counters=Counters())
    return CallPasses(trunks, "twilio", entropy=os.urandom, capacity=capacity)


def test_a_call_announced_twice_gets_the_same_pass_while_it_lives() -> None:
    held = passes()
    first = held.issue(CALL, 0.0)
    assert first is not None
    assert held.issue(CALL, LIFETIME_S - 0.1) is first
    assert len(held) == 1


def test_a_call_announced_again_too_late_gets_none() -> None:
    held = passes()
    first = held.issue(CALL, 0.0)
    assert first is not None
    assert held.issue(CALL, LIFETIME_S) is None
    assert held.find(first.username) is None
    assert len(held) == 0


def test_each_call_has_secrets_of_its_own() -> None:
    held = passes()
    made = [held.issue(replace(CALL, call_sid=f"CA{index}"), 0.0) for index in range(10)]
    secrets = [text for each in made if each for text in (each.username, each.password, each.token)]
    assert len(set(secrets)) == 30
    assert min(map(len, secrets)) >= 20
    assert all(text.isalnum() for text in secrets)


def test_a_pass_remembers_what_the_webhook_proved() -> None:
    held = passes()
    made = held.issue(CALL, 5.0)
    assert made is not None
    assert held.find(made.username) is made
    assert (made.account_id, made.number_id, made.phone_number) == ("account-1", "number-1", "+14155550100")
    assert made.valid_until == 5.0 + LIFETIME_S
    assert made.password not in repr(made)
    assert made.token not in repr(made)


def test_no_more_passes_than_the_edge_will_remember() -> None:
    held = passes(capacity=2)
    for index in range(2):
        held.issue(replace(CALL, call_sid=f"CA{index}"), 0.0)
    with pytest.raises(PassesExhausted):
        held.issue(replace(CALL, call_sid="CA9"), 1.0)
    assert held.issue(replace(CALL, call_sid="CA9"), LIFETIME_S) is not None


def test_spent_calls_are_remembered_within_bounds() -> None:
    held = passes(capacity=3)
    for index in range(30):
        held.issue(replace(CALL, call_sid=f"CA{index}"), index * LIFETIME_S)
    assert len(held._spent) <= 3
