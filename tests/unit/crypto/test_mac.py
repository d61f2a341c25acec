"""Keyed hashes keep their purposes, and their parts, apart."""

from __future__ import annotations

import hashlib
import hmac
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import example, given, settings
from hypothesis import strategies as st

from customhouse.crypto.envelope import RecordKey
from customhouse.crypto.mac import MAC_BYTES, derive, mac, verify_mac
from customhouse.errors import CustomhouseError
from customhouse.types import Secret

KEY = RecordKey(uuid4(), Secret(bytes(range(32))))
quick = settings(derandomize=True, max_examples=150, deadline=None)
parts = st.lists(st.binary(max_size=12), min_size=1, max_size=4)


@quick
@given(purpose=st.text(min_size=1, max_size=12), values=parts)
def test_a_mac_verifies_for_its_purpose_and_parts(purpose: str, values: list[bytes]) -> None:
    tag = mac(KEY, purpose, *values)
    assert len(tag) == MAC_BYTES
    assert verify_mac(KEY, tag, purpose, *values)
    assert not verify_mac(KEY, tag, purpose + "x", *values)
    assert not verify_mac(KEY, tag, purpose, *values, b"")


@quick
@given(one=parts, other=parts)
@example(one=[b"ab", b"c"], other=[b"a", b"bc"])
@example(one=[b"1:a"], other=[b"", b"a"])
def test_the_same_bytes_cut_differently_are_another_mac(one: list[bytes], other: list[bytes]) -> None:
    assert (mac(KEY, "p", *one) == mac(KEY, "p", *other)) == (one == other)


def test_a_truncated_or_empty_mac_is_refused() -> None:
    tag = mac(KEY, "api-key", b"ck")
    assert not any(verify_mac(KEY, tag[:length], "api-key", b"ck") for length in range(MAC_BYTES))


def test_another_key_is_another_mac() -> None:
    assert not verify_mac(RecordKey(KEY.key_id, Secret(bytes(32))), mac(KEY, "p", b"x"), "p", b"x")


def test_the_mac_is_what_its_description_says() -> None:
    assert mac(KEY, "api-key", b"ck", b"") == hmac.new(bytes(range(32)), b"customhouse/mac/1/7:api-key2:ck0:", hashlib.sha256).digest()


def test_nothing_to_hash_and_no_purpose_are_refused() -> None:
    for purpose, values in (("", (b"x",)), ("p", ())):
        with pytest.raises(CustomhouseError):
            mac(KEY, purpose, *values)
    with pytest.raises(CustomhouseError):
        derive(KEY, "")


def test_a_derived_key_is_hkdf_expand_and_belongs_to_its_purpose() -> None:
    derived = derive(KEY, "api-keys")
    expected = HKDFExpand(hashes.SHA256(), 32, b"customhouse/derive/1/8:api-keys").derive(bytes(range(32)))
    assert derived.material == Secret(expected)
    assert derived.key_id == KEY.key_id
    assert derive(KEY, "idempotency").material != derived.material != KEY.material
