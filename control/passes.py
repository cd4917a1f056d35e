"""Passes: what binds an INVITE to the webhook that announced it.

A webhook whose signature proves the carrier's account is answered with a user name, a password and a
token made for that one call. The INVITE that shows all three is that call, and the number and account are
those of the webhook: nothing the INVITE says of itself is believed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from edge.trunks import DialPass, TrunkTable

__all__ = ["LIFETIME_S", "TOKEN_HEADER", "Announced", "CallPass", "CallPasses", "PassesExhausted"]

TOKEN_HEADER: Final = "X-Truedy-Token"
LIFETIME_S: Final = 60.0
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_BYTES: Final = 18


class PassesExhausted(Exception):
    """As many passes are out as the edge will remember."""


@dataclass(frozen=True, slots=True)
class CallPass:
    """One announced call. ``call_sid`` and ``account_sid`` are the carrier's; ``valid_until`` is monotonic [s]."""

    username: str
    password: str = field(repr=False)
    token: str = field(repr=False)
    call_sid: str
    account_sid: str
    account_id: str
    number_id: str
    phone_number: str
    caller: str
    valid_until: float
    verstat: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Announced:
    """What a webhook has proved: the arguments of :meth:`CallPasses.issue`.

    ``headers`` are those of the INVITE that the carrier was called with, where it was one.
    """

    call_sid: str
    account_sid: str
    account_id: str
    number_id: str
    phone_number: str
    caller: str
    verstat: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


class CallPasses:
    """The passes that are out; one process's. ``trunk`` is the name of the ``auth="pass"`` rule they belong to.

    A call announced twice gets the same pass while it lives, and None afterwards: the second one came too late.
    At most ``capacity`` live ones; spent calls are remembered as long as there is room.
    """

    def __init__(
        self,
        trunks: TrunkTable,
        trunk: str,
        *,
        entropy: Callable[[int], bytes],
        capacity: int = 10_000,
        lifetime_s: float | None = None,
    ) -> None:
        self._trunks = trunks
        self._trunk = trunk
        self._entropy = entropy
        self._capacity = capacity
        self._lifetime_s = LIFETIME_S if lifetime_s is None else lifetime_s
        self._by_call: OrderedDict[str, CallPass] = OrderedDict()
        self._by_username: dict[str, CallPass] = {}
        self._spent: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_call)

    def issue(self, announced: Announced, now: float) -> CallPass | None:
        """A pass for this call; None when its time is over. Raises :class:`PassesExhausted`."""
        self.expire(now)
        if (known := self._by_call.get(announced.call_sid)) is not None:
            return known
        if announced.call_sid in self._spent:
            return None
        if len(self._by_call) >= self._capacity:
            raise PassesExhausted
        made = CallPass(
            username="c" + self._secret(),
            password=self._secret(),
            token=self._secret(),
            call_sid=announced.call_sid,
            account_sid=announced.account_sid,
            account_id=announced.account_id,
            number_id=announced.number_id,
            phone_number=announced.phone_number,
            caller=announced.caller,
            verstat=announced.verstat,
            headers=announced.headers,
            valid_until=now + self._lifetime_s,
        )
        self._by_call[made.call_sid] = made
        self._by_username[made.username] = made
        header = (TOKEN_HEADER, made.token)
        self._trunks.add_pass(DialPass(made.username, made.password, self._trunk, header, made.valid_until))
        return made

    def find(self, username: str) -> CallPass | None:
        """The pass an accepted INVITE came with."""
        return self._by_username.get(username)

    def spend(self, call_sid: str) -> None:
        """The call is over: its pass is worth nothing any more. Unknown ones are ignored."""
        made = self._by_call.pop(call_sid, None)
        if made is not None:
            del self._by_username[made.username]
            self._trunks.remove_pass(made.username)
            self._spent[call_sid] = None

    def expire(self, now: float) -> None:
        """Move passes whose time is over to the spent ones. They are in order of age."""
        while self._by_call and next(iter(self._by_call.values())).valid_until <= now:
            call_sid, ended = self._by_call.popitem(last=False)
            del self._by_username[ended.username]
            self._trunks.remove_pass(ended.username)
            self._spent[call_sid] = None
        while len(self._spent) > self._capacity:
            self._spent.popitem(last=False)

    def _secret(self) -> str:
        number, digits = int.from_bytes(self._entropy(_SECRET_BYTES)), ""
        while number:
            number, digit = divmod(number, len(_ALPHABET))
            digits += _ALPHABET[digit]
        return digits
