"""The carriers' data files."""

from __future__ import annotations

import datetime
import ipaddress

import pytest

from config.carriers import carriers, overlapping


def test_both_carriers_are_known_with_the_date_of_their_facts() -> None:
    assert list(carriers()) == ["telnyx", "twilio"]
    for carrier in carriers().values():
        assert datetime.date(2025, 1, 1) < carrier.date <= datetime.datetime.now(datetime.UTC).date()


def test_every_range_is_public_and_none_belongs_to_two_regions() -> None:
    seen: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for carrier in carriers().values():
        for region in carrier.signalling:
            networks = [ipaddress.ip_network(text) for text in region.networks]
            assert all(network.is_global for network in networks)
            assert not any(network.overlaps(other) for network in networks for other in seen)
            seen += networks
        assert all(ipaddress.ip_network(text).is_global for text in carrier.media)


@pytest.mark.parametrize(
    ("network", "found"),
    [
        ("54.172.60.0/30", ("twilio", "us1", "54.172.60.0/30")),
        ("54.172.60.2/32", ("twilio", "us1", "54.172.60.0/30")),
        ("177.0.0.0/8", ("twilio", "br1", "177.71.206.192/30")),
        ("64.16.250.13/32", ("telnyx", "ca", "64.16.250.13/32")),
        ("54.172.60.4/30", None),
        ("192.0.2.0/24", None),
        ("::/0", None),
    ],
)
def test_a_network_is_matched_with_the_range_it_overlaps(network: str, found: tuple[str, str, str] | None) -> None:
    match = overlapping(network)
    assert (match and (match[0].name, match[1].region, match[2])) == found


def test_twilio_and_telnyx_speak_as_recorded() -> None:
    twilio, telnyx = carriers()["twilio"], carriers()["telnyx"]
    assert (twilio.media_port_min, twilio.media_port_max, twilio.media) == (10000, 60000, ("168.86.128.0/18",))
    assert (telnyx.media_port_min, telnyx.media_port_max, len(telnyx.media)) == (16384, 32768, 16)
    assert len(twilio.signalling_networks) == 8
    assert telnyx.signalling_networks[:2] == ("192.76.120.10/32", "64.16.250.10/32")
    assert telnyx.dialect.provisional_within_s == 5.0
    assert telnyx.dialect.digest_without_qop
    assert [proxy.host for proxy in telnyx.proxies][:2] == ["sip.telnyx.com", "sip.telnyx.eu"]
