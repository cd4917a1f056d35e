"""From settings to trunk rules and leg policies."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from config.carriers import carriers
from config.settings import Media, Providers, Settings, Trunk
from control.policies import Policies, trunk_rules

PBX = Trunk(name="pbx", addresses=("203.0.113.0/28",), media_networks=("203.0.113.0/24",), codecs=("PCMA",))


def test_carriers_addresses_are_shared_and_select_nothing_by_themselves() -> None:
    rules = {rule.name: rule for rule in trunk_rules(Settings())}
    assert set(rules) == {"twilio", "telnyx"}
    assert (rules["twilio"].auth, rules["telnyx"].auth) == ("pass", "host")
    assert all(rule.shared_addresses for rule in rules.values())
    assert ip_network("54.172.60.0/30") in rules["twilio"].networks
    assert ip_network("64.16.250.10/32") in rules["telnyx"].networks


def test_the_settings_ranges_stand_in_for_the_shipped_ones() -> None:
    given = Settings(providers=Providers(twilio_signalling=("127.0.0.2/32",)))
    (twilio,) = [rule for rule in trunk_rules(given) if rule.name == "twilio"]
    assert twilio.networks == (ip_network("127.0.0.2/32"),)


def test_a_static_trunk_keeps_its_own_rule_and_policy() -> None:
    given = Settings(trunks=(PBX,), media=Media(silence_timeout_s=7))
    rule = trunk_rules(given)[0]
    assert (rule.name, rule.auth, rule.shared_addresses) == ("pbx", "address", False)
    policy = Policies(given).of("pbx")
    assert (policy.codecs, policy.media_networks, policy.silence_timeout_s) == (("PCMA",), ("203.0.113.0/24",), 7)
    assert not policy.allow_private


def test_a_carriers_media_comes_from_its_own_ranges_and_is_never_private() -> None:
    policies = Policies(Settings())
    for trunk, carrier in (("twilio", "twilio"), ("telnyx", "telnyx"), ("telnyx:1234", "telnyx")):
        policy = policies.of(trunk)
        assert policy.media_networks == tuple(carriers()[carrier].media)
        assert not policy.allow_private


def test_private_media_is_admitted_where_the_given_ranges_are_private() -> None:
    policies = Policies(Settings(providers=Providers(telnyx_media=("127.0.0.3/32",))))
    assert policies.of("telnyx:1234").allow_private
    assert not policies.of("twilio").allow_private


def test_a_trunks_codecs_srtp_and_digits_are_its_own() -> None:
    trunk = Trunk(
        name="pbx", addresses=("203.0.113.0/28",), codecs=("G722", "PCMU"), srtp="require", rtcp_mux=True, dtmf="inband"
    )
    policies = Policies(Settings(trunks=(trunk,)))
    policy = policies.of("pbx")
    assert policies.codecs == {"PCMU", "PCMA", "G722"}
    assert (policy.codecs, policy.srtp, policy.rtcp_mux, policy.dtmf) == (("G722", "PCMU"), "require", True, "inband")


def test_carriers_calls_are_encrypted_where_they_offer_it_unless_the_settings_say_otherwise() -> None:
    """Their data says ``allow``."""
    policies = Policies(Settings())
    assert {policies.of(trunk).srtp for trunk in ("twilio", "telnyx", "telnyx:1")} == {"allow"}
    assert policies.of("twilio").codecs == ("PCMU", "PCMA")
    given = Providers(twilio_srtp="require", telnyx_srtp="off", telnyx_codecs=("G722", "PCMU"))
    policies = Policies(Settings(providers=given), encrypted=lambda connection: True)
    assert (policies.of("twilio").srtp, policies.of("telnyx:1").srtp) == ("require", "off")
    assert policies.of("telnyx:1").codecs == ("G722", "PCMU")


def test_a_connection_whose_media_is_always_encrypted_gets_encrypted_offers() -> None:
    """Telnyx answers an offer in the clear with 488 there."""
    policies = Policies(Settings(), encrypted=lambda connection: connection == "42")
    assert (policies.of("telnyx:42").srtp, policies.of("telnyx:43").srtp, policies.of("telnyx").srtp) == (
        "require",
        "allow",
        "allow",
    )


def test_an_unknown_trunk_has_no_policy() -> None:
    with pytest.raises(KeyError):
        Policies(Settings()).of("nobody")
