"""The host's word about the user: what was granted becomes a connection, or is revoked."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import Origin
from customhouse.clock import Clock
from customhouse.connections import tokens
from customhouse.connections.ports import CHANGED, CREATED, DEGRADED, REFUSED, Announce
from customhouse.connections.revoking import Revoker, Unwanted, ends_others
from customhouse.connections.sessions import Sessions
from customhouse.connections.sql import SQL
from customhouse.connections.tokens import GrantSeal, Tokens
from customhouse.crypto.envelope import RecordKey
from customhouse.db import Database, Executor, Row
from customhouse.errors import ConnectSessionOver, KeyDestroyed, NotFound, Unsealable, UserMismatch
from customhouse.failpoints import Failpoints
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.vocabulary import Extent
from customhouse.types import Json, TenantId
from customhouse.vault.vault import Vault

_PAUSED: Final = "paused"


@dataclass(frozen=True, slots=True)
class _Base:
    """What the connection had before."""

    grant_version: int
    token_generation: int
    status: str
    old: Tokens | None


class Confirming:
    """Takes the host's confirmations, and ends grants for which none came."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        clock: Clock,
        catalogue: Catalogue,
        sessions: Sessions,
        revoker: Revoker,
        announce: Announce,
        failpoints: Failpoints,
    ) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._catalogue = catalogue
        self._sessions = sessions
        self._revoker = revoker
        self._announce = announce
        self._failpoints = failpoints

    async def confirm(self, tenant: TenantId, session_id: UUID, user_id: str, origin: Origin) -> UUID:
        """Make the connection of a session usable, and return its id. Confirming again, in time, says the same.

        Raises:
            NotFound: no such session in this tenant.
            UserMismatch: it is another user than the one who was invited: what was granted is revoked (R24).
            ConnectSessionOver: nothing was granted, or the time is over.
            KeyServiceUnavailable: not now.
        """
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["session"], tenant, session_id)
            waits = await conn.fetchval(SQL["waits"], tenant, session_id)
        if row is None:
            raise NotFound
        same = hmac.compare_digest(row["user_id"].encode(), user_id.encode("utf-8", "surrogatepass"))
        if row["state"] == "confirmed" and same:
            return UUID(str(row["connection_id"]))
        if row["state"] != "granted" or not waits or row["deadline"] <= self._clock.now():
            raise ConnectSessionOver("Nothing waits for a confirmation: the session is over, or the person has not come back yet.")
        if not same:
            await self.decline(tenant, session_id, "other_user", origin)
            raise UserMismatch
        seal = await self._grant_seal(tenant, row["connection_id"])
        flow = await self._sessions.flow_seal(tenant)
        mac_key = await self._vault.mac_key(tenant, tokens.MAC_PURPOSE)
        for event_type in (CREATED, CHANGED, DEGRADED):
            await self._announce.prepare(tenant, event_type)
        async with self._database.transaction(tenant) as conn:
            locked = await conn.fetchrow(SQL["lock_session"], tenant, session_id)
            if locked is not None and locked["state"] == "confirmed":
                # The same call came twice, and the other one was quicker.
                return UUID(str(row["connection_id"]))
            if locked is None or locked["state"] != "granted":
                raise ConnectSessionOver
            held = await conn.fetchrow(SQL["lock_connection"], tenant, locked["connection_id"])
            pending = await conn.fetchrow(SQL["take_pending"], tenant, session_id)
            if held is None or pending is None or held["status"] in {"revoked", "disconnected"}:
                raise ConnectSessionOver("The connection has ended.")
            facts = flow.open("connect_sessions", "facts_sealed", str(session_id), locked["facts_sealed"])
            replaced = await self._put(conn, seal, mac_key, locked, held, pending, facts.reveal(), origin)
            await conn.execute(SQL["end_session"], tenant, session_id, "confirmed", None, self._clock.now())
            self._failpoints.hit("connect.before_confirm")
        if replaced is not None:
            await self._revoker.end(tenant, replaced)
        return UUID(str(row["connection_id"]))

    async def decline(self, tenant: TenantId, session_id: UUID, reason: str, origin: Origin) -> bool:
        """End a session whose grant waits, and the grant; tell whether one did.

        Raises:
            KeyServiceUnavailable: not now.
        """
        await self._announce.prepare(tenant, REFUSED)
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["session"], tenant, session_id)
            if row is not None and row["state"] == "granted" and not await conn.fetchval(SQL["waits"], tenant, session_id):
                # The connection has ended, and took it along.
                await conn.execute(SQL["end_session"], tenant, session_id, "ended", "disconnected", self._clock.now())
                return False
        if row is None or row["state"] != "granted":
            return False
        try:
            seal = await self._grant_seal(tenant, row["connection_id"])
        except KeyDestroyed:
            return await self._drop(tenant, session_id, reason, origin)
        provider = self._catalogue.get(row["provider"])
        async with self._database.transaction(tenant) as conn:
            locked = await conn.fetchrow(SQL["lock_session"], tenant, session_id)
            pending = await conn.fetchrow(SQL["take_pending"], tenant, session_id)
            if locked is None or locked["state"] != "granted" or pending is None:
                return False
            held = seal.open_both("pending_grants", str(session_id), pending["tokens_sealed"])
            unwanted = Unwanted(
                provider,
                seal,
                held,
                reason,
                bytes(pending["shared_index"] or pending["account_index"]),
                pending["api_origin"],
                ends_key=not locked["renews"],
            )
            revocation_id = await self._revoker.take(conn, unwanted)
            if not locked["renews"]:
                await conn.execute(SQL["end_connection"], tenant, locked["connection_id"], reason)
            await conn.execute(SQL["end_session"], tenant, session_id, "ended", reason, self._clock.now())
            await log.append(
                conn,
                self._clock,
                tenant,
                origin,
                tags.CONNECT_REFUSED,
                subject=ids.show("cns", session_id),
                connection_id=locked["connection_id"],
                detail={"provider": provider.id, "reason": reason},
            )
            told: dict[str, Json] = {
                "session_id": ids.show("cns", session_id),
                "connection_id": ids.show("con", locked["connection_id"]),
                "provider": provider.id,
                "reason": reason,
            }
            await self._announce.announce(conn, tenant, REFUSED, told)
        await self._revoker.end(tenant, revocation_id)
        return True

    async def _drop(self, tenant: TenantId, session_id: UUID, reason: str, origin: Origin) -> bool:
        """End a session whose grant nobody can open any more: it must not pass for one that others share."""
        async with self._database.transaction(tenant) as conn:
            locked = await conn.fetchrow(SQL["lock_session"], tenant, session_id)
            pending = await conn.fetchrow(SQL["take_pending"], tenant, session_id)
            if locked is None or locked["state"] != "granted" or pending is None:
                return False
            connection_id, subject = locked["connection_id"], ids.show("cns", session_id)
            if not locked["renews"]:
                await conn.execute(SQL["end_connection"], tenant, connection_id, reason)
            await conn.execute(SQL["end_session"], tenant, session_id, "ended", reason, self._clock.now())
            detail: dict[str, Json] = {"provider": locked["provider"], "reason": reason}
            await log.append(
                conn, self._clock, tenant, origin, tags.CONNECT_REFUSED, subject=subject, connection_id=connection_id, detail=detail
            )
            told: dict[str, Json] = {"session_id": subject, "connection_id": ids.show("con", connection_id), **detail}
            await self._announce.announce(conn, tenant, REFUSED, told)
        return True

    async def _put(
        self,
        conn: Executor,
        seal: GrantSeal,
        mac_key: RecordKey,
        session: Row,
        held: Row,
        pending: Row,
        facts: bytes,
        origin: Origin,
    ) -> UUID | None:
        """Write the grant and its tokens over what was there; return the revocation of the tokens that were replaced."""
        tenant, connection_id, row = seal.tenant_id, seal.connection_id, str(seal.connection_id)
        provider = self._catalogue.get(session["provider"])
        base = await self._base(conn, seal, held, renews=session["renews"])
        version, generation = base.grant_version + 1, base.token_generation + 1
        got = seal.open_both("pending_grants", str(session["session_id"]), pending["tokens_sealed"])
        account = seal.open("pending_grants", "account_sealed", str(session["session_id"]), pending["account_sealed"])
        status, reason = standing(pending)
        if base.status == _PAUSED:
            status, reason = _PAUSED, None
        guarded = {**dict(pending), "mode": session["mode"], "grant_version": version}
        mac = tokens.guard(mac_key, connection_id, provider.id, guarded)
        await conn.execute(SQL["activate"], tenant, connection_id, status, reason, session["mode"], version, mac)
        scopes = (pending["requested"], pending["granted"], pending["missing"], pending["scopes_known"], pending["manifest_version"])
        await conn.execute(
            SQL["put_grant"],
            tenant,
            connection_id,
            version,
            *scopes,
            pending["account_index"],
            pending["shared_index"],
            seal.seal("connection_grants", "account_sealed", row, account.reveal(), version),
            seal.seal("connection_grants", "user_sealed", row, facts, version),
        )
        await conn.execute(
            SQL["put_tokens"],
            tenant,
            connection_id,
            generation,
            seal.seal("integration_tokens", "access_sealed", row, got.access.reveal(), generation),
            None if got.refresh is None else seal.seal("integration_tokens", "refresh_sealed", row, got.refresh.reveal(), generation),
            pending["access_expires_at"],
            pending["refresh_expires_at"],
            pending["api_origin"],
            pending["granted_at"],
        )
        await conn.execute(
            SQL["insert_consent"],
            tenant,
            connection_id,
            version,
            session["session_id"],
            session["user_id"],
            session["mode"],
            pending["requested"],
            pending["granted"],
            pending["manifest_version"],
            session["consented_at"],
            self._clock.now(),
        )
        await self._tell(conn, tenant, connection_id, session, pending, status, reason, origin)
        if base.old is None or provider.oauth2.revocation.extent is not Extent.TOKEN or ends_others(provider):
            # Elsewhere to revoke the old token is to end the new one too.
            return None
        unwanted = Unwanted(provider, seal, base.old, "replaced", None, pending["api_origin"], ends_key=False)
        return await self._revoker.take(conn, unwanted)

    async def _base(self, conn: Executor, seal: GrantSeal, held: Row, *, renews: bool) -> _Base:
        if not renews:
            return _Base(0, 0, held["status"], None)
        row = await conn.fetchrow(SQL["held_tokens"], seal.tenant_id, seal.connection_id)
        if row is None:
            return _Base(held["grant_version"], 0, held["status"], None)
        generation, name = row["token_generation"], str(seal.connection_id)
        try:
            refresh = row["refresh_sealed"]
            old = Tokens(
                seal.open("integration_tokens", "access_sealed", name, row["access_sealed"], generation),
                None if refresh is None else seal.open("integration_tokens", "refresh_sealed", name, refresh, generation),
            )
        except Unsealable:
            # A row that does not open must not stand in the way of the new grant.
            old = None
        return _Base(held["grant_version"], generation, held["status"], old)

    async def _tell(
        self,
        conn: Executor,
        tenant: TenantId,
        connection_id: UUID,
        session: Row,
        pending: Row,
        status: str,
        reason: str | None,
        origin: Origin,
    ) -> None:
        granted: list[Json] = [*pending["granted"]]
        missing: list[Json] = [*pending["missing"]]
        detail: dict[str, Json] = {"provider": session["provider"], "mode": session["mode"], "granted": granted, "missing": missing}
        tag = tags.CONNECTION_RENEWED if session["renews"] else tags.CONNECTION_CREATED
        await log.append(conn, self._clock, tenant, origin, tag, connection_id=connection_id, detail={**detail, "status": status})
        about: dict[str, Json] = {"connection_id": ids.show("con", connection_id), "provider": session["provider"]}
        if session["renews"]:
            changed: list[Json] = ["grant"]
            await self._announce.announce(conn, tenant, CHANGED, {**about, "changed": changed, "status": status})
        else:
            await self._announce.announce(conn, tenant, CREATED, about)
        if status == "degraded":
            await self._announce.announce(conn, tenant, DEGRADED, {**about, "reason": reason, "missing": missing})

    async def _grant_seal(self, tenant: TenantId, connection_id: UUID) -> GrantSeal:
        key = await self._vault.connection_key(tenant, connection_id)
        return GrantSeal(self._vault.environment, tenant, connection_id, key)


def standing(grant: Row) -> tuple[str, str | None]:
    """Return status and reason of a connection with this grant."""
    if not grant["scopes_known"]:
        return "degraded", "scopes_unknown"
    return ("degraded", "scopes_missing") if grant["missing"] else ("active", None)
