"""Rules that hold across settings."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from config.checks import EXAMPLE_KEY, check, is_public
from config.settings import Settings
from tests.support.pki import Pki

GOOD_KEY = base64.b64encode(bytes(range(32))).decode()
PUBLIC: dict[str, Any] = {
    "sip": {"listen": ["udp:203.0.113.10:5060"]},
    "media": {"listen_address": "203.0.113.10"},
    "secrets": {"key": GOOD_KEY},
}
OFFICE = {"name": "office", "addresses": ["192.0.2.0/24"]}
DIGEST = {"name": "office", "auth": "digest", "username": "user", "password": "correct horse battery"}


def complaints(*tables: dict[str, Any]) -> dict[str, str]:
    """Key → message, for settings put together of ``tables``, later ones over earlier ones."""
    values: dict[str, Any] = {}
    for table in tables:
        for section, value in table.items():
            values[section] = {**values.get(section, {}), **value} if isinstance(value, dict) else value
    return {problem.key: problem.message for problem in check(Settings.model_validate(values))}


def test_the_defaults_are_good() -> None:
    assert check(Settings()) == []


def test_a_public_edge_can_be_set_up() -> None:
    assert complaints(PUBLIC, {"trunks": [OFFICE]}) == {}


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.31.255.255", False),
        ("172.32.0.1", True),
        ("192.168.1.1", False),
        ("169.254.1.1", False),
        ("100.64.0.1", True),
        ("203.0.113.10", True),
        ("0.0.0.0", True),
        ("::", True),
        ("::1", False),
        ("fd00::1", False),
        ("fe80::1", False),
        ("2001:db8::1", True),
    ],
)
def test_an_address_that_strangers_may_reach_is_public(host: str, public: bool) -> None:
    assert is_public(host) is public


# secrets

EXPOSURES: list[dict[str, Any]] = [
    {"sip": {"listen": ["tcp:127.0.0.1:5060", "udp:203.0.113.10:5060"]}, "media": {"listen_address": "203.0.113.10"}},
    {"sip": {"public_address": "203.0.113.10"}, "media": {"public_address": "203.0.113.10"}},
    {"media": {"public_address": "203.0.113.10"}},
    {"api": {"listen": "0.0.0.0:8080"}},
]


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_a_public_edge_needs_a_key(exposure: dict[str, Any]) -> None:
    found = complaints(exposure)
    assert list(found) == ["secrets.key"]
    assert "203.0.113.10" in found["secrets.key"] or "0.0.0.0" in found["secrets.key"]
    assert complaints(exposure, {"secrets": {"key": GOOD_KEY}}) == {}


@pytest.mark.parametrize(
    "key", [EXAMPLE_KEY, base64.b64encode(bytes(32)).decode(), base64.b64encode(b"x" * 32).decode()]
)
def test_a_key_that_everybody_knows_is_refused_in_public(key: str) -> None:
    found = complaints(PUBLIC, {"secrets": {"key": key}})
    assert list(found) == ["secrets.key"]
    assert key not in str(found)
    assert complaints({"secrets": {"key": key}}) == {}


@pytest.mark.parametrize("password", ["change-me", "Change-Me", "password", "user", "office", "1234"])
def test_a_password_that_anybody_guesses_is_refused_in_public(password: str) -> None:
    trunk = DIGEST | {"password": password}
    assert list(complaints(PUBLIC, {"trunks": [OFFICE | {"name": "a"}, trunk]})) == ["trunks[1].password"]
    assert complaints({"trunks": [trunk]}) == {}


# trunks


@pytest.mark.parametrize(
    ("trunk", "key"),
    [
        ({"name": "a"}, "trunks[0].addresses"),
        ({"name": "a", "auth": "digest", "password": "x"}, "trunks[0].username"),
        ({"name": "a", "auth": "digest", "username": "x"}, "trunks[0].password"),
        ({"name": "a", "auth": "digest", "username": "x", "password": ""}, "trunks[0].password"),
    ],
)
def test_a_trunk_needs_what_its_callers_are_recognised_by(trunk: dict[str, Any], key: str) -> None:
    assert list(complaints({"trunks": [trunk]})) == [key]


def test_two_trunks_are_told_apart_by_name_and_user() -> None:
    found = complaints({"trunks": [OFFICE, DIGEST, DIGEST | {"name": "other"}]})
    assert list(found) == ["trunks[1].name", "trunks[2].username"]


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("54.172.60.0/30", ("54.172.60.0/30", "Twilio", "us1")),
        ("54.172.0.0/16", ("54.172.60.0/30", "Twilio", "us1")),
        ("192.76.120.10/32", ("192.76.120.10/32", "Telnyx", "us")),
    ],
)
@pytest.mark.parametrize("trunk", [OFFICE, DIGEST])
def test_a_trunk_over_a_carrier_s_range_is_for_labs_only(
    trunk: dict[str, Any], network: str, words: tuple[str, ...]
) -> None:
    overlapping = trunk | {"addresses": ["192.0.2.0/24", network]}
    found = complaints({"trunks": [overlapping]})
    assert list(found) == ["trunks[0].addresses[1]"]
    assert all(word in found["trunks[0].addresses[1]"] for word in words)
    assert complaints({"trunks": [overlapping | {"lab": True}]}) == {}


@pytest.mark.parametrize("carrier", ["twilio", "telnyx"])
def test_a_trunk_over_a_range_that_stands_in_for_a_carrier_s_is_for_labs_only(carrier: str) -> None:
    providers = {"providers": {f"{carrier}_signalling": ["198.51.100.0/24", "192.0.2.128/25"]}}
    found = complaints(providers, {"trunks": [OFFICE]})
    assert list(found) == ["trunks[0].addresses[0]"]
    assert f"192.0.2.128/25, {carrier.title()}'s" in found["trunks[0].addresses[0]"]
    assert complaints(providers, {"trunks": [OFFICE | {"lab": True}]}) == {}


@pytest.mark.parametrize("name", ["twilio", "telnyx"])
def test_a_carrier_s_name_is_no_trunk_s(name: str) -> None:
    """Numbers are looked up by their trunk's name: the carrier's would be answered from there."""
    assert list(complaints({"trunks": [OFFICE | {"name": name, "lab": True}]})) == ["trunks[0].name"]


# providers


@pytest.mark.parametrize(
    ("providers", "keys"),
    [
        ({"twilio_signalling": ["127.0.0.2/32"], "telnyx_signalling": ["127.0.0.3/32"]}, []),
        ({"twilio_signalling": ["127.0.0.0/8"]}, []),
        ({"twilio_signalling": ["::1/128"], "telnyx_signalling": ["127.0.0.0/8"]}, []),
        ({"twilio_signalling": ["192.0.2.0/24", "64.16.0.0/16"]}, ["providers.twilio_signalling[1]"]),
        ({"telnyx_signalling": ["54.172.60.0/30"]}, ["providers.telnyx_signalling[0]"]),
        (
            {"twilio_signalling": ["127.0.0.0/8"], "telnyx_signalling": ["127.0.0.1/32"]},
            ["providers.telnyx_signalling[0]", "providers.twilio_signalling[0]"],
        ),
    ],
)
def test_the_carriers_are_told_apart_by_their_addresses(providers: dict[str, Any], keys: list[str]) -> None:
    assert list(complaints({"providers": providers})) == keys


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("http://127.0.0.1:9000", False),
        ("http://[::1]:9000/v2", False),
        ("http://localhost:9000", False),
        ("http://10.1.2.3", False),
        ("http://twilio-fake:9000", False),
        ("https://api.dublin.ie1.twilio.com", False),
        ("http://api.twilio.com", True),
        ("http://203.0.113.5", True),
        ("http://localhost.example.com", True),
    ],
)
@pytest.mark.parametrize("carrier", ["twilio", "telnyx"])
def test_credentials_go_in_clear_to_nobody_afar(carrier: str, url: str, refused: bool) -> None:
    found = complaints({"providers": {f"{carrier}_base_url": url}})
    assert list(found) == ([f"providers.{carrier}_base_url"] if refused else [])


# addresses and ports


@pytest.mark.parametrize("wildcard", ["udp:0.0.0.0:5060", "tcp:[::]:5060"])
def test_a_wildcard_listener_needs_an_address_to_tell(wildcard: str) -> None:
    exposed = {**PUBLIC, "sip": {"listen": [wildcard]}}
    assert list(complaints(exposed)) == ["sip.public_address"]
    assert complaints(exposed, {"sip": {"public_address": "203.0.113.10"}}) == {}


def test_a_wildcard_for_media_needs_an_address_to_tell() -> None:
    exposed = {"media": {"listen_address": "0.0.0.0"}, "secrets": {"key": GOOD_KEY}}
    assert list(complaints(exposed)) == ["media.public_address"]
    assert complaints(exposed, {"media": {"public_address": "203.0.113.10"}}) == {}


def test_media_s_addresses_are_of_one_family() -> None:
    found = complaints({"media": {"public_address": "2001:db8::1"}, "secrets": {"key": GOOD_KEY}})
    assert list(found) == ["media.public_address"]


@pytest.mark.parametrize(
    ("media", "key"),
    [
        ({"listen_address_6": "::1"}, None),
        ({"listen_address_6": "::", "public_address_6": "2001:db8::1"}, None),
        ({"listen_address_6": "::"}, "media.public_address_6"),
        ({"public_address_6": "2001:db8::1"}, "media.public_address_6"),
        ({"listen_address": "::1", "listen_address_6": "::1"}, "media.listen_address_6"),
    ],
)
def test_the_second_address_of_media_is_an_ipv6_one_beside_an_ipv4_one(media: dict[str, Any], key: str | None) -> None:
    assert list(complaints({"media": media, "secrets": {"key": GOOD_KEY}})) == ([key] if key else [])


def test_twilios_media_can_be_required_to_be_encrypted_only_with_tls(pki: Pki) -> None:
    required = {"providers": {"twilio_srtp": "require"}}
    assert list(complaints(required)) == ["providers.twilio_srtp"]
    files = {"tls_certificate": pki.certificate, "tls_key": pki.key}
    assert complaints(required, {"sip": {"listen": ["tls:127.0.0.1:5061"], **files}}) == {}


def test_a_public_edge_does_not_tell_callers_a_private_media_address() -> None:
    """A container's address in ``c=``: the call is answered, and silent."""
    behind = {"sip": {"public_address": "203.0.113.10"}, "secrets": {"key": GOOD_KEY}}
    found = complaints(behind, {"media": {"listen_address": "172.17.0.2"}})
    assert list(found) == ["media.public_address"]
    assert "172.17.0.2" in found["media.public_address"]


