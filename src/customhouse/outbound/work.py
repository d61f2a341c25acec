"""A delivery in the hands of this process, and what came of an attempt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias
from uuid import UUID

from customhouse.types import TenantId

Ending: TypeAlias = Literal["delivered", "retrying", "failed", "cancelled", "expired"]
LEASE_SECONDS: Final = 120.0
"""The hard deadline of a lease: no attempt starts so late that it could outlive it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One leased delivery. `leased_until` is in monotonic seconds of this process; `body` never shows."""

    tenant_id: TenantId
    delivery_id: UUID
    lease: int
    event_uid: UUID
    event_id: str
    event_type: str
    connection_id: UUID
    policy_version: int
    tenant_version: int
    attempts: int
    expires_at: datetime
    leased_until: float
    body_sha256: bytes | None
    body: bytes
    ordering_key: bytes | None = None
    """Names the line that it stands in, as its head; None: it has none."""

    def __repr__(self) -> str:
        return f"Work({self.delivery_id}, lease={self.lease}, attempts={self.attempts})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of an attempt (`sent`), or of a delivery that ends without one."""

    work: Work
    outcome: Ending
    reason: str | None
    sent: bool
    at: datetime
    status_code: int | None = None
    error: str | None = None
    latency_ms: int | None = None
    response_bytes: int | None = None
    body_sha256: bytes | None = None
    retry_in: float = 0.0
