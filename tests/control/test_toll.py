"""Whom an account may have called, and how much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Outbound
from control.registry.memory import MemoryRegistry
from control.registry.types import Account, CallEvent, DiallingRules
from control.toll import Denied, DialLimits, Ledger, TollGuard, TollRefusal, country_of, destination
from edge.counters import Counters

US = "+14155550100"
LIMITS = DialLimits(calls=2, calls_per_minute=3, minutes_per_day=10)


def denied(target: str, *, countries: tuple[str, ...] | None = None, listed: tuple[str, ...] = ()) -> Denied:
    with pytest.raises(TollRefusal) as refusal:
        destination(target, US, countries, listed)
    return refusal.value.denied


# --- where to ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("+882160000000", Denied.SATELLITE),
        ("+881612345678", Denied.SATELLITE),
        ("+870776123456", Denied.SATELLITE),
        ("+883510012345678", Denied.SATELLITE),
        ("+19005551234", Denied.PREMIUM_RATE),
        ("+447044123456", Denied.PREMIUM_RATE),
        ("+448712345678", Denied.PREMIUM_RATE),
        ("+4918012345678", Denied.SHARED_COST),
        ("911", Denied.SHORT_NUMBER),
        ("112", Denied.SHORT_NUMBER),
        ("+1911", Denied.SHORT_NUMBER),
        ("+49112", Denied.SHORT_NUMBER),
        ("+44999", Denied.SHORT_NUMBER),
        ("+15551230002", Denied.NOT_ASSIGNED),
        ("", Denied.NOT_A_NUMBER),
        ("hello", Denied.NOT_A_NUMBER),
        ("4155550123", Denied.NOT_A_NUMBER),
        ("tel:+14155550123", Denied.NOT_A_NUMBER),
        ("sip:", Denied.NOT_A_NUMBER),
    ],
)
@pytest.mark.parametrize("countries", [None, ("*",), ("US", "GB", "DE")])
def test_some_are_never_called_whatever_is_allowed(target: str, why: Denied, countries: tuple[str, ...] | None) -> None:
    assert denied(target, countries=countries) is why


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("4155550123", "4155550123 does not begin with + and the country code (E.164, such as +14155550100)"),
        ("+9994155550123", "+9994155550123 does not begin with a country code that is in use"),
        ("+141555501234567", "+141555501234567 is too long for its country code, or for E.164 (15 digits)"),
        ("hello", "hello is neither a number in E.164 (such as +14155550100) nor a SIP URI"),
        ("911", "911 is an emergency number or a short code: those are never called"),
    ],
)
def test_what_is_no_number_is_told_why(target: str, said: str) -> None:
    with pytest.raises(TollRefusal) as refusal:
        destination(target, US, ("*",), ())
    assert str(refusal.value) == said


def test_by_default_only_the_country_called_from() -> None:
    """Caribbean numbers of +1 are countries of their own: the oldest trick there is."""
    assert destination("+1 (415) 555-0123", US, None, ()).target == "+14155550123"
    for target in ("+18095551234", "+18765551234", "+442079460000"):
        assert denied(target) is Denied.COUNTRY
    assert destination("+442079460000", US, ("US", "GB"), ()).target == "+442079460000"
    assert destination("+442079460000", US, ("*",), ()).target == "+442079460000"
    assert denied("+14155550123", countries=()) is Denied.COUNTRY


def test_a_laboratorys_number_has_the_country_of_its_code() -> None:
    assert country_of("+15551230001") == "US"
    assert country_of("+18095551234") == "DO"


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("sip:hunt@pbx.example.com", True),
        ("sip:anybody@open.example.com", True),
        ("sips:anybody@open.example.com", False),
        ("sip:anybody@OPEN.example.com", True),
        ("sip:other@pbx.example.com", False),
        ("sip:anybody@open.example.com:5070", False),
        ("sip:anybody@open.example.com;transport=tcp", False),
        ("sip:anybody@evil.com;x=@open.example.com", False),
        ("sip:hunt@pbx.example.com?Route=evil", False),
        ("sip:open.example.com", False),
    ],
)
def test_sip_uris_are_those_of_the_list(target: str, allowed: bool) -> None:
    listed = ("sip:hunt@pbx.example.com", "sip:*@open.example.com")
    if allowed:
        assert destination(target, US, None, listed).target == target
    else:
        assert denied(target, listed=listed) in (Denied.SIP_TARGET, Denied.NOT_A_NUMBER)


@given(st.text(max_size=40))
def test_nothing_but_a_number_or_a_listed_uri_ever_passes(text: str) -> None:
    try:
        found = destination(text, US, ("*",), ("sip:*@pbx.example.com",))
    except TollRefusal:
        return
    assert found.target.startswith("+") or found.target.startswith("sip:")


# --- how much ---------------------------------------------------------------------------------


def refused(ledger: Ledger, now: float, used_s: float = 0.0) -> Denied:
    with pytest.raises(TollRefusal) as refusal:
        ledger.admit("a", LIMITS, used_s, US, now)
    return refusal.value.denied


def test_calls_at_once_are_capped_and_a_released_one_makes_room() -> None:
    ledger = Ledger()
    first = ledger.admit("a", LIMITS, 0.0, US, 0.0)
    ledger.admit("a", LIMITS, 0.0, US, 0.0)
    assert refused(ledger, 0.0) is Denied.CALLS
    ledger.admit("b", LIMITS, 0.0, US, 0.0)
    ledger.release(first)
    ledger.release(first)
    assert ledger.live("a") == 1
    ledger.admit("a", LIMITS, 0.0, US, 0.0)


def test_calls_a_minute_are_capped_over_any_sixty_seconds() -> None:
    ledger = Ledger()
    for at in (0.0, 30.0, 59.0):
        ledger.release(ledger.admit("a", LIMITS, 0.0, US, at))
    assert refused(ledger, 59.9) is Denied.CALLS_PER_MINUTE
    ledger.release(ledger.admit("a", LIMITS, 0.0, US, 60.0))
    assert refused(ledger, 61.0) is Denied.CALLS_PER_MINUTE


def test_minutes_of_the_day_count_ended_calls_and_those_that_are_up() -> None:
    ledger = Ledger()
    ticket = ledger.admit("a", LIMITS, 0.0, US, 0.0)
    assert ledger.left_s("a", LIMITS, 100.0, 50.0) == 500.0, "ringing is free"
    ticket.answered = 50.0
    assert ledger.left_s("a", LIMITS, 100.0, 350.0) == 200.0
    assert refused(ledger, 350.0, used_s=300.0) is Denied.MINUTES_PER_DAY
    assert ledger.left_s("nobody", LIMITS, 0.0, 0.0) == 600.0


async def guard() -> tuple[TollGuard, MemoryRegistry, Counters]:
    registry, counters = MemoryRegistry(), Counters()
    await registry.create_account(Account("a", "A", 0.0))
    settings = Outbound(calls=1, countries=("US",))
    return TollGuard(registry, settings, counters, now=lambda: 5.0, wall=lambda: 86_400.0 * 3 + 60), registry, counters


async def test_an_account_has_the_settings_limits_but_for_those_of_its_own() -> None:
    it, registry, _ = await guard()
    assert await it.limits("a") == DialLimits(1, 10, 600, ("US",))
    await registry.save_dialling_rules(DiallingRules("a", calls=7, countries=("DE",)))
    assert await it.limits("a") == DialLimits(7, 10, 600, ("DE",))


async def test_each_refusal_is_counted_by_its_reason() -> None:
    it, _, counters = await guard()
    admission = await it.admit("a", US, "+14155550123")
    assert (admission.destination.target, admission.left_s) == ("+14155550123", 36_000.0)
    for target, hops in (("+882160000000", 0), ("+14155550123", 2), ("+14155550123", 0)):
        with pytest.raises(TollRefusal):
            await it.admit("a", US, target, hops)
    assert counters.get("outgoing_calls_refused") == 3
    assert all(counters.get("outgoing_calls_refused", reason=each) == 1 for each in ("satellite", "loop", "calls"))
    it.answered(admission.ticket)
    it.release(admission.ticket)
    assert admission.ticket.answered == 5.0
    await it.admit("a", US, "+14155550123")


async def test_the_day_begins_at_midnight_utc() -> None:
    it, registry, _ = await guard()
    offer = {
        "account_id": "a",
        "direction": "outbound",
        "trunk": "lab",
        "from_number": US,
        "to_number": "+14155550123",
    }
    end = {"ended_by": "callee", "end_reason": "callee_hung_up"}
    for call, ended_at in (("yesterday", 86_400.0 * 3 - 1), ("today", 86_400.0 * 3 + 1)):
        await registry.apply_events(
            [
                CallEvent(id=f"{call}1", kind="offered", at=ended_at - 100, call_id=call, data=offer),
                CallEvent(id=f"{call}2", kind="answered", at=ended_at - 90, call_id=call, offset_s=10.0),
                CallEvent(id=f"{call}3", kind="ended", at=ended_at, call_id=call, offset_s=100.0, data=end),
            ]
        )
    assert await it.used_s("a") == 90.0