@pytest.mark.parametrize(
    ("low", "high", "calls", "pairs"),
    [
        (20001, 20002, 1, 0),
        (20000, 20000, 1, 0),
        (20002, 20000, 1, 0),
        (20000, 20002, 2, 1),
        (20001, 20100, 50, 49),
        (16384, 17000, 500, 308),
    ],
)
def test_a_range_of_fewer_pairs_of_ports_than_calls_is_refused(low: int, high: int, calls: int, pairs: int) -> None:
    (found,) = complaints({"media": {"port_min": low, "port_max": high}, "limits": {"calls": calls}}).items()
    assert found[0] == "media.port_max"
    assert f"there are {pairs} pairs" in found[1]
    assert f"limits.calls, {calls}" in found[1]


@pytest.mark.parametrize(("low", "high", "calls"), [(20000, 20001, 1), (20001, 20101, 50), (16384, 17383, 500)])
def test_a_pair_of_ports_for_each_call_is_enough(low: int, high: int, calls: int) -> None:
    assert complaints({"media": {"port_min": low, "port_max": high}, "limits": {"calls": calls}}) == {}


@pytest.mark.parametrize(
    ("listener", "bind", "clash"),
    [
        ("udp:127.0.0.1:20000", "127.0.0.1", True),
        ("udp:127.0.0.1:20000", "127.0.0.2", False),
        ("tcp:127.0.0.1:20000", "127.0.0.1", False),
        ("udp:[::1]:20000", "127.0.0.1", False),
    ],
)
def test_signalling_and_media_do_not_share_a_port(listener: str, bind: str, clash: bool) -> None:
    found = complaints({"sip": {"listen": [listener]}, "media": {"listen_address": bind}})
    assert list(found) == (["sip.listen[0]"] if clash else [])


