"""What a carrier has that does not stop an import or a save, and will stop calls."""

from __future__ import annotations

from pydantic import Field

from control.resources.base import Resource

__all__ = [
    "ProviderNotice",
    "WithWarnings",
]


class ProviderNotice(Resource):
    """Something at the carrier that does not stop this, and will stop calls: ``code`` for programs."""

    code: str
    message: str


class WithWarnings(Resource):
    """An answer of a request for which a carrier was asked."""

    warnings: list[ProviderNotice] = Field(description="What to look after at the carrier; empty when all is well.")
