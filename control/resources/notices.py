"""What does not stop an import or a save, and will stop calls: at a carrier mostly."""

from __future__ import annotations

from pydantic import Field

from control.resources.base import Resource

__all__ = [
    "ProviderNotice",
    "WithWarnings",
]


class ProviderNotice(Resource):
    """Something that does not stop this, and will stop calls: ``code`` for programs."""

    code: str
    message: str


class WithWarnings(Resource):
    """An answer of a request that was carried out, whatever else calls need."""

    warnings: list[ProviderNotice] = Field(description="What to look after, at the carrier mostly; empty: all is well.")
