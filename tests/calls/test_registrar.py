"""The edge registers at a real registrar, kamailio, and takes the calls that come to the registration.

The engine, its sockets and :class:`Registrations` are the product's; who answers the calls is of no interest here.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from control.registrations import Registrations
from control.registry.types import Connection
from edge.actions import Resolve, Target
from edge.auth import Challenger
from edge.counters import Counters
from edge.endpoint import Endpoint, EndpointSettings
from edge.events import Address, CallOffered, Event, Identification, Refusal, Registered, RegistrationFailed
from edge.events import TransportName as Transport
from edge.throttle import Throttle
from edge.transport.shell import SipTransport
from edge.transport.tls import client_context, server_context
from edge.trunks import TOKEN_PARAMETER, TrunkTable
from tests.support.audio import tone
from tests.support.phone import Phone, sdp_offer
from tests.support.pki import Pki
from tests.support.ports import free_port
from tests.support.process import needs
from tests.support.registrar import PASSWORD, Registrar
from tests.support.sipp import Sipp

pytestmark = needs("kamailio")

DID = "12014269044"
OFFICE = Connection(
    id="1684641123236054244",
    account_id="account",
    provider="telnyx",
    kind="credential",
    name="office",
    trunk="telnyx:1684641123236054244",
    user_name="office12345",
    secrets={"sip_password": PASSWORD},
)
TRUNK = OFFICE.trunk


class Names:
    """DNS of one test: every name has these targets."""

    def __init__(self, *targets: Target) -> None:
        self.targets = targets

    async def resolve(self, query: Resolve) -> tuple[Target, ...]:
        return self.targets


class Edge:
    """Engine, sockets and registrations; a call is refused with 486 unless ``answering``."""

    def __init__(self, proxy: str | None, pki: Pki, names: Names | None, transports: tuple[Transport, ...]) -> None:
        self.counters = Counters()
        self.offers: list[CallOffered] = []
        self.events: list[Event] = []
        self.answering = False
        self._happened = asyncio.Event()
        listeners = tuple((transport, Address("127.0.0.1", 0)) for transport in transports)
        self.trunks = TrunkTable((), realm="sip.test", challenger=Challenger(os.urandom(32)), counters=self.counters)
        self.engine = Endpoint(
            EndpointSettings("sip.test", listeners),
            self.trunks,
            Throttle(1000.0, 1000),
            self.counters,
            entropy=os.urandom,
        )
        self.sip = SipTransport(
            self.engine,
            listeners,
            on_event=self._on_event,
            tls_server=server_context(pki.certificate, pki.key),
            tls_client=client_context(pki.authority),
            resolver=names or Names(),
            counters=self.counters,
            listed=self.trunks.listed,
        )
        self.registrations = Registrations(self.engine, self.sip.run, self.counters, proxy=proxy)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        proxy: str | None,
        pki: Pki,
        *,
        names: Names | None = None,
        transports: tuple[Transport, ...] = (Transport.UDP, Transport.TCP, Transport.TLS),
    ) -> AsyncIterator[Edge]:
        """Listening, with nothing registered yet; at the end everything is unregistered."""
        edge = cls(proxy, pki, names, transports)
        edge.engine.settings.listeners = await edge.sip.start()
        try:
            yield edge
            await edge.registrations.close()
        finally:
            await edge.sip.close()

    @property
    def address(self) -> tuple[str, int]:
        """Of its UDP listener."""
        listeners = dict(self.engine.settings.listeners)
        return "127.0.0.1", listeners[Transport.UDP].port

    @property
    def granted(self) -> list[int]:
        """Seconds, of each success."""
        return [event.expires_s for event in self.events if isinstance(event, Registered)]

    @property
    def failed(self) -> list[int]:
        """The statuses of the failures."""
        return [event.status for event in self.events if isinstance(event, RegistrationFailed)]

    def _on_event(self, event: Event) -> None:
        self.events.append(event)
        self.registrations.on_event(event)
        if isinstance(event, CallOffered):
            self.offers.append(event)
            key = event.key
            if self.answering:
                self.sip.run(lambda now: self.engine.answer(key, sdp_offer("127.0.0.1", 4000), now=now))
            else:
                self.sip.run(lambda now: self.engine.refuse(key, Refusal(486, "seen"), now=now))
        self._happened.set()

    async def until(self, condition: Callable[[], object], timeout_s: float = 10.0) -> None:
        """Until an event has made it so."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    self._happened.clear()
                    await self._happened.wait()
        except TimeoutError:
            raise AssertionError(f"not within {timeout_s} s; so far: {self.events}") from None

    async def registered(self, times: int = 1, timeout_s: float = 10.0) -> None:
        """Until it has been granted so many registrations in all."""
        await self.until(lambda: len(self.granted) >= times, timeout_s)


