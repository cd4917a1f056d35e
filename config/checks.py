"""Rules that hold across settings, each named by the key to change. They read files, and nothing else of the system."""

from __future__ import annotations

import base64
import ipaddress
import ssl
from collections.abc import Callable, Iterator
from itertools import combinations, permutations
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from config.carriers import carriers, overlap, overlapping
from config.problems import Problem
from config.settings import Media, Settings, Trunk, parse_authority, parse_listener

__all__ = ["EXAMPLE_KEY", "EXAMPLE_PASSWORD", "check", "is_public"]

EXAMPLE_KEY: Final = base64.b64encode(b"example key: never use it at all").decode()
EXAMPLE_PASSWORD: Final = "change-me"

_GUESSABLE: Final = frozenset(
    {EXAMPLE_PASSWORD, "changeme", "example", "password", "passw0rd", "secret", "test", "admin", "1234", "12345678"}
)
_INWARD: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)


def check(settings: Settings) -> list[Problem]:
    """Everything that is wrong, in the order of the rules."""
    return [problem for rule in _RULES for problem in rule(settings)]


def is_public(host: str) -> bool:
    """True for an address that strangers may reach: neither loopback, private nor link-local; wildcards are."""
    address = ipaddress.ip_address(host)
    return not any(address.version == inward.version and address in inward for inward in _INWARD)


def _publicity(settings: Settings) -> str | None:
    """What exposes this edge to strangers, in words; None for one that is among friends."""
    for text in settings.sip.listen:
        if is_public(parse_listener(text)[1]):
            return f"sip.listen has {text}"
    if is_public(parse_authority(settings.api.listen)[0]):
        return f"api.listen is {settings.api.listen}"
    for key, address in (("sip", settings.sip.public_address), ("media", settings.media.public_address)):
        if address is not None and is_public(address):
            return f"{key}.public_address is {address}"
    return None


def _session_timers(settings: Settings) -> Iterator[Problem]:
    if settings.sip.min_se_s > settings.sip.session_expires_s:
        yield Problem(("sip", "min_se_s"), f"above sip.session_expires_s, {settings.sip.session_expires_s}")


def _secrets(settings: Settings) -> Iterator[Problem]:
    reason = _publicity(settings)
    if reason is None:
        return
    key = settings.secrets.key
    if key is None:
        yield Problem(("secrets", "key"), f"needed on a public edge ({reason}): openssl rand -base64 32")
    elif _is_example(key):
        yield Problem(("secrets", "key"), f"this one is known to everybody, and the edge is public ({reason})")
    for index, trunk in enumerate(settings.trunks):
        if trunk.auth == "digest" and _is_guessable(trunk):
            yield Problem(("trunks", index, "password"), f"an example, or the user name, on a public edge ({reason})")


def _recording(settings: Settings) -> Iterator[Problem]:
    if settings.recording.enabled and settings.secrets.key is None:
        yield Problem(("secrets", "key"), "recording.enabled needs it: openssl rand -base64 32")


def _is_example(key: SecretStr) -> bool:
    """The example's, or one byte 32 times."""
    return key.get_secret_value() == EXAMPLE_KEY or len(set(base64.b64decode(key.get_secret_value()))) == 1


def _is_guessable(trunk: Trunk) -> bool:
    password = trunk.password.get_secret_value() if trunk.password else ""
    return password.lower() in _GUESSABLE or password in ("", trunk.username, trunk.name)


def _trunks(settings: Settings) -> Iterator[Problem]:
    for index, trunk in enumerate(settings.trunks):
        if trunk.auth == "digest":
            for name in ("username", "password"):
                value = getattr(trunk, name)
                if not (value.get_secret_value() if isinstance(value, SecretStr) else value):
                    yield Problem(("trunks", index, name), 'auth = "digest" needs it')
        elif not trunk.addresses:
            yield Problem(("trunks", index, "addresses"), 'auth = "address" needs at least one')
    for (_, one), (index, other) in combinations(enumerate(settings.trunks), 2):
        if one.name == other.name:
            yield Problem(("trunks", index, "name"), f"{other.name!r} names two trunks")
        if "digest" == one.auth == other.auth and one.username == other.username:
            yield Problem(("trunks", index, "username"), f"{other.username!r} is also the user of trunk {one.name!r}")


