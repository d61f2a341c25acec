"""The record format: opens in its place under its key, and in no other way."""

from __future__ import annotations

import copy
import pickle
from dataclasses import asdict, fields, replace
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import example, given, settings
from hypothesis import strategies as st

from customhouse.crypto import envelope
from customhouse.crypto.envelope import OVERHEAD, Place, RecordKey, key_id_of, open_sealed, seal
from customhouse.errors import CustomhouseError, TooLarge, Unsealable
from customhouse.types import Secret

KEY = RecordKey(UUID("01890a5d-ac96-774b-bcce-b302099a8057"), Secret(bytes(range(32))))
PLACE = Place(
    environment="prod",
    tenant_id="acme",
    connection_id="con_01k",
    table="integration_tokens",
    column="access_token",
    row="con_01k",
    generation=3,
)
TOKEN = b"ya29.canary"
FROZEN = (
    "0101890a5dac96774bbcceb302099a8057033c6a69da8d0e5daf843a174e3dc69e151b82ca8eede35cf1e28ff2c93d55"
    "0bc1fa650808285ffbeedaa9f0874ecebfefda0d99cf180a31ee8d9890da21bd900bc835cade499aaaae600d"
)
quick = settings(derandomize=True, max_examples=150, deadline=None)

texts = st.text(alphabet=st.characters(codec=None), min_size=1, max_size=8)
places = st.builds(
    Place,
    environment=texts,
    tenant_id=texts,
    connection_id=st.text(max_size=8),
    table=texts,
    column=texts,
    row=texts,
    generation=st.integers(min_value=0, max_value=2**63 - 1),
)


def moved(place: Place, coordinate: str, value: object) -> Place:
    """Return the place with one coordinate changed."""
    return Place(**{**asdict(place), coordinate: value})


@quick
@given(place=places, plaintext=st.binary(max_size=300))
@example(place=replace(PLACE, row="\ud800"), plaintext=b"")
def test_what_was_sealed_opens_in_its_place(place: Place, plaintext: bytes) -> None:
    sealed = seal(KEY, place, plaintext)
    assert open_sealed(KEY, place, sealed) == plaintext
    assert key_id_of(sealed) == KEY.key_id
    assert len(sealed) == len(plaintext) + OVERHEAD


def test_a_record_costs_at_most_100_bytes() -> None:
    assert OVERHEAD == 81
    assert OVERHEAD <= 100


@quick
@given(sealed=st.binary(max_size=200))
@example(sealed=b"")
@example(sealed=b"\x01" + KEY.key_id.bytes + bytes(64))
@example(sealed=b"\x02" + KEY.key_id.bytes + bytes(64))
def test_any_bytes_are_refused_as_unsealable_and_nothing_else(sealed: bytes) -> None:
    with pytest.raises(Unsealable):
        open_sealed(KEY, PLACE, sealed)


@quick
@given(sealed=st.binary(max_size=200))
def test_any_bytes_name_a_key_or_are_refused(sealed: bytes) -> None:
    if len(sealed) >= OVERHEAD and sealed[0] == 1:
        assert key_id_of(sealed).bytes == sealed[1:17]
    else:
        with pytest.raises(Unsealable):
            key_id_of(sealed)


@quick
@given(tail=st.binary(max_size=120))
def test_any_bytes_behind_a_genuine_header_are_refused(tail: bytes) -> None:
    header = seal(KEY, PLACE, TOKEN)[:65]
    with pytest.raises(Unsealable):
        open_sealed(KEY, PLACE, header + tail)


def test_every_flipped_bit_is_refused() -> None:
    sealed = seal(KEY, PLACE, TOKEN)
    for position in range(len(sealed)):
        for bit in range(8):
            altered = bytearray(sealed)
            altered[position] ^= 1 << bit
            with pytest.raises(Unsealable):
                open_sealed(KEY, PLACE, bytes(altered))


def test_every_truncation_and_extension_is_refused() -> None:
    sealed = seal(KEY, PLACE, TOKEN)
    for length in range(len(sealed)):
        with pytest.raises(Unsealable):
            open_sealed(KEY, PLACE, sealed[:length])
    with pytest.raises(Unsealable):
        open_sealed(KEY, PLACE, sealed + b"\x00")


@pytest.mark.parametrize("coordinate", [field.name for field in fields(Place)])
def test_a_value_moved_along_any_coordinate_is_refused(coordinate: str) -> None:
    sealed = seal(KEY, PLACE, TOKEN)
    there = moved(PLACE, coordinate, 4 if coordinate == "generation" else getattr(PLACE, coordinate) + "x")
    with pytest.raises(Unsealable):
        open_sealed(KEY, there, sealed)


