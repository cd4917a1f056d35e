"""From settings and the carriers' data to the values edge and media are given."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable

import msgspec

from config.carriers import Carrier, carriers
from config.settings import Settings, Trunk
from edge.trunks import Network, TrunkRule
from media.messages import LegPolicy

__all__ = ["Policies", "trunk_rules"]


def trunk_rules(settings: Settings) -> list[TrunkRule]:
    """The static trunks, and one rule for each carrier.

    A carrier's addresses are shared by all its customers and select nothing: Twilio's calls show a pass,
    Telnyx's the token of a registration or a host of the connection's own.
    """
    known = carriers()
    twilio = _networks(settings.providers.twilio_signalling or known["twilio"].signalling_networks)
    telnyx = _networks(settings.providers.telnyx_signalling or known["telnyx"].signalling_networks)
    return [
        *(_static(trunk) for trunk in settings.trunks),
        TrunkRule("twilio", twilio, auth="pass", shared_addresses=True),
        TrunkRule("telnyx", telnyx, auth="host", shared_addresses=True),
    ]


def _static(trunk: Trunk) -> TrunkRule:
    return TrunkRule(
        name=trunk.name,
        networks=_networks(trunk.addresses),
        auth=trunk.auth,
        username=trunk.username,
        password=trunk.password.get_secret_value() if trunk.password else None,
        algorithms=trunk.digest_algorithms,
        asserts_identity=trunk.asserted_identity,
    )


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


class Policies:
    """What each trunk's phone legs may do.

    ``encrypted`` tells of a carrier's connection whether its media is always encrypted: then our offers are, too.
    """

    def __init__(self, settings: Settings, *, encrypted: Callable[[str], bool] = lambda connection_id: False) -> None:
        self._settings = settings
        self._encrypted = encrypted
        self._static = {trunk.name: self._of_static(trunk) for trunk in settings.trunks}
        self._carriers = {name: self._of_carrier(carrier) for name, carrier in carriers().items()}

    def of(self, trunk: str) -> LegPolicy:
        """The policy of a trunk by its name: a static one's, or ``twilio``, ``telnyx``, ``telnyx:CONNECTION``."""
        static = self._static.get(trunk)
        if static is not None:
            return static
        name, _, connection = trunk.partition(":")
        policy = self._carriers[name]
        if policy.srtp == "allow" and connection and self._encrypted(connection):
            return msgspec.structs.replace(policy, srtp="require")
        return policy

    @property
    def codecs(self) -> frozenset[str]:
        """All that any trunk may speak."""
        policies = (*self._static.values(), *self._carriers.values())
        return frozenset(name for policy in policies for name in policy.codecs)

    def _of_static(self, trunk: Trunk) -> LegPolicy:
        media = self._settings.media
        return LegPolicy(
            codecs=trunk.codecs,
            media_networks=trunk.media_networks,
            symmetric=trunk.symmetric_rtp,
            allow_private=trunk.allow_private_media,
            info_digits=trunk.info_digits,
            first_packet_timeout_s=media.first_packet_timeout_s,
            silence_timeout_s=media.silence_timeout_s,
            srtp=trunk.srtp,
            rtcp_mux=trunk.rtcp_mux,
            dtmf=trunk.dtmf,
        )

    def _of_carrier(self, carrier: Carrier) -> LegPolicy:
        """Private media is admitted only where the ranges themselves are private: a lab, a fake."""
        media, providers, dialect = self._settings.media, self._settings.providers, carrier.dialect
        networks: tuple[str, ...] = getattr(providers, f"{carrier.name}_media") or carrier.media
        return LegPolicy(
            codecs=getattr(providers, f"{carrier.name}_codecs") or dialect.codecs,
            media_networks=networks,
            allow_private=any(ipaddress.ip_network(text).is_private for text in networks),
            first_packet_timeout_s=media.first_packet_timeout_s,
            silence_timeout_s=media.silence_timeout_s,
            srtp=getattr(providers, f"{carrier.name}_srtp") or dialect.srtp,
            dtmf=dialect.dtmf,
        )