def _carriers(settings: Settings) -> Iterator[Problem]:
    """Address alone proves nothing there: any customer of the carrier calls from the same addresses."""
    for index, trunk in enumerate(settings.trunks):
        if trunk.name in carriers():
            yield Problem(("trunks", index, "name"), f"{trunk.name!r} is the carrier's own: its calls would be taken")
        for position, network in enumerate(trunk.addresses):
            if not trunk.lab and (reason := _shadowed(settings, network)):
                yield Problem(
                    ("trunks", index, "addresses", position),
                    f"{network} overlaps {reason}, where all its customers call from; use the provider, or set"
                    " lab = true in a lab",
                )


def _shadowed(settings: Settings, network: str) -> str | None:
    """The carrier's range that ``network`` lies over, in words: one that ships with the edge, or one set here."""
    if found := overlapping(network):
        carrier, region, text = found
        return f"{text}, {carrier.title}'s signalling range in {region.region}"
    for name, carrier in carriers().items():
        for text in _signalling(settings, name) or ():
            if overlap(network, text):
                return f"{text}, {carrier.title}'s signalling range in providers.{name}_signalling"
    return None


def _signalling(settings: Settings, carrier: str) -> tuple[str, ...] | None:
    """The ranges set in place of the carrier's own."""
    chosen: tuple[str, ...] | None = getattr(settings.providers, f"{carrier}_signalling")
    return chosen


def _providers(settings: Settings) -> Iterator[Problem]:
    """A call from an address of both carriers could not be told; credentials in the clear are no credentials."""
    for one, other in permutations(carriers(), 2):
        for index, network in enumerate(_signalling(settings, one) or ()):
            taken = _signalling(settings, other) or carriers()[other].signalling_networks
            if clash := next((text for text in taken if overlap(network, text)), None):
                yield Problem(("providers", f"{one}_signalling", index), f"{network} overlaps {other}'s {clash}")
    for name in carriers():
        url = urlsplit(getattr(settings.providers, f"{name}_base_url"))
        if url.scheme == "http" and not _is_inward(url.hostname or ""):
            yield Problem(
                ("providers", f"{name}_base_url"), f"https is needed: credentials would reach {url.hostname} in clear"
            )


def _is_inward(host: str) -> bool:
    """A name without a dot is this machine's or its network's; of any other nobody knows where it leads."""
    try:
        return not is_public(host)
    except ValueError:
        return "." not in host


def _addresses(settings: Settings) -> Iterator[Problem]:
    """What carriers are told must be an address they can use; SIP's and media's are told apart."""
    sip, media = settings.sip, settings.media
    for text in sip.listen:
        if sip.public_address is None and _is_wildcard(parse_listener(text)[1]):
            yield Problem(("sip", "public_address"), f"needed, because sip.listen has the wildcard {text}")
            break
    if media.public_address is None and _is_wildcard(media.listen_address):
        yield Problem(
            ("media", "public_address"), f"needed, because media.listen_address is the wildcard {media.listen_address}"
        )
    if media.public_address is not None and _version(media.public_address) != _version(media.listen_address):
        yield Problem(("media", "public_address"), f"not of the family of media.listen_address {media.listen_address}")
    if media.listen_address_6 is not None and _version(media.listen_address) == 6:
        yield Problem(("media", "listen_address_6"), "needless: media.listen_address is an IPv6 one already")
    if media.public_address_6 is not None and media.listen_address_6 is None:
        yield Problem(("media", "public_address_6"), "needs media.listen_address_6")
    if media.public_address_6 is None and media.listen_address_6 is not None and _is_wildcard(media.listen_address_6):
        yield Problem(("media", "public_address_6"), "needed, because media.listen_address_6 is the wildcard ::")
    told = media.public_address or media.listen_address
    if sip.public_address is not None and is_public(sip.public_address) and not is_public(told):
        yield Problem(
            ("media", "public_address"),
            f"needed: SIP is reached at {sip.public_address}, but callers would be told to send media to {told}",
        )


