"""Rotation of tenant and connection keys, online: what was begun is finished by whoever comes next, at any time, more than one at once.

A connection key goes through four states. Its successor is made (`next`) and becomes known to every process, because no process keeps
what it knows of a scope for longer than its cache time. After that time and a margin it takes over (`active`): what is sealed from now
on names it, and everybody can open that. The one before (`retired`) is still used by whoever got it a moment ago; after the same time
again nobody is left, what it sealed is sealed anew, and it is destroyed. So nobody ever meets a key that they cannot have, and
no lock is waited for on the way (adr/0068).

A tenant key wraps data keys only. They are wrapped anew under its successor at once: whoever read a wrapped key before has its tenant
key in the same row.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from os import urandom
from typing import Final, TypeAlias
from uuid import UUID

from customhouse import ids
from customhouse.clock import Clock
from customhouse.crypto.envelope import KEY_BYTES
from customhouse.db import Database
from customhouse.errors import KeyDestroyed, Unsealable
from customhouse.failpoints import Failpoints
from customhouse.logs import get
from customhouse.metrics import KEY_TURNS, Metrics
from customhouse.types import Secret, TenantId
from customhouse.vault.deeds import Witness
from customhouse.vault.keyring import WrappedDataKey, WrappedTenantKey
from customhouse.vault.moving import SealedTable, Turn, move
from customhouse.vault.opening import CONNECTION, Opener
from customhouse.vault.turns import SQL, Turns

MARGIN: Final = timedelta(minutes=2)
"""Added to the cache time: how long a key may be in somebody's hands after the cache let go of it, and clocks may differ."""

_log: Final = get("customhouse.vault")
_BATCH: Final = 100
_PAGE: Final = 500
_FIRST: Final = UUID(int=0)


class Kind(StrEnum):
    """Which keys to rotate."""

    TENANT = "tenant"
    CONNECTION = "connection"
    ALL = "all"


class Step(StrEnum):
    """What is counted on the way."""

    TENANT_KEYS_MADE = "tenant_keys_made"
    DATA_KEYS_WRAPPED = "data_keys_wrapped"
    TENANT_KEYS_ENDED = "tenant_keys_ended"
    MADE = "connection_keys_made"
    TAKEN_OVER = "connection_keys_taken_over"
    ENDED = "connection_keys_ended"
    UNREADABLE = "unreadable"


Tell: TypeAlias = Callable[[Step, int], Awaitable[None]]
"""Hears of every batch; may wait, to keep the pace down."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """What was begun: every key of this kind made before `cutoff`. Without a tenant: of all."""

    rotation_id: UUID
    kind: Kind
    tenant: TenantId | None
    cutoff: datetime
    started_at: datetime
    resumed: bool


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is under way: successors that wait, replaced keys that have not ended."""

    waiting: int
    replaced: int
    overdue: int
    """Of both, those whose time has come: they go on now, or what they still seal holds them."""
    due_at: datetime | None
    """When the next one's time comes; None: of none."""


@dataclass(slots=True)
class _Tally:
    tell: Tell
    counts: dict[Step, int] = field(default_factory=dict)

    async def add(self, step: Step, count: int) -> None:
        if count:
            self.counts[step] = self.counts.get(step, 0) + count
            await self.tell(step, count)


