"""Signed statements: genuine ones are read, everything else is refused in one way."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse.crypto.envelope import RecordKey
from customhouse.crypto.statements import public_key, sign, verify
from customhouse.errors import Invalid
from customhouse.ids import new
from customhouse.types import JsonObject, Secret

KIND = "customhouse-receipt"
KEY, OTHER = RecordKey(new(), Secret(bytes(range(32)))), RecordKey(new(), Secret(bytes(32)))
KEYS: JsonObject = {"keys": [public_key(OTHER), public_key(KEY)]}


@given(st.binary(max_size=300))
def test_a_statement_is_read_with_the_public_key(statement: bytes) -> None:
    assert verify(KEYS, KIND, sign(KEY, KIND, statement)) == statement


def test_the_document_is_a_jws_that_names_algorithm_key_and_kind() -> None:
    document = sign(KEY, KIND, b"{}")
    assert isinstance(document["protected"], str)
    header = json.loads(base64.urlsafe_b64decode(document["protected"] + "=="))
    assert header == {"alg": "EdDSA", "kid": public_key(KEY)["kid"], "typ": KIND}


def test_the_key_is_named_by_its_thumbprint_as_rfc_8037_has_it() -> None:
    """The example of RFC 8037 appendix A.1 to A.3."""
    seed = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    shown = public_key(RecordKey(new(), Secret(seed)))
    assert shown["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert shown["kid"] == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize("member", ["protected", "payload", "signature"])
def test_a_statement_that_was_altered_anywhere_is_refused(member: str) -> None:
    document = sign(KEY, KIND, b'{"a":1}')
    text = document[member]
    assert isinstance(text, str)
    for at in range(len(text)):
        altered = {**document, member: text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]}
        with pytest.raises(Invalid):
            verify(KEYS, KIND, altered)


def test_a_signature_in_another_spelling_of_the_same_bytes_is_refused() -> None:
    document = sign(KEY, KIND, b"{}")
    text = document["signature"]
    assert isinstance(text, str)
    other = text[:-1] + chr(ord(text[-1]) + 1)
    assert base64.urlsafe_b64decode(other + "==") == base64.urlsafe_b64decode(text + "==")
    with pytest.raises(Invalid):
        verify(KEYS, KIND, {**document, "signature": other})


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"protected": "", "payload": "", "signature": ""},
        {**sign(KEY, KIND, b"{}"), "header": {}},
        {**sign(KEY, KIND, b"{}"), "payload": None},
        {**sign(KEY, KIND, b"{}"), "signature": "=" * 86},
        sign(KEY, "something-else", b"{}"),
        sign(RecordKey(new(), Secret(b"\x01" * 32)), KIND, b"{}"),
    ],
)
def test_what_is_no_statement_of_ours_is_refused(document: JsonObject) -> None:
    with pytest.raises(Invalid):
        verify(KEYS, KIND, document)


NAMES = st.sampled_from(["keys", "kty", "crv", "x", "OKP"]) | st.text(max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=50)
VALUES = st.recursive(SCALARS, lambda one: st.lists(one, max_size=4) | st.dictionaries(NAMES, one, max_size=4), max_leaves=12)


@given(st.dictionaries(st.sampled_from(["protected", "payload", "signature", "x"]), VALUES), st.dictionaries(st.just("keys"), VALUES))
def test_whatever_is_given_only_a_refusal_comes_out(document: JsonObject, keys: JsonObject) -> None:
    with pytest.raises(Invalid):
        verify(keys, KIND, document)
