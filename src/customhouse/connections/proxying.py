"""The guarded proxy: a call passes where manifest, grant, mode and approval all allow it, and with the provider's own hosts alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Final
from uuid import UUID

from customhouse.audit import tags
from customhouse.clock import Clock
from customhouse.connections.ports import Refresher
from customhouse.connections.reading import REFUSED_BY_PROVIDER, Asker, Held, Reader, Reading
from customhouse.connections.refusing import Refusing
from customhouse.connections.speaking import Speaker
from customhouse.connections.sql import SQL
from customhouse.connections.tokens import Tokens
from customhouse.db import Database
from customhouse.egress.relaying import Answer, Broken, Relay
from customhouse.errors import (
    ApprovalRequired,
    CustomhouseError,
    Invalid,
    NotAllowed,
    Overloaded,
    ProviderLimited,
    ProviderReplyTooLarge,
    ProviderSilent,
    ReauthorizationRequired,
    ScopeNotGranted,
    TokenUnavailable,
)
from customhouse.metrics import PROXY_CALLS, Metrics
from customhouse.providers.allowing import checked_path, checked_query, rules_for
from customhouse.providers.calls import at_origin, may_carry_token
from customhouse.providers.failures import LARGEST_REPLY, classify, read, refused
from customhouse.providers.manifest import Allowance, OAuth2, Provider
from customhouse.providers.scopes import closure
from customhouse.providers.vocabulary import Mode, Reason, Step
from customhouse.types import Json, TenantId

PASSED_ON: Final = frozenset(
    (
        *("accept", "accept-language", "content-language", "content-type", "idempotency-key", "if-match", "if-modified-since"),
        *("if-none-match", "if-unmodified-since", "prefer", "range"),
    )
)
"""Headers of the caller that are passed on. What is not here never is: credentials, cookies, addresses, hosts, other accounts."""
LARGEST_BODY: Final = 1024 * 1024
LARGEST_ANSWER: Final = 32 * 1024 * 1024
_SAFE: Final = frozenset({"GET", "HEAD"})
_MOST_AT_ONCE: Final = 256
_MOST_OF_ONE: Final = 16
_LONGEST_HOLD: Final = timedelta(hours=24)
_TOKEN_REFUSED: Final = frozenset({Reason.TOKEN_REFUSED, Reason.GRANT_ENDED, Reason.USER_NEEDED})
"""What a refusal may say about the token. That an account is not there may as well be said of whom the call asks about."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the caller wants to be sent; `repr` shows neither path nor body.

    Attributes:
        method: in upper case.
        path: behind the proxy's own, as it stood in the request line.
        query: likewise, without `?`.
        headers: those of `PASSED_ON`, names in lower case.
        body: the bytes.
    """

    method: str
    path: bytes = field(repr=False)
    query: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def repeatable(self) -> bool:
        """Whether the call may be made twice: it changes nothing, or the provider is told that it is the same one (R31)."""
        return self.method in _SAFE or "idempotency-key" in self.headers


class Proxy:
    """Makes calls for callers who never see the token."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        reader: Reader,
        refresher: Refresher,
        refusing: Refusing,
        speaker: Speaker,
        relay: Relay,
        metrics: Metrics,
    ) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._clock = clock
        self._reader = reader
        self._refresher = refresher
        self._refusing = refusing
        self._speaker = speaker
        self._relay = relay
        self._counted = {word: metrics.counter(PROXY_CALLS, outcome=word) for word in ("passed", "refused", "held", "failed")}
        self._inside: dict[UUID, int] = {}
        self._all_inside = 0

    @asynccontextmanager
    async def call(self, tenant: TenantId, connection_id: UUID, asker: Asker, request: Request) -> AsyncIterator[Answer]:
        """Make a call, and give the provider's answer for the length of a block; its entry in the ledger is durable then.

        Raises:
            NotFound, Conflict, ReauthorizationRequired, TokenUnavailable: as `Reader.look` and `Reader.open`.
            Invalid: the path, or the query, has more than one meaning.
            NotAllowed, ScopeNotGranted, ApprovalRequired: it may not be made.
            ProviderLimited: the provider asked us to wait, and the time is not over.
            ProviderSilent, ProviderReplyTooLarge: there is no answer that could be passed on.
            Overloaded: too many calls are under way.
        """
        held = await self._reader.look(tenant, connection_id, asker)
        rule, url = await self._admitted(held, asker, request)
        if held.hold_until is not None and (left := (held.hold_until - self._clock.now()).total_seconds()) > 0:
            self._counted["held"].inc()
            raise ProviderLimited(retry_after=max(1, round(left)))
        self._enter(connection_id)
        try:
            async with AsyncExitStack() as stack:
                yield await self._made(stack, held, asker, request, rule, url)
        finally:
            self._leave(connection_id)

    async def _admitted(self, held: Held, asker: Asker, request: Request) -> tuple[Allowance, str]:
        """Return the rule under which a call may be made, and its address; a refusal is in the ledger when it is raised."""
        try:
            path, query = checked_path(request.path), checked_query(request.query)
            rule = admitted(held, request.method, path)
            base = at_origin(held.provider, held.provider.endpoints.api_base, held.api_origin)
            url = f"{base.rstrip('/')}{path}{'?' + query if query else ''}"
            if not may_carry_token(held.provider, url):
                # R21: whatever made this address, the token does not go there.
                raise NotAllowed("The address is none of the provider's own hosts.")
        except CustomhouseError as error:
            self._counted["refused"].inc()
            reason = "path_refused" if isinstance(error, Invalid) else error.code
            await self._reader.refuse(held, asker, "proxy", reason, request.method)
            raise
        return rule, url

    async def _made(self, stack: AsyncExitStack, held: Held, asker: Asker, request: Request, rule: Allowance, url: str) -> Answer:
        reading = await self._reader.open(held, asker, "proxy", (rule.scope,))
        answer, lives = await self._sent(stack, reading, request, url)
        if lives is not True and isinstance(held.provider.auth, OAuth2):
            await self._called(reading, asker, request, rule, answer)
            await stack.aclose()
            await self._refresher.renew(held.tenant_id, held.connection_id, generation=reading.generation)
            if not request.repeatable:
                raise TokenUnavailable("The provider refused the token, which has been renewed; nothing was done. Repeat the call.")
            fresh = await self._reader.look(held.tenant_id, held.connection_id, asker)
            if admitted(fresh, request.method, checked_path(request.path)) != rule or fresh.api_origin != held.api_origin:
                raise TokenUnavailable("The connection has just changed; repeat the call.")
            reading = await self._reader.open(fresh, asker, "proxy", (rule.scope,))
            answer, lives = await self._sent(stack, reading, request, url)
        await self._called(reading, asker, request, rule, answer)
        if lives is not True:
            self._counted["failed"].inc()
            if lives is None:
                raise TokenUnavailable("The provider refused the token, and does not say whether it is dead.")
            await self._refusing.token_refused(reading.held)
            raise ReauthorizationRequired(REFUSED_BY_PROVIDER)
        await self._remember(held, answer)
        if answer.status is None:
            self._counted["failed"].inc()
            raise ProviderSilent
        if answer.length is not None and answer.length > LARGEST_ANSWER and request.method != "HEAD":
            self._counted["failed"].inc()
            raise ProviderReplyTooLarge
        self._counted["passed"].inc()
        return answer

    async def _sent(self, stack: AsyncExitStack, reading: Reading, request: Request, url: str) -> tuple[Answer, bool | None]:
        """Send a call once; return its answer, and whether the token lives as far as that says; None: that cannot be said now."""
        provider = reading.held.provider
        headers = {
            "accept": "*/*",
            **request.headers,
            **dict(provider.api_headers),
            "accept-encoding": "identity",
            "authorization": f"Bearer {reading.access.reveal().decode('latin-1')}",
        }
        trusted = "/".join(url.split("/", 3)[:3]) in provider.trusts
        answer = await stack.enter_async_context(self._relay.call(request.method, url, headers, request.body, trusted=trusted))
        try:
            refusal = await _refusal(provider, answer)
        except Broken as broken:
            return Answer(None, broken.failure), True
        if not refusal:
            return answer, True
        if not isinstance(provider.auth, OAuth2):
            return answer, False
        # One place may refuse what the token opens elsewhere: nobody's connection ends because of a call that somebody chose.
        return answer, await self._speaker.lives(provider, Tokens(reading.access, None), reading.held.api_origin)

    async def _called(self, reading: Reading, asker: Asker, request: Request, rule: Allowance, answer: Answer) -> None:
        """Write the call down; of its path only the rule, which holds nobody's data."""
        detail: dict[str, Json] = {
            "provider": reading.held.provider.id,
            "method": request.method,
            "rule": rule.path,
            "scope": rule.scope,
            "status": answer.status,
            "error": answer.error,
        }
        await self._reader.note(reading.held, asker, tags.PROVIDER_CALLED, detail, None)

    async def _remember(self, held: Held, answer: Answer) -> None:
        if answer.status not in {429, 503} or not answer.retry_after:
            return
        until = self._clock.now() + min(timedelta(seconds=answer.retry_after), _LONGEST_HOLD)
        async with self._database.transaction(held.tenant_id) as conn:
            await conn.execute(SQL["hold_calls"], held.tenant_id, held.connection_id, self._clock.now(), until)

    def _enter(self, connection_id: UUID) -> None:
        mine = self._inside.get(connection_id, 0)
        if self._all_inside >= _MOST_AT_ONCE or mine >= _MOST_OF_ONE:
            raise Overloaded("Too many calls of this connection, or of all, are under way.")
        self._inside[connection_id] = mine + 1
        self._all_inside += 1

    def _leave(self, connection_id: UUID) -> None:
        self._all_inside -= 1
        left = self._inside[connection_id] - 1
        if left:
            self._inside[connection_id] = left
        else:
            del self._inside[connection_id]


