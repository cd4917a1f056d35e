"""Certificates."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from edge.transport.tls import client_context, server_context
from tests.support.pki import Pki


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.make(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def tls(pki: Pki) -> Iterator[dict[str, ssl.SSLContext]]:
    yield {
        "tls_server": server_context(pki.certificate, pki.key),
        "tls_client": client_context(pki.authority),
    }