@quick
@given(here=places, there=places)
@example(here=replace(PLACE, table="ab", column="c"), there=replace(PLACE, table="a", column="bc"))
@example(here=replace(PLACE, row="1", generation=1), there=replace(PLACE, row="11", generation=1))
@example(here=replace(PLACE, row="\ud800\udc00"), there=replace(PLACE, row="\U00010000"))
def test_different_places_have_different_bytes(here: Place, there: Place) -> None:
    assert (here == there) == (here.associated_data() == there.associated_data())


@pytest.mark.parametrize("coordinate", ["environment", "tenant_id", "table", "column", "row"])
def test_a_place_without_a_coordinate_neither_seals_nor_opens(coordinate: str) -> None:
    nowhere = moved(PLACE, coordinate, "")
    with pytest.raises(CustomhouseError):
        seal(KEY, nowhere, TOKEN)
    with pytest.raises(Unsealable):
        open_sealed(KEY, nowhere, seal(KEY, PLACE, TOKEN))


def test_another_key_is_refused_even_under_the_same_id() -> None:
    sealed = seal(KEY, PLACE, TOKEN)
    for other in (RecordKey(KEY.key_id, Secret(bytes(32))), RecordKey(uuid4(), KEY.material)):
        with pytest.raises(Unsealable):
            open_sealed(other, PLACE, sealed)


def test_equal_plaintexts_never_look_alike() -> None:
    sealed = {seal(KEY, PLACE, TOKEN) for _ in range(100)}
    assert len({value[17:33] for value in sealed}) == 100
    assert len({value[65:] for value in sealed}) == 100


def test_the_format_is_what_its_description_says() -> None:
    """An independent reading of the module's description: pyca's HKDF and AES-GCM, fed by hand."""
    sealed = seal(KEY, PLACE, TOKEN)
    header, commitment, body = sealed[:33], sealed[33:65], sealed[65:]
    associated = b"place:4:prod4:acme7:con_01k18:integration_tokens12:access_token7:con_01k3"
    info = b"customhouse/record/1" + header + associated
    keys = HKDFExpand(hashes.SHA512(), 64, info).derive(bytes(range(32)))
    assert header[:17] == b"\x01" + KEY.key_id.bytes
    assert commitment == keys[32:]
    assert AESGCM(keys[:32]).decrypt(bytes(12), body, header + associated) == TOKEN


def test_a_frozen_record_of_format_1_still_opens() -> None:
    frozen = bytes.fromhex(FROZEN)
    assert open_sealed(KEY, PLACE, frozen) == TOKEN


def test_the_commitment_is_checked_before_anything_is_decrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = bytearray(seal(KEY, PLACE, TOKEN))
    sealed[40] ^= 1

    def never(key: bytes) -> None:
        raise AssertionError(key)

    monkeypatch.setattr(envelope, "AESGCM", never)
    with pytest.raises(Unsealable):
        open_sealed(KEY, PLACE, bytes(sealed))


def test_a_plaintext_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "MAX_PLAINTEXT", 10)
    assert open_sealed(KEY, PLACE, seal(KEY, PLACE, bytes(10))) == bytes(10)
    with pytest.raises(TooLarge):
        seal(KEY, PLACE, bytes(11))


def test_a_key_shows_its_id_only() -> None:
    assert repr(KEY) == str(KEY) == f"{KEY}" == f"RecordKey({KEY.key_id})"
    with pytest.raises(TypeError):
        pickle.dumps(KEY)
    with pytest.raises(TypeError):
        copy.deepcopy(KEY)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(CustomhouseError):
        RecordKey(uuid4(), Secret(bytes(length)))


@given(st.integers(1, 4), st.integers(0, 4), st.binary(max_size=64))
def test_a_key_opens_what_it_or_one_of_its_others_sealed_and_nothing_else(others: int, by: int, plaintext: bytes) -> None:
    keys = [RecordKey(UUID(int=number + 1), Secret(bytes([number]) * 32)) for number in range(6)]
    held = RecordKey(keys[0].key_id, keys[0].material, tuple(keys[1 : others + 1]))
    sealed = seal(keys[by], PLACE, plaintext)
    if by <= others:
        assert open_sealed(held, PLACE, sealed) == plaintext
        with pytest.raises(Unsealable):
            open_sealed(RecordKey(held.key_id, held.material), PLACE, sealed if by else sealed[:-1])
    else:
        with pytest.raises(Unsealable):
            open_sealed(held, PLACE, sealed)
    # It seals with its own alone.
    assert key_id_of(seal(held, PLACE, plaintext)) == held.key_id
    lying = sealed[:1] + held.others[0].key_id.bytes + sealed[17:]
    if by != 1:
        with pytest.raises(Unsealable):
            open_sealed(held, PLACE, lying)
