"""The file, the environment over it, and errors that people can act on."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.load import SettingsError, load
from config.settings import Settings, Trunk

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the settings file ``edge.toml``."""

    def write(text: str) -> Path:
        path = tmp_path / "edge.toml"
        path.write_text(text)
        return path

    return write


def complaints(path: Path | None, environ: Mapping[str, str] | None = None) -> list[str]:
    """The error's lines, the file without its folder."""
    with pytest.raises(SettingsError) as caught:
        load(path, environ or {})
    assert str(caught.value) == "\n".join(caught.value.lines)
    folder = f"{path.parent}/" if path else ""
    return [line.replace(folder, "") for line in caught.value.lines]


def test_without_a_file_the_defaults_hold() -> None:
    assert load(None, {}) == Settings()


def test_a_file_s_values_are_taken(write: Write) -> None:
    loaded = load(write('[sip]\ndomain = "sip.example.com"\n[limits]\ncalls = 7\n'), {})
    assert (loaded.sip.domain, loaded.limits.calls) == ("sip.example.com", 7)


def test_a_list_s_bad_entry_is_one_complaint(write: Write) -> None:
    """That nothing good is left in the list goes without saying; that nothing is in it does not."""
    [complaint] = complaints(write('[sip]\nlisten = ["udp:localhost:5060"]\n'))
    assert complaint.startswith("edge.toml:2: sip.listen[0]: ")
    assert complaints(write("[sip]\nlisten = []\n")) == ["edge.toml:2: sip.listen: at least one is needed"]


# the environment


def test_the_environment_wins(write: Write) -> None:
    path = write('[sip]\ndomain = "file.example.com"\n[limits]\ncalls = 7\n')
    loaded = load(path, {"TRUEDY_SIP__DOMAIN": "env.example.com", "TRUEDY_AGENTS__ANSWER_AFTER_S": "0.5", "HOME": "/"})
    assert (loaded.sip.domain, loaded.limits.calls, loaded.agents.answer_after_s) == ("env.example.com", 7, 0.5)


def test_lists_in_the_environment_are_json() -> None:
    loaded = load(None, {"TRUEDY_SIP__LISTEN": '["udp:127.0.0.1:5070"]', "TRUEDY_TRUNKS": '[{"name": "a"}]'} | OFFICE)
    assert loaded.sip.listen == ("udp:127.0.0.1:5070",)


OFFICE = {"TRUEDY_TRUNKS": json.dumps([{"name": "office", "addresses": ["10.1.0.0/16"]}])}


def test_a_table_in_the_environment_is_json_and_its_parts_win_over_it() -> None:
    loaded = load(None, {"TRUEDY_LIMITS": '{"calls": 3, "attempts_burst": 4}', "TRUEDY_LIMITS__CALLS": "9"})
    assert (loaded.limits.calls, loaded.limits.attempts_burst) == (9, 4)


def test_a_trunk_s_password_can_come_by_environment(write: Write) -> None:
    path = write('[[trunks]]\nname = "office"\nauth = "digest"\nusername = "office"\n')
    (trunk,) = load(path, {"TRUEDY_TRUNKS__0__PASSWORD": "5up3r-53cr3t"}).trunks
    assert trunk.password is not None
    assert trunk.password.get_secret_value() == "5up3r-53cr3t"


def test_an_empty_variable_counts_as_unset(write: Write) -> None:
    assert load(write('[sip]\ndomain = "a.example"\n'), {"TRUEDY_SIP__DOMAIN": ""}).sip.domain == "a.example"


