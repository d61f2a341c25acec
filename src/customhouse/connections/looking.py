"""Looking at connections whose token is wanted: looks that come at the same time share a round trip to the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias
from uuid import UUID

from customhouse.clock import Clock
from customhouse.connections.sql import SQL
from customhouse.db import Database, Row
from customhouse.errors import DatabaseRefused
from customhouse.group import GroupCommit
from customhouse.types import TenantId

_LARGEST_GROUP: Final = 100
_GROUPS_AT_ONCE: Final = 2
_MOST_WAITING: Final = 4_000
_PATIENCE: Final = 3.0

_Look: TypeAlias = tuple[TenantId, UUID, TenantId, str]
"""Whose connection, which, and the key that asks: its own tenant, and its id."""


class Looks:
    """Reads the rows of connections, several at a time, each in its own tenant."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._clock = clock
        self._group = GroupCommit[_Look, Row | None](
            self._read, largest=_LARGEST_GROUP, at_once=_GROUPS_AT_ONCE, most_waiting=_MOST_WAITING, patience=_PATIENCE
        )

    async def row(self, tenant: TenantId, connection_id: UUID, home: TenantId, actor_id: str) -> Row | None:
        """Return what is known of a connection; None: there is none in this tenant.

        Raises:
            Overloaded, DatabaseUnavailable: not now.
        """
        return await self._group.submit((tenant, connection_id, home, actor_id))

    async def close(self) -> None:
        """Let what is in be read, and refuse what comes."""
        await self._group.close()

    async def _read(self, group: Sequence[_Look]) -> Sequence[Row | None | BaseException]:
        wanted = sorted(set(group))
        try:
            rows = await self._database.call(
                SQL["read_tokens"],
                [tenant for tenant, _, _, _ in wanted],
                [connection_id for _, connection_id, _, _ in wanted],
                [home for _, _, home, _ in wanted],
                [actor_id for _, _, _, actor_id in wanted],
                self._clock.now(),
            )
        except DatabaseRefused as refused:
            if len(wanted) == 1:
                return [refused] * len(group)
            # One that PostgreSQL cannot read fails alone.
            alone = {look: (await self._one(look)) for look in wanted}
            return [alone[look] for look in group]
        found = {wanted[row["place"] - 1]: row for row in rows}
        return [found.get(look) for look in group]

    async def _one(self, look: _Look) -> Row | None | BaseException:
        return (await self._read([look]))[0]
