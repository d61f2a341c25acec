"""The way back from the provider: state, code, tokens, scopes, identity; a grant that may be kept waits for the host's word."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.canonical import dump
from customhouse.clock import Clock
from customhouse.connections import tokens
from customhouse.connections.declining import DECLINED
from customhouse.connections.ports import REFUSED, Announce
from customhouse.connections.revoking import Revoker, Unwanted
from customhouse.connections.sessions import LIFE, Session, Sessions, origin_of
from customhouse.connections.speaking import Lost, Speaker
from customhouse.connections.sql import SQL
from customhouse.connections.tokens import INDEX, GrantSeal, Tokens
from customhouse.db import Database, Executor, Row
from customhouse.errors import ConnectRefused, CustomhouseError
from customhouse.failpoints import Failpoints
from customhouse.providers import calls, scopes
from customhouse.providers.failures import Failure, classify
from customhouse.providers.replies import Account, TokenReply
from customhouse.providers.scopes import Comparison, Verdict
from customhouse.providers.vocabulary import Step
from customhouse.types import PLATFORM, Json, Secret, TenantId
from customhouse.vault.vault import Vault

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_CODE: Final = re.compile(r"[\x20-\x7e]{1,4096}")  # RFC 6749 appendix A.11
_PARAMETERS: Final = ("state", "code", "error", "iss")
EXCHANGE_TIME: Final = timedelta(minutes=2)
"""After this long an exchange counts as lost; its three calls have 15 s each."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider sent back in the browser, as it stands in the query."""

    state: str | None
    code: Secret | None
    error: str | None
    iss: str | None
    doubled: bool = False
    """A parameter was there twice: two readers could see two answers."""


def answer_of(pairs: list[tuple[str, str]]) -> Answer:
    """Read the query of a callback; what providers add besides is not looked at."""
    found: dict[str, str] = {}
    doubled = False
    for name, value in pairs:
        if name in _PARAMETERS:
            doubled = doubled or name in found
            found[name] = value
    code = found.get("code")
    secret = None if not code else Secret(code.encode("utf-8", "surrogatepass"))
    return Answer(found.get("state"), secret, found.get("error"), found.get("iss"), doubled)


@dataclass(frozen=True, slots=True)
class Granted:
    """A grant that waits for the host's confirmation."""

    session: Session
    comparison: Comparison
    confirm_before: datetime


@dataclass(frozen=True, slots=True)
class _Taken:
    """A state that this callback alone has."""

    tenant: TenantId
    session: Session
    row: Row
    code: Secret
    verifier: Secret
    redirect: str
    connection_id: UUID


@dataclass(frozen=True, slots=True)
class _Got:
    """What came of an exchange."""

    reply: TokenReply
    seal: GrantSeal
    account_index: bytes | None = None
    account: Account | None = None
    detail: Mapping[str, Json] = field(default_factory=dict)
    shared_index: bytes | None = None
    """Whose revocation would end it, where that is not the account's alone."""


