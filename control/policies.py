"""From settings and the carriers' data to the values edge and media are given."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from config.carriers import carriers
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
    """What each trunk's phone legs may do."""

    def __init__(self, settings: Settings) -> None:
        self._media = settings.media
        self._static = {trunk.name: self._of_static(trunk) for trunk in settings.trunks}
        known = carriers()
        self._carriers = {
            "twilio": self._of_carrier(settings.providers.twilio_media or known["twilio"].media),
            "telnyx": self._of_carrier(settings.providers.telnyx_media or known["telnyx"].media),
        }

    def of(self, trunk: str) -> LegPolicy:
        """The policy of a trunk by its name: a static one's, or ``twilio``, ``telnyx``, ``telnyx:CONNECTION``."""
        static = self._static.get(trunk)
        return static if static is not None else self._carriers[trunk.partition(":")[0]]

    def _of_static(self, trunk: Trunk) -> LegPolicy:
        return LegPolicy(
            codecs=trunk.codecs,
            media_networks=trunk.media_networks,
            symmetric=trunk.symmetric_rtp,
            allow_private=trunk.allow_private_media,
            info_digits=trunk.info_digits,
            first_packet_timeout_s=self._media.first_packet_timeout_s,
            silence_timeout_s=self._media.silence_timeout_s,
        )

    def _of_carrier(self, networks: Sequence[str]) -> LegPolicy:
        """Private media is admitted only where the ranges themselves are private: a lab, a fake."""
        return LegPolicy(
            media_networks=tuple(networks),
            allow_private=any(ipaddress.ip_network(text).is_private for text in networks),
            first_packet_timeout_s=self._media.first_packet_timeout_s,
            silence_timeout_s=self._media.silence_timeout_s,
        )
