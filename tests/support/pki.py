"""A certificate authority of the test run and a server certificate for loopback."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Pki"]

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pki:
    """PEM files. ``bundle`` is certificate and key in one file, as some programs want them."""

    authority: Path
    certificate: Path
    key: Path
    bundle: Path

    @classmethod
    def make(cls, folder: Path, *, names: tuple[str, ...] = ("localhost", "sip.test")) -> Pki:
        """RSA, which every TLS library in the suite can do; for ``names``, 127.0.0.1 and ::1."""
        now = datetime.datetime.now(datetime.UTC)
        authority_key, key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])

        def builder(name: x509.Name, public: rsa.RSAPublicKey) -> x509.CertificateBuilder:
            return (
                x509.CertificateBuilder()
                .subject_name(name)
                .issuer_name(issuer)
                .public_key(public)
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - _DAY)
                .not_valid_after(now + 30 * _DAY)
            )

        authority = (
            builder(issuer, authority_key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(authority_key, hashes.SHA256())
        )
        addresses = [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")]
        certificate = (
            builder(subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([*(x509.DNSName(name) for name in names), *addresses]), critical=False
            )
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .sign(authority_key, hashes.SHA256())
        )
        folder.mkdir(parents=True, exist_ok=True)
        key_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
        contents = {
            "authority": authority.public_bytes(serialization.Encoding.PEM),
            "certificate": certificate_pem,
            "key": key_pem,
            "bundle": certificate_pem + key_pem,
        }
        paths = {name: folder / f"{name}.pem" for name in contents}
        for name, content in contents.items():
            paths[name].write_bytes(content)
        return cls(**paths)

    def client_context(self) -> ssl.SSLContext:
        """Trusts this authority alone."""
        return ssl.create_default_context(cafile=str(self.authority))
