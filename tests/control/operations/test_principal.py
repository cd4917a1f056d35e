"""Who asks."""

from __future__ import annotations

import pytest

from control.errors import Forbidden
from control.operations.principal import Principal, require_operator


def test_a_record_names_the_key_that_asked() -> None:
    """Or the console, which has none."""
    assert Principal("account", "account", "key-1").name == "key key-1"
    assert Principal.console().name == "the console"


def test_the_console_is_an_operator_in_an_account_or_above_them_all() -> None:
    """Above them, nothing is an account's."""
    assert Principal.console("account").account == "account"
    require_operator(Principal.console())
    with pytest.raises(Forbidden):
        _ = Principal.console().account
    with pytest.raises(Forbidden):
        require_operator(Principal("account", "account"))