def admitted(held: Held, method: str, path: str) -> Allowance:
    """Return the rule under which a call may be made with a connection. Pure.

    Raises:
        NotAllowed: no rule speaks of it, or the connection only observes.
        ScopeNotGranted: the grant does not hold the scope of any such rule.
        ApprovalRequired: it changes something.
    """
    rules = rules_for(held.provider, method, path)
    if not rules:
        raise NotAllowed("The manifest of this provider does not let this method and path through.")
    granted = closure(held.provider, held.granted) | _unsaid(held)
    within = [rule for rule in rules if rule.scope in granted]
    if not within:
        raise ScopeNotGranted(f"This call needs the scope {rules[0].scope}, which the grant does not hold.")
    if within[0].approval:
        if held.mode != Mode.ACT:
            raise NotAllowed("This connection only observes; its user can consent to more.")
        raise ApprovalRequired
    return within[0]


async def _refusal(provider: Provider, answer: Answer) -> bool:
    """Tell whether an answer says that the token is refused; its body is passed on all the same. Raises `Broken`."""
    auth = provider.auth
    flagged = isinstance(auth, OAuth2) and bool(auth.success_flag)
    if answer.status is None or (answer.status != HTTPStatus.UNAUTHORIZED and not (flagged and answer.status == HTTPStatus.OK)):
        return False
    body = await answer.head(LARGEST_REPLY)
    if body is None or (answer.status == HTTPStatus.OK and isinstance(auth, OAuth2) and not refused(auth, read(body))):
        return False
    return classify(provider, Step.API, answer.status, body).reason in _TOKEN_REFUSED


def _unsaid(held: Held) -> frozenset[str]:
    """Return the scopes that replies leave out although they were granted."""
    return frozenset(scope.name for scope in held.provider.scopes if scope.unsaid and scope.name in held.requested)
