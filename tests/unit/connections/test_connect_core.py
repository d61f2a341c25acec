"""The pure parts of the connect flow: seals, hashes, the query of a callback, users, sentences."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse.connections import tokens
from customhouse.connections.returning import answer_of
from customhouse.connections.tokens import FlowSeal, GrantSeal, Tokens
from customhouse.connections.users import User, user_from, user_of
from customhouse.crypto.envelope import RecordKey
from customhouse.errors import Invalid, Unsealable
from customhouse.providers.vocabulary import Reason
from customhouse.types import Secret, TenantId
from customhouse.web.sentences import SAID, said_of

KEY = RecordKey(uuid4(), Secret(bytes(range(32))))
SEAL = GrantSeal("dev", TenantId("acme"), uuid4(), KEY)
ROW = {"mode": "observe", "grant_version": 1, "granted": ["a", "b"], "account_index": bytes(32), "api_origin": None}


@given(st.binary(min_size=1), st.none() | st.binary(min_size=1))
def test_both_tokens_come_back_as_they_were_sealed(access: bytes, refresh: bytes | None) -> None:
    held = Tokens(Secret(access), None if refresh is None else Secret(refresh))
    assert SEAL.open_both("pending_grants", "r", SEAL.seal_both("pending_grants", "r", held)) == held


@pytest.mark.parametrize(
    "other",
    [
        replace(SEAL, environment="prod"),
        replace(SEAL, tenant_id=TenantId("other")),
        replace(SEAL, connection_id=uuid4()),
        replace(SEAL, key=RecordKey(uuid4(), KEY.material)),
    ],
)
def test_a_token_that_was_moved_does_not_open(other: GrantSeal) -> None:
    sealed = SEAL.seal("integration_tokens", "access_sealed", "r", b"token", 3)
    assert SEAL.open("integration_tokens", "access_sealed", "r", sealed, 3) == Secret(b"token")
    for seal, place in (
        (other, ("integration_tokens", "access_sealed", "r", 3)),
        (SEAL, ("integration_tokens", "access_sealed", "r", 2)),
        (SEAL, ("integration_tokens", "refresh_sealed", "r", 3)),
        (SEAL, ("pending_grants", "access_sealed", "r", 3)),
        (SEAL, ("integration_tokens", "access_sealed", "s", 3)),
    ):
        with pytest.raises(Unsealable):
            seal.open(*place[:3], sealed, place[3])


def test_a_flow_seal_is_bound_to_its_row() -> None:
    seal = FlowSeal("dev", TenantId("acme"), KEY)
    sealed = seal.seal("connect_states", "verifier_sealed", "r", b"v")
    assert seal.open("connect_states", "verifier_sealed", "r", sealed) == Secret(b"v")
    for place in (("connect_states", "verifier_sealed", "s"), ("connect_exchanges", "verifier_sealed", "r")):
        with pytest.raises(Unsealable):
            seal.open(*place, sealed)


def test_what_is_hashed_for_one_purpose_is_no_hash_for_another() -> None:
    token = tokens.new_token()
    assert len({tokens.hashed(KEY, what, token) for what in ("link", "state", "browser")}) == 3
    assert tokens.account_index(KEY, "zoom", "c", "1") != tokens.account_index(KEY, "zoom", "c1", "")
    assert tokens.proof_against_forgery("a" * 43, "link") != tokens.proof_against_forgery("b" * 43, "link")


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "act"},
        {"grant_version": 2},
        {"granted": ["a"]},
        {"granted": ["a", "b", "c"]},
        {"account_index": bytes(31) + b"x"},
        {"api_origin": "https://evil.example"},
    ],
)
def test_a_row_that_was_edited_by_hand_is_refused(change: dict[str, object]) -> None:
    connection_id = uuid4()
    row = {**ROW, "mac": tokens.guard(KEY, connection_id, "zoom", ROW)}
    tokens.check_guard(KEY, connection_id, "zoom", row)
    for edited, provider, whose in ((row | change, "zoom", connection_id), (row, "gmail", connection_id), (row, "zoom", uuid4())):
        with pytest.raises(Unsealable):
            tokens.check_guard(KEY, whose, provider, edited)


@given(st.lists(st.tuples(st.sampled_from(["state", "code", "error", "iss", "scope", ""]), st.text())))
def test_whatever_a_callback_carries_is_read_without_an_error(pairs: list[tuple[str, str]]) -> None:
    answer = answer_of(pairs)
    names = [name for name, _ in pairs if name in {"state", "code", "error", "iss"}]
    assert answer.doubled == (len(names) != len(set(names)))
    assert "Secret(***)" in repr(answer) or answer.code is None


@given(st.text(), st.none() | st.text(), st.none() | st.text(), st.none() | st.text())
def test_a_user_is_taken_or_refused_and_nothing_of_it_is_repeated(
    user_id: str, name: str | None, mail: str | None, locale: str | None
) -> None:
    refused: Invalid | None = None
    try:
        user = user_of(user_id, name, mail, locale)
    except Invalid as error:
        refused = error
    else:
        assert user_from(user.facts()) == user
        assert user.shown.strip()
    if refused is not None:
        assert {fault.pointer for fault in refused.faults} <= {"/user/id", "/user/display_name", "/user/email", "/user/locale"}


def test_a_user_without_a_name_is_shown_by_mail_or_id() -> None:
    assert User("u1").shown == "u1"
    assert User("u1", email="ada@example.com").shown == "ada@example.com"
    assert user_of("u1", " Ada ", "ada@example.com", "pt-BR") == User("u1", "Ada", "ada@example.com", "pt-BR")


@pytest.mark.parametrize("code", sorted({*map(str, SAID), *map(str, Reason), "made_up"}))
def test_every_code_has_a_page(code: str) -> None:
    said = said_of(code)
    assert said.title
    assert said.words
    assert said.advice
    assert said.status in {200, 400, 403, 404, 409, 410, 502, 503}
    assert (said.status == 200) == (code in {"granted", "declined"})
    assert (said.mark == "good") == (code == "granted")
