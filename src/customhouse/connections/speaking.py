"""Speaking with providers: calls as the manifest describes them, answers as values or failures; nothing is raised by the network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from customhouse.connections.tokens import Tokens
from customhouse.egress.fetching import Fetcher, Reply
from customhouse.egress.outcomes import NOTHING_SENT
from customhouse.providers import calls
from customhouse.providers.calls import Call, Client
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.failures import Failure, classify, fits, read, refused
from customhouse.providers.manifest import ErrorRule, Provider
from customhouse.providers.replies import Account, TokenReply, parse_identity, parse_introspection, parse_token_reply
from customhouse.providers.vocabulary import Kind, Reason, Rotation, Step
from customhouse.types import Secret

_AWAY: Final = Failure(Kind.TRANSIENT, Reason.UNAVAILABLE)
_REVOKED: Final = frozenset({HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT})


@dataclass(frozen=True, slots=True)
class Lost:
    """The call may have reached the provider, and its answer did not reach us."""

    failure: Failure
    doubtful: bool = False
    """It may also be how this provider says that the refresh token is spent."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a refresh call came to."""

    found: TokenReply | Failure | Lost
    retry_after: int | None = None
    """Seconds that the provider asks to wait."""


class Speaker:
    """Makes the calls of the flow."""

    def __init__(self, catalogue: Catalogue, fetcher: Fetcher) -> None:
        """Take the catalogue and the way out."""
        self._catalogue = catalogue
        self._fetcher = fetcher

    def client(self, provider: Provider) -> Client:
        """Return our registration; raises `ProviderNotConfigured`."""
        return self._catalogue.client(provider.id)

    async def exchange(self, provider: Provider, code: Secret, redirect: str, verifier: Secret) -> TokenReply | Failure | Lost:
        """Turn a code into tokens. `Lost`: tokens may have been issued that we do not hold."""
        call = calls.exchange(provider, self.client(provider), code=code, redirect=redirect, verifier=verifier)
        reply = await self._send(provider, call)
        if reply.status is None or reply.error is not None:
            return _AWAY if reply.status is None and reply.error in NOTHING_SENT else Lost(_AWAY)
        headers = {} if reply.content_type is None else {"content-type": reply.content_type}
        found = parse_token_reply(provider, Step.EXCHANGE, reply.status, reply.body, headers)
        if isinstance(found, Failure) and found.kind is Kind.TRANSIENT and found.reason is not Reason.RATE_LIMITED:
            # Whatever was said, it was not "no": the code may have been spent.
            return Lost(found)
        return found

    async def refresh(self, provider: Provider, token: Secret, scopes: Iterable[str]) -> Renewal:
        """Show a refresh token. `Lost`: it may have been taken, and what came for it is not here.

        Args:
            provider: the manifest.
            token: the refresh token. Where it is good for one use, a reply without a new one leaves none.
            scopes: of the connection, for providers that want them repeated.
        """
        reply = await self._send(provider, calls.refresh(provider, self.client(provider), token=token, scopes=scopes))
        if reply.status is None or reply.error is not None:
            return Renewal(_AWAY if reply.status is None and reply.error in NOTHING_SENT else Lost(_AWAY), reply.retry_after)
        headers = {} if reply.content_type is None else {"content-type": reply.content_type}
        shown = None if provider.oauth2.refresh.rotation is Rotation.SINGLE_USE else token
        found = parse_token_reply(provider, Step.REFRESH, reply.status, reply.body, headers, shown=shown)
        if isinstance(found, Failure) and found.kind is Kind.TRANSIENT and found.reason is not Reason.RATE_LIMITED:
            spent = ErrorRule(found.kind, found.reason, provider.oauth2.refresh.spent_codes)
            doubtful = bool(spent.values) and fits(spent, Step.REFRESH, reply.status, read(reply.body))
            return Renewal(Lost(found, doubtful=doubtful), reply.retry_after)
        return Renewal(found, reply.retry_after)

    async def identify(self, provider: Provider, reply: TokenReply) -> Account | Failure:
        """Return who was connected."""
        if reply.account is not None:
            return reply.account
        call = calls.identity(provider, self.client(provider), access=reply.access_token, api_origin=reply.api_origin)
        if call is None:
            # The reply should have told, and did not (an installation for a whole organisation): nobody knows whose grant that is.
            return Failure(Kind.PERMANENT, Reason.NOT_ALLOWED)
        answer = await self._send(provider, call)
        if answer.status is None or answer.error is not None:
            return _AWAY
        return parse_identity(provider, answer.status, answer.body)

    async def granted(self, provider: Provider, reply: TokenReply) -> tuple[str, ...] | None:
        """Return the scopes that were granted, asking where the reply does not say; None: the provider does not say."""
        if reply.scopes is not None or not provider.endpoints.introspect_url:
            return reply.scopes
        answer = await self._send(provider, calls.introspect(provider, self.client(provider), token=reply.access_token))
        if answer.status is None or answer.error is not None:
            return None
        found = parse_introspection(provider, answer.status, answer.body)
        return None if isinstance(found, Failure) else found

    async def show_refresh(self, provider: Provider, token: Secret) -> TokenReply | Failure | Lost | None:
        """Show a refresh token that is to end: whether it still gives something; None: it did not come so far."""
        reply = await self._send(provider, calls.refresh(provider, self.client(provider), token=token))
        if reply.status is None or reply.error is not None:
            return None if reply.status is None and reply.error in NOTHING_SENT else Lost(_AWAY)
        headers = {} if reply.content_type is None else {"content-type": reply.content_type}
        found = parse_token_reply(provider, Step.REFRESH, reply.status, reply.body, headers, shown=token)
        if isinstance(found, Failure) and found.kind is Kind.TRANSIENT and found.reason is not Reason.RATE_LIMITED:
            return Lost(found)
        return found

    async def revoke(self, provider: Provider, held: Tokens) -> Failure | None:
        """Ask the provider to end a grant; None: it says that it did, or that there is nothing left to end."""
        for call in calls.revoke(provider, self.client(provider), access=held.access, refreshing=held.refresh):
            answer = await self._send(provider, call)
            if answer.status is None or answer.error is not None:
                return _AWAY
            failure = _refusal(provider, answer.status, answer.body)
            if failure is not None:
                return failure
        return None

    async def lives(self, provider: Provider, held: Tokens, api_origin: str | None) -> bool | None:
        """Tell whether an access token still opens something; None: that cannot be said now."""
        call = calls.probe(provider, self.client(provider), access=held.access, api_origin=api_origin)
        answer = await self._send(provider, call)
        if answer.status is None or answer.error is not None:
            return None
        found = parse_identity(provider, answer.status, answer.body)
        if not isinstance(found, Failure):
            return True
        if found.reason in {Reason.TOKEN_REFUSED, Reason.GRANT_ENDED, Reason.ACCOUNT_GONE}:
            return False
        if found.reason is Reason.UNREADABLE and answer.status == HTTPStatus.OK:
            # It was let in; who it is does not matter here.
            body = read(answer.body)
            return True if isinstance(body, dict) and not refused(provider.oauth2, body) else None
        return None if found.kind is Kind.TRANSIENT else True

    async def ask(self, provider: Provider, call: Call) -> Reply:
        """Make a call as it is, and return the answer as it came: for what is no step of a flow."""
        return await self._send(provider, call)

    async def _send(self, provider: Provider, call: Call) -> Reply:
        if not calls.may_carry_token(provider, call.url):
            # R21: secrets go to the provider's own hosts alone.
            return Reply(None, "address_refused")
        trusted = "/".join(call.url.split("/", 3)[:3]) in provider.trusts
        headers = call.headers()
        if call.authorization is not None:
            headers["authorization"] = call.authorization.reveal().decode("latin-1")
        return await self._fetcher.fetch(call.method, call.url, headers, call.body.reveal(), trusted=trusted)


def _refusal(provider: Provider, status: int, raw: bytes) -> Failure | None:
    body = read(raw)
    gone = provider.oauth2.revocation.gone
    if status in _REVOKED and not refused(provider.oauth2, body):
        return None
    if any(fits(rule, step, status, body) for rule in gone for step in rule.steps):
        return None
    return classify(provider, Step.REVOKE, status, raw)