def token(register: dict[str, str]) -> str:
    match = re.search(rf";{TOKEN_PARAMETER}=([0-9a-f]{{32}})>", register["contact"])
    assert match is not None, register
    return match[1]


async def status_of(peer: tuple[str, int], uri: str) -> int:
    """What a call gets that comes straight from this machine, the registrar's own address; 0 for silence."""
    async with Phone.open(peer) as phone:
        call = await phone.call(DID, uri=uri)
        await call.invite()
        try:
            return (await call.expect(403, 404, 407, 486, timeout_s=1.0)).status
        except AssertionError:
            return 0


async def calls(registrar: Registrar, user: str = "office12345") -> int:
    """What a call through the registrar gets."""
    async with Phone.open(registrar.address) as phone:
        call = await phone.call(DID, uri=registrar.uri(DID, user))
        await call.invite()
        return (await call.expect(480, 486, 403, 404)).status


def proxy(registrar: Registrar, transport: str = "tcp") -> str:
    port = registrar.tls_port if transport == "tls" else registrar.address[1]
    return f"{transport}:{registrar.address[0]}:{port}"


# --- registering, and calls -------------------------------------------------------------------


@pytest.mark.interop(agent="kamailio", feature=("registration", "digest", "TLS"))
@pytest.mark.parametrize("qop", [False, True], ids=["no qop", "qop"])
@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_a_call_comes_to_the_registration_and_is_its_connections(
    tmp_path: Path, pki: Pki, transport: str, qop: bool
) -> None:
    """REGISTER, 401 with and without qop, 200; INVITE to the Contact with the number as its user, the token kept."""
    async with (
        Registrar.open(tmp_path, qop=qop, pki=pki) as registrar,
        Edge.open(proxy(registrar, transport), pki) as edge,
    ):
        edge.registrations.changed(OFFICE)
        await edge.registered()
        edge.answering = True
        async with Phone.open(registrar.address) as phone:
            call = await phone.call(DID, uri=registrar.uri(DID, "office12345"))
            await call.establish()
            assert (await call.bye()).status == 200
        [offered] = edge.offers
        assert (offered.trunk, offered.identified_by, offered.dialed[0]) == (TRUNK, Identification.TOKEN, DID)
        assert offered.flow.transport is Transport(transport)
        first, second = await registrar.registers("office12345", 2)
        assert first["over"] == transport
        assert first["authorization"] == "<null>"
        assert ("qop=auth" in second["authorization"]) is qop
        assert edge.registrations.states == {TRUNK: "registered"}


@needs("sipp")
@pytest.mark.interop(agent="sipp", feature=("registration", "digest"))
async def test_sipp_has_the_binding_until_the_edge_ends(tmp_path: Path, pki: Pki) -> None:
    """401, credentials, 200, and a removal; the scenario fails on anything else."""
    async with Sipp.serve(tmp_path / "sipp", say=tone(440, 0.1), scenario="registrar") as sipp:
        async with Edge.open(f"udp:127.0.0.1:{sipp.address[1]}", pki) as edge:
            edge.registrations.changed(OFFICE)
            await edge.registered()
            assert edge.granted == [600]
        await sipp.finish()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_without_the_token_a_call_from_the_registrars_own_address_is_refused(
    tmp_path: Path, pki: Pki, transport: str
) -> None:
    """Any customer of a carrier can have it call us. Before we register there, it is a stranger."""
    async with Registrar.open(tmp_path) as registrar, Edge.open(proxy(registrar, transport), pki) as edge:
        uri = f"sip:{DID}@127.0.0.1:{edge.address[1]}"
        assert await status_of(edge.address, uri) == 0
        edge.registrations.changed(OFFICE)
        await edge.registered()
        assert await status_of(edge.address, uri) == 403
        assert await status_of(edge.address, f"{uri};{TOKEN_PARAMETER}={'0' * 32}") == 403
        [right, *_] = map(token, await registrar.registers("office12345"))
        assert await status_of(edge.address, f"{uri};{TOKEN_PARAMETER}={right}") == 486
        assert edge.counters.get("sip_requests_refused", status="403") == 2
        assert [offered.trunk for offered in edge.offers] == [TRUNK]


