"""Fetching what is due from PostgreSQL: retries, what no process had room for, and what a dead process left."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.clock import Clock
from customhouse.crypto.envelope import key_id_of, open_sealed
from customhouse.db import Database, Row
from customhouse.errors import CustomhouseError, Unsealable
from customhouse.logs import get
from customhouse.outbound.engine import Engine
from customhouse.outbound.envelope import assemble, integration_of
from customhouse.outbound.recorder import release
from customhouse.outbound.roster import SQL, Rosters
from customhouse.outbound.sealed import payload_place
from customhouse.outbound.work import LEASE_SECONDS, Ending, Result, Work
from customhouse.types import TenantId
from customhouse.vault.vault import Vault

_log: Final = get("customhouse.outbound.claims")
_LARGEST_CLAIM: Final = 200
_BUSY_PAUSE: Final = 0.005
_IDLE_PAUSE: Final = 0.5
_AWAY_PAUSE: Final = 5.0
_CROWDED_PAUSE: Final = 2.0
_PER_CONNECTION: Final = 64
"""Deliveries of one connection in one claim: the long backlog of one does not keep the others waiting."""
_VISITS: Final = 500
"""Connections looked at in one claim; the next one goes on after the last."""
_PROVIDER: Final = "webhook"


class Claims:
    """Claims due deliveries for the engine's free places."""

    def __init__(self, database: Database, vault: Vault, rosters: Rosters, engine: Engine, clock: Clock) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._vault = vault
        self._rosters = rosters
        self._engine = engine
        self._clock = clock
        self._cursor: tuple[str, UUID] = ("", UUID(int=0))

    async def run(self) -> None:
        """Claim for ever; what fails is tried again a moment later."""
        while True:
            try:
                claimed = await self.once()
            except CustomhouseError as error:
                _log.warning("claim_failed", error=error.code)
                claimed = 0
            await asyncio.sleep(_BUSY_PAUSE)
            if not claimed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._engine.behind.wait(), _IDLE_PAUSE)
            self._engine.behind.clear()

    async def once(self) -> int:
        """Claim one group and hand it to the engine; return its size."""
        room = min(self._engine.room, _LARGEST_CLAIM)
        if room <= 0:
            return 0
        leased_until = self._clock.monotonic() + LEASE_SECONDS
        found = await self._database.call(
            SQL["claim_due"],
            self._engine.process_id,
            room,
            _PER_CONNECTION,
            LEASE_SECONDS,
            self._engine.crowded(_PER_CONNECTION),
            *self._cursor,
            _VISITS,
        )
        # The last row is the place to go on from, no delivery.
        *claimed, cursor = found
        self._cursor = (cursor["tenant_id"], cursor["connection_id"])
        if not claimed:
            return 0
        rows = await self._database.call(
            SQL["load_batch"],
            self._engine.process_id,
            [row["tenant_id"] for row in claimed],
            [row["delivery_id"] for row in claimed],
        )
        away: list[tuple[str, UUID, int]] = []
        crowded: list[tuple[str, UUID, int]] = []
        for row in rows:
            if not self._engine.reserve(row["tenant_id"], row["connection_id"]):
                crowded.append((row["tenant_id"], row["delivery_id"], row["lease"]))
                continue
            try:
                await self._take(row, leased_until)
            except Unsealable:
                await self._engine.end(self._result(row, leased_until, "failed", "unsealable"))
            except CustomhouseError:
                # The key service or PostgreSQL is away: the delivery waits, and no attempt is counted.
                self._engine.unreserve(row["connection_id"])
                away.append((row["tenant_id"], row["delivery_id"], row["lease"]))
        await release(self._database, self._engine.process_id, crowded, seconds=_CROWDED_PAUSE)
        await release(self._database, self._engine.process_id, away, seconds=_AWAY_PAUSE)
        return len(claimed)

    async def _take(self, row: Row, leased_until: float) -> None:
        tenant = TenantId(row["tenant_id"])
        roster = self._rosters.held(tenant)
        if roster is not None and (roster.version != row["tenant_version"] or roster.platform_version != row["platform_version"]):
            self._rosters.forget(tenant)
        if row["sealed"] is None:
            await self._engine.end(self._result(row, leased_until, "expired", "payload_expired"))
            return
        key_id = key_id_of(row["sealed"])
        key = self._vault.cached_key(tenant, key_id) or await self._vault.key(tenant, key_id)
        variant = open_sealed(key, payload_place(self._vault.environment, tenant, row["event_uid"], row["variant"]), row["sealed"])
        body = assemble(variant, integration_of(ids.show("con", row["connection_id"]), _PROVIDER))
        self._engine.start(_work(row, leased_until, body))

    def _result(self, row: Row, leased_until: float, outcome: Ending, reason: str) -> Result:
        return Result(
            work=_work(row, leased_until, b""),
            outcome=outcome,
            reason=reason,
            sent=False,
            at=self._clock.now(),
        )


def _work(row: Row, leased_until: float, body: bytes) -> Work:
    return Work(
        tenant_id=TenantId(row["tenant_id"]),
        delivery_id=row["delivery_id"],
        lease=row["lease"],
        event_uid=row["event_uid"],
        event_id=row["event_id"] or ids.show("evt", row["event_uid"]),
        event_type=row["event_type"],
        connection_id=row["connection_id"],
        policy_version=row["policy_version"],
        tenant_version=row["tenant_version"],
        attempts=row["attempts"],
        expires_at=row["expires_at"],
        leased_until=leased_until,
        body_sha256=row["body_sha256"],
        body=body,
        ordering_key=row["ordering_key"],
    )
