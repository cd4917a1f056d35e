"""The settings on their way to the control API's process: whole, with their secrets, over its pipe alone."""

from __future__ import annotations

import msgspec
from pydantic import SecretStr

from config.settings import Settings

__all__ = ["packed", "unpacked"]


def packed(settings: Settings) -> bytes:
    """JSON that says everything, secrets too: never for a log, a file or a command line."""
    return msgspec.json.encode(settings.model_dump(), enc_hook=_plain)


def unpacked(data: bytes) -> Settings:
    """The same settings."""
    return Settings.model_validate_json(data)


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
