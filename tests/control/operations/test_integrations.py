"""Credentials that an account keeps here."""

from __future__ import annotations

import pytest

from control.errors import ResourceNotFound
from control.resources.integrations import SaveOpenAiIntegration
from tests.support.desk import Desk


async def test_credentials_are_kept_until_they_are_deleted_and_never_shown(desk: Desk) -> None:
    """Of each there is only that it is there."""
    by = desk.principal("acme")
    await desk.integrate("acme")
    await desk.operations.save_openai_integration(by, SaveOpenAiIntegration.of(api_key="acme-secret"))
    for shown in (
        await desk.operations.twilio_integration(by),
        await desk.operations.telnyx_integration(by),
        await desk.operations.openai_integration(by),
    ):
        assert "acme-secret" not in shown.model_dump_json()
        assert (await desk.operations.delete_integration(by, shown.provider)).provider == shown.provider
        with pytest.raises(ResourceNotFound):
            await desk.operations.delete_integration(by, shown.provider)