def _ports(settings: Settings) -> Iterator[Problem]:
    media = settings.media
    pairs = len(range(media.port_min + media.port_min % 2, media.port_max, 2))
    if pairs < settings.limits.calls:
        yield Problem(
            ("media", "port_max"),
            f"from {media.port_min} to {media.port_max} there are {pairs} pairs of an even port and the next, too few"
            f" for limits.calls, {settings.limits.calls}",
        )
    parsed = [parse_listener(text) for text in settings.sip.listen]
    for index, (transport, host, port) in enumerate(parsed):
        if transport == "udp" and media.port_min <= port <= media.port_max and _meets_media(host, media):
            yield Problem(("sip", "listen", index), f"port {port} is one of media.port_min..port_max")
        if port and (transport, host, port) in parsed[:index]:
            yield Problem(("sip", "listen", index), f"{settings.sip.listen[index]} stands there twice")


def _agents(settings: Settings) -> Iterator[Problem]:
    """An agent's module, or a recording, in a directory that is not there would be missed only by the first call."""
    for index, path in enumerate(settings.agents.python_path):
        if not path.is_dir():
            yield Problem(("agents", "python_path", index), f"{path} is no directory")
    recordings = settings.agents.recordings_path
    if recordings is not None and not recordings.is_dir():
        yield Problem(("agents", "recordings_path"), f"{recordings} is no directory")


def _meets_media(host: str, media: Media) -> bool:
    return any(_meet(host, each) for each in (media.listen_address, media.listen_address_6) if each is not None)


def _srtp(settings: Settings) -> Iterator[Problem]:
    """Twilio encrypts media only with TLS for SIP."""
    if settings.providers.twilio_srtp == "require" and not any(text.startswith("tls:") for text in settings.sip.listen):
        yield Problem(("providers", "twilio_srtp"), '"require" needs a tls: listener in sip.listen')


def _tls(settings: Settings) -> Iterator[Problem]:
    sip = settings.sip
    files = {"tls_certificate": sip.tls_certificate, "tls_key": sip.tls_key}
    wanted = [text for text in sip.listen if text.startswith("tls:")]
    missing = [name for name, path in files.items() if path is None]
    for name in missing:
        if wanted or len(missing) == 1:
            yield Problem(("sip", name), f"needed by {wanted[0]}" if wanted else "needed beside the other one")
    unreadable = [Problem(("sip", name), text) for name, path in files.items() if path and (text := _unreadable(path))]
    yield from unreadable
    if sip.tls_certificate and sip.tls_key and not unreadable:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(sip.tls_certificate, sip.tls_key, password="")
        except (ssl.SSLError, OSError) as error:
            reason = getattr(error, "reason", None) or "no certificate and key in PEM"
            yield Problem(("sip", "tls_certificate"), f"does not load together with tls_key: {reason}")


def _unreadable(path: Path) -> str | None:
    try:
        with path.open("rb"):
            return None
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"


def _is_wildcard(host: str) -> bool:
    return ipaddress.ip_address(host).is_unspecified


def _version(host: str) -> int:
    return ipaddress.ip_address(host).version


def _meet(one: str, other: str) -> bool:
    """Whether sockets on both would contend for one port."""
    return _version(one) == _version(other) and (one == other or _is_wildcard(one) or _is_wildcard(other))


_RULES: Final[tuple[Callable[[Settings], Iterator[Problem]], ...]] = (
    _addresses,
    _ports,
    _tls,
    _srtp,
    _trunks,
    _carriers,
    _providers,
    _agents,
    _secrets,
    _recording,
    _session_timers,
)
