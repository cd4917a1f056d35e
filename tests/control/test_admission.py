"""Which calls get in."""

from __future__ import annotations

import pytest

from control.call_table import REFUSALS
from control.registry.types import Number, RegistryBusy, Route
from edge.events import CallEnded, CallKey, CallOffered, Cause, Identification, Party
from edge.identity import Identity, Named
from media.messages import OpenCall
from tests.control.inward import ACCOUNT, CALLER, DID, FLOW, OTHER, established_as, refused_with, world


async def test_a_number_is_found_with_and_without_plus() -> None:
    """Trouble elsewhere: `+` here, none there: number not found."""
    for dialed in (("+15551230001",), ("15551230001",), ("bogus", "15551230001"), ("sip-user", "0015551230001")):
        async with world() as w:
            await w.offer(dialed=dialed)
            assert w.phone.verbs == ["ring"], dialed


async def test_an_unknown_number_is_404_and_leases_no_port() -> None:
    async with world() as w:
        await w.offer(dialed=("+15559999999",))
        await refused_with(w, 404, "unknown_number")
        assert w.ports.resting(w.clock.now) == 0
        assert not w.media.commands


async def test_a_number_of_another_trunk_is_unknown_here() -> None:
    async with world() as w:
        row = Number("n2", OTHER, "+15551230002", "", "sip", "other-trunk", "active", 0.0, 0.0, provider_trunk="x")
        await w.registry.create_number(row)
        await w.offer(dialed=("+15551230002",))
        await refused_with(w, 404, "unknown_number")


async def test_an_unassigned_number_is_404_and_leaves_a_record() -> None:
    async with world(assigned=False) as w:
        await w.offer()
        await refused_with(w, 404, "unassigned_number")
        assert [event.kind for event in w.events] == ["offered", "ended"]


async def test_no_free_port_is_503_with_retry_after() -> None:
    async with world(pairs=1) as w:
        await w.establish("k1")
        await w.offer("k2")
        assert w.phone.sent[-1] == ("refuse", "k2", 503)
        assert REFUSALS["no_media_port"].retry_after_s
        assert len(w.calls) == 1


async def test_a_registry_that_does_not_answer_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:

        async def busy(trunk: str, number: str) -> Route | None:
            raise RegistryBusy("locked")

        monkeypatch.setattr(w.registry, "route", busy)
        await w.offer()
        await refused_with(w, 503, "registry_unavailable")


async def test_an_error_of_ours_refuses_the_call_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:

        async def broken(trunk: str, number: str) -> Route | None:
            raise LookupError("bug")

        monkeypatch.setattr(w.registry, "route", broken)
        await w.offer()
        await refused_with(w, 500, "internal_error")


async def test_a_call_cancelled_during_the_lookup_leaves_nothing() -> None:
    async with world() as w:
        w.calls.on_event(
            CallOffered(CallKey("k1"), "lab", Identification.ADDRESS, "", (DID,), CALLER, "", "id", b"offer", FLOW)
        )
        w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.CANCELLED, 487))
        await w.settle()
        assert w.phone.verbs == []
        assert not w.media.commands
        assert w.quiet()


async def test_a_hidden_callers_number_is_on_no_record_and_told_to_no_agent() -> None:
    """RFC 3323; its calls are counted all the same."""
    async with world() as w:
        who = Identity(from_=Named("anonymous"), asserted=(Named(CALLER, "Alice"),), privacy=("id",), hidden=True)
        call = await established_as(w, who=who)
        context = w.media.of(OpenCall)[-1].context
        assert (context.from_number, context.identity) == ("anonymous", {"privacy": "id"})
        offered = next(event for event in w.events if event.kind == "offered")
        assert offered.data["from_number"] == "anonymous"
        assert offered.data["identity"] == {"privacy": ["id"], "hidden": True}
        assert CALLER not in str(w.events)
        assert call


async def test_a_numbers_parameters_reach_its_agent() -> None:
    async with world() as w:
        await w.registry.change_number(ACCOUNT, "number-1", {"parameters": {"language": "de"}}, 0.0)
        await w.offer()
        assert w.media.of(OpenCall)[0].agent.parameters == {"language": "de"}
