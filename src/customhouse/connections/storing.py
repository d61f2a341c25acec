"""Renewed tokens are stored: fenced by the generation, whatever happened to the connection while the provider answered."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM
from customhouse.clock import Clock
from customhouse.connections import tokens
from customhouse.connections.closing import Held as Escrowed
from customhouse.connections.confirming import standing
from customhouse.connections.judging import REPLY_LOST, TOKEN_MISSING, Good, Held
from customhouse.connections.ports import CHANGED, DEGRADED, REAUTHORIZE, Announce
from customhouse.connections.revoking import Revoker, Unwanted, ends_others
from customhouse.connections.speaking import Speaker
from customhouse.connections.sql import SQL
from customhouse.connections.tokens import GrantSeal, Tokens
from customhouse.crypto.envelope import RecordKey, key_id_of
from customhouse.db import Database, Executor, Row, queries
from customhouse.errors import CustomhouseError, Unsealable
from customhouse.failpoints import Failpoints
from customhouse.metrics import TOKEN_REFRESHES, Metrics
from customhouse.providers.manifest import Provider
from customhouse.providers.replies import TokenReply
from customhouse.providers.vocabulary import Extent, Rotation
from customhouse.types import Json, Secret
from customhouse.vault.vault import Vault

_SQL: Final = queries(__package__, "refreshing.sql")
ENDED: Final = frozenset({"revoked", "disconnected", "disabled"})


@dataclass(frozen=True, slots=True)
class Target:
    """What is renewed, as it was found, with every key that settling needs."""

    holder: UUID
    """This call."""
    provider: Provider
    client_id: str
    seal: GrantSeal
    mac_key: RecordKey
    index_key: RecordKey
    row: Row
    shown: Secret | None
    """The refresh token."""
    asked_at: datetime
    """Before the call: lifetimes count from here."""

    @property
    def generation(self) -> int:
        """Of the tokens that are renewed."""
        return int(self.row["token_generation"])


class Storing:
    """Writes renewed tokens, and lets go of those that came too late."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        clock: Clock,
        speaker: Speaker,
        revoker: Revoker,
        announce: Announce,
        failpoints: Failpoints,
        metrics: Metrics,
    ) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._speaker = speaker
        self._revoker = revoker
        self._announce = announce
        self._failpoints = failpoints
        self._metrics = metrics

    async def store(self, target: Target, good: Good, reply: TokenReply) -> None:
        """Put new tokens in the place of those of the generation that was renewed; where those are not there any more, let them go."""
        # The provider may have taken its time, and another key over.
        target = replace(target, seal=await self._seal_of_now(target.seal))
        seal, row = target.seal, target.row
        tenant, connection_id, name, new = seal.tenant_id, seal.connection_id, str(seal.connection_id), target.generation + 1
        refresh = reply.refresh_token
        origin = row["api_origin"] if reply.api_origin is None else reply.api_origin
        expires_at = _after(target.asked_at, reply.expires_in)
        rows = (
            seal.seal("integration_tokens", "access_sealed", name, reply.access_token.reveal(), new),
            None if refresh is None else seal.seal("integration_tokens", "refresh_sealed", name, refresh.reveal(), new),
            expires_at,
            _refresh_end(target, reply),
            origin,
            target.asked_at,
        )
        change = _change(target, good.held, origin, renewable=refresh is not None or expires_at is None)
        accounts = None if change.grant is None else await self._accounts(target)
        for event_type in change.tells:
            await self._announce.prepare(tenant, event_type)
        late = ""
        async with self._database.transaction(tenant) as conn:
            held = await conn.fetchrow(SQL["lock_connection"], tenant, connection_id)
            if held is None or held["status"] in ENDED:
                late = "connection_ended"
            elif await conn.fetchval(_SQL["renew_tokens"], tenant, connection_id, target.generation, *rows) is None:
                if await conn.fetchval(_SQL["stored_by"], tenant, connection_id) == target.holder:
                    # Stored before, by a COMMIT whose answer was lost.
                    return
                late = "newer_tokens" if held["grant_version"] == row["grant_version"] else "newer_consent"
            else:
                status, reason = await self._stand(conn, target, held, change, accounts)
                word = reason if status == "reauthorization_required" else None
                await conn.execute(_SQL["end_lease_stored"], tenant, connection_id, target.holder, word)
                await self._write_down(conn, target, held, change, status, reason)
                self._failpoints.hit("refresh.before_commit")
            if late:
                # What was renewed is spent: until the new tokens are handed over, a refusal of the old ones proves nothing.
                await conn.execute(_SQL["lose_lease"], tenant, connection_id, target.holder)
            await conn.execute(_SQL["tell_refreshed"], str(connection_id))
        if late:
            await self.late(target, reply, late)
            return
        self._failpoints.hit("refresh.after_commit")
        count(self._metrics, target, "stored")

    async def _seal_of_now(self, seal: GrantSeal) -> GrantSeal:
        try:
            return replace(seal, key=await self._vault.connection_key(seal.tenant_id, seal.connection_id))
        except Unsealable:
            # Destroyed with its connection: what came is let go.
            return seal

    async def _stand(
        self, conn: Executor, target: Target, held: Row, change: _Change, accounts: tuple[Secret, Secret] | None
    ) -> tuple[str, str | None]:
        """Write what a renewed grant changes of its connection; mostly nothing. Return where the connection stands."""
        seal, row = target.seal, target.row
        tenant, connection_id, name = seal.tenant_id, seal.connection_id, str(seal.connection_id)
        status, reason = _standing(held, row, change)
        version, granted = held["grant_version"], tuple(row["granted"])
        if change.grant is not None and accounts is not None:
            version, granted = version + 1, change.grant.granted
            account, user = accounts
            await conn.execute(
                _SQL["change_grant"],
                tenant,
                connection_id,
                version,
                list(granted),
                list(change.grant.missing),
                seal.seal("connection_grants", "account_sealed", name, account.reveal(), version),
                seal.seal("connection_grants", "user_sealed", name, user.reveal(), version),
            )
        if version != held["grant_version"] or change.moved or (status, reason) != (held["status"], held["status_reason"]):
            guarded = {
                "mode": held["mode"],
                "grant_version": version,
                "granted": granted,
                "account_index": bytes(row["account_index"]),
                "api_origin": change.origin,
            }
            mac = tokens.guard(target.mac_key, connection_id, target.provider.id, guarded)
            await conn.execute(_SQL["change_guarded"], tenant, connection_id, status, reason, version, mac)
        return status, reason

    async def _write_down(self, conn: Executor, target: Target, held: Row, change: _Change, status: str, reason: str | None) -> None:
        tenant, connection_id, provider = target.seal.tenant_id, target.seal.connection_id, target.provider.id
        detail: dict[str, Json] = {"provider": provider, "token_generation": target.generation + 1}
        missing: list[Json] = []
        if change.grant is not None:
            granted: list[Json] = [*change.grant.granted]
            missing += change.grant.missing
            detail |= {"granted": granted, "missing": missing}
        if change.moved:
            detail["api_host_changed"] = True
        await log.append(conn, self._clock, tenant, SYSTEM, tags.TOKEN_REFRESHED, connection_id=connection_id, detail=detail)
        about: dict[str, Json] = {"connection_id": ids.show("con", connection_id), "provider": provider}
        if status == "reauthorization_required" and held["status"] != status:
            await want_consent(conn, self._clock, self._announce, target, reason or "")
        elif status == "degraded" and (change.grant is not None or held["status"] != status):
            await self._announce.announce(conn, tenant, DEGRADED, {**about, "reason": reason, "missing": missing})
        elif change.grant is not None or held["status"] != status:
            changed: list[Json] = ["scopes" if change.grant is not None else "status"]
            await self._announce.announce(conn, tenant, CHANGED, {**about, "changed": changed, "status": status})

    async def _accounts(self, target: Target) -> tuple[Secret, Secret] | None:
        """Return who is connected and whose connection it is: both are sealed again where the grant's version changes."""
        seal = target.seal
        async with self._database.transaction(seal.tenant_id) as conn:
            row = await conn.fetchrow(_SQL["sealed_grant"], seal.tenant_id, seal.connection_id)
        if row is None or row["grant_version"] != target.row["grant_version"]:
            return None
        opened = []
        for column in ("account_sealed", "user_sealed"):
            key = await self._vault.key(seal.tenant_id, key_id_of(row[column]))
            own = replace(seal, key=key)
            opened.append(own.open("connection_grants", column, str(seal.connection_id), row[column], row["grant_version"]))
        return opened[0], opened[1]

    async def late(self, target: Target, reply: TokenReply, why: str) -> None:
        """Let go of tokens that came too late: what another consent, or nobody, wants any more is ended at the provider."""
        auth, revoked = target.provider.oauth2, False
        own = auth.revocation.extent is Extent.TOKEN and auth.refresh.rotation is Rotation.SINGLE_USE
        if auth.revocation.supported and (why == "connection_ended" or (why == "newer_consent" and own)):
            revoked = await self._revoke(target, reply)
        count(self._metrics, target, "superseded")
        tenant, connection_id = target.seal.tenant_id, target.seal.connection_id
        detail: dict[str, Json] = {"provider": target.provider.id, "reason": why, "revoked": revoked}
        async with self._database.transaction(tenant) as conn:
            await log.append(conn, self._clock, tenant, SYSTEM, tags.RENEWAL_SUPERSEDED, connection_id=connection_id, detail=detail)

    async def _revoke(self, target: Target, reply: TokenReply) -> bool:
        index = bytes(target.row["shared_index"])
        held = Tokens(reply.access_token, reply.refresh_token)
        origin = target.row["api_origin"] if reply.api_origin is None else reply.api_origin
        async with self._database.transaction(target.seal.tenant_id) as conn:
            waiting = Escrowed(held, _after(target.asked_at, reply.expires_in), origin, None)
            revocation_id = await self._revoker.hand_over(conn, target.seal, target.generation, waiting)
        if revocation_id is not None:
            # The receipt is about these now: what it says is seen on them.
            with suppress(CustomhouseError):
                settled = await self._revoker.end(target.seal.tenant_id, revocation_id)
                return settled is not None and settled.outcome == "revoked"
            return False
        if ends_others(target.provider) and (await self._database.call(SQL["sharing"], index))[0]["sharing"]:
            return False
        if await self._speaker.revoke(target.provider, held) is None:
            return True
        unwanted = Unwanted(target.provider, target.seal, held, "superseded", index, target.row["api_origin"], ends_key=False)
        async with self._database.transaction(target.seal.tenant_id) as conn:
            # Tried again for as long as the connection's key is there; with the key, nobody can use the tokens any more.
            await self._revoker.take(conn, unwanted)
        return False