def test_variables_that_are_no_settings_are_left_alone() -> None:
    assert load(None, {"TRUEDY_PYTHON": "python3.11", "TRUEDY_CALL_PASSWORD": "x", "TRUEDYX": "y"}) == Settings()


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("TRUEDY_SIP__DOMIAN", "x", "TRUEDY_SIP__DOMIAN: sip.domian: unknown key; did you mean sip.domain?"),
        ("TRUEDY_SIPS__DOMAIN", "x", "TRUEDY_SIPS__DOMAIN: sips: unknown key; did you mean sip?"),
        ("TRUEDY_LIMITS__CALLS", "many", "TRUEDY_LIMITS__CALLS: limits.calls: expected a whole number"),
        ("TRUEDY_SIP__LISTEN", "udp:127.0.0.1:1", "TRUEDY_SIP__LISTEN: sip.listen: expected a list"),
        ("TRUEDY_SIP__LISTEN", "[udp]", "TRUEDY_SIP__LISTEN: sip.listen: not JSON: Expecting value at character 2"),
        (
            "TRUEDY_TRUNKS__3__NAME",
            "x",
            "TRUEDY_TRUNKS__3__NAME: trunks[3].name: there is no such entry in the file to change",
        ),
        ("TRUEDY_SIP__DOMAIN__X", "x", "TRUEDY_SIP__DOMAIN__X: sip.domain: expected a text"),
        ("TRUEDY_SIP__0", "x", "TRUEDY_SIP__0: sip[0]: there is no such entry in the file to change"),
    ],
)
def test_a_bad_variable_is_named(variable: str, value: str, complaint: str) -> None:
    assert complaints(None, {variable: value}) == [complaint]


def test_a_trunk_that_is_not_there_is_named(write: Write) -> None:
    path = write('[[trunks]]\nname = "a"\naddresses = ["10.0.0.0/8"]\n')
    assert complaints(path, {"TRUEDY_TRUNKS__1__NAME": "x"}) == [
        "TRUEDY_TRUNKS__1__NAME: trunks[1].name: there is no such entry in the file to change"
    ]


@pytest.mark.parametrize("variable", ["TRUEDY_SIP__0", "TRUEDY_TRUNKS__NAME", "TRUEDY_SIP__DOMAIN__X__Y"])
def test_a_variable_that_takes_a_table_for_a_list_is_named(write: Write, variable: str) -> None:
    path = write('[sip]\ndomain = "a.example"\n[[trunks]]\nname = "a"\naddresses = ["10.0.0.0/8"]\n')
    (line,) = complaints(path, {variable: "x"})
    assert line.startswith(f"{variable}: ")
    assert line.endswith(": the file has something else there")


# errors


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[spi]\n", "edge.toml:1: spi: unknown key; did you mean sip?"),
        ("\n[sip]\ndomian = 1\n", "edge.toml:3: sip.domian: unknown key; did you mean sip.domain?"),
        ("[media]\ncalls = 1\n", "edge.toml:2: media.calls: unknown key; did you mean limits.calls?"),
        (
            "[registry]\nquux = 1\n",
            "edge.toml:2: registry.quux: unknown key; here are known: path",
        ),
        (
            '[sip]\nlisten = [\n  "udp:127.0.0.1:5060",\n  "udp:foo",\n]\n',
            "edge.toml:2: sip.listen[1]: 'udp:foo' is not udp|tcp|tls:ADDRESS:PORT"
            " (an address literal; IPv6 in brackets)",
        ),
        ("sip = 3\n", "edge.toml:1: sip: expected a table"),
        ("sip.listen = 3\n", "edge.toml:1: sip.listen: expected a list"),
        ("[limits]\ncalls = 0\n", "edge.toml:2: limits.calls: must be greater than or equal to 1"),
        ("[limits]\ncalls = 1.5\n", "edge.toml:2: limits.calls: expected a whole number"),
        ('[[trunks]]\naddresses = ["10.0.0.0/8"]\n', "edge.toml:1: trunks[0].name: required"),
        (
            '[[trunks]]\nname = "a"\naddresses = ["10.0.0.0/8"]\n\n[[trunks]] # two\nname = "b"\nauth = "ip"\n',
            "edge.toml:7: trunks[1].auth: must be 'address' or 'digest'",
        ),
        (
            '[[trunks]]\nname = "B"\n',
            "edge.toml:2: trunks[0].name: lower-case letters, digits, '.', '_' and '-' only, 63 at most",
        ),
    ],
)
def test_a_mistake_in_the_file_is_one_line_with_its_place(write: Write, text: str, complaint: str) -> None:
    assert complaints(write(text)) == [complaint]


