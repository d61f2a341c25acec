"""The signing keys of a connection over time: next → active → previous → destroyed (rulings §4). Pure.

The database records a state; time moves it on by itself: a `next` key is active from `activates_at`, whoever has written that down or
not. So every process that holds the keys switches at the same second, without asking anybody.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

from customhouse.crypto.signatures import Profile, Signer, SigningKey, signer
from customhouse.errors import Unsignable
from customhouse.types import Secret

State: TypeAlias = Literal["next", "active", "previous", "destroyed"]
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Term:
    """One key and its time, as recorded.

    Attributes:
        key_id: `whk_…`
        state: As the database holds it; `standing` says what it is at a moment.
        activates_at: From when on it signs.
        valid_until: Until when it stays valid after a later key took over; None: nothing takes over yet.
    """

    key_id: str
    state: State
    activates_at: datetime
    valid_until: datetime | None


def standing(terms: Sequence[Term], moment: datetime) -> dict[str, State]:
    """Return what each key is at a moment. A key without an end does not outlive the one that took over: it fails closed."""
    takes_over = any(term.state == "next" and term.activates_at <= moment for term in terms)
    found: dict[str, State] = {}
    for term in terms:
        if term.state == "next":
            found[term.key_id] = "active" if takes_over and term.activates_at <= moment else "next"
        elif term.state == "destroyed" or (term.state == "active" and not takes_over):
            found[term.key_id] = term.state
        else:
            found[term.key_id] = "previous" if term.valid_until is not None and moment < term.valid_until else "destroyed"
    return found


def signing(terms: Sequence[Term], moment: datetime) -> list[str]:
    """Return the ids of the keys that sign at a moment: the active one, then the previous ones, the latest first."""
    states = standing(terms, moment)
    latest = sorted(terms, key=lambda term: (term.activates_at, term.key_id), reverse=True)
    return [term.key_id for state in ("active", "previous") for term in latest if states[term.key_id] == state]


def timed_signer(profile: Profile, terms: Sequence[Term], secrets: Mapping[str, Secret], header_prefix: str) -> Signer:
    """Return a signer that uses, for each timestamp, the keys that are in force at that second.

    Args:
        profile: `queast-v1` has room for one signature, so there the active key alone signs.
        terms: The keys of one connection.
        secrets: Their secrets by key id; those of destroyed keys are not needed.
        header_prefix: As in `crypto.signatures.signer`.

    Raises:
        Unsignable: at some moment there would be no active key, or one that does not fit the profile.
    """
    turns = {term.activates_at for term in terms if term.state == "next"}
    turns |= {term.valid_until for term in terms if term.state in {"active", "previous"} and term.valid_until is not None}
    ordered = sorted(turns)
    # Long before everything, then at each turn.
    moments = [ordered[0] - _SECOND, *ordered] if ordered else [_earliest(terms)]
    signers: list[Signer] = []
    for moment in moments:
        if "active" not in standing(terms, moment).values():
            raise Unsignable("No signing key is active.")
        keys = [SigningKey(key_id, secrets[key_id]) for key_id in signing(terms, moment)]
        signers.append(signer(profile, keys[:1] if profile is Profile.QUEAST_V1 else keys, header_prefix))
    if len(signers) == 1:
        return signers[0]
    return _TimedSigner([math.ceil(turn.timestamp()) for turn in ordered], signers)


def with_headers(signer_of_keys: Signer, headers: Mapping[str, str]) -> Signer:
    """Return a signer whose deliveries carry these headers too; a signature always stands over a custom header of its name."""
    return _Dressed(signer_of_keys, dict(headers)) if headers else signer_of_keys


def _earliest(terms: Sequence[Term]) -> datetime:
    if not terms:
        raise Unsignable("There is no signing key.")
    return min(term.activates_at for term in terms)


class _TimedSigner:
    """One signer more than there are turns: the first until the first turn, and so on."""

    __slots__ = ("_signers", "_turns")

    def __init__(self, turns: list[int], signers: list[Signer]) -> None:
        self._turns = turns
        self._signers = signers

    def headers(self, event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        return self._signers[bisect_right(self._turns, timestamp)].headers(event_id, timestamp, body)


class _Dressed:
    """A signer with the custom headers of its connection."""

    __slots__ = ("_headers", "_signer")

    def __init__(self, signer_of_keys: Signer, headers: dict[str, str]) -> None:
        self._headers = headers
        self._signer = signer_of_keys

    def headers(self, event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        return self._headers | self._signer.headers(event_id, timestamp, body)
