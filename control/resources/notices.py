"""What does not stop an import or a save, and will stop calls: at a carrier mostly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TypeVar

from pydantic import Field

from control.providers import ProviderWarning
from control.resources.base import Resource

__all__ = [
    "ProviderNotice",
    "WithWarnings",
    "with_warnings",
]

_Warned = TypeVar("_Warned", bound="WithWarnings")


class ProviderNotice(Resource):
    """Something that does not stop this, and will stop calls: ``code`` for programs."""

    code: str
    message: str


class WithWarnings(Resource):
    """An answer of a request that was carried out, whatever else calls need."""

    warnings: list[ProviderNotice] = Field(description="What to look after, at the carrier mostly; empty: all is well.")


def with_warnings(kind: type[_Warned], shown: Resource, warnings: Iterable[ProviderWarning]) -> _Warned:
    """``shown`` as an answer of ``kind``, which has its fields and the warnings."""
    return kind.model_validate({**dict(shown), "warnings": [asdict(each) for each in warnings]})
