"""Which client certificates are taken: those that a receiver can accept, with the key that is theirs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from tests.authorities import Authority, Issued, Key, Use, pem_of

from customhouse.crypto.certificates import describe, read_credential
from customhouse.crypto.credentials import Credential
from customhouse.egress.clients import check_identity
from customhouse.egress.identities import identity_of
from customhouse.errors import Invalid, Unsealable
from customhouse.types import Secret

ROOT = Authority()
GOOD = ROOT.issue()
OTHER = ROOT.issue()
SMALL = rsa.generate_private_key(65537, 1024)
RSA = rsa.generate_private_key(65537, 2048)
CHAIN, KEY = "/client_certificate/certificate", "/client_certificate/private_key"


def read(chain: str, key: str, now: datetime | None = None) -> Credential:
    return read_credential(chain, key, now or datetime.now(UTC))


def faults(chain: str, key: str, now: datetime | None = None) -> list[tuple[str, str]]:
    """The places that are not acceptable, and why."""
    with pytest.raises(Invalid) as caught:
        read(chain, key, now)
    return [(fault.pointer, fault.detail) for fault in caught.value.faults]


def test_a_certificate_is_described_and_kept_in_one_form() -> None:
    found = read("a friendly comment\n" + GOOD.chain + "trailing words", GOOD.private_key)
    own = GOOD.certificates[0]
    assert found.certificate.pem == GOOD.chain.encode()
    assert (found.certificate.subject, found.certificate.issuer) == ("CN=customhouse", "CN=test authority")
    assert found.certificate.fingerprint == own.fingerprint(hashes.SHA256()).hex()
    assert (found.certificate.begins_at, found.certificate.expires_at) == (own.not_valid_before_utc, own.not_valid_after_utc)
    assert describe(found.certificate.pem) == found.certificate
    assert "PRIVATE" not in repr(found)
    assert "CERTIFICATE" not in repr(found)


@pytest.mark.parametrize(
    "key",
    [RSA, ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()],
    ids=["rsa", "p256", "p384", "ed25519"],
)
def test_each_kind_of_key_that_is_taken_can_be_sent_with(key: Key) -> None:
    issued = ROOT.issue(key=key)
    found = read(issued.chain, issued.private_key)
    check_identity(identity_of(found.certificate.pem, found.private_key))


def test_older_forms_of_a_key_are_read_and_kept_as_pkcs8() -> None:
    for key in (RSA, ec.generate_private_key(ec.SECP256R1())):
        issued = ROOT.issue(key=key)
        older = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        ).decode()
        assert read(issued.chain, older).private_key.reveal().decode() == issued.private_key


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (SMALL, "none of RSA"),
        (ec.generate_private_key(ec.SECP521R1()), "none of RSA"),
        (ec.generate_private_key(ec.SECP256K1()), "none of RSA"),
    ],
    ids=["rsa 1024", "p521", "secp256k1"],
)
def test_a_key_that_cannot_be_sent_with_is_refused(key: Key, why: str) -> None:
    issued = ROOT.issue(key=key)
    ((pointer, detail),) = faults(issued.chain, issued.private_key)
    assert pointer == KEY
    assert why in detail


def test_an_encrypted_key_is_refused_with_advice() -> None:
    ((pointer, detail),) = faults(GOOD.chain, pem_of(GOOD.key, b"pass phrase"))
    assert pointer == KEY
    assert "encrypted" in detail


def test_the_key_of_another_certificate_is_refused() -> None:
    assert faults(GOOD.chain, OTHER.private_key) == [(KEY, "is not the key of the first certificate")]


@pytest.mark.parametrize(
    ("issued", "why"),
    [
        (ROOT.issue(end=timedelta(days=-1)), "expired"),
        (ROOT.issue(begin=timedelta(days=1)), "not valid yet"),
        (ROOT.issue(use="server"), "client authentication"),
    ],
    ids=["expired", "not yet", "for servers"],
)
def test_a_certificate_that_receivers_would_refuse_is_refused(issued: Issued, why: str) -> None:
    ((pointer, detail),) = faults(issued.chain, issued.private_key)
    assert pointer == CHAIN
    assert why in detail


@pytest.mark.parametrize("use", ["client", "any", "none"])
def test_a_certificate_for_clients_for_all_or_without_a_word_is_taken(use: Use) -> None:
    issued = ROOT.issue(use=use)
    read(issued.chain, issued.private_key)


def for_use(*, digital_signature: bool) -> Issued:
    """A certificate that says what its key may do."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=True,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        x509.CertificateBuilder(ROOT.certificate.subject, x509.Name([]), key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(usage, critical=True)
        .sign(ROOT.key, hashes.SHA256())
    )
    return Issued((made,), key)


