"""What the answer to a refresh means for a connection. Pure: manifest, journal and answer in, a judgement out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from customhouse.connections.speaking import Lost
from customhouse.providers.failures import Failure
from customhouse.providers.manifest import Provider, Refresh
from customhouse.providers.replies import TokenReply
from customhouse.providers.scopes import closure, forbidden, normalise
from customhouse.providers.vocabulary import Kind, Reason, Reuse, Rotation

REPLY_LOST: Final = "refresh_reply_lost"
"""The refresh token was spent by a call whose answer nobody has."""
TOKEN_MISSING: Final = "refresh_token_missing"  # noqa: S105 - a word
"""There is no refresh token (any more)."""
OTHER_ACCOUNT: Final = "other_account"
_DOUBTS: Final = 4
_DOUBT_SECONDS: Final = 3600.0
"""So many doubtful answers over so long a time are no passing trouble of a provider any more."""
_OF_US_ALL: Final = frozenset({Reason.CLIENT_REFUSED, Reason.APPLICATION_DISABLED})
"""What a provider says of our registration. A request that it refuses may be one connection's alone."""


@dataclass(frozen=True, slots=True)
class Journal:
    """The calls that were made for one generation, this one included."""

    attempts: int = 1
    lost: int = 0
    """Earlier calls whose answer nobody has."""
    lost_for: float = 0.0
    """Seconds since the first of them."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a connection may do after a refresh, in the manifest's spelling."""

    granted: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Good:
    """The tokens take the place of the old ones. `held` is None where the reply does not name scopes: then they are the same
    (RFC 6749 §5.1)."""

    held: Held | None


@dataclass(frozen=True, slots=True)
class Unacceptable:
    """The tokens may not be kept, and the connection has none any more."""

    reason: str
    wider: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing is known against the grant: try again after a pause. `lost`: the token may be spent."""

    reason: str
    lost: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """The grant is of no use any more: the user has to consent again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Everyone:
    """The provider does not accept our registration: that says nothing about this connection."""

    reason: str


Judgement: TypeAlias = Good | Unacceptable | Later | Ended | Everyone


def may_show(refresh: Refresh, journal: Journal) -> bool:
    """Tell whether a refresh token may be shown again after a call whose answer was lost.

    Where showing a spent token ends the whole grant (RFC 9700 §4.14.2), only as long as the provider takes it for a repetition.
    """
    return not journal.lost or refresh.reuse is not Reuse.REVOKES or journal.lost_for < refresh.grace_seconds


def judge(
    provider: Provider, requested: Iterable[str], journal: Journal, found: TokenReply | Failure | Lost, *, same_account: bool = True
) -> Judgement:
    """Judge the answer to a refresh.

    Args:
        provider: the manifest.
        requested: the scopes that the user was asked for, as of the last consent.
        journal: the calls for this generation.
        found: the answer.
        same_account: the reply names no account, or the connection's own.
    """
    if isinstance(found, TokenReply):
        if not same_account:
            return Unacceptable(OTHER_ACCOUNT)
        return Good(None) if found.scopes is None else _compared(provider, tuple(requested), found.scopes)
    failure = found.failure if isinstance(found, Lost) else found
    if isinstance(found, Lost) and found.doubtful and journal.lost >= _DOUBTS and journal.lost_for >= _DOUBT_SECONDS:
        return Ended(REPLY_LOST)
    if failure.kind is Kind.APPLICATION and failure.reason in _OF_US_ALL:
        return Everyone(str(failure.reason))
    if failure.kind is not Kind.PERMANENT:
        return Later(str(failure.reason), lost=isinstance(found, Lost))
    spent = journal.lost and provider.oauth2.refresh.rotation is Rotation.SINGLE_USE and failure.reason is Reason.GRANT_ENDED
    return Ended(REPLY_LOST if spent else str(failure.reason))


def _compared(provider: Provider, requested: tuple[str, ...], spelled: tuple[str, ...]) -> Judgement:
    """Compare with what this user was asked for, which may be less, or more, than the manifest asks for today."""
    got = normalise(provider, spelled)
    refused = tuple(dict.fromkeys(name for name in (*got, *spelled) if forbidden(provider, name)))
    harmless = {one.name.casefold() for one in provider.harmless}
    wider = tuple(name for name in got if name not in requested and name.casefold() not in harmless)
    if refused:
        return Unacceptable("scope_forbidden", wider, refused)
    if wider:
        return Unacceptable("scope_wider", wider)
    held = closure(provider, got)
    unsaid = {scope.name for scope in provider.scopes if scope.unsaid}
    return Good(Held(got, tuple(name for name in requested if name not in held and name not in unsaid)))


def repeated(provider: Provider, requested: Iterable[str], granted: Iterable[str]) -> tuple[str, ...]:
    """Return the scopes that a refresh names: what was granted, and what replies leave out although it was."""
    have = set(granted)
    unsaid = {scope.name for scope in provider.scopes if scope.unsaid}
    return tuple(name for name in requested if name in have or name in unsaid)