class Returning:
    """Takes browsers back."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        clock: Clock,
        sessions: Sessions,
        speaker: Speaker,
        revoker: Revoker,
        announce: Announce,
        failpoints: Failpoints,
    ) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._sessions = sessions
        self._speaker = speaker
        self._revoker = revoker
        self._announce = announce
        self._failpoints = failpoints

    async def take_back(self, provider_id: str, answer: Answer, browser: str | None) -> Granted:
        """Finish what `Sessions.consent` began.

        Raises:
            ConnectRefused: nothing came of it, and why; what was granted in spite of that is being revoked.
            KeyServiceUnavailable, DatabaseUnavailable: not now; before the state was taken, so the browser may come again.
        """
        taken = await self._take(provider_id, answer, browser)
        self._failpoints.hit("connect.before_exchange")
        provider = taken.session.provider
        reply = await self._speaker.exchange(provider, taken.code, taken.redirect, taken.verifier)
        self._failpoints.hit("connect.after_exchange")
        if isinstance(reply, Lost):
            # The journal keeps it: the job shows the code again and revokes what it gets.
            raise ConnectRefused("reply_lost", _back(taken.session), taken.session.provider.name)
        if isinstance(reply, Failure):
            await self._end(taken, str(reply.reason))
            raise ConnectRefused(str(reply.reason), _back(taken.session), provider.name)
        got = _Got(reply, await self._seal(taken))
        try:
            return await self._judge(taken, got)
        except ConnectRefused:
            raise
        except BaseException:
            if await self._is_open(taken):
                # Tokens that nobody keeps: the journal would find nothing but a spent code.
                await self._speaker.revoke(provider, Tokens(reply.access_token, reply.refresh_token))
            raise

    async def _is_open(self, taken: _Taken) -> bool:
        """Tell whether an exchange is known to have come to nothing; where the database is away, its journal settles it later."""
        try:
            async with self._database.transaction(taken.tenant) as conn:
                row = await conn.fetchrow(SQL["session"], taken.tenant, taken.session.session_id)
        except CustomhouseError:
            return False
        return row is not None and row["state"] == "exchanging"

    # The state ----------------------------------------------------------------------------------------------------------

    async def _take(self, provider_id: str, answer: Answer, browser: str | None) -> _Taken:
        if answer.doubled or answer.state is None or not _TOKEN.fullmatch(answer.state):
            raise ConnectRefused("state_unknown")
        index_key = await self._vault.mac_key(PLATFORM, INDEX)
        state_hash = tokens.hashed(index_key, "state", answer.state)
        found = await self._database.call(SQL["resolve_state"], state_hash)
        if not found:
            raise ConnectRefused("state_unknown")
        tenant, session_id = TenantId(found[0]["tenant_id"]), found[0]["session_id"]
        browser_hash = None if browser is None else tokens.hashed(index_key, "browser", browser)
        sealing = await self._sessions.flow_seal(tenant)
        await self._announce.prepare(tenant, REFUSED)
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["session"], tenant, session_id)
        if row is None or row["tenant_status"] != "active":
            raise ConnectRefused("state_unknown")
        session = await self._sessions.opened(tenant, row)
        if answer.code is not None and answer.error is None:
            await self._vault.connection_key(tenant, row["connection_id"], create=True)
        now = self._clock.now()
        async with self._database.transaction(tenant) as conn:
            locked = await conn.fetchrow(SQL["lock_session"], tenant, session_id)
            state = await conn.fetchrow(SQL["take_state"], tenant, state_hash)
            declined = locked is not None and locked["reason"] == DECLINED
            if not declined and (locked is None or state is None or locked["state"] != "authorizing"):
                raise ConnectRefused("state_unknown")
            reason: str | None = "state_unknown"
            if state is not None and not declined:
                reason = self._objection(provider_id, answer, browser_hash, session, state, now)
            if reason is None:
                assert answer.code is not None  # or there would be an objection
                assert state is not None  # likewise
                verifier = sealing.open("connect_states", "verifier_sealed", state_hash.hex(), state["verifier_sealed"])
                await conn.execute(
                    SQL["begin_exchange"],
                    tenant,
                    session_id,
                    sealing.seal("connect_exchanges", "code_sealed", str(session_id), answer.code.reveal()),
                    sealing.seal("connect_exchanges", "verifier_sealed", str(session_id), verifier.reveal()),
                    state["redirect_uri"],
                    now,
                )
                await conn.execute(SQL["set_session"], tenant, session_id, "exchanging", now + EXCHANGE_TIME)
                return _Taken(tenant, session, row, answer.code, verifier, state["redirect_uri"], row["connection_id"])
            if not declined:
                await self._record_end(conn, tenant, session, row, reason)
        await self._drop_key(session, tenant, row["connection_id"])
        raise ConnectRefused(reason, _back(session), session.provider.name)

    async def _drop_key(self, session: Session, tenant: TenantId, connection_id: UUID) -> None:
        """Destroy the key of a connection that does not come into being; nothing is sealed under it."""
        if not session.renews:
            await self._vault.destroy_connection_key(tenant, connection_id)

    def _objection(
        self, provider_id: str, answer: Answer, browser_hash: bytes | None, session: Session, state: Row, now: datetime
    ) -> str | None:
        """Say what speaks against an answer whose state is known; None: nothing."""
        provider = session.provider
        if state["expires_at"] <= now:
            return "expired"
        if state["provider"] != provider_id or provider.id != provider_id:
            return "other_provider"
        if browser_hash is None or not hmac.compare_digest(bytes(state["browser_hash"]), browser_hash):
            return "other_browser"
        if not calls.issuer_fits(provider, answer.iss):
            return "other_issuer"
        if answer.error is not None:
            said: dict[str, Json] = {"error": answer.error[:256]}
            return str(classify(provider, Step.AUTHORIZE, 400, dump(said)).reason)
        if answer.code is None or _CODE.fullmatch(answer.code.reveal().decode("utf-8", "surrogatepass")) is None:
            return "code_missing"
        return None

    # The grant ----------------------------------------------------------------------------------------------------------

    async def _seal(self, taken: _Taken) -> GrantSeal:
        key = await self._vault.connection_key(taken.tenant, taken.connection_id)
        return GrantSeal(self._vault.environment, taken.tenant, taken.connection_id, key)

    async def _judge(self, taken: _Taken, got: _Got) -> Granted:
        provider, mode = taken.session.provider, taken.session.mode
        identity = await self._speaker.identify(provider, got.reply)
        if isinstance(identity, Failure):
            return await self._refuse(taken, got, "identity_unknown")
        index_key = await self._vault.mac_key(PLATFORM, INDEX)
        index = tokens.account_index(index_key, provider.id, self._speaker.client(provider).id, identity.id)
        shared = None
        if provider.oauth2.revocation.by_organisation and identity.organisation is not None:
            shared = tokens.organisation_index(index_key, provider.id, self._speaker.client(provider).id, identity.organisation)
        known = _Got(got.reply, got.seal, index, identity, shared_index=shared)
        comparison = scopes.compare(provider, mode, await self._speaker.granted(provider, got.reply))
        if not comparison.acceptable:
            wider: list[Json] = [*comparison.wider[:_SHOWN]]
            forbidden: list[Json] = [*comparison.forbidden[:_SHOWN]]
            reason = "scope_forbidden" if comparison.verdict is Verdict.FORBIDDEN else "scope_wider"
            told = replace(known, detail={"wider": wider, "forbidden": forbidden})
            return await self._refuse(taken, told, reason)
        if taken.session.renews:
            async with self._database.transaction(taken.tenant) as conn:
                held = await conn.fetchrow(SQL["connection"], taken.tenant, taken.connection_id)
            if held is None or held["account_index"] is None or held["status"] in {"revoked", "disconnected"}:
                return await self._refuse(taken, known, "connection_ended")
            if not hmac.compare_digest(bytes(held["account_index"]), index):
                return await self._refuse(taken, known, "other_account")
        return await self._keep(taken, known, comparison)

    async def _keep(self, taken: _Taken, got: _Got, comparison: Comparison) -> Granted:
        tenant, session = taken.tenant, taken.session
        assert got.account is not None  # judged
        assert got.account_index is not None  # judged
        row = str(session.session_id)
        facts: dict[str, Json] = {"id": got.account.id, "label": got.account.label}
        if got.account.organisation is not None:
            facts["organisation"] = got.account.organisation
        mac_key = await self._vault.mac_key(tenant, tokens.MAC_PURPOSE)
        now = self._clock.now()
        guarded = {
            "mode": session.mode.value,
            "grant_version": 1,
            "granted": comparison.granted,
            "account_index": got.account_index,
            "api_origin": got.reply.api_origin,
        }
        ended = False
        async with self._database.transaction(tenant) as conn:
            locked = await conn.fetchrow(SQL["lock_session"], tenant, session.session_id)
            still_ours = locked is not None and locked["state"] == "exchanging"
            if still_ours and session.renews:
                # Held against a disconnect: what is written after one, nobody would find there and end.
                held = await conn.fetchrow(SQL["lock_connection"], tenant, taken.connection_id)
                ended = held is None or held["status"] in {"revoked", "disconnected"}
            if still_ours and not ended:
                if not session.renews:
                    mac = tokens.guard(mac_key, taken.connection_id, session.provider.id, guarded)
                    await conn.execute(
                        SQL["insert_connection"], tenant, taken.connection_id, session.provider.id, session.user.id, session.mode.value, mac
                    )
                await conn.execute(
                    SQL["insert_pending"],
                    tenant,
                    session.session_id,
                    taken.connection_id,
                    list(scopes.names(session.scopes)),
                    list(comparison.granted),
                    list(comparison.missing),
                    comparison.known,
                    session.provider.version,
                    got.account_index,
                    got.shared_index,
                    got.seal.seal("pending_grants", "account_sealed", row, tokens.pack(facts)),
                    got.seal.seal_both("pending_grants", row, Tokens(got.reply.access_token, got.reply.refresh_token)),
                    _after(now, got.reply.expires_in),
                    _after(now, got.reply.refresh_expires_in),
                    got.reply.api_origin,
                    now,
                )
                await conn.execute(SQL["end_exchange"], tenant, session.session_id)
                await conn.execute(SQL["set_session"], tenant, session.session_id, "granted", now + LIFE)
                granted: list[Json] = [*comparison.granted]
                missing: list[Json] = [*comparison.missing]
                await log.append(
                    conn,
                    self._clock,
                    tenant,
                    origin_of(session.session_id),
                    tags.CONNECT_GRANTED,
                    subject=ids.show("cns", session.session_id),
                    connection_id=taken.connection_id,
                    detail={"provider": session.provider.id, "mode": session.mode.value, "granted": granted, "missing": missing},
                )
                self._failpoints.hit("connect.before_commit")
        if ended:
            return await self._refuse(taken, got, "connection_ended")
        if not still_ours:
            # It took so long that the job has given the exchange up.
            return await self._refuse(taken, got, "expired")
        self._failpoints.hit("connect.after_commit")
        return Granted(session, comparison, now + LIFE)

    async def _refuse(self, taken: _Taken, got: _Got, reason: str) -> Granted:
        """End a session whose grant may not be kept, and the grant.

        Raises:
            ConnectRefused: always.
        """
        session = taken.session
        held = Tokens(got.reply.access_token, got.reply.refresh_token)
        index = got.shared_index or got.account_index
        unwanted = Unwanted(session.provider, got.seal, held, reason, index, got.reply.api_origin, ends_key=not session.renews)
        async with self._database.transaction(taken.tenant) as conn:
            await conn.fetchrow(SQL["lock_session"], taken.tenant, session.session_id)
            await conn.execute(SQL["end_exchange"], taken.tenant, session.session_id)
            revocation_id = await self._revoker.take(conn, unwanted)
            await self._record_end(conn, taken.tenant, session, taken.row, reason, got.detail)
        await self._revoker.end(taken.tenant, revocation_id)
        raise ConnectRefused(reason, _back(session), session.provider.name)

    async def _end(self, taken: _Taken, reason: str) -> None:
        async with self._database.transaction(taken.tenant) as conn:
            await conn.fetchrow(SQL["lock_session"], taken.tenant, taken.session.session_id)
            await conn.execute(SQL["end_exchange"], taken.tenant, taken.session.session_id)
            await self._record_end(conn, taken.tenant, taken.session, taken.row, reason)
        await self._drop_key(taken.session, taken.tenant, taken.connection_id)

    async def _record_end(
        self, conn: Executor, tenant: TenantId, session: Session, row: Row, reason: str, detail: Mapping[str, Json] | None = None
    ) -> None:
        await conn.execute(SQL["end_session"], tenant, session.session_id, "ended", reason, self._clock.now())
        about = row["connection_id"] if session.renews else None
        await log.append(
            conn,
            self._clock,
            tenant,
            origin_of(session.session_id),
            tags.CONNECT_REFUSED,
            subject=ids.show("cns", session.session_id),
            connection_id=about,
            detail={"provider": session.provider.id, "reason": reason, **(detail or {})},
        )
        told: dict[str, Json] = {"session_id": ids.show("cns", session.session_id), "provider": session.provider.id, "reason": reason}
        if about is not None:
            told["connection_id"] = ids.show("con", about)
        await self._announce.announce(conn, tenant, REFUSED, told)


_SHOWN: Final = 50


def _back(session: Session) -> tuple[str, str] | None:
    """Return where the browser may go, and the session's id; None: the host named no place."""
    return None if session.return_url is None else (session.return_url, ids.show("cns", session.session_id))


def _after(now: datetime, seconds: int | None) -> datetime | None:
    return None if seconds is None else now + timedelta(seconds=seconds)
