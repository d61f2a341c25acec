"""Writing what came of attempts, in groups, only where the lease still holds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, Protocol
from uuid import UUID

from customhouse import ids
from customhouse.db import Database, Executor, Row, enter
from customhouse.errors import Conflict, CustomhouseError, DatabaseRefused, DatabaseUnavailable
from customhouse.failpoints import Failpoints
from customhouse.group import GroupCommit
from customhouse.logs import get
from customhouse.outbound.roster import SQL
from customhouse.outbound.work import LEASE_SECONDS, Result
from customhouse.types import TenantId

_log: Final = get("customhouse.outbound.recorder")
_LARGEST_GROUP: Final = 200
_GROUPS_AT_ONCE: Final = 1
_PACE: Final = 0.02
"""Seconds between two groups: nobody waits for a result, so a busy process writes many in one transaction."""
_MOST_WAITING: Final = 100_000
"""Never reached: the engine holds less than that."""
_FIRST_PAUSE: Final = 0.1
_LAST_PAUSE: Final = 2.0
_PATIENCE_AT_STOP: Final = 5.0


class Teller(Protocol):
    """Tells results to whoever asked for them."""

    def wanted(self, result: Result) -> bool:
        """Tell whether somebody may have asked."""
        ...

    async def prepare(self, results: Sequence[Result]) -> None:
        """Get ready before a transaction is open."""
        ...

    async def tell(self, conn: Executor, tenant: TenantId, results: Sequence[Result]) -> None:
        """Write into the open transaction, which is in `tenant`."""
        ...


class Recorder:
    """Writes results; while PostgreSQL is away it keeps them until their leases have certainly run out."""

    def __init__(self, database: Database, failpoints: Failpoints, process_id: UUID, teller: Teller, *, drop_payloads: bool) -> None:
        """Take the parts; `drop_payloads` deletes a payload in the transaction that ends its last delivery (retention 0)."""
        self._database = database
        self._failpoints = failpoints
        self._process_id = process_id
        self._teller = teller
        self._drop_payloads = drop_payloads
        self._patience = LEASE_SECONDS
        # Those that stand in a line go apart: the next of the line waits for their results, and the rest does not wait for their turns.
        self._group, self._ordered = (
            GroupCommit[Result, bool](self._flush, largest=_LARGEST_GROUP, at_once=_GROUPS_AT_ONCE, most_waiting=_MOST_WAITING, pace=pace)
            for pace in (_PACE, 0.0)
        )
        # So do those that somebody is told of in the same transaction.
        self._told = GroupCommit[Result, bool](
            partial(self._flush, told=True), largest=_LARGEST_GROUP, at_once=_GROUPS_AT_ONCE, most_waiting=_MOST_WAITING, pace=_PACE
        )

    async def record(self, result: Result) -> bool:
        """Write one result; False when the lease was lost, and another process decides about the delivery.

        Raises:
            CustomhouseError: it could not be written before the lease ran out.
        """
        if result.outcome == "failed" and self._teller.wanted(result):
            return await self._told.submit(result)
        return await (self._group if result.work.ordering_key is None else self._ordered).submit(result)

    def hurry(self) -> None:
        """Keep results for seconds only from now on: the process ends, and whoever is left tries their deliveries again."""
        self._patience = _PATIENCE_AT_STOP

    async def close(self) -> None:
        """Wait until everything that is in has been written."""
        await self._group.close()
        await self._ordered.close()
        await self._told.close()

    async def _flush(self, group: Sequence[Result], *, told: bool = False) -> Sequence[bool | BaseException]:
        pause, waited = _FIRST_PAUSE, 0.0
        while True:
            try:
                return await self._write(group, told=told)
            except DatabaseUnavailable as error:
                if waited > self._patience:
                    return [error] * len(group)
                await asyncio.sleep(pause)
                waited += pause
                pause = min(pause * 2, _LAST_PAUSE)
            except (DatabaseRefused, Conflict) as refused:
                if len(group) == 1 and told:
                    # What became of the delivery matters more than that somebody hears of it.
                    _log.error("operational_event_lost", delivery_id=ids.show("dlv", group[0].work.delivery_id), error=refused.code)
                    return await self._flush(group)
                if len(group) == 1:
                    return [refused]
                results: list[bool | BaseException] = []
                for item in group:
                    results.extend(await self._flush([item], told=told))
                return results

    async def _write(self, group: Sequence[Result], *, told: bool) -> Sequence[bool]:
        attempts, arguments = self._arguments(group)
        if told:
            await self._teller.prepare(group)
        self._failpoints.hit("record.before_commit")
        if told:
            written = await self._record_and_tell(group, attempts, arguments)
        else:
            written = _written(group, attempts, await self._database.call(SQL["record_batch"], *arguments))
        self._failpoints.hit("record.after_commit")
        return written

    async def _record_and_tell(self, group: Sequence[Result], attempts: Mapping[int, UUID], arguments: tuple[object, ...]) -> list[bool]:
        async with self._database.transaction() as conn:
            written = _written(group, attempts, await conn.fetch(SQL["record_batch"], *arguments))
            of_tenant: dict[TenantId, list[Result]] = {}
            for result, is_written in zip(group, written, strict=True):
                if is_written:
                    of_tenant.setdefault(result.work.tenant_id, []).append(result)
            for tenant, results in sorted(of_tenant.items()):
                await enter(conn, tenant)
                await self._teller.tell(conn, tenant, results)
        return written

    def _arguments(self, group: Sequence[Result]) -> tuple[dict[int, UUID], tuple[object, ...]]:
        """Return the attempt id of each result, by its identity, and what `record_batch` takes."""
        results = sorted(group, key=lambda result: (result.work.tenant_id, result.work.delivery_id))
        tenants: list[str] = []
        to: list[int] = []
        for place, result in enumerate(results, 1):
            if tenants and tenants[-1] == result.work.tenant_id:
                to[-1] = place
            else:
                tenants.append(result.work.tenant_id)
                to.append(place)
        attempts = {id(result): ids.new() for result in results}
        in_order = any(result.work.ordering_key is not None for result in results)
        return attempts, (
            self._process_id,
            self._drop_payloads,
            tenants,
            to,
            [result.work.delivery_id for result in results],
            [result.work.lease for result in results],
            [result.outcome for result in results],
            [result.reason for result in results],
            [result.sent for result in results],
            list(attempts.values()),
            [result.at for result in results],
            [result.status_code for result in results],
            [result.error for result in results],
            [result.latency_ms for result in results],
            [len(result.work.body) if result.sent else None for result in results],
            [result.response_bytes for result in results],
            [result.body_sha256 for result in results],
            [result.retry_in for result in results],
            [result.work.connection_id for result in results] if in_order else [],
            [result.work.ordering_key for result in results] if in_order else [],
        )


def _written(group: Sequence[Result], attempts: Mapping[int, UUID], rows: Sequence[Row]) -> list[bool]:
    found = {row["attempt_id"] for row in rows}
    return [attempts[id(result)] in found for result in group]


async def release(database: Database, process_id: UUID, works: Sequence[tuple[str, UUID, int]], *, seconds: float) -> None:
    """Give leased deliveries, as (tenant, delivery, lease), back without an attempt; the end of the lease does so too if this fails."""
    if not works:
        return
    try:
        await database.call(
            SQL["release_batch"],
            process_id,
            [tenant for tenant, _, _ in works],
            [delivery for _, delivery, _ in works],
            [lease for _, _, lease in works],
            seconds,
        )
    except CustomhouseError:
        return