@pytest.mark.realtime
async def test_short_expiries_are_refreshed_in_time(tmp_path: Path, pki: Pki) -> None:
    """Granted 7 s for the 600 asked; the same Contact again, so the call finds one binding."""
    async with Registrar.open(tmp_path, max_expires_s=7) as registrar, Edge.open(proxy(registrar), pki) as edge:
        edge.registrations.changed(OFFICE)
        await edge.registered(2)
        assert edge.granted == [7, 7]
        sent = await registrar.registers("office12345", 4)
        assert {register["expires"] for register in sent} == {"600"}
        assert len({register["contact"] for register in sent}) == 1
        assert await calls(registrar) == 486


@pytest.mark.realtime
async def test_the_token_before_works_until_its_time_and_not_longer(tmp_path: Path, pki: Pki) -> None:
    """Another user name is another registration; its Contact has another token."""
    loop = asyncio.get_running_loop()
    async with Registrar.open(tmp_path, max_expires_s=3) as registrar, Edge.open(proxy(registrar), pki) as edge:
        edge.registrations.changed(OFFICE)
        await edge.registered()
        granted_at = loop.time()
        edge.registrations.changed(replace(OFFICE, user_name="second"))
        await edge.registered(3)  # the removal between counts as one
        [before, *others] = map(token, await registrar.registers("office12345", 4))
        assert set(others) == {before}
        assert token((await registrar.registers("second"))[0]) != before
        uri = f"sip:{DID}@127.0.0.1:{edge.address[1]};{TOKEN_PARAMETER}="
        assert await status_of(edge.address, uri + before) == 486
        assert await calls(registrar, "second") == 486
        await asyncio.sleep(granted_at + 3.1 - loop.time())
        assert await status_of(edge.address, uri + before) == 403


async def test_removing_the_connection_removes_the_binding(tmp_path: Path, pki: Pki) -> None:
    """And the registrar's address is a stranger's again."""
    async with Registrar.open(tmp_path) as registrar, Edge.open(proxy(registrar), pki) as edge:
        edge.registrations.changed(OFFICE)
        await edge.registered()
        edge.registrations.removed(OFFICE.id)
        await edge.registered(2)
        assert edge.granted == [600, 0]
        assert await calls(registrar) == 480
        assert await status_of(edge.address, f"sip:{DID}@127.0.0.1:{edge.address[1]}") == 0


async def test_the_end_of_the_edge_removes_all_bindings(tmp_path: Path, pki: Pki) -> None:
    """Nobody is sent to a process that is gone."""
    async with Registrar.open(tmp_path) as registrar:
        async with Edge.open(proxy(registrar), pki) as edge:
            for user in ("office12345", "second"):
                edge.registrations.changed(replace(OFFICE, id=user, user_name=user))
            await edge.registered(2)
            assert [await calls(registrar, user) for user in ("office12345", "second")] == [486, 486]
        assert [await calls(registrar, user) for user in ("office12345", "second")] == [480, 480]


# --- trouble ----------------------------------------------------------------------------------


async def test_423_is_answered_with_the_time_it_asks_for(tmp_path: Path, pki: Pki) -> None:
    """RFC 3261 §10.2.8."""
    async with Registrar.open(tmp_path) as registrar, Edge.open(proxy(registrar), pki) as edge:
        edge.registrations.changed(replace(OFFICE, user_name="brief"))
        await edge.registered()
        assert edge.granted == [1200]
        assert [register["expires"] for register in await registrar.registers("brief", 3)] == ["600", "1200", "1200"]
        assert await calls(registrar, "brief") == 486


