"""Whom an account may have called: the rules against toll fraud, and what is left of its day.

Everything the edge dials passes :func:`destination` and :class:`Ledger`, whoever asks: the API, an agent that transfers
its caller, a fall-back. Premium, shared-cost and personal numbers, satellite and other networks without a country,
emergency and short numbers and numbers that no plan assigns are refused whatever is allowed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

import phonenumbers
from phonenumbers import PhoneNumberType

from config.settings import Outbound
from control.hops import LIMIT as HOPS_LIMIT
from control.numbers import NumberError, Why, canonical
from control.registry.types import DiallingRules, Registry
from edge.counters import Counters, printable
from edge.uri import ParseError, SipUri

__all__ = [
    "LIMITS",
    "Admission",
    "Denied",
    "Destination",
    "DialLimits",
    "Ledger",
    "Ticket",
    "TollGuard",
    "TollRefusal",
    "country_of",
    "day_began",
    "destination",
    "limits_of",
]

_DAY_S: Final = 86_400
_MINUTE_S: Final = 60.0


class Denied(StrEnum):
    """Why a call is not placed: ``details.reason`` of the error, and the counter's label."""

    NOT_A_NUMBER = "not_a_number"
    """Neither E.164 nor a SIP URI."""
    SHORT_NUMBER = "short_number"
    """An emergency number or a short code."""
    NOT_ASSIGNED = "not_assigned"
    """No number plan assigns such a number."""
    PREMIUM_RATE = "premium_rate"
    """Premium rate, or a personal number, which costs the same."""
    SHARED_COST = "shared_cost"
    """The caller is charged for a service."""
    SATELLITE = "satellite"
    """A satellite or another network without a country: +870, +881, +882, +883 and their like."""
    COUNTRY = "country"
    """Not one of the account's countries; by default, not that of the number called from."""
    SIP_TARGET = "sip_target"
    """A SIP URI that is not on the list ``outbound.sip_targets``."""
    LOOP = "loop"
    """The call has come through this edge too often already."""
    CALLS = "calls"
    """As many outgoing calls are up as the account may have."""
    CALLS_PER_MINUTE = "calls_per_minute"
    """It has placed as many in the last minute as it may."""
    MINUTES_PER_DAY = "minutes_per_day"
    """It has used the minutes of its day (UTC)."""


LIMITS: Final = frozenset({Denied.CALLS, Denied.CALLS_PER_MINUTE, Denied.MINUTES_PER_DAY})
"""Those that time or the end of a call heals."""

_WORDS: Final = {
    Denied.NOT_A_NUMBER: "is neither a number in E.164 (such as +14155550100) nor a SIP URI",
    Denied.SHORT_NUMBER: "is an emergency number or a short code: those are never called",
    Denied.NOT_ASSIGNED: "is no number that its country assigns",
    Denied.PREMIUM_RATE: "is a premium-rate or personal number: those are never called",
    Denied.SHARED_COST: "is a shared-cost number: those are never called",
    Denied.SATELLITE: "belongs to a satellite or other network without a country: those are never called",
    Denied.COUNTRY: "is in a country that the account may not call",
    Denied.SIP_TARGET: "is a SIP URI that the operator has not listed (outbound.sip_targets)",
    Denied.LOOP: "would go through this edge too often",
    Denied.CALLS: "is one outgoing call more than the account may have at once",
    Denied.CALLS_PER_MINUTE: "is one more than the account may place in a minute",
    Denied.MINUTES_PER_DAY: "finds no minutes left of the account's day",
}

_REFUSED_TYPES: Final = {
    PhoneNumberType.PREMIUM_RATE: Denied.PREMIUM_RATE,
    PhoneNumberType.PERSONAL_NUMBER: Denied.PREMIUM_RATE,
    PhoneNumberType.SHARED_COST: Denied.SHARED_COST,
    PhoneNumberType.UNKNOWN: Denied.NOT_ASSIGNED,
}
_NO_COUNTRY: Final = "001"
_SHORTEST_DIGITS: Final = 7
_EVERYWHERE: Final = "*"


class TollRefusal(Exception):
    """``target`` is not called; ``denied`` is the reason, ``problem`` a clause without a subject, the message both."""

    def __init__(self, denied: Denied, target: str, problem: str | None = None) -> None:
        self.denied = denied
        self.target = target
        self.problem = problem or _WORDS[denied]
        super().__init__(f"{target} {self.problem}")


