"""Connection keys in a rotation: made, taking over when every process knows them, ended when nothing names the one before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from os import urandom
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.clock import Clock
from customhouse.crypto.envelope import KEY_BYTES
from customhouse.db import Database
from customhouse.errors import KeyDestroyed, Unsealable
from customhouse.failpoints import Failpoints
from customhouse.logs import get
from customhouse.types import Secret, TenantId
from customhouse.vault.keyring import WrappedDataKey
from customhouse.vault.moving import SealedTable, Turn, move
from customhouse.vault.opening import CONNECTION, Opener
from customhouse.vault.steps import Step, Tally
from customhouse.vault.turns import SQL, Turns

_log: Final = get("customhouse.vault")
_BATCH: Final = 100
_FIRST: Final = UUID(int=0)


class Turning:
    """Takes connection keys from one state to the next."""

    def __init__(
        self,
        database: Database,
        opener: Opener,
        turns: Turns,
        clock: Clock,
        tables: Sequence[SealedTable],
        failpoints: Failpoints,
        *,
        environment: str,
        wait: timedelta,
    ) -> None:
        """Take the parts; `wait` is how long a key waits before it takes over, and before it ends."""
        self._database = database
        self._opener = opener
        self._turns = turns
        self._clock = clock
        self._tables = tuple(tables)
        self._failpoints = failpoints
        self._environment = environment
        self._wait = wait

    async def make_successors(self, tenant: TenantId, cutoff: datetime, tally: Tally) -> None:
        """Give every connection key made before the cutoff a successor. Raises KeyDestroyed where the tenant has ended."""
        after = _FIRST
        while due := await self._turns.connections_due(tenant, cutoff, after, _BATCH):
            after = due[-1][0]
            tenant_key = await self._turns.active_tenant_key(tenant)
            if tenant_key is None:
                raise KeyDestroyed
            fresh = []
            for _, scope in due:
                key_id = ids.new()
                wrapped = await self._opener.wrap(tenant_key, key_id, (CONNECTION, scope), Secret(urandom(KEY_BYTES)))
                fresh.append((key_id, scope, wrapped))
            await tally.add(Step.MADE, await self._turns.add_next(tenant_key, fresh, self._clock.now()))
            self._failpoints.hit("rotate.made")

    async def take_over(self, tenant: TenantId, tally: Tally) -> None:
        """Let the successors that everybody knows seal what is new."""
        now = self._clock.now()
        while count := await self._turns.take_over(tenant, now, now - self._wait, _BATCH):
            await tally.add(Step.TAKEN_OVER, count)
            self._failpoints.hit("rotate.taken_over")

    async def end_replaced(self, tenant: TenantId, tally: Tally) -> None:
        """Seal anew what replaced keys sealed, where nobody uses them any more, and destroy those that nothing names."""
        now, after = self._clock.now(), _FIRST
        while pairs := await self._turns.replaced(tenant, now - self._wait, after, _BATCH):
            after = pairs[-1][0].key_id
            turns = [turn for pair in pairs if (turn := await self._opened(*pair, tally)) is not None]
            done = await self._move(tenant, turns, tally)
            self._failpoints.hit("rotate.moved")
            await tally.add(Step.ENDED, await self._turns.end(tenant, done, now))
            self._failpoints.hit("rotate.ended")

    async def _opened(self, old: WrappedDataKey, new: WrappedDataKey | None, tally: Tally) -> Turn | None:
        if new is None:
            return None
        try:
            return Turn(UUID(old.scope), await self._opener.material(old), await self._opener.material(new))
        except KeyDestroyed:
            # Disconnected at this moment.
            return None
        except Unsealable:
            _log.error("data_key_unreadable", tenant_id=old.tenant_key.tenant_id, connection_id=ids.show("con", UUID(old.scope)))
            await tally.add(Step.UNREADABLE, 1)
            return None

    async def _move(self, tenant: TenantId, turns: Sequence[Turn], tally: Tally) -> list[UUID]:
        """Seal anew what the old keys sealed; return the keys that seal nothing any more, and never will."""
        if not turns:
            return []
        async with self._database.transaction(tenant) as tx:
            await tx.execute(SQL["hold_tenant"], tenant)
            rows = await tx.fetch(SQL["hold_sealing"], tenant, [turn.connection_id for turn in turns])
            alone = {row["id"] for row in rows}
            held = [turn for turn in turns if turn.connection_id in alone]
            moved = await move(tx, self._environment, tenant, self._tables, held)
            free = [turn for turn in held if turn.old.key_id not in moved.left]
            connections, keys = [turn.connection_id for turn in free], [turn.old.key_id for turn in free]
            await tx.execute(SQL["end_sealing"], tenant, connections, keys, self._clock.now())
            self._failpoints.hit("rotate.before_move")
        for connection_id in moved.unreadable:
            _log.error("sealed_value_unreadable", tenant_id=tenant, connection_id=ids.show("con", connection_id))
        await tally.add(Step.UNREADABLE, len(moved.unreadable))
        return keys
