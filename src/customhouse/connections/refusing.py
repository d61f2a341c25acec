"""What follows when a provider refuses a token whose time is not over, and its renewal too: the user has to be asked again."""

from __future__ import annotations

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM
from customhouse.clock import Clock
from customhouse.connections.ports import REAUTHORIZE, Announce
from customhouse.connections.reading import REFUSED_BY_PROVIDER, Held
from customhouse.connections.sql import SQL
from customhouse.db import Database
from customhouse.types import Json


class Refusing:
    """Marks connections whose token is refused."""

    def __init__(self, database: Database, clock: Clock, announce: Announce) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._clock = clock
        self._announce = announce

    async def token_refused(self, held: Held) -> None:
        """Mark a connection, unless it has another token by now; whoever has to know is told."""
        await self._announce.prepare(held.tenant_id, REAUTHORIZE)
        async with self._database.transaction(held.tenant_id) as conn:
            marked = await conn.fetchval(SQL["mark_refused"], held.tenant_id, held.connection_id, REFUSED_BY_PROVIDER, held.generation)
            if marked is None:
                return
            detail: dict[str, Json] = {
                "provider": held.provider.id,
                "reason": REFUSED_BY_PROVIDER,
                "manifest_version": held.provider.version,
            }
            await log.append(
                conn, self._clock, held.tenant_id, SYSTEM, tags.CONNECTION_REAUTHORIZE, connection_id=held.connection_id, detail=detail
            )
            told: dict[str, Json] = {
                "connection_id": ids.show("con", held.connection_id),
                "provider": held.provider.id,
                "reason": REFUSED_BY_PROVIDER,
            }
            await self._announce.announce(conn, held.tenant_id, REAUTHORIZE, told)
