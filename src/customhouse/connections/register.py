"""The register of uses: no credential is handed out or used before the entry that says so is durable. Many share one commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from customhouse.audit.lines import Line, columns
from customhouse.clock import Clock
from customhouse.connections.bulk import HISTORY, RIPE, Alarms, Rules, Tally
from customhouse.connections.sql import SQL
from customhouse.db import Database
from customhouse.errors import BulkReadStopped, Conflict, DatabaseRefused, DatabaseUnavailable
from customhouse.failpoints import Failpoints
from customhouse.group import GroupCommit
from customhouse.metrics import READ_BATCH, Metrics
from customhouse.types import TenantId

_LARGEST_GROUP: Final = 200
_GROUPS_AT_ONCE: Final = 2
_MOST_WAITING: Final = 2_000
_PATIENCE: Final = 3.0
_STAMP_SECONDS: Final = 60.0
"""How old a connection's stamp may get while it is in use: not each read writes one."""
_MOST_STAMPS: Final = 50_000
_MOST_SEEN: Final = 200_000


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a credential, or a refusal.

    Attributes:
        line: its entry in the ledger.
        connection_id: whose credential.
        scopes: what it may have been used for; None: a refusal, which is no use.
        homes: the tenants in which the key's reads are counted; empty: it is none that is watched (a job of ours).
    """

    line: Line
    connection_id: UUID
    scopes: tuple[str, ...] | None
    homes: tuple[TenantId, ...] = ()


class Register:
    """Writes uses: entries, stamps of the last use, and what each key has read."""

    def __init__(self, database: Database, clock: Clock, metrics: Metrics, failpoints: Failpoints, alarms: Alarms, rules: Rules) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._clock = clock
        self._failpoints = failpoints
        self._alarms = alarms
        self._rules = rules
        self._group = GroupCommit[Use, None](
            self._flush,
            largest=_LARGEST_GROUP,
            at_once=_GROUPS_AT_ONCE,
            most_waiting=_MOST_WAITING,
            patience=_PATIENCE,
            observe=metrics.histogram(READ_BATCH).observe,
        )
        self._stamped: dict[UUID, tuple[float, frozenset[str]]] = {}
        self._window: datetime | None = None
        self._seen: set[tuple[TenantId, str, UUID]] = set()

    async def note(self, use: Use) -> None:
        """Write a use; when this returns, its entry is durable.

        Raises:
            Overloaded, DatabaseUnavailable: it is not: then nothing may be handed out.
            BulkReadStopped: it is, and with it the key has read too many connections.
        """
        await self._group.submit(use)

    async def close(self) -> None:
        """Let what is in be written, and refuse what comes."""
        await self._group.close()
        await self._alarms.settled()

    async def _flush(self, group: Sequence[Use]) -> Sequence[None | BaseException]:
        try:
            return await self._write(group)
        except (DatabaseRefused, Conflict) as refused:
            if len(group) == 1:
                # However it came about: without its entry nothing is handed out, and the caller may try again.
                raise DatabaseUnavailable("The use could not be written into the ledger.") from refused
            results: list[None | BaseException] = []
            for use in group:
                try:
                    results.extend(await self._flush([use]))
                except DatabaseUnavailable as error:
                    results.append(error)
            return results

    async def _write(self, group: Sequence[Use]) -> Sequence[None | BaseException]:
        now, tick = self._clock.now(), self._clock.monotonic()
        window = self._rules.window_of(now)
        if window != self._window or len(self._seen) > _MOST_SEEN:
            self._window, self._seen = window, set()
        stamps = self._stamps(group, tick)
        fresh = sorted({sight for use in group for sight in _sights(use) if sight not in self._seen})
        self._failpoints.hit("read.before_commit")
        rows = await self._database.call(
            SQL["record_reads"],
            *columns([use.line for use in group]),
            [tenant for tenant, _ in stamps],
            [connection_id for _, connection_id in stamps],
            [at for at, _ in stamps.values()],
            [" ".join(sorted(scopes)) for _, scopes in stamps.values()],
            [home for home, _, _ in fresh],
            [actor for _, actor, _ in fresh],
            [connection_id for _, _, connection_id in fresh],
            window,
            HISTORY,
            RIPE,
        )
        self._failpoints.hit("read.after_commit")
        if window == self._window:
            self._seen.update(fresh)
        if len(self._stamped) + len(stamps) > _MOST_STAMPS:
            self._stamped.clear()
        for (_, connection_id), (_, scopes) in stamps.items():
            self._stamped[connection_id] = (tick, scopes)
        tallies = [Tally(TenantId(row["tenant_id"]), row["actor_id"], row["connections"], row["usual"]) for row in rows]
        stopped = {(tally.home, tally.actor_id) for tally in tallies if self._alarms.judge(tally)}
        return [self._verdict(use, stopped) for use in group]

    def _stamps(self, group: Sequence[Use], tick: float) -> dict[tuple[TenantId, UUID], tuple[datetime, frozenset[str]]]:
        """Return which connections get a stamp, sorted, with what is known of their use."""
        stamps: dict[tuple[TenantId, UUID], tuple[datetime, frozenset[str]]] = {}
        for use in group:
            if use.scopes is None:
                continue
            at, known = self._stamped.get(use.connection_id, (float("-inf"), frozenset[str]()))
            if at + _STAMP_SECONDS > tick and known.issuperset(use.scopes):
                continue
            place = (use.line.tenant_id, use.connection_id)
            held = stamps.get(place, (use.line.at, known))
            stamps[place] = (max(held[0], use.line.at), held[1] | set(use.scopes))
        return dict(sorted(stamps.items()))

    def _verdict(self, use: Use, stopped: set[tuple[TenantId, str]]) -> None | BaseException:
        if use.scopes is None or not any((home, use.line.origin.actor_id) in stopped for home in use.homes):
            return None
        return BulkReadStopped(retry_after=int(self._rules.stop.total_seconds()))


def _sights(use: Use) -> list[tuple[TenantId, str, UUID]]:
    return [] if use.scopes is None else [(home, use.line.origin.actor_id, use.connection_id) for home in use.homes]