async def test_403_is_counted_and_not_asked_again_soon(
    tmp_path: Path, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    """In 300 s; a correction is tried at once."""
    async with Registrar.open(tmp_path) as registrar, Edge.open(proxy(registrar), pki) as edge:
        edge.registrations.changed(replace(OFFICE, user_name="forbidden"))
        await edge.until(lambda: edge.failed)
        assert edge.registrations.states == {TRUNK: "failed"}
        assert edge.counters.get("registration_failures", trunk=TRUNK, status="403") == 1
        [line] = [record for record in caplog.records if record.getMessage() == "not registered"]
        assert vars(line)["retry_in_s"] == 300.0
        edge.registrations.changed(OFFICE)
        await edge.registered()
        assert await calls(registrar) == 486
        assert len(await registrar.registers("forbidden")) == 1


async def test_a_wrong_password_is_a_failure_after_one_answer(tmp_path: Path, pki: Pki) -> None:
    """No endless 401."""
    async with Registrar.open(tmp_path) as registrar, Edge.open(proxy(registrar), pki) as edge:
        edge.registrations.changed(replace(OFFICE, secrets={"sip_password": "wrong"}))
        await edge.until(lambda: edge.failed)
        assert edge.failed == [401]
        assert len(await registrar.registers("office12345", 2)) == 2


async def test_a_registrar_that_is_down_and_comes_up_is_registered_at(tmp_path: Path, pki: Pki) -> None:
    """Refused, retried, granted; gone, noticed by its connection, and granted again with another token."""
    address = ("127.0.0.1", free_port())
    async with Edge.open(f"tcp:{address[0]}:{address[1]}", pki) as edge:
        edge.registrations.changed(OFFICE)
        await edge.until(lambda: edge.failed)
        tokens = []
        for number in range(2):
            async with Registrar.open(tmp_path / str(number), address=address) as registrar:
                await edge.until(lambda: edge.registrations.states.get(TRUNK) == "registered", 15.0)
                assert await calls(registrar) == 486
                tokens.append(token((await registrar.registers("office12345"))[-1]))
            await edge.until(lambda: edge.registrations.states[TRUNK] == "failed", 15.0)
        assert tokens[0] != tokens[1]
        assert {offered.trunk for offered in edge.offers} == {TRUNK}
        assert edge.counters.get("registration_failures", trunk=TRUNK) == len(edge.failed)
        edge.registrations.removed(OFFICE.id)
        await edge.until(lambda: not edge.registrations.readings()["registrations"][("state", "failed"),])


async def test_of_two_addresses_the_second_takes_us_where_the_first_is_dead(tmp_path: Path, pki: Pki) -> None:
    """RFC 3263 §4.3; both are listed, and the region's own name is what is asked for."""
    dead = ("127.0.0.3", free_port("127.0.0.3"))
    async with Registrar.open(tmp_path) as registrar:
        targets = [Target(Transport.TCP, Address(*address), "sip.telnyx.com") for address in (dead, registrar.address)]
        transports = (Transport.UDP, Transport.TCP)
        async with Edge.open(None, pki, names=Names(*targets), transports=transports) as edge:
            edge.registrations.changed(OFFICE)
            await edge.registered()
            assert edge.failed == []
            assert await calls(registrar) == 486
            assert edge.trunks.listed("127.0.0.3")


async def test_no_digest_goes_to_a_registrar_of_another_realm(tmp_path: Path, pki: Pki) -> None:
    """Whoever stands at the carrier's address and asks for something else learns nothing."""
    async with Registrar.open(tmp_path, realm="elsewhere.example") as registrar:
        names = Names(Target(Transport.UDP, Address(*registrar.address)))
        async with Edge.open(None, pki, names=names, transports=(Transport.UDP,)) as edge:
            edge.registrations.changed(OFFICE)
            await edge.until(lambda: edge.failed)
            assert edge.failed == [401]
            sent = await registrar.registers("office12345")
            assert {register["authorization"] for register in sent} == {"<null>"}
            assert edge.counters.get("registration_failures", reason="challenged for a realm not sip.telnyx.com") == 1
