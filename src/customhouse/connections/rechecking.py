"""Looking again at pasted keys: what they may do can be changed at the provider without a word to us, and they grow old (R10)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM
from customhouse.clock import Clock
from customhouse.connections import pasted, tokens
from customhouse.connections.pasted import ENDED, KEYS, WIDER, KeyGrant
from customhouse.connections.ports import CHANGED, DEGRADED, DISABLED, KEY_OLD, REAUTHORIZE, Announce
from customhouse.connections.probing import Findings, Prober, Verdict
from customhouse.connections.sql import SQL
from customhouse.connections.tokens import INDEX, GrantSeal
from customhouse.crypto.envelope import RecordKey
from customhouse.db import Database, Executor, Row
from customhouse.errors import CustomhouseError, NotFound
from customhouse.logs import get
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.manifest import Provider, RestrictedKey
from customhouse.providers.vocabulary import Mode
from customhouse.types import PLATFORM, Json, Secret, TenantId
from customhouse.vault.vault import Vault

_log: Final = get("customhouse.connections")
_AT_ONCE: Final = 20
_TOGETHER: Final = 4
"""Keys that one process probes at a time."""
_CLAIM: Final = timedelta(minutes=10)
"""Longer than all probes of one key together: two dozen calls of 15 s, four at a time."""
_DOUBTED: Final = timedelta(hours=1)
TOLD_EVERY: Final = timedelta(days=30)
_ENDED: Final = frozenset({"disconnected", "revoked"})
_FACTS: Final = ("account_sealed", "user_sealed")


@dataclass(frozen=True, slots=True)
class Turn:
    """What a check does to a connection: its new status and reason, and whether the grant is written anew."""

    status: str
    reason: str | None
    regrant: bool = False


def turn(status: str, reason: str | None, granted: tuple[str, ...], found: Findings) -> Turn:
    """Say what findings do to a connection. Pure.

    A key that may too much is switched off whatever the connection was, and stays so until a person replaces it. One that the provider
    does not know is of no use; should it be known again, all of it was proved anew. One that is paused stays so: what is dead now may be
    known again, and only a person lets it work. A doubt changes nothing.

    Args:
        status: of the connection.
        reason: of that status.
        granted: what it was granted before.
        found: what the probes showed.
    """
    if status in _ENDED or found.verdict is Verdict.DOUBT:
        return Turn(status, reason)
    if found.verdict is Verdict.WIDER:
        return Turn("disabled", WIDER)
    if status == "disabled":
        return Turn(status, reason)
    if found.verdict is Verdict.DEAD and status == "paused":
        return Turn(status, reason)
    if found.verdict is Verdict.DEAD:
        return Turn("reauthorization_required", ENDED)
    regrant = found.granted != granted
    if status == "paused":
        return Turn(status, reason, regrant)
    return Turn("degraded", "scopes_missing", regrant) if found.missing else Turn("active", None, regrant)


class Rechecking:
    """Probes pasted keys again, daily and spread, and asks for the replacement of old ones."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        clock: Clock,
        catalogue: Catalogue,
        prober: Prober,
        announce: Announce,
        *,
        max_age: timedelta,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Take the parts that it stands on; `max_age`: how old keys may become (0: as they like); `draw`: numbers in [0, 1) for jitter."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._catalogue = catalogue
        self._prober = prober
        self._announce = announce
        self._max_age = max_age
        self._draw = draw

    async def due(self) -> None:
        """Check the keys whose time has come, a bounded number; one that cannot be checked now does not keep the others."""
        rows = await self._database.call(KEYS["keys_due"], self._clock.now(), _AT_ONCE)
        places = asyncio.Semaphore(_TOGETHER)

        async def one(row: Row) -> None:
            tenant, connection_id = TenantId(row["tenant_id"]), row["connection_id"]
            async with places:
                try:
                    await self.check(tenant, connection_id)
                except CustomhouseError as error:
                    _log.error("key_not_checked", tenant_id=tenant, connection_id=ids.show("con", connection_id), error=error.code)

        async with asyncio.TaskGroup() as group:
            for row in rows:
                group.create_task(one(row))

    async def check(self, tenant: TenantId, connection_id: UUID) -> None:
        """Check one key, unless another process does or its time has not come.

        Raises:
            Unsealable: it cannot be opened.
            KeyServiceUnavailable: not now.
        """
        now = self._clock.now()
        async with self._database.transaction(tenant) as conn:
            claimed = await conn.fetchval(KEYS["claim_key"], tenant, connection_id, now, now + _CLAIM)
            held = await conn.fetchrow(KEYS["key_held"], tenant, connection_id)
        if claimed is None or held is None:
            return
        provider = self._catalogue.get(held["provider"])
        if not isinstance(provider.auth, RestrictedKey):
            raise NotFound
        seal = GrantSeal(self._vault.environment, tenant, connection_id, await self._vault.connection_key(tenant, connection_id))
        generation, version = held["token_generation"], held["grant_version"]
        mac_key = await self._vault.mac_key(tenant, tokens.MAC_PURPOSE)
        tokens.check_guard(mac_key, connection_id, provider.id, held)
        key = await pasted.opened(self._vault, seal, held, "integration_tokens", "access_sealed", generation)
        facts = [await pasted.opened(self._vault, seal, held, "connection_grants", name, version) for name in _FACTS]
        found = await self._same_account(provider, held, await self._prober.probe(provider, provider.auth, key))
        # Keys may have been rotated during the probes: what is written is sealed with the one of now.
        seal = replace(seal, key=await self._vault.connection_key(tenant, connection_id))
        for event_type in (DISABLED, REAUTHORIZE, DEGRADED, CHANGED, KEY_OLD):
            await self._announce.prepare(tenant, event_type)
        async with self._database.transaction(tenant) as conn:
            await conn.fetchrow(SQL["lock_connection"], tenant, connection_id)
            locked = await conn.fetchrow(KEYS["key_held"], tenant, connection_id)
            now_held = None if locked is None else (locked["token_generation"], locked["grant_version"])
            if locked is None or now_held != (generation, version) or locked["status"] in _ENDED:
                # Replaced or ended meanwhile: this says nothing about what is held now.
                return
            await self._note(conn, seal, provider.auth, found)
            tokens.check_guard(mac_key, connection_id, provider.id, locked)
            after = turn(locked["status"], locked["status_reason"], tuple(locked["granted"]), found)
            if after != Turn(locked["status"], locked["status_reason"]):
                mac = await self._regrant(conn, seal, mac_key, provider, locked, found, facts) if after.regrant else bytes(locked["mac"])
                version = locked["grant_version"] + after.regrant
                args = (after.status, after.reason, locked["mode"], version, mac)
                await conn.execute(SQL["activate"], tenant, connection_id, *args)
                await self._tell(conn, seal, provider, locked["status"], after, found)
            await self._tell_age(conn, seal, provider, locked)

    async def _same_account(self, provider: Provider, held: Row, found: Findings) -> Findings:
        """Return the findings; a doubt where they are about another account than the one that was connected."""
        if found.account is None:
            return found
        index_key = await self._vault.mac_key(PLATFORM, INDEX)
        same = tokens.account_index(index_key, provider.id, "", found.account.id) == bytes(held["account_index"])
        return found if same else replace(found, verdict=Verdict.DOUBT, why="other_account")

    async def _note(self, conn: Executor, seal: GrantSeal, auth: RestrictedKey, found: Findings) -> None:
        now, about = self._clock.now(), (seal.tenant_id, seal.connection_id)
        if found.verdict is Verdict.DOUBT:
            soon = now + _DOUBTED * (0.5 + self._draw())
            await conn.execute(KEYS["key_doubted"], *about, soon)
            await conn.execute(KEYS["note_unanswered"], *about, now, found.why or "provider_unavailable")
            return
        # A key that may too much waits for a person: until then there is nothing more to learn from it.
        again = None if found.verdict is Verdict.WIDER else pasted.next_check(auth, now, self._draw)
        await conn.execute(KEYS["key_checked"], *about, now, again)
        await conn.execute(KEYS["note_answered"], *about, now)

    async def _regrant(
        self, conn: Executor, seal: GrantSeal, mac_key: RecordKey, provider: Provider, held: Row, found: Findings, facts: list[Secret]
    ) -> bytes:
        """Write what the key may now, as another version of the grant; return its MAC."""
        account, user = (one.reveal() for one in facts)
        grant = KeyGrant(provider, Mode(held["mode"]), held["grant_version"] + 1, found, bytes(held["account_index"]), account, user)
        await grant.put(conn, seal)
        return grant.mac(mac_key, seal.connection_id)

    async def _tell(self, conn: Executor, seal: GrantSeal, provider: Provider, before: str, after: Turn, found: Findings) -> None:
        tenant, connection_id = seal.tenant_id, seal.connection_id
        granted: list[Json] = [*found.granted]
        missing: list[Json] = [*found.missing]
        wider: list[Json] = [*found.wider]
        detail: dict[str, Json] = {"provider": provider.id, "status": after.status, "reason": after.reason, "wider": wider}
        if found.verdict in {Verdict.FIT, Verdict.NARROWER}:
            detail |= {"granted": granted, "missing": missing}
        await log.append(conn, self._clock, tenant, SYSTEM, tags.KEY_RECHECKED, connection_id=connection_id, detail=detail)
        about: dict[str, Json] = {"connection_id": ids.show("con", connection_id), "provider": provider.id}
        if after.status == "disabled":
            await self._announce.announce(conn, tenant, DISABLED, {**about, "reason": after.reason})
        elif after.status == "reauthorization_required":
            await self._announce.announce(conn, tenant, REAUTHORIZE, {**about, "reason": after.reason})
        elif found.missing:
            await self._announce.announce(conn, tenant, DEGRADED, {**about, "reason": "scopes_missing", "missing": missing})
        else:
            changed: list[Json] = ["scopes"] if before == after.status else ["scopes", "status"]
            await self._announce.announce(conn, tenant, CHANGED, {**about, "changed": changed, "status": after.status})

    async def _tell_age(self, conn: Executor, seal: GrantSeal, provider: Provider, held: Row) -> None:
        now: datetime = self._clock.now()
        told = held["told_at"]
        if not pasted.is_old(held["pasted_at"], self._max_age, now) or (told is not None and now - told < TOLD_EVERY):
            return
        tenant, connection_id = seal.tenant_id, seal.connection_id
        days = (now - held["pasted_at"]).days
        await conn.execute(KEYS["key_told"], tenant, connection_id, now)
        await log.append(conn, self._clock, tenant, SYSTEM, tags.KEY_OLD, connection_id=connection_id, detail={"age_days": days})
        about: dict[str, Json] = {"connection_id": ids.show("con", connection_id), "provider": provider.id, "age_days": days}
        await self._announce.announce(conn, tenant, KEY_OLD, about)
