"""A furnished desk, and a client for each key."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.desk import Desk


@pytest.fixture
async def desk() -> Desk:
    """Two accounts, their keys, no agents and no numbers."""
    return await Desk().furnish()


@pytest.fixture
async def acme(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    """The account whose trunk is ``lab``."""
    async with desk.client("acme") as client:
        yield client


@pytest.fixture
async def globex(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    """The other account."""
    async with desk.client("globex") as client:
        yield client


@pytest.fixture
async def operator(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    """The operator."""
    async with desk.client("operator") as client:
        yield client


@pytest.fixture
async def nobody(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    """Without a key."""
    async with desk.client() as client:
        yield client