def test_a_listener_stands_once() -> None:
    found = complaints({"sip": {"listen": ["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060", "udp:127.0.0.1:5060"]}})
    assert list(found) == ["sip.listen[2]"]
    assert complaints({"sip": {"listen": ["udp:127.0.0.1:0", "udp:127.0.0.1:0"]}}) == {}


# TLS


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """A certificate and its key, in files."""
    return Pki.make(tmp_path_factory.mktemp("pki"))


def tls(certificate: Path | None, key: Path | None, listen: str = "tls:127.0.0.1:5061") -> dict[str, Any]:
    """Settings with these files."""
    return {"sip": {"listen": [listen], "tls_certificate": certificate, "tls_key": key}}


def test_a_certificate_and_its_key_are_good(pki: Pki) -> None:
    assert complaints(tls(pki.certificate, pki.key)) == {}


def test_tls_needs_both_files(pki: Pki) -> None:
    assert list(complaints(tls(None, None))) == ["sip.tls_certificate", "sip.tls_key"]
    assert list(complaints(tls(pki.certificate, None, "udp:127.0.0.1:5060"))) == ["sip.tls_key"]


def test_a_file_that_is_not_there_is_named(pki: Pki, tmp_path: Path) -> None:
    found = complaints(tls(tmp_path / "none.pem", pki.key))
    assert list(found) == ["sip.tls_certificate"]
    assert "none.pem cannot be read: No such file" in found["sip.tls_certificate"]


