"""Keys over time: whatever was written down, and whenever it was, the same key signs at the same second."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse.crypto.signatures import Algorithm, Profile, new_secret, shown
from customhouse.errors import Unsignable
from customhouse.outbound.signing import State, Term, signing, standing, timed_signer
from customhouse.types import Secret
from customhouse_receiver import MemoryReplayCache, Receiver, WebhookRejected

T0 = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
BODY = (
    b'{"schema_version":"1.0","event_id":"evt_1","event_type":"a","occurred_at":"2026-11-22T09:30:00Z","tenant_id":"acme",'
    b'"idempotency_key":"k","integration":{"connection_id":"con_1","provider":"webhook"},"trace":{"correlation_id":"c"},'
    b'"privacy":{"contains_pii":false,"pii_fields":[],"removed_fields":[],"policy":"tenant:0"},"data":{}}'
)
SECRETS = {f"whk_{number}": new_secret(Algorithm.V1) for number in range(4)}


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def rotated(activates: float, ends: float) -> list[Term]:
    """An active key with a next one, as `rotate` writes them."""
    return [Term("whk_0", "active", at(-1000), at(ends)), Term("whk_1", "next", at(activates), None)]


def written_down(terms: list[Term], moment: datetime) -> list[Term]:
    """What the periodic job makes of the rows at a moment."""
    states = standing(terms, moment)
    return [replace(term, state=states[term.key_id]) for term in terms]


def verifies(known: dict[str, Secret], headers: dict[str, str], second: float) -> bool:
    receiver = Receiver({key_id: shown(secret) for key_id, secret in known.items()}, replay=MemoryReplayCache(), clock=lambda: second)
    try:
        receiver.verify(headers, BODY)
    except WebhookRejected:
        return False
    return True


def test_a_key_goes_from_next_to_active_to_previous_to_destroyed() -> None:
    terms = [*rotated(10, 30)]
    seen = [standing(terms, at(second)) for second in (9, 10, 29, 30)]
    assert seen == [
        {"whk_0": "active", "whk_1": "next"},
        {"whk_0": "previous", "whk_1": "active"},
        {"whk_0": "previous", "whk_1": "active"},
        {"whk_0": "destroyed", "whk_1": "active"},
    ]


def test_a_previous_key_without_an_end_does_not_sign() -> None:
    terms = [Term("whk_0", "previous", at(-9), None), Term("whk_1", "active", at(-5), None)]
    assert signing(terms, at(0)) == ["whk_1"]


def test_the_active_key_comes_first_and_the_latest_previous_one_next() -> None:
    terms = [
        Term("whk_0", "previous", at(-30), at(5)),
        Term("whk_1", "previous", at(-20), at(5)),
        Term("whk_2", "active", at(-10), at(9)),
        Term("whk_3", "next", at(2), None),
    ]
    assert signing(terms, at(0)) == ["whk_2", "whk_1", "whk_0"]
    assert signing(terms, at(2)) == ["whk_3", "whk_2", "whk_1", "whk_0"]
    assert signing(terms, at(9)) == ["whk_3"]


@given(
    activates=st.integers(1, 50),
    overlap=st.integers(0, 50),
    noted=st.lists(st.floats(0, 120, allow_nan=False), max_size=4),
    asked=st.floats(0, 120, allow_nan=False),
)
def test_writing_turns_down_late_or_early_changes_nothing_of_what_signs(
    activates: int, overlap: int, noted: list[float], asked: float
) -> None:
    terms = rotated(activates, activates + overlap)
    expected = signing(terms, at(asked))
    for second in sorted(noted):
        if second <= asked:
            terms = written_down(terms, at(second))
    assert signing(terms, at(asked)) == expected
    assert len(expected) == len(set(expected))
    assert expected


@given(activates=st.integers(1, 50), overlap=st.integers(0, 50), second=st.integers(0, 120), standard=st.booleans())
def test_each_second_is_signed_so_that_whoever_holds_the_keys_of_that_second_verifies(
    activates: int, overlap: int, second: int, standard: bool
) -> None:
    profile = Profile.STANDARD_WEBHOOKS if standard else Profile.QUEAST_V1
    signer = timed_signer(profile, rotated(activates, activates + overlap), SECRETS, "X-Queast")
    stamp = int(at(second).timestamp())
    headers = signer.headers("evt_1", stamp, BODY)
    old, new = {"whk_0": SECRETS["whk_0"]}, {"whk_1": SECRETS["whk_1"]}
    assert verifies(old | new, headers, stamp)
    assert verifies(new, headers, stamp) is (second >= activates)
    assert verifies(old, headers, stamp) is (second < (activates + overlap if standard else activates))


def test_a_turn_within_a_second_counts_from_the_next_one() -> None:
    terms = [Term("whk_0", "active", at(-9), at(60)), Term("whk_1", "next", at(10.4), None)]
    signer = timed_signer(Profile.QUEAST_V1, terms, SECRETS, "X-Queast")
    ids = [signer.headers("evt_1", int(at(second).timestamp()), BODY)["X-Queast-Signature-Key-Id"] for second in (10, 11)]
    assert ids == ["whk_0", "whk_1"]


def test_a_previous_pair_does_not_disturb_a_profile_that_cannot_carry_it() -> None:
    secrets = {"whk_0": new_secret(Algorithm.V1A), "whk_1": SECRETS["whk_1"]}
    terms = [Term("whk_0", "previous", at(-9), at(60)), Term("whk_1", "active", at(-1), None)]
    signer = timed_signer(Profile.QUEAST_V1, terms, secrets, "X-Queast")
    assert signer.headers("evt_1", int(T0.timestamp()), BODY)["X-Queast-Signature-Key-Id"] == "whk_1"


@pytest.mark.parametrize("states", [[], ["next"], ["previous"], ["destroyed"], ["previous", "next"]])
def test_without_an_active_key_nothing_is_signed(states: list[State]) -> None:
    terms = [Term(f"whk_{number}", state, at(10), at(60)) for number, state in enumerate(states)]
    with pytest.raises(Unsignable):
        timed_signer(Profile.QUEAST_V1, terms, SECRETS, "X-Queast")
