"""Accounts, and their keys."""

from __future__ import annotations

import pytest

from control.errors import ValidationFailed
from control.registry import types as rows
from control.resources.accounts import CreateAccount, created_key

ID = "0198c0de-0000-4000-8000-00000000abcd"


def test_a_key_s_text_is_shown_when_it_is_made_and_kept_out_of_logs() -> None:
    """The one exception: resources hold no secret."""
    made = created_key(rows.ApiKey(ID, ID, "account", "abcd", 0.0), "truedy_secret")
    assert made.key == "truedy_secret"
    assert "truedy_secret" not in repr(made)


def test_no_account_is_named_like_another_s_id() -> None:
    """A trunk lists accounts by id or by name."""
    with pytest.raises(ValidationFailed):
        CreateAccount.of(name=ID)
