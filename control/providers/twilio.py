"""Twilio, through its own SDK: proving that a webhook is Twilio's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

from control.providers.sdk import OnFirstUse

__all__ = ["signature_ok"]


def _load_validator() -> Any:
    return import_module("twilio.request_validator").RequestValidator


_validator = OnFirstUse(_load_validator)


async def signature_ok(tokens: Iterable[str], url: str, form: Sequence[tuple[str, str]], signature: str | None) -> bool:
    """Whether one of ``tokens`` made ``signature``, the header ``X-Twilio-Signature``, for this request.

    ``url`` is the public one that Twilio was given, with its query, whatever the request's own headers say. ``form``
    are all parameters of the body in any order, blank and repeated ones too. False for what is no signature or no URL.
    """
    if not signature or not signature.isascii():
        return False
    validator = await _validator.get()
    parameters = _Parameters(form)
    try:
        return any(validator(token).validate(url, parameters, signature) for token in tokens if token)
    except ValueError:  # a port that is no number, a lone surrogate
        return False


class _Parameters(dict[str, list[str]]):
    """Name → values, in the shape of Django's QueryDict: the SDK asks for each with ``getlist``."""

    def __init__(self, form: Iterable[tuple[str, str]]) -> None:
        super().__init__()
        for name, value in form:
            self.setdefault(name, []).append(value)

    def getlist(self, name: str) -> list[str]:
        return self[name]