def test_all_mistakes_are_told_at_once(write: Write) -> None:
    path = write("[limits]\ncalls = 0\ncals = 1\n[media]\nport_min = 1\n")
    assert [line.split(":")[2].strip() for line in complaints(path)] == [
        "media.port_min",
        "limits.calls",
        "limits.cals",
    ]


def test_rules_across_keys_are_told_with_their_place(write: Write) -> None:
    path = write('[[trunks]]\nname = "a"\n')
    assert complaints(path) == ['edge.toml:1: trunks[0].addresses: auth = "address" needs at least one']


def test_the_keys_can_be_read_from_the_error(write: Write) -> None:
    with pytest.raises(SettingsError) as caught:
        load(write("[limits]\ncalls = 0\n"), {})
    assert caught.value.keys == ("limits.calls",)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert complaints(tmp_path / "none.toml") == ["none.toml: No such file or directory"]
    assert complaints(tmp_path / "..") != []


def test_a_file_that_is_no_toml_is_named_with_the_line(write: Write) -> None:
    (line,) = complaints(write('[sip]\ndomain = "x\n'))
    assert line.startswith("edge.toml: not TOML: ")
    assert "line 2" in line


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_bytes(b"[sip]\ndomain = '\xff'\n")
    assert complaints(path) == ["edge.toml: not UTF-8 (byte 16)"]


@pytest.mark.parametrize(
    "text",
    [
        '[secrets]\nkey = "planted"\n',
        "[secrets]\nkey = {planted = 1}\n",
        '[secrets]\nprevious_keys = ["planted"]\n',
        '[secrets]\nprevious_keys = "planted"\n',
        '[[trunks]]\nname = "a"\nauth = "digest"\nusername = "u"\npassword = ["planted"]\n',
        '[[trunks]]\nname = "a"\nauth = "wrong"\nusername = "u"\npassword = "planted"\n',
        '[[trunks]]\nname = "a"\nauth = "digest"\npassword = "planted"\n',
        '[secrets]\nkey = "planted\n',
    ],
)
def test_no_error_shows_a_secret(write: Write, text: str) -> None:
    assert "planted" not in "\n".join(complaints(write(text))).replace("{planted", "")


@given(text=st.text(max_size=200))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_file_is_met_with_anything_but_settings_or_their_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "edge.toml"
    path.write_bytes(text.encode(errors="surrogatepass"))
    try:
        load(path, {"TRUEDY_SIP__DOMAIN": text} if "\x00" not in text else {})
    except SettingsError as error:
        assert error.lines


# the example

EXAMPLE = Path(__file__).parents[2] / "config" / "example.toml"


def enabled() -> str:
    """The example with every setting switched on."""
    lines = EXAMPLE.read_text().splitlines()
    return "\n".join(line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in lines)


def test_the_example_is_the_defaults() -> None:
    assert load(EXAMPLE, {}) == Settings()


def test_the_example_shows_each_default_as_it_is() -> None:
    shown = tomllib.loads(EXAMPLE.read_text())
    defaults = json.loads(Settings().model_dump_json(exclude_none=True, exclude={"trunks"}))
    assert shown == defaults


def test_the_example_names_every_setting_and_no_other() -> None:
    shown = tomllib.loads(enabled())
    for section, model in Settings.model_fields.items():
        if section == "trunks":
            continue
        assert list(shown[section]) == list(type(model.default).model_fields), section
    (trunk,) = shown["trunks"]
    assert set(trunk) == set(Trunk.model_fields)
    optional = {name: field.default for name, field in Trunk.model_fields.items() if name not in EXAMPLE_VALUES}
    assert {name: tuple(v) if isinstance(v := trunk[name], list) else v for name in optional} == optional


EXAMPLE_VALUES = {
    "name",
    "addresses",
    "auth",
    "username",
    "password",
    "outbound",
    "outbound_username",
    "outbound_password",
}


def test_the_public_edge_that_the_example_describes_lacks_its_secrets_and_files(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(enabled())
    with pytest.raises(SettingsError) as caught:
        load(path, {})
    files = ("sip.tls_certificate", "sip.tls_key", "agents.recordings_path")
    assert caught.value.keys == (*files, "secrets.key", "trunks[0].password")