@dataclass(frozen=True, slots=True)
class Destination:
    """Somebody who may be called: ``target`` is E.164, or a SIP URI of the list."""

    kind: Literal["number", "sip"]
    target: str


@dataclass(frozen=True, slots=True)
class DialLimits:
    """What an account may: calls at once, calls a minute, minutes a day, and where to.

    ``countries`` are two-letter codes, ``*`` for all; None: that of the number called from.
    """

    calls: int
    calls_per_minute: int
    minutes_per_day: int
    countries: tuple[str, ...] | None = None


def limits_of(rules: DiallingRules, settings: Outbound) -> DialLimits:
    """An account's own, the settings' where it has none."""
    return DialLimits(
        rules.calls or settings.calls,
        rules.calls_per_minute or settings.calls_per_minute,
        rules.minutes_per_day or settings.minutes_per_day,
        rules.countries if rules.countries is not None else settings.countries,
    )


def day_began(wall: float) -> float:
    """When the day (UTC) of ``wall`` began [s since the epoch]."""
    return wall - wall % _DAY_S


def destination(
    target: str, from_number: str, countries: Iterable[str] | None, sip_targets: Iterable[str]
) -> Destination:
    """Whom ``target`` names. Raises :class:`TollRefusal`."""
    text = target.strip()
    if text[:4].lower() == "sip:" or text[:5].lower() == "sips:":
        return Destination("sip", _listed(text, sip_targets))
    number = _number(text)
    if (denied := _denied(number)) is not None:
        raise TollRefusal(denied, number)
    allowed = tuple(countries) if countries is not None else (country_of(from_number),)
    if _EVERYWHERE not in allowed and country_of(number) not in allowed:
        raise TollRefusal(Denied.COUNTRY, number)
    return Destination("number", number)


def country_of(number: str) -> str:
    """Two-letter code of an E.164 number; of one that no plan assigns, the main country of its code."""
    parsed = phonenumbers.parse(number)
    region = phonenumbers.region_code_for_number(parsed)
    return region or phonenumbers.region_code_for_country_code(parsed.country_code or 0)


def _number(text: str) -> str:
    digits = [character for character in text if character.isdigit()]
    try:
        return canonical(text)
    except NumberError as error:
        short = error.why in (Why.TOO_SHORT, Why.NOT_INTERNATIONAL, Why.IMPOSSIBLE) and len(digits) < _SHORTEST_DIGITS
        if digits and short:
            raise TollRefusal(Denied.SHORT_NUMBER, text[:64]) from error
        problem = None if error.why in (Why.EMPTY, Why.CHARACTERS) else str(error)
        raise TollRefusal(Denied.NOT_A_NUMBER, text[:64], problem) from error


def _denied(number: str) -> Denied | None:
    parsed = phonenumbers.parse(number)
    region = phonenumbers.region_code_for_country_code(parsed.country_code or 0)
    if region == _NO_COUNTRY:
        return Denied.SATELLITE
    national = phonenumbers.national_significant_number(parsed)
    if any(phonenumbers.is_emergency_number(national, each) for each in _regions(parsed)):
        return Denied.SHORT_NUMBER
    if phonenumbers.is_valid_short_number_for_region(parsed, region):
        return Denied.SHORT_NUMBER
    return _REFUSED_TYPES.get(phonenumbers.number_type(parsed))


def _regions(number: phonenumbers.PhoneNumber) -> tuple[str, ...]:
    return tuple(phonenumbers.region_codes_for_country_code(number.country_code or 0))


def _listed(text: str, sip_targets: Iterable[str]) -> str:
    """A URI as the list has it, or with any user where it says ``sip:*@host``; without anything that hides a header."""
    try:
        uri = SipUri.parse(text)
    except ParseError as error:
        raise TollRefusal(Denied.NOT_A_NUMBER, text[:64]) from error
    if uri.headers or uri.parameter("method") is not None:
        raise TollRefusal(Denied.SIP_TARGET, text[:64])
    place = _place(uri)
    for listed in sip_targets:
        user, _, host = listed.partition(":")[2].rpartition("@")
        if listed == text or (user == "*" and host.lower() == place and uri.scheme == listed.partition(":")[0]):
            return text
    raise TollRefusal(Denied.SIP_TARGET, text[:64])


