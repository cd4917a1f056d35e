"""What every request and every resource is, and a page of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from control.errors import from_validation
from control.registry import types as rows

__all__ = [
    "DEFERRED",
    "Listing",
    "Request",
    "Resource",
]


_T = TypeVar("_T")

DEFERRED: Final = ConfigDict(defer_build=True)
"""An adapter's that is built when it is first used: the start does not wait for it."""


class Request(BaseModel):
    """What an operation takes. Unknown fields are refused, and a refusal does not repeat what was given."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """From loose values, as the command line has them; raises :class:`control.errors.OperationError`."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise from_validation(error.errors(include_url=False)) from error


class Resource(BaseModel):
    """What an operation gives. It holds no secret: one just made is shown in the answer that made it, this once."""

    model_config = ConfigDict(frozen=True, defer_build=True)


@dataclass(frozen=True, slots=True)
class Listing(Generic[_T]):
    """A page of resources, and how many there are in all."""

    items: list[_T]
    total: int
    page: rows.Page
