"""What whole calls need: an account made once, certificates made once, and an edge for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import uvloop

from tests.support.edge import Edge, Keyring, Settings
from tests.support.pki import Pki
from tests.support.rtp import MediaPort
from tests.support.zygote import Zygote


@pytest.fixture(scope="session", autouse=True)
def zygote() -> Iterator[None]:
    """One process with the edge's imports done, which each test's edge is forked from."""
    Edge.zygote = Zygote()
    yield
    Edge.zygote.close()
    Edge.zygote = None


@pytest.fixture(autouse=True)
def heard_with_the_machine_to_itself(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that judges what is heard and is not marked for it fails, also where the machine is idle."""
    alone = any(request.node.get_closest_marker(name) for name in ("realtime", "slow"))
    monkeypatch.setattr(MediaPort, "shared_machine", not alone)


@pytest.fixture(scope="session")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    """One account with an operator key, in a registry that each edge copies."""
    return uvloop.run(Keyring.make(tmp_path_factory.mktemp("keyring")))


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """A certificate authority and a certificate for loopback."""
    return Pki.make(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def edge(tmp_path: Path, keyring: Keyring, pki: Pki) -> AsyncIterator[Edge]:
    """An edge on loopback over UDP, TCP and TLS, with the trunk ``lab`` for all of this machine.

    When the test ends it has to be quiet, to stop with 0 and to have logged no error.
    """
    settings = Settings(listen=("udp:127.0.0.1:0", "tcp:127.0.0.1:0", "tls:127.0.0.1:0"), pki=pki)
    async with Edge.open(tmp_path / "edge", keyring, settings) as serving:
        yield serving
