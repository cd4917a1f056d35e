"""Typed settings: TOML, each key overridable by environment (``TRUEDY_SIP__DOMAIN=…``).

Unknown keys are refused; units are in the names; nothing uses 0 or -1 to mean "off".
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

__all__ = ["Agents", "Api", "Limits", "Media", "Registry", "Secrets", "Settings", "Sip", "Trunk", "parse_listener"]

_LISTENER = re.compile(r"^(udp|tcp|tls):(\[[0-9A-Fa-f:.]+\]|[0-9.]+):(\d{1,5})$")


def parse_listener(text: str) -> tuple[str, str, int]:
    """``udp:127.0.0.1:5060`` or ``tls:[::1]:5061`` → (transport, host, port). ValueError when it is neither."""
    match = _LISTENER.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not udp|tcp|tls:ADDRESS:PORT (an address literal; IPv6 in brackets)")
    host = match[2].strip("[]")
    ipaddress.ip_address(host)
    port = int(match[3])
    if port > 65535:
        raise ValueError(f"{text!r}: port above 65535")
    return match[1], host, port


def _network(text: str) -> str:
    ipaddress.ip_network(text, strict=True)
    return text


Cidr = Annotated[str, AfterValidator(_network)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Sip(_Model):
    """The SIP side (RFC 3261)."""

    listen: tuple[str, ...] = ("udp:127.0.0.1:5060", "tcp:127.0.0.1:5060")
    domain: str = "sip.truedy.ai"
    public_address: str | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    @field_validator("listen")
    @classmethod
    def _listeners(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("at least one listener")
        for item in value:
            parse_listener(item)
        return value

    @model_validator(mode="after")
    def _tls(self) -> Self:
        if any(item.startswith("tls:") for item in self.listen) and not (self.tls_certificate and self.tls_key):
            raise ValueError("a tls: listener needs tls_certificate and tls_key")
        return self


class Media(_Model):
    """RTP (RFC 3550). Ports are leased in pairs: RTP even, RTCP the next."""

    listen_address: str = "127.0.0.1"
    public_address: str | None = None
    port_min: Annotated[int, Field(ge=1024, le=65535)] = 16384
    port_max: Annotated[int, Field(ge=1024, le=65535)] = 32767
    port_rest_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    first_packet_timeout_s: Annotated[float, Field(gt=0)] = 20.0
    silence_timeout_s: Annotated[float, Field(gt=0)] = 20.0


class Api(_Model):
    """The control API (HTTP)."""

    listen: str = "127.0.0.1:8080"
    public_url: str | None = None


class Registry(_Model):
    """The embedded registry: one SQLite file; the journal lies beside it as ``<path>.journal``."""

    path: Path = Path("var/registry.db")


class Secrets(_Model):
    """``key``: base64 of 32 random bytes; seals credentials at rest (AES-256-GCM)."""

    key: SecretStr | None = None

    @field_validator("key")
    @classmethod
    def _length(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        try:
            raw = base64.b64decode(value.get_secret_value(), validate=True)
        except binascii.Error as error:
            raise ValueError("not base64") from error
        if len(raw) != 32:
            raise ValueError(f"{len(raw)} bytes, expected 32 (openssl rand -base64 32)")
        return value


class Limits(_Model):
    """Caps; each refusal has its SIP status, its logged reason and its counter."""

    calls: Annotated[int, Field(ge=1)] = 500
    calls_per_account: Annotated[int, Field(ge=1)] = 200
    calls_per_trunk: Annotated[int, Field(ge=1)] = 400
    calls_per_did: Annotated[int, Field(ge=1)] = 100
    calls_per_caller: Annotated[int, Field(ge=1)] = 20
    attempts_per_second: Annotated[float, Field(gt=0)] = 50.0
    attempts_burst: Annotated[int, Field(ge=1)] = 200
    call_length_s: Annotated[float, Field(gt=0)] = 14400.0
    drain_s: Annotated[float, Field(gt=0)] = 60.0
    api_requests_per_minute: Annotated[int, Field(ge=1)] = 100
    api_body_bytes: Annotated[int, Field(ge=1024)] = 65536


class Agents(_Model):
    """Defaults for agents' own settings."""

    answer_after_s: Annotated[float, Field(ge=0, le=30)] = 1.0
    agent_timeout_s: Annotated[float, Field(gt=0, le=60)] = 15.0


class Trunk(_Model):
    """A static trunk: a carrier or PBX known by its addresses or by a digest user."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    addresses: tuple[Cidr, ...] = ()
    auth: Literal["address", "digest"] = "address"
    username: str | None = None
    password: SecretStr | None = None
    digest_algorithms: tuple[Literal["MD5", "SHA-256"], ...] = ("MD5",)
    accounts: tuple[str, ...] = ()
    lab: bool = False
    codecs: tuple[Literal["PCMU", "PCMA"], ...] = ("PCMU", "PCMA")
    media_networks: tuple[Cidr, ...] = ()
    symmetric_rtp: bool = True
    allow_private_media: bool = False

    @model_validator(mode="after")
    def _credentials(self) -> Self:
        if self.auth == "digest" and not (self.username and self.password and self.password.get_secret_value()):
            raise ValueError('auth = "digest" needs username and password')
        if self.auth == "address" and not self.addresses:
            raise ValueError('auth = "address" needs addresses')
        return self


class Settings(BaseSettings):
    """Everything the edge is told. Read with :func:`config.load.load`, which gives readable errors."""

    model_config = SettingsConfigDict(
        extra="forbid", env_prefix="TRUEDY_", env_nested_delimiter="__", frozen=True, hide_input_in_errors=True
    )

    sip: Sip = Sip()
    media: Media = Media()
    api: Api = Api()
    registry: Registry = Registry()
    secrets: Secrets = Secrets()
    limits: Limits = Limits()
    agents: Agents = Agents()
    trunks: tuple[Trunk, ...] = ()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over the file's values (which arrive as init arguments)."""
        return env_settings, init_settings

    @field_validator("trunks")
    @classmethod
    def _names(cls, value: tuple[Trunk, ...]) -> tuple[Trunk, ...]:
        names = [trunk.name for trunk in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two trunks named {name!r}")
        return value

    def model_post_init(self, context: Any) -> None:
        if self.media.port_max - self.media.port_min < 1:
            raise ValueError("media.port_max must exceed media.port_min")
