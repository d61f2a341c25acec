"""Entries that are written in a batch, by a function of the database that moves from tenant to tenant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from customhouse import ids
from customhouse.audit.log import Origin, declared
from customhouse.audit.tags import Tag
from customhouse.types import Json, TenantId


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of one tenant."""

    tenant_id: TenantId
    entry_id: UUID
    at: datetime
    tag: Tag
    origin: Origin
    connection_id: UUID | None
    detail: str
    """As `log.declared` made it."""

    @classmethod
    def of(cls, tenant: TenantId, at: datetime, tag: Tag, origin: Origin, connection_id: UUID | None, detail: dict[str, Json]) -> Line:
        """Return an entry with an id of its own.

        Raises:
            ValueError: the tag does not declare a detail: a mistake of the code.
        """
        return cls(tenant, ids.new(), at, tag, origin, connection_id, declared(tag, detail))


def columns(lines: Sequence[Line]) -> tuple[list[object], ...]:
    """Return the columns of entries, in the order in which batch functions take them."""
    return (
        [line.tenant_id for line in lines],
        [line.entry_id for line in lines],
        [line.at for line in lines],
        [line.tag.name for line in lines],
        [line.origin.actor_type for line in lines],
        [line.origin.actor_id for line in lines],
        [line.connection_id for line in lines],
        [""] * len(lines),
        [line.origin.request_id for line in lines],
        [line.origin.correlation_id for line in lines],
        [line.detail for line in lines],
    )
