"""The ledger, first half: append in the caller's transaction, read page by page. Sealing into chains builds on these rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, cast
from uuid import UUID

from customhouse import ids
from customhouse.audit.tags import TAGS, Tag
from customhouse.canonical import dump, parse_object
from customhouse.clock import Clock
from customhouse.db import Executor, queries
from customhouse.types import Json, JsonObject, TenantId

_SQL: Final = queries(__package__)
PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class Origin:
    """Who did it, and in which request: travels from the face to the entry."""

    actor_type: Literal["api_key", "operator", "system", "connect_session"]
    actor_id: str
    request_id: str | None = None
    correlation_id: str | None = None


SYSTEM: Final = Origin("system", "customhouse")
"""The service itself: start-up, jobs, caches."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger."""

    entry_id: UUID
    at: datetime
    tag: str
    origin: Origin
    connection_id: UUID | None
    subject: str
    detail: JsonObject


@dataclass(frozen=True, slots=True)
class Filter:
    """What to read: all given conditions hold; `before` is the cursor."""

    connection_id: UUID | None = None
    actor_id: str | None = None
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: UUID | None = None


async def append(
    conn: Executor,
    clock: Clock,
    tenant: TenantId,
    origin: Origin,
    tag: Tag,
    *,
    subject: str = "",
    connection_id: UUID | None = None,
    detail: Mapping[str, Json] | None = None,
) -> UUID:
    """Write an entry in the caller's transaction, which is in `tenant`: both are kept, or neither.

    Raises:
        ValueError: the tag is not registered, or a detail is not declared for it: a mistake of the code, never of an input.
    """
    said = declared(tag, detail or {})
    entry_id = ids.new()
    await conn.execute(
        _SQL["append"],
        tenant,
        entry_id,
        clock.now(),
        tag.name,
        origin.actor_type,
        origin.actor_id,
        connection_id,
        subject,
        origin.request_id,
        origin.correlation_id,
        said,
    )
    return entry_id


def declared(tag: Tag, detail: Mapping[str, Json]) -> str:
    """Return the details of an entry as they are stored.

    Raises:
        ValueError: the tag is not registered, or a detail is not declared for it: a mistake of the code, never of an input.
    """
    if TAGS.get(tag.name) is not tag or not detail.keys() <= tag.fields:
        raise ValueError(f"the audit tag {tag.name} does not declare {sorted(detail.keys() - tag.fields)}")
    return dump(dict(detail)).decode()


async def read(conn: Executor, tenant: TenantId, wanted: Filter, limit: int = PAGE) -> list[Entry]:
    """Return entries of a tenant, the newest first."""
    rows = await conn.fetch(
        _SQL["read"],
        tenant,
        wanted.before,
        wanted.connection_id,
        wanted.actor_id,
        wanted.tag,
        ids.floor_at(wanted.since) if wanted.since else None,
        ids.floor_at(wanted.until) if wanted.until else None,
        limit,
    )
    return [
        Entry(
            row["entry_id"],
            row["at"],
            row["tag"],
            Origin(
                cast("Literal['api_key', 'operator', 'system', 'connect_session']", row["actor_type"]),
                row["actor_id"],
                row["request_id"],
                row["correlation_id"],
            ),
            row["connection_id"],
            row["subject"],
            parse_object(row["detail"].encode()),
        )
        for row in rows
    ]
