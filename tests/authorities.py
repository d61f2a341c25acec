"""Certificate authorities for tests: servers that prove who they are, clients that do, and all that can be wrong with either."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

Key: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
Use: TypeAlias = Literal["client", "server", "any", "none"]
_USES = {
    "client": [ExtendedKeyUsageOID.CLIENT_AUTH],
    "server": [ExtendedKeyUsageOID.SERVER_AUTH],
    "any": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE],
}


def pem_of(key: Key, password: bytes | None = None) -> str:
    """Return a private key as PKCS #8."""
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how).decode()


@dataclass(frozen=True)
class Issued:
    """A certificate, the first of its chain, and its key."""

    certificates: tuple[x509.Certificate, ...]
    key: Key

    @property
    def chain(self) -> str:
        """The chain as PEM, without its root."""
        return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in self.certificates)

    @property
    def private_key(self) -> str:
        """The key as PEM."""
        return pem_of(self.key)

    @property
    def as_body(self) -> dict[str, str]:
        """What a call gives as `client_certificate`."""
        return {"certificate": self.chain, "private_key": self.private_key}


class Authority:
    """A root, or an authority below one."""

    def __init__(self, name: str = "test authority", above: Authority | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        signer, issuer = (self.key, self._name) if above is None else (above.key, above._name)
        self.certificate = (
            _builder(issuer, self._name, self.key, timedelta(days=1000))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(signer, hashes.SHA256())
        )
        self._chain: tuple[x509.Certificate, ...] = () if above is None else (self.certificate, *above._chain)

    @property
    def pem(self) -> bytes:
        """Its own certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        name: str = "customhouse",
        *,
        key: Key | None = None,
        use: Use = "client",
        begin: timedelta = timedelta(days=-9),
        end: timedelta = timedelta(days=90),
        names: tuple[x509.GeneralName, ...] = (),
    ) -> Issued:
        """Return a certificate of this authority, with the authorities between it and the root."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = _builder(self._name, subject, key, end, begin)
        if use != "none":
            builder = builder.add_extension(x509.ExtendedKeyUsage(_USES[use]), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Issued((builder.sign(self.key, hashes.SHA256()), *self._chain), key)

    def server(self, folder: Path, *hosts: str, clients: Authority | None = None) -> ssl.SSLContext:
        """Return what a server needs to prove that it is `hosts`; with `clients` it demands certificates of that authority."""
        names = tuple(x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host) for host in hosts)
        issued = self.issue("receiver", use="server", names=names)
        file = folder / "server.pem"
        file.write_text(issued.chain + issued.private_key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=clients.pem.decode())
        return context


def _builder(
    issuer: x509.Name, subject: x509.Name, key: Key, end: timedelta, begin: timedelta = timedelta(days=-9)
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(issuer_name=issuer, subject_name=subject, public_key=key.public_key())
    return builder.serial_number(x509.random_serial_number()).not_valid_before(now + begin).not_valid_after(now + end)
