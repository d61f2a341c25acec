"""Ending many connections in an incident (R7): here at once, at the providers within a budget, and told as one operation."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import Origin
from customhouse.clock import Clock, rfc3339
from customhouse.connections.ending import Cause, Ending
from customhouse.connections.receipts import INCIDENT, Receipts
from customhouse.connections.revoking import Revoker
from customhouse.connections.sql import SQL
from customhouse.db import Database
from customhouse.errors import Conflict, CustomhouseError, NotFound
from customhouse.logs import get
from customhouse.types import PLATFORM, Json, JsonObject, TenantId

_log: Final = get("customhouse.connections")
_PAGE: Final = 500
_AT_ONCE: Final = 4
_FIRST: Final = UUID(int=0)
DEFAULT_RATE: Final = 5.0
"""Revocations per second at one provider."""
Told = Callable[[str], None]
"""Is told the provider of each connection that came one step further."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which connections an incident concerns; what is None does not narrow it. Those that have ended are never among them.

    Attributes:
        provider: of this provider.
        tenant: of this tenant.
        since: which got a consent, the first or a later one, at this moment or after it.
    """

    provider: str | None = None
    tenant: TenantId | None = None
    since: datetime | None = None

    def shown(self) -> JsonObject:
        """Return it for a report."""
        return {"provider": self.provider, "tenant_id": self.tenant, "since": None if self.since is None else rfc3339(self.since)}


@dataclass(frozen=True, slots=True)
class Found:
    """One connection of a selection."""

    tenant: TenantId
    connection_id: UUID
    provider: str
    user_id: str | None
    mode: str
    status: str
    created_at: datetime


@dataclass(slots=True)
class Report:
    """What a mass disconnect did."""

    operation_id: UUID
    selection: Selection
    started_at: datetime
    ended_at: datetime | None = None
    done: list[JsonObject] = field(default_factory=list)
    """The receipts, as they are at the end."""
    gone: int = 0
    """Had ended by themselves by then."""
    failed: list[JsonObject] = field(default_factory=list)
    """Could not be ended: they work on. The same command tries them again."""

    def counts(self) -> dict[str, int]:
        """Return how many came how far at the providers."""
        found: Counter[str] = Counter()
        for one in self.done:
            revocation = one["revocation"]
            assert isinstance(revocation, dict)
            status = "shared" if one["shared"] else str(revocation["status"])
            found["verified" if status == "revoked" and revocation["verified"] else status] += 1
        return dict(sorted(found.items()))

    def document(self) -> JsonObject:
        """Return it as JSON."""
        counted: JsonObject = dict(self.counts())
        return {
            "operation_id": ids.show("mop", self.operation_id),
            "selection": self.selection.shown(),
            "started_at": rfc3339(self.started_at),
            "ended_at": None if self.ended_at is None else rfc3339(self.ended_at),
            "ended": len(self.done),
            "gone": self.gone,
            "failed": [*self.failed],
            "at_providers": counted,
            "receipts": [*self.done],
        }


@dataclass(frozen=True, slots=True)
class _Turn:
    """When a provider may be asked, for what."""

    due: datetime
    tenant: TenantId
    revocation_id: UUID


class MassEnding:
    """Ends what a selection finds.

    Interrupted at any moment it goes on from there: what was cut is finished by the jobs of the service, and the same call takes the rest.
    """

    def __init__(self, database: Database, clock: Clock, ending: Ending, revoker: Revoker, receipts: Receipts) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._clock = clock
        self._ending = ending
        self._revoker = revoker
        self._receipts = receipts

    async def find(self, selection: Selection) -> AsyncIterator[Found]:
        """Yield the connections of a selection, tenant by tenant."""
        after: tuple[str, UUID] = ("", _FIRST)
        while True:
            page = await self._database.call(
                SQL["connections_to_end"], selection.provider, selection.tenant, selection.since, *after, _PAGE
            )
            of: dict[TenantId, list[UUID]] = {}
            for row in page:
                of.setdefault(TenantId(row["tenant_id"]), []).append(row["connection_id"])
            for tenant, wanted in of.items():
                async with self._database.transaction(tenant) as conn:
                    rows = await conn.fetch(SQL["connections_shown"], tenant, wanted)
                for row in rows:
                    yield Found(
                        tenant, row["connection_id"], row["provider"], row["user_id"], row["mode"], row["status"], row["created_at"]
                    )
            if len(page) < _PAGE:
                return
            after = (page[-1]["tenant_id"], page[-1]["connection_id"])

    async def run(
        self, selection: Selection, origin: Origin, *, rate: float = DEFAULT_RATE, wait: bool = True, on_cut: Told, on_asked: Told
    ) -> Report:
        """End them all: first here, then at the providers.

        Args:
            selection: which.
            origin: who.
            rate: revocations per second at one provider.
            wait: for the providers; else that is left to the jobs of the service, within the same budget.
            on_cut: is told of each connection that cannot be used any more.
            on_asked: is told of each whose provider was asked.

        Raises:
            DatabaseUnavailable: what was done stays done; the same call takes the rest.
        """
        report = Report(ids.new(), selection, self._clock.now())
        await self._record(report, origin, tags.MASS_DISCONNECT_BEGUN, {**selection.shown()})
        asking: dict[str, list[_Turn]] = {}
        cut: list[Found] = []
        places = asyncio.Semaphore(_AT_ONCE)
        turns: Counter[str] = Counter()

        async def end(one: Found) -> None:
            async with places:
                turns[one.provider] += 1
                # Due one after the other, whoever asks: the budget holds for the jobs of the service too.
                after = timedelta(seconds=turns[one.provider] / rate)
                cause = Cause(INCIDENT, operation_id=report.operation_id, revoke_after=after)
                try:
                    revocation_id = await self._ending.cut(one.tenant, one.connection_id, origin, cause)
                    cut.append(one)
                    await self._ending.release(one.tenant, one.connection_id)
                except (Conflict, NotFound):
                    report.gone += 1
                    return
                except CustomhouseError as error:
                    _log.error("mass_disconnect_missed", tenant_id=one.tenant, error=error.code)
                    if one not in cut:
                        missed: JsonObject = {
                            "tenant_id": one.tenant,
                            "connection_id": ids.show("con", one.connection_id),
                            "code": error.code,
                        }
                        report.failed.append(missed)
                    return
                if revocation_id is not None:
                    asking.setdefault(one.provider, []).append(_Turn(self._clock.now() + after, one.tenant, revocation_id))
                on_cut(one.provider)

        await _in_pages(self.find(selection), end)
        if wait:
            await asyncio.gather(*(self._ask(provider, waiting, on_asked) for provider, waiting in asking.items()))
        for one in cut:
            receipt = await self._receipts.get(one.tenant, one.connection_id)
            report.done.append(receipt.document(one.tenant))
        report.ended_at = self._clock.now()
        counts: dict[str, Json] = {"ended": len(report.done), "gone": report.gone, "failed": len(report.failed)}
        await self._record(report, origin, tags.MASS_DISCONNECT_ENDED, counts)
        return report

    async def _ask(self, provider: str, waiting: Sequence[_Turn], on_asked: Told) -> None:
        """Have one provider asked, each time when it is due."""
        for turn in sorted(waiting, key=lambda one: one.due):
            await asyncio.sleep(max(0.0, (turn.due - self._clock.now()).total_seconds()))
            try:
                await self._revoker.end(turn.tenant, turn.revocation_id)
            except CustomhouseError as error:
                # A job of the service tries it again.
                _log.error("revocation_put_off", tenant_id=turn.tenant, error=error.code)
            on_asked(provider)

    async def _record(self, report: Report, origin: Origin, tag: tags.Tag, detail: dict[str, Json]) -> None:
        async with self._database.transaction(PLATFORM) as conn:
            subject = ids.show("mop", report.operation_id)
            await log.append(conn, self._clock, PLATFORM, origin, tag, subject=subject, detail=detail)


async def _in_pages(found: AsyncIterator[Found], end: Callable[[Found], Awaitable[None]]) -> None:
    """Run `end` for all, a page at a time: what is found next is asked for when the page is done."""
    page: list[Found] = []
    async for one in found:
        page.append(one)
        if len(page) >= _PAGE:
            await asyncio.gather(*map(end, page))
            page = []
    await asyncio.gather(*map(end, page))
