"""Client certificates (X.509, RFC 5280) that we show to receivers: read, judged, and put into one form. Pure."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from customhouse.crypto.credentials import MOST_CHAIN_BYTES, MOST_KEY_BYTES, ClientCertificate, Credential
from customhouse.errors import Fault, Invalid, Unsealable
from customhouse.types import Secret

MOST_CERTIFICATES: Final = 10
RSA_BITS: Final = range(2048, 4097)
CURVES: Final = ("secp256r1", "secp384r1")
"""With RSA and Ed25519: what the HTTP client signs with under TLS 1.2 and 1.3 alike."""
_CHAIN: Final = "/client_certificate/certificate"
_KEY: Final = "/client_certificate/private_key"
_MOST_NAME: Final = 500
_USES: Final = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})

_Key: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def read_credential(chain: str, private_key: str, now: datetime) -> Credential:
    """Read what a customer gave, and judge whether it can be shown to a receiver now.

    Args:
        chain: PEM certificates, the own one first, each followed by its issuer's; the root may be left out.
        private_key: The key of the first one as PEM (PKCS #8, PKCS #1 or SEC 1), not encrypted.
        now: The time.

    Returns:
        Both in one form; whatever else the texts held is left out.

    Raises:
        Invalid: with a fault at each place; nothing of the texts is repeated.
    """
    faults: list[Fault] = []
    certificates: list[x509.Certificate] = []
    key: _Key | None = None
    try:
        certificates = _certificates(chain)
        _judge(certificates, now)
    except _Refused as refused:
        faults.append(Fault(_CHAIN, str(refused)))
    try:
        key = _private_key(private_key)
        if certificates and _public(key) != _spki(certificates[0]):
            faults.append(Fault(_KEY, "is not the key of the first certificate"))
    except _Refused as refused:
        faults.append(Fault(_KEY, str(refused)))
    if faults or key is None:
        raise Invalid("The client certificate is not acceptable.", tuple(faults))
    pem = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)
    stored = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Credential(_described(certificates, pem), Secret(stored))


def describe(pem: bytes) -> ClientCertificate:
    """Return what a stored chain says.

    Raises:
        Unsealable: it is not what `read_credential` returned.
    """
    try:
        return _described(x509.load_pem_x509_certificates(pem), pem)
    except ValueError:
        raise Unsealable from None


class _Refused(Exception):
    """A sentence that goes behind the name of the member."""


def _certificates(text: str) -> list[x509.Certificate]:
    if len(text) > MOST_CHAIN_BYTES:
        raise _Refused(f"is longer than {MOST_CHAIN_BYTES} characters")
    if "PRIVATE KEY-----" in text:
        raise _Refused("holds a private key, which belongs into private_key alone")
    try:
        found = x509.load_pem_x509_certificates(text.encode())
        for one in found:
            # Each is read to its end now: what is malformed inside shows only when it is asked for.
            _ = (one.subject.rfc4514_string(), one.issuer.rfc4514_string(), one.extensions, _spki(one))
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise _Refused("is no PEM of X.509 certificates that can be read") from None
    if not 1 <= len(found) <= MOST_CERTIFICATES:
        raise _Refused(f"holds more than {MOST_CERTIFICATES} certificates")
    return found


def _judge(certificates: list[x509.Certificate], now: datetime) -> None:
    for one in certificates:
        if now >= one.not_valid_after_utc:
            raise _Refused("has expired, or one of its issuers has")
        if now < one.not_valid_before_utc:
            raise _Refused("is not valid yet, or one of its issuers is not")
    for below, above in itertools.pairwise(certificates):
        try:
            below.verify_directly_issued_by(above)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            raise _Refused("is no chain: each certificate must be followed by the one that issued it, the own one first") from None
    own = certificates[0].extensions
    try:
        if not _USES & set(own.get_extension_for_class(x509.ExtendedKeyUsage).value):
            raise _Refused("is not for client authentication (extended key usage)")
    except x509.ExtensionNotFound:
        pass
    try:
        if not own.get_extension_for_class(x509.KeyUsage).value.digital_signature:
            raise _Refused("is not for signatures (key usage)")
    except x509.ExtensionNotFound:
        pass


def _private_key(text: str) -> _Key:
    if len(text) > MOST_KEY_BYTES:
        raise _Refused(f"is longer than {MOST_KEY_BYTES} characters")
    try:
        key = serialization.load_pem_private_key(text.encode(), password=None)
    except TypeError:
        raise _Refused("is encrypted; give it without a pass phrase: it is sealed here") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _Refused("is no PEM private key that can be read") from None
    usable = (
        isinstance(key, ed25519.Ed25519PrivateKey)
        or (isinstance(key, rsa.RSAPrivateKey) and key.key_size in RSA_BITS)
        or (isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in CURVES)
    )
    if not usable or not isinstance(key, _Key):
        raise _Refused("is none of RSA with 2048 to 4096 bits, ECDSA on P-256 or P-384, Ed25519")
    return key


def _public(key: _Key) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _described(certificates: list[x509.Certificate], pem: bytes) -> ClientCertificate:
    own = certificates[0]
    return ClientCertificate(
        pem,
        _name(own.subject),
        _name(own.issuer),
        own.fingerprint(hashes.SHA256()).hex(),
        max(one.not_valid_before_utc for one in certificates),
        min(one.not_valid_after_utc for one in certificates),
    )


def _name(name: x509.Name) -> str:
    """Return a name to be shown: on one line, without what turns the text around it."""
    text = name.rfc4514_string()
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text[:_MOST_NAME])
