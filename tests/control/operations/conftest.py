"""A furnished desk."""

from __future__ import annotations

import pytest

from tests.support.desk import Desk


@pytest.fixture
async def desk() -> Desk:
    """Two accounts and their keys."""
    return await Desk().furnish()