async def want_consent(conn: Executor, clock: Clock, announce: Announce, target: Target, reason: str) -> None:
    """Write down, and tell host and user, that the user has to consent again; in the caller's transaction."""
    tenant, detail = target.seal.tenant_id, {"provider": target.provider.id, "reason": reason}
    await log.append(conn, clock, tenant, SYSTEM, tags.CONNECTION_REAUTHORIZE, connection_id=target.seal.connection_id, detail=detail)
    await announce.announce(conn, tenant, REAUTHORIZE, told(target, reason))


def told(target: Target, reason: str) -> dict[str, Json]:
    """Return what the host is told about a connection."""
    return {"connection_id": ids.show("con", target.seal.connection_id), "provider": target.provider.id, "reason": reason}


def count(metrics: Metrics, target: Target, outcome: str) -> None:
    """Count what came of a call."""
    metrics.counter(TOKEN_REFRESHES, provider=target.provider.id, outcome=outcome).inc()


@dataclass(frozen=True, slots=True)
class _Change:
    """What a renewal changes besides the tokens."""

    grant: Held | None
    origin: str | None
    moved: bool
    """The account's API is on another host of the provider's."""
    renewable: bool
    """It can be renewed again, or never has to be."""
    tells: tuple[str, ...]


def _change(target: Target, held: Held | None, origin: str | None, *, renewable: bool) -> _Change:
    row = target.row
    same = held is None or (row["scopes_known"] and set(held.granted) == set(row["granted"]) and set(held.missing) == set(row["missing"]))
    heals = row["status"] == "reauthorization_required"
    tells = () if same and renewable and not heals else (CHANGED, DEGRADED, REAUTHORIZE)
    return _Change(None if same else held, origin, origin != row["api_origin"], renewable, tells)


def _standing(held: Row, row: Row, change: _Change) -> tuple[str, str | None]:
    """Return status and reason after a renewal."""
    status, reason = held["status"], held["status_reason"]
    late = status == "reauthorization_required" and reason == REPLY_LOST
    if status not in {"active", "degraded"} and not late:
        return status, reason
    if not change.renewable:
        return "reauthorization_required", TOKEN_MISSING
    if change.grant is not None:
        return ("degraded", "scopes_missing") if change.grant.missing else ("active", None)
    return standing(row) if late else (status, reason)


def _refresh_end(target: Target, reply: TokenReply) -> datetime | None:
    """Return when the refresh token ends: as the reply says, else as before where it is the same one."""
    if reply.refresh_expires_in is not None:
        return _after(target.asked_at, reply.refresh_expires_in)
    same = reply.refresh_token is not None and target.shown is not None and reply.refresh_token.reveal() == target.shown.reveal()
    return target.row["refresh_expires_at"] if same else None


def _after(moment: datetime, seconds: int | None) -> datetime | None:
    return None if seconds is None else moment + timedelta(seconds=seconds)