def _place(uri: SipUri) -> str:
    """What follows the user, parameters included: another port or transport is another place."""
    return str(uri).rpartition("@")[2].lower() if uri.user is not None else ""


# --- what an account has used ------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Ticket:
    """One outgoing call that was admitted. Times are monotonic [s]."""

    account_id: str
    began: float
    answered: float | None = None


@dataclass(slots=True)
class _Used:
    placed: deque[float] = field(default_factory=deque)
    live: set[Ticket] = field(default_factory=set)


class Ledger:
    """What is up and what was lately placed, by account; one process's. ``now`` is monotonic [s]."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Used] = {}

    def admit(self, account_id: str, limits: DialLimits, used_s: float, target: str, now: float) -> Ticket:
        """Room for one more; ``used_s`` [s] is what ended calls have used of the day. Raises :class:`TollRefusal`."""
        used = self._accounts.setdefault(account_id, _Used())
        while used.placed and used.placed[0] <= now - _MINUTE_S:
            used.placed.popleft()
        if len(used.live) >= limits.calls:
            raise TollRefusal(Denied.CALLS, target)
        if len(used.placed) >= limits.calls_per_minute:
            raise TollRefusal(Denied.CALLS_PER_MINUTE, target)
        if self.left_s(account_id, limits, used_s, now) <= 0:
            raise TollRefusal(Denied.MINUTES_PER_DAY, target)
        ticket = Ticket(account_id, now)
        used.placed.append(now)
        used.live.add(ticket)
        return ticket

    def left_s(self, account_id: str, limits: DialLimits, used_s: float, now: float) -> float:
        """What is left of the day [s], shared among the calls that are up."""
        live = self._accounts[account_id].live if account_id in self._accounts else set()
        talked_s = sum(now - ticket.answered for ticket in live if ticket.answered is not None)
        return limits.minutes_per_day * 60.0 - used_s - talked_s

    def release(self, ticket: Ticket) -> None:
        """The call is over; a second time does nothing."""
        used = self._accounts.get(ticket.account_id)
        if used is not None:
            used.live.discard(ticket)

    def live(self, account_id: str) -> int:
        """Outgoing calls of the account that are up."""
        return len(self._accounts[account_id].live) if account_id in self._accounts else 0


# --- the guard ---------------------------------------------------------------------------------

log = logging.getLogger("truedy.toll")


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that may be placed: to whom, its place in the ledger, and how long it may last [s]."""

    destination: Destination
    ticket: Ticket
    left_s: float


class TollGuard:
    """Asked before anything is dialled. Clocks: ``now`` monotonic [s], ``wall`` UTC [s]."""

    def __init__(
        self,
        registry: Registry,
        settings: Outbound,
        counters: Counters,
        *,
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._counters = counters
        self._now = now
        self._wall = wall
        self._ledger = Ledger()

    async def limits(self, account_id: str) -> DialLimits:
        """What the account may. Raises what the registry raises."""
        return limits_of(await self._registry.dialling_rules(account_id), self._settings)

    async def used_s(self, account_id: str) -> float:
        """What the account's ended calls have used of this day (UTC) [s]."""
        return await self._registry.outbound_seconds(account_id, day_began(self._wall()))

    async def admit(self, account_id: str, from_number: str, target: str, hops: int = 0) -> Admission:
        """Room for a call of the account to ``target``; ``hops`` is how often it has been here.

        Raises :class:`TollRefusal`, logged and counted, or what the registry raises. Next: :meth:`release`.
        """
        try:
            if hops >= HOPS_LIMIT:
                raise TollRefusal(Denied.LOOP, target[:64])
            limits = await self.limits(account_id)
            found = destination(target, from_number, limits.countries, self._settings.sip_targets)
            used_s = await self.used_s(account_id)
            now = self._now()
            ticket = self._ledger.admit(account_id, limits, used_s, found.target, now)
            return Admission(found, ticket, self._ledger.left_s(account_id, limits, used_s, now))
        except TollRefusal as refusal:
            self._counters.add("outgoing_calls_refused", reason=refusal.denied.value)
            fields = {"account": account_id, "target": printable(target, 64), "reason": refusal.denied.value}
            log.warning("outgoing call refused", extra=fields)
            raise

    def answered(self, ticket: Ticket) -> None:
        """It costs from now on."""
        ticket.answered = self._now()

    def release(self, ticket: Ticket) -> None:
        """It is over; a second time does nothing."""
        self._ledger.release(ticket)
