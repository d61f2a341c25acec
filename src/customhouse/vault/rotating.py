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

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from customhouse import ids
from customhouse.clock import Clock
from customhouse.db import Database
from customhouse.errors import KeyDestroyed, KeyServiceUnavailable, Unsealable
from customhouse.failpoints import Failpoints
from customhouse.logs import get
from customhouse.metrics import KEY_TURNS, Metrics
from customhouse.types import TenantId
from customhouse.vault.deeds import Witness
from customhouse.vault.keyring import WrappedTenantKey
from customhouse.vault.moving import SealedTable
from customhouse.vault.opening import Opener
from customhouse.vault.rewrapping import Rewrapping
from customhouse.vault.steps import Kind, Outlook, Rotation, Step, Tally, Tell
from customhouse.vault.turning import Turning
from customhouse.vault.turns import SQL, Turns

MARGIN: Final = timedelta(minutes=2)
"""Added to the cache time: how long a key may be in somebody's hands after the cache let go of it, and clocks may differ."""

_log: Final = get("customhouse.vault")
_PATIENCE: Final = 3
_PAGE: Final = 500


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
        self._rewrapping = Rewrapping(opener, self._turns, clock, failpoints, wait=wait)
        self._turning = Turning(database, opener, self._turns, clock, tables, failpoints, environment=environment, wait=wait)
        self._clock = clock
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
                if rotation.kind is not Kind.CONNECTION:
                    await self._rewrapping.replace(tenant, rotation.cutoff, tally)
                if rotation.kind is not Kind.TENANT:
                    await self._turning.make_successors(tenant, rotation.cutoff, tally)
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
        tally, failures = self._tally(tell), 0
        async for each in self._tenants("turning", tenant):
            try:
                await self._rewrapping.wrap_anew(each, tally)
                await self._turning.take_over(each, tally)
                await self._turning.end_replaced(each, tally)
                await self._rewrapping.end(each, tally)
            except Unsealable as error:
                await self._stuck(each, error, tally)
            except KeyServiceUnavailable:
                # One tenant's root key may be gone from the settings; if it is the service that is away, nobody has to ask for long.
                failures += 1
                if failures >= _PATIENCE:
                    raise
        if failures:
            raise KeyServiceUnavailable
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

    async def _stuck(self, tenant: TenantId, error: Unsealable, tally: Tally) -> None:
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

    def _tally(self, tell: Tell) -> Tally:
        async def counted(step: Step, count: int) -> None:
            if self._metrics is not None:
                self._metrics.counter(KEY_TURNS, operation=step.value).inc(count)
            await tell(step, count)

        return Tally(counted)