def test_a_certificate_whose_key_may_not_sign_is_refused_and_one_whose_key_may_is_taken() -> None:
    signs, does_not = for_use(digital_signature=True), for_use(digital_signature=False)
    read(signs.chain, signs.private_key)
    ((pointer, detail),) = faults(does_not.chain, does_not.private_key)
    assert (pointer, "key usage" in detail) == (CHAIN, True)


def test_a_chain_is_taken_in_order_only_and_ends_with_its_shortest_life() -> None:
    between = Authority("between", above=ROOT)
    issued = between.issue(end=timedelta(days=5000))
    assert len(issued.certificates) == 2
    found = read(issued.chain, issued.private_key).certificate
    assert found.issuer == "CN=between"
    assert found.expires_at == between.certificate.not_valid_after_utc
    own, above = (one.public_bytes(serialization.Encoding.PEM).decode() for one in issued.certificates)
    assert "first" in faults(above + own, issued.private_key)[0][1] or "chain" in faults(above + own, issued.private_key)[0][1]
    assert "chain" in faults(own + OTHER.chain, issued.private_key)[0][1]
    later = datetime.now(UTC) + timedelta(days=1001)
    assert "one of its issuers" in faults(issued.chain, issued.private_key, later)[0][1]


@pytest.mark.parametrize(
    ("chain", "key", "refused"),
    [
        ("", "", [CHAIN, KEY]),
        ("junk", "junk", [CHAIN, KEY]),
        (GOOD.private_key, GOOD.private_key, [CHAIN]),
        (GOOD.chain + GOOD.private_key, GOOD.private_key, [CHAIN]),
        (GOOD.chain, GOOD.chain, [KEY]),
        (GOOD.chain * 11, GOOD.private_key, [CHAIN]),
        (GOOD.chain + "x" * 33_000, GOOD.private_key, [CHAIN]),
        (GOOD.chain, GOOD.private_key + "x" * 9000, [KEY]),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", GOOD.private_key, [CHAIN]),
        ("ü\x00\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "\x00ü", [CHAIN, KEY]),
    ],
)
def test_what_is_no_certificate_or_no_key_is_refused_by_its_place(chain: str, key: str, refused: list[str]) -> None:
    found = faults(chain, key)
    assert [pointer for pointer, _ in found] == refused
    assert not any("AAAA" in detail or "junk" in detail for _, detail in found)


@given(
    cut=st.tuples(st.integers(0, len(GOOD.chain)), st.integers(0, 60)),
    text=st.text(max_size=40),
    of_key=st.booleans(),
)
def test_whatever_is_given_is_read_or_refused_and_nothing_else_comes_out(cut: tuple[int, int], text: str, of_key: bool) -> None:
    at, length = cut
    whole = GOOD.private_key if of_key else GOOD.chain
    changed = whole[:at] + text + whole[at + length :]
    assert places(GOOD.chain if of_key else changed, changed if of_key else GOOD.private_key) <= {CHAIN, KEY}


def places(chain: str, key: str) -> set[str]:
    """What is refused; of what is taken, that the HTTP client takes it too."""
    try:
        found = read(chain, key)
    except Invalid as refused:
        return {fault.pointer for fault in refused.faults}
    check_identity(identity_of(found.certificate.pem, found.private_key))
    return set()


def test_an_identity_that_the_client_cannot_use_is_refused_without_a_word_of_it() -> None:
    for chain, key in ((GOOD.chain, OTHER), (GOOD.chain, ROOT.issue(key=SMALL)), ("", GOOD)):
        with pytest.raises(Invalid) as caught:
            check_identity(identity_of(chain.encode(), read_key(key)))
        assert [fault.pointer for fault in caught.value.faults] == ["/client_certificate"]
        assert caught.value.__cause__ is None


def read_key(issued: Issued) -> Secret:
    return Secret(issued.private_key.encode())


def test_a_stored_chain_that_is_none_does_not_open() -> None:
    for stored in (b"", b"junk"):
        with pytest.raises(Unsealable):
            describe(stored)


def test_a_name_with_strange_letters_is_shown_on_one_line() -> None:
    issued = ROOT.issue("ada\u202e\nacme\x07" + "ü")
    assert describe(issued.chain.encode()).subject.count("\ufffd") == 3