def test_files_that_do_not_belong_together_are_refused(pki: Pki, tmp_path: Path) -> None:
    other = Pki.make(tmp_path)
    assert list(complaints(tls(pki.certificate, other.key))) == ["sip.tls_certificate"]
    (tmp_path / "text.pem").write_text("no PEM")
    assert list(complaints(tls(tmp_path / "text.pem", pki.key))) == ["sip.tls_certificate"]


def test_recording_needs_a_key_to_encrypt_with() -> None:
    assert list(complaints({"recording": {"enabled": True}})) == ["secrets.key"]
    assert complaints({"recording": {"enabled": True}, "secrets": {"key": GOOD_KEY}}) == {}


def test_a_directory_of_agents_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    said = complaints({"agents": {"python_path": [str(tmp_path), str(missing)]}})
    assert said == {"agents.python_path[1]": f"{missing} is no directory"}


def test_a_folder_of_recordings_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    said = complaints({"agents": {"recordings_path": str(missing)}})
    assert said == {"agents.recordings_path": f"{missing} is no directory"}
    assert complaints({"agents": {"recordings_path": str(tmp_path)}}) == {}


@pytest.mark.parametrize("name", ["agent", "a.b", "a:", ":b", "a b:c", "os:system()", "../x:y"])
def test_a_python_agent_is_a_module_and_a_function(name: str) -> None:
    with pytest.raises(ValueError, match=r"package\.module:function"):
        Settings.model_validate({"agents": {"python": [name]}})


def test_the_shortest_session_is_no_longer_than_the_longest() -> None:
    assert list(complaints({"sip": {"min_se_s": 200, "session_expires_s": 100}})) == ["sip.min_se_s"]
