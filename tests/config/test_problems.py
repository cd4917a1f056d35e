"""How a setting that is wrong is named."""

from __future__ import annotations

from config.problems import Problem, SettingsError, key_of


def test_a_key_is_written_as_people_write_it() -> None:
    assert key_of(("trunks", 1, "addresses", 0)) == "trunks[1].addresses[0]"
    assert key_of(("sip",)) == "sip"
    assert Problem(("sip", "domain"), "no").key == "sip.domain"


def test_an_error_is_one_line_a_problem() -> None:
    error = SettingsError(["a: no", "b: no"], ["a", "b"])
    assert str(error) == "a: no\nb: no"
    assert error.keys == ("a", "b")
