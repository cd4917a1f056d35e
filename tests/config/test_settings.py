"""The settings' types, one value at a time."""

from __future__ import annotations

import base64

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from config.settings import (
    Api,
    Limits,
    Media,
    Providers,
    Secrets,
    Settings,
    Sip,
    Trunk,
    parse_authority,
    parse_listener,
    parse_proxy,
)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("udp:127.0.0.1:5060", ("udp", "127.0.0.1", 5060)),
        ("tls:[::1]:5061", ("tls", "::1", 5061)),
        ("tcp:0.0.0.0:0", ("tcp", "0.0.0.0", 0)),
    ],
)
def test_a_listener_is_a_transport_an_address_and_a_port(text: str, parsed: tuple[str, str, int]) -> None:
    assert parse_listener(text) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "udp:foo",
        "udp:localhost:5060",
        "sctp:127.0.0.1:5060",
        "udp:127.0.0.1",
        "udp:127.0.0.1:65536",
        "udp:::1:5060",
        "udp:[127.0.0.1]:5060",
        "udp:999.0.0.1:5060",
        "udp:127.0.0.1:5060 ",
        "udp:127.0.0.1:5060\n",
        "udp:127.0.0.1:٥٠٦٠",
    ],
)
def test_anything_else_is_no_listener(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_listener(text)
    with pytest.raises(ValidationError):
        Sip(listen=(text,))


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("udp:sip.telnyx.eu:5060", ("udp", "sip.telnyx.eu", 5060)),
        ("tls:SIP.Telnyx.com:5061", ("tls", "sip.telnyx.com", 5061)),
        ("tcp:127.0.0.1:15060", ("tcp", "127.0.0.1", 15060)),
        ("udp:[::1]:5060", ("udp", "::1", 5060)),
    ],
)
def test_a_proxy_is_a_transport_a_host_and_a_port(text: str, parsed: tuple[str, str, int]) -> None:
    assert parse_proxy(text) == parsed
    assert Providers(telnyx_sip_proxy=text).telnyx_sip_proxy == text


@pytest.mark.parametrize(
    "text",
    [
        "sip.telnyx.com:5060",
        "udp:sip.telnyx.com",
        "ws:sip.telnyx.com:5060",
        "udp:sip.telnyx.com:0",
        "udp:sip.telnyx.com:65536",
        "udp:-telnyx.com:5060",
        "udp:1.2.3:5060",
        "udp:300.1.1.1:5060",
        "udp:[127.0.0.1]:5060",
        "udp:::1:5060",
        "udp::5060",
        "udp:a b:5060",
    ],
)
def test_anything_else_is_no_proxy(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_proxy(text)


@pytest.mark.parametrize("text", ["127.0.0.1", "localhost:8080", "[::1]", "::1:8080", "127.0.0.1:99999", ":8080"])
def test_an_authority_is_an_address_and_a_port(text: str) -> None:
    assert parse_authority("[::1]:8080") == ("::1", 8080)
    with pytest.raises(ValueError, match=r"."):
        parse_authority(text)


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (Sip, {"listen": ()}),
        (Sip, {"domain": ""}),
        (Sip, {"domain": "sip.example.com:5060"}),
        (Sip, {"domain": "a" * 64 + ".com"}),
        (Sip, {"public_address": "0.0.0.0"}),
        (Sip, {"public_address": "224.0.0.1"}),
        (Sip, {"public_address": "edge.example.com"}),
        (Media, {"listen_address": "eth0"}),
        (Media, {"port_min": 80}),
        (Media, {"port_max": 65536}),
        (Media, {"silence_timeout_s": 0}),
        (Media, {"silence_timeout_s": float("inf")}),
        (Media, {"silence_timeout_s": float("nan")}),
        (Api, {"public_url": "edge.example.com"}),
        (Api, {"public_url": "https://edge.example.com/?x=1"}),
        (Media, {"workers": -1}),
        (Media, {"workers": 65}),
        (Media, {"workers": "many"}),
        (Limits, {"calls": 0}),
        (Limits, {"calls": -1}),
        (Trunk, {"name": "Office"}),
        (Trunk, {"name": ""}),
        (Trunk, {"name": "a", "addresses": ("10.0.0.1/8",)}),
        (Trunk, {"name": "a", "digest_algorithms": ()}),
        (Trunk, {"name": "a", "codecs": ("G729",)}),
        (Trunk, {"name": "a", "srtp": "yes"}),
        (Trunk, {"name": "a", "dtmf": "info"}),
        (Media, {"listen_address_6": "127.0.0.1"}),
        (Media, {"public_address_6": "::"}),
        (Providers, {"twilio_signalling": ()}),
        (Providers, {"telnyx_signalling": ("192.0.2.1/24",)}),
        (Providers, {"twilio_media": ("anywhere",)}),
        (Providers, {"twilio_base_url": "api.twilio.com"}),
        (Providers, {"telnyx_sip_proxy": "sip.telnyx.com"}),
        (Providers, {"request_timeout_s": 0}),
        (Secrets, {"key": "not base64"}),
        (Secrets, {"key": base64.b64encode(bytes(31)).decode()}),
        (Secrets, {"key": "é" * 44}),
    ],
)
def test_a_value_out_of_bounds_is_refused(model: type[BaseModel], values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(values)


def test_a_secret_is_not_shown() -> None:
    key = base64.b64encode(bytes(range(32))).decode()
    secrets = Secrets(key=SecretStr(key))
    trunk = Trunk(name="a", auth="digest", username="u", password=SecretStr("hunter2"))
    assert key not in repr(secrets) + str(secrets.model_dump())
    assert "hunter2" not in repr(trunk) + str(trunk.model_dump())


def test_media_workers_are_a_number_or_left_to_the_machine() -> None:
    """The environment gives text."""
    assert [Media.model_validate({"workers": given}).workers for given in ("auto", 0, "3")] == ["auto", 0, 3]


def test_names_and_urls_come_in_one_form() -> None:
    assert Sip(domain="SIP.Example.COM").domain == "sip.example.com"
    assert Api(public_url="https://edge.example.com/api/").public_url == "https://edge.example.com/api"


@pytest.mark.parametrize(
    "name", ["Via", "via", "Authorization", "Auth*", "Re*", "x", "Contact", "a b", "*", "X-\r\n", "", "f*"]
)
def test_no_header_of_sips_own_crosses_to_an_agent(name: str) -> None:
    """Nor everything at once: an agent that could set them could break its call, or read credentials."""
    with pytest.raises(ValidationError):
        Sip(agent_headers=(name,))


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().sip.domain = "other"  # type: ignore[misc]