class Rotating:
    """Makes successors, lets them take over, ends what they replaced."""

    def __init__(
        self,
        database: Database,
        opener: Opener,
        witness: Witness,
        clock: Clock,
        tables: Sequence[SealedTable],
        held: str,
        failpoints: Failpoints,
        *,
        environment: str,
        wait: timedelta,
        metrics: Metrics | None = None,
    ) -> None:
        """Take the parts.

        Args:
            database: of keyring and values.
            opener: of the vault.
            witness: who writes the ledger.
            clock: the time.
            tables: what the keys of connections seal.
            held: the query that tells which tenant keys are needed outside the keyring.
            failpoints: where tests strike.
            environment: part of every place.
            wait: the longest cache time of any process on this database, and `MARGIN`.
            metrics: what counts the steps.
        """
        self._database = database
        self._opener = opener
        self._turns = Turns(database, witness, held)
        self._clock = clock
        self._tables = tuple(tables)
        self._failpoints = failpoints
        self._environment = environment
        self._wait = wait
        self._metrics = metrics

    @property
    def wait(self) -> timedelta:
        """How long a key waits before it takes over, and before it ends."""
        return self._wait

    async def knows(self, tenant: TenantId) -> bool:
        """Tell whether a tenant has a key that could be rotated."""
        return await self._turns.active_tenant_key(tenant) is not None

    async def tenant_key(self, tenant: TenantId) -> WrappedTenantKey:
        """Return the tenant key that wraps what is new.

        Raises:
            KeyDestroyed: there is none.
        """
        found = await self._turns.active_tenant_key(tenant)
        if found is None:
            raise KeyDestroyed
        return found

    async def begin(self, kind: Kind, tenant: TenantId | None, cutoff: datetime) -> Rotation:
        """Write down what is to be rotated, or return what was begun before and not finished, with its own cutoff."""
        begun = ids.new()
        row = None
        while row is None:
            await self._database.call(SQL["begin"], begun, kind.value, tenant, cutoff, self._clock.now())
            # None: it was finished between the two.
            found = await self._database.call(SQL["under_way"], kind.value, tenant)
            row = found[0] if found else None
        return Rotation(row["rotation_id"], kind, tenant, row["cutoff"], row["started_at"], resumed=row["rotation_id"] != begun)

    async def make(self, rotation: Rotation, tell: Tell) -> dict[Step, int]:
        """Give every key that is due its successor, then note that this is done.

        Raises:
            KeyServiceUnavailable, DatabaseUnavailable: not now; what was done stays done, and the next call goes on.
        """
        tally = self._tally(tell)
        async for tenant in self._tenants("holders", rotation.tenant):
            try:
                await self._replace_tenant_key(tenant, rotation, tally)
                if rotation.kind is not Kind.TENANT:
                    await self._make_successors(tenant, rotation.cutoff, tally)
            except KeyDestroyed:
                # A tenant that ends meanwhile has nothing left to rotate.
                continue
            except Unsealable as error:
                await self._stuck(tenant, error, tally)
        await self._database.call(SQL["finish"], rotation.rotation_id, self._clock.now())
        return tally.counts

    async def advance(self, tenant: TenantId | None, tell: Tell) -> dict[Step, int]:
        """Do all that can be done at this moment of what is under way; repeat it until `outlook` shows nothing.

        Raises:
            KeyServiceUnavailable, DatabaseUnavailable: not now.
        """
        tally = self._tally(tell)
        async for each in self._tenants("turning", tenant):
            try:
                await self._wrap_anew(each, tally)
                await self._take_over(each, tally)
                await self._end_replaced(each, tally)
                await self._end_tenant_keys(each, tally)
            except Unsealable as error:
                await self._stuck(each, error, tally)
        return tally.counts

    async def finish_due(self) -> None:
        """Do what `advance` does, as a job of the service."""

        async def unheard(_step: Step, _count: int) -> None:
            return

        await self.advance(None, unheard)

    async def outlook(self, tenant: TenantId | None) -> Outlook:
        """Tell what is under way."""
        waiting = replaced = overdue = 0
        since: list[datetime] = []
        before = self._clock.now() - self._wait
        async for each in self._tenants("turning", tenant):
            async with self._database.transaction(each) as tx:
                row = await tx.fetchrow(SQL["outlook"], each, before)
            if row is not None:
                waiting += row["next"]
                replaced += row["retired"]
                overdue += row["overdue"]
                since += [] if row["since"] is None else [row["since"]]
        return Outlook(waiting, replaced, overdue, min(since) + self._wait if since else None)

    async def count_due(self, rotation: Rotation) -> int:
        """Return how many connection keys a rotation has still to give a successor."""
        count = 0
        if rotation.kind is not Kind.TENANT:
            async for tenant in self._tenants("holders", rotation.tenant):
                async with self._database.transaction(tenant) as tx:
                    count += await tx.fetchval(SQL["count_due"], tenant, rotation.cutoff)
        return count

    # Tenant keys --------------------------------------------------------------------------------------------------------

    async def _replace_tenant_key(self, tenant: TenantId, rotation: Rotation, tally: _Tally) -> None:
        if rotation.kind is Kind.CONNECTION:
            return
        old = await self._turns.tenant_key_due(tenant, self._opener.root, cutoff=rotation.cutoff)
        if old is not None:
            # One that does not open now is not replaced: nothing that it wraps could be wrapped anew.
            await self._opener.at_hand(old)
            new = await self._opener.tenant_key(tenant)
            if await self._turns.replace_tenant_key(old, new, self._clock.now()):
                await tally.add(Step.TENANT_KEYS_MADE, 1)
            self._failpoints.hit("rotate.tenant_key_replaced")
        await self._wrap_anew(tenant, tally)

    async def _wrap_anew(self, tenant: TenantId, tally: _Tally) -> None:
        for old in await self._turns.retired_tenant_keys(tenant):
            new = await self._turns.active_tenant_key(tenant)
            if new is None:
                return
            # Both are at hand before any row is locked.
            await self._opener.at_hand(old)
            await self._opener.at_hand(new)
            leave: list[UUID] = []
            while True:
                done = await self._turns.rewrap(old, new.key_id, partial(self._wrapped, new), leave, _PAGE, self._clock.now())
                leave += done.unreadable
                await tally.add(Step.DATA_KEYS_WRAPPED, done.count)
                await tally.add(Step.UNREADABLE, len(done.unreadable))
                self._failpoints.hit("rotate.wrapped")
                if not done.count:
                    break

    async def _wrapped(self, new: WrappedTenantKey, key: WrappedDataKey) -> bytes | None:
        try:
            opened = await self._opener.material(key)
        except Unsealable:
            _log.error("data_key_unreadable", tenant_id=new.tenant_id)
            return None
        return await self._opener.wrap(new, key.key_id, (key.purpose, key.scope), opened.material)

    async def _end_tenant_keys(self, tenant: TenantId, tally: _Tally) -> None:
        now = self._clock.now()
        for old in await self._turns.retired_tenant_keys(tenant):
            if await self._turns.end_tenant_key(old, now, now - self._wait):
                await tally.add(Step.TENANT_KEYS_ENDED, 1)

    # Connection keys ----------------------------------------------------------------------------------------------------

    async def _make_successors(self, tenant: TenantId, cutoff: datetime, tally: _Tally) -> None:
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

    async def _take_over(self, tenant: TenantId, tally: _Tally) -> None:
        now = self._clock.now()
        while count := await self._turns.take_over(tenant, now, now - self._wait, _BATCH):
            await tally.add(Step.TAKEN_OVER, count)
            self._failpoints.hit("rotate.taken_over")

    async def _end_replaced(self, tenant: TenantId, tally: _Tally) -> None:
        now, after = self._clock.now(), _FIRST
        while pairs := await self._turns.replaced(tenant, now - self._wait, after, _BATCH):
            after = pairs[-1][0].key_id
            turns = [turn for pair in pairs if (turn := await self._opened(*pair, tally)) is not None]
            done = await self._move(tenant, turns, tally)
            self._failpoints.hit("rotate.moved")
            await tally.add(Step.ENDED, await self._turns.end(tenant, done, now))
            self._failpoints.hit("rotate.ended")

    async def _opened(self, old: WrappedDataKey, new: WrappedDataKey | None, tally: _Tally) -> Turn | None:
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

    async def _move(self, tenant: TenantId, turns: Sequence[Turn], tally: _Tally) -> list[UUID]:
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

    async def _stuck(self, tenant: TenantId, error: Unsealable, tally: _Tally) -> None:
        _log.error("rotation_stuck", tenant_id=tenant, error=error.code)
        await tally.add(Step.UNREADABLE, 1)

    # Whose --------------------------------------------------------------------------------------------------------------

    async def _tenants(self, query: str, only: TenantId | None) -> AsyncIterator[TenantId]:
        if only is not None:
            yield only
            return
        after = ""
        while rows := await self._database.call(SQL[query], after, _PAGE):
            for row in rows:
                yield TenantId(row["tenant_id"])
            after = rows[-1]["tenant_id"]

    def _tally(self, tell: Tell) -> _Tally:
        async def counted(step: Step, count: int) -> None:
            if self._metrics is not None:
                self._metrics.counter(KEY_TURNS, operation=step.value).inc(count)
            await tell(step, count)

        return _Tally(counted)
