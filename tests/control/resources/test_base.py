"""What every request and every resource is."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

from control import resources
from control.errors import ValidationFailed
from control.resources.accounts import CreateAccount
from control.resources.base import Request, Resource


def test_loose_values_become_requests_or_an_operation_error() -> None:
    """As the command line has them."""
    assert CreateAccount.of(name=" acme ").name == "acme"
    with pytest.raises(ValidationFailed) as refusal:
        CreateAccount.of(name="")
    assert refusal.value.problems[0].field == "name"
    with pytest.raises(ValidationFailed):
        CreateAccount.of(name="acme", owner="nobody")


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(resources.__path__)])
def test_every_shape_is_public_and_described(name: str) -> None:
    """Its docstring is its description in the OpenAPI document."""
    module = import_module(f"control.resources.{name}")
    shapes = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, (Request, Resource)) and value.__module__ == module.__name__
    }
    public = {name for name in shapes if name.isidentifier() and not name.startswith("_")}
    assert public <= set(module.__all__)
    assert all(shapes[name].__doc__ for name in public)
