"""What is known of the supported carriers: data files beside this module, each with the date of its facts."""

from __future__ import annotations

import datetime
import ipaddress
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from config.settings import Codecs, Dtmf, Srtp

__all__ = ["Carrier", "Dialect", "Proxy", "Signalling", "carriers", "overlap", "overlapping"]

Transport = Literal["udp", "tcp", "tls"]


def _network(text: str) -> str:
    ipaddress.ip_network(text, strict=True)
    return text


Cidr = Annotated[str, AfterValidator(_network)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)


class Signalling(_Data):
    """Addresses that one of the carrier's regions sends SIP from."""

    region: str
    networks: Annotated[tuple[Cidr, ...], Field(min_length=1)]


class Proxy(_Data):
    """A host that we register at and send calls to."""

    region: str
    host: str
    realm: str | None = None
    """Of its challenges, where it has been seen."""


class Dialect(_Data):
    """How the carrier speaks SIP, where it matters."""

    challenge_status: Literal[401, 407]
    """The status it is known to answer when we challenge."""
    digest_algorithms: tuple[Literal["MD5", "SHA-256"], ...]
    digest_without_qop: bool
    """Challenges us in the form of RFC 2069, without qop."""
    compact_headers: bool
    private_contact: bool
    """Its Contact is private: only the route set leads back to it."""
    did_with_plus: bool
    provisional_within_s: float | None = None
    """It gives up without a 180 or 183 in this time [s]."""
    fails_over_on: tuple[int, ...] = ()
    """Final responses of ours that make it try elsewhere."""
    requires_headers: tuple[str, ...] = ()
    """Header names it wants on our INVITEs."""
    uri_length_max: int | None = None
    contact_length_max: int | None = None
    srtp: Srtp = "allow"
    """SRTP with keys in SDP, on its calls: on where it is offered."""
    codecs: Codecs = ("PCMU", "PCMA")
    """What its calls are answered with, best first: what the agents and the telephone network behind it have anyway."""
    dtmf: Dtmf = "auto"


class Carrier(_Data):
    """One supported carrier."""

    name: str
    title: str
    date: datetime.date
    """When the facts were collected."""
    transports: tuple[Transport, ...]
    signalling_port: Port
    signalling_port_tls: Port
    media_port_min: Port
    media_port_max: Port
    media: tuple[Cidr, ...]
    signalling: tuple[Signalling, ...]
    proxies: tuple[Proxy, ...] = ()
    dialect: Dialect

    @property
    def signalling_networks(self) -> tuple[str, ...]:
        """All its regions'."""
        return tuple(network for region in self.signalling for network in region.networks)

    @model_validator(mode="after")
    def _ports(self) -> Carrier:
        if self.media_port_min > self.media_port_max:
            raise ValueError("media_port_min exceeds media_port_max")
        return self


@cache
def carriers() -> Mapping[str, Carrier]:
    """All of them by name; read once. A damaged file is a ValueError: they ship with the program."""
    folder = files("config") / "carriers"
    found = [Carrier.model_validate(tomllib.loads(file.read_text("utf-8"))) for file in folder.iterdir()]
    return MappingProxyType({carrier.name: carrier for carrier in sorted(found, key=lambda each: each.name)})


def overlapping(network: str) -> tuple[Carrier, Signalling, str] | None:
    """The first carrier, region and range that ``network`` (CIDR) has an address in common with."""
    for carrier in carriers().values():
        for region in carrier.signalling:
            for text in region.networks:
                if overlap(network, text):
                    return carrier, region, text
    return None


def overlap(one: str, other: str) -> bool:
    """Whether two networks (CIDR) have an address in common."""
    first, second = ipaddress.ip_network(one), ipaddress.ip_network(other)
    return first.version == second.version and first.overlaps(second)
