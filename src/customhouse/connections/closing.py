"""Ending one grant at its provider, and seeing that it is ended: a 200 from a revocation endpoint proves nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from customhouse.connections.speaking import Lost, Speaker
from customhouse.connections.tokens import Tokens
from customhouse.providers.failures import Failure
from customhouse.providers.manifest import Provider
from customhouse.providers.vocabulary import Extent, Kind, Reason, Token

_LEEWAY: Final = timedelta(seconds=30)
"""An access token that ends sooner counts as ended: what is refused afterwards was perhaps refused for its age."""
_DEAD: Final = frozenset({Reason.TOKEN_REFUSED, Reason.GRANT_ENDED, Reason.ACCOUNT_GONE})


@dataclass(frozen=True, slots=True)
class Held:
    """What waits in escrow for one grant.

    Attributes:
        tokens: the tokens.
        access_expires_at: when the access token ends by itself; None: not known, or never.
        api_origin: of this account.
        asked_at: since when the provider says that it has ended the grant, with nothing seen that speaks against it.
        spent: the refresh token was shown in a call whose answer nobody has, and is good for one use: what came for it may live, so that
            its refusal proves nothing.
    """

    tokens: Tokens
    access_expires_at: datetime | None
    api_origin: str | None
    asked_at: datetime | None
    spent: bool = False

    def is_stale(self, now: datetime) -> bool:
        """Whether the access token proves nothing any more: it would be refused for its age."""
        return self.access_expires_at is not None and self.access_expires_at <= now + _LEEWAY


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far it came."""

    outcome: str | None
    """`revoked`; None: it has to be tried again."""
    verified: bool = False
    """A token of the grant was shown to the provider afterwards, and refused for another reason than its age."""
    asked_at: datetime | None = None
    """As in `Held`."""
    again_at: datetime | None = None
    """When a proof can be had that cannot be had earlier; None: as soon as is polite."""


Save = Callable[[Held], Awaitable[None]]
"""Keeps tokens that came on the way: written before they are used, because the ones before them may be spent. Or that they may be."""


async def settle(speaker: Speaker, provider: Provider, held: Held, now: datetime, save: Save) -> Verdict:
    """Ask the provider to end a grant, and look whether it is ended. Repeating it is harmless.

    Nothing is raised by the network; what `save` raises ends it.
    """
    revocation = provider.oauth2.revocation
    if held.asked_at is not None:
        # It said so before; perhaps only the proof is missing.
        found = await _alive(speaker, provider, held, now, save)
        if isinstance(found, Held):
            held = replace(found, asked_at=None)
        else:
            return Verdict("revoked", verified=True) if found is False else Verdict(None, asked_at=held.asked_at)
    if held.is_stale(now) and any(step.token is Token.ACCESS for step in revocation.steps) and held.tokens.refresh is not None:
        # An access token that has run out is refused where it has to be shown.
        renewed = await _alive(speaker, provider, held, now, save)
        if renewed is False:
            return Verdict("revoked", verified=True)
        held = renewed if isinstance(renewed, Held) else held
    # Of a spent grant only an access token says something: one that is seen to be taken before, and refused afterwards.
    witnessed = not held.spent or (
        revocation.extent is not Extent.TOKEN
        and not held.is_stale(now)
        and await speaker.lives(provider, held.tokens, held.api_origin) is True
    )
    failure = await speaker.revoke(provider, held.tokens)
    if failure is not None and failure.kind is Kind.TRANSIENT:
        return Verdict(None)
    found = await _alive(speaker, provider, held, now, save)
    if found is False and witnessed:
        return Verdict("revoked", verified=True)
    if failure is not None or found is False or not witnessed:
        return Verdict(None)
    if found is None:
        return Verdict(None, asked_at=now)
    if revocation.proof_seconds:
        # Issued access tokens live on for a while: that this one does says nothing yet.
        return Verdict(None, asked_at=now, again_at=now + timedelta(seconds=revocation.proof_seconds))
    return Verdict(None)


async def _alive(speaker: Speaker, provider: Provider, held: Held, now: datetime, save: Save) -> Held | bool | None:
    """Return False where the grant is dead, what is held of it where it lives, None where that cannot be said now."""
    if not held.is_stale(now):
        lives = await speaker.lives(provider, held.tokens, held.api_origin)
        if lives is not False or held.tokens.refresh is None or provider.oauth2.revocation.extent is not Extent.TOKEN:
            return held if lives else lives
        # Where a revocation ends one token, the other one has to be seen to be dead as well.
    # What has run out is refused for its age: then only the refresh token can prove anything.
    reply = None if held.tokens.refresh is None else await speaker.show_refresh(provider, held.tokens.refresh)
    if reply is None:
        return None
    if isinstance(reply, Lost):
        await save(replace(held, spent=True))
        return None
    if isinstance(reply, Failure):
        if held.spent:
            return None
        return False if reply.kind is Kind.PERMANENT and reply.reason in _DEAD else None
    ends = None if reply.expires_in is None else now + timedelta(seconds=reply.expires_in)
    renewed = Held(Tokens(reply.access_token, reply.refresh_token), ends, reply.api_origin or held.api_origin, None)
    await save(renewed)
    return renewed
