"""The settings as the control API's process gets them."""

from __future__ import annotations

import tomllib
from pathlib import Path

from config.settings import Secrets, Settings, Trunk
from control.apart.settings import packed, unpacked

EXAMPLE = Path(__file__).parents[3] / "config" / "example.toml"


def test_they_arrive_as_they_are() -> None:
    """The example has every key there is."""
    example = Settings.model_validate(tomllib.loads(EXAMPLE.read_text()))
    assert unpacked(packed(example)) == example
    assert unpacked(packed(Settings())) == Settings()


def test_secrets_arrive_whole() -> None:
    """Everywhere else they are asterisks."""
    digest = Trunk(name="pbx", addresses=("192.0.2.0/24",), auth="digest", username="u", password="a word")
    given = Settings(secrets=Secrets(key="A" * 43 + "=", previous_keys=("B" * 42 + "E=",)), trunks=(digest,))
    found = unpacked(packed(given))
    assert found == given
    assert found.trunks[0].password is not None
    assert found.trunks[0].password.get_secret_value() == "a word"
