"""What a rotation is, what it counts, and what is left of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from customhouse.types import TenantId


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
class Tally:
    """Adds up one call, and tells each batch."""

    tell: Tell
    counts: dict[Step, int] = field(default_factory=dict)

    async def add(self, step: Step, count: int) -> None:
        """Add a batch, unless it is empty."""
        if count:
            self.counts[step] = self.counts.get(step, 0) + count
            await self.tell(step, count)
