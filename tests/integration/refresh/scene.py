"""What the tests of renewals look at."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import asyncpg

from customhouse.providers.catalogue import Catalogue
from customhouse_sandbox.faults import FaultKind, Operation
from tests.sandboxes import Sandbox


def calls(sandbox: Sandbox, *statuses: int) -> int:
    """Return how often a refresh token was shown."""
    return sum(call.operation == Operation.REFRESH and (not statuses or call.status in statuses) for call in sandbox.calls)


async def state(owner: asyncpg.Connection, connection_id: UUID) -> asyncpg.Record:
    """Return everything about a connection's renewals."""
    found = await owner.fetchrow(
        """
        select r.*, c.status, c.status_reason, c.grant_version, g.granted, g.missing, t.token_generation, t.refreshed_at, t.issued_at,
               t.api_origin, t.refresh_sealed is not null as renewable
        from connections c
        left join connection_grants g using (tenant_id, connection_id)
        left join integration_tokens t using (tenant_id, connection_id)
        left join token_refreshes r using (tenant_id, connection_id) where c.connection_id = $1
        """,
        connection_id,
    )
    assert found is not None
    return found


async def entries(owner: asyncpg.Connection, tag: str) -> list[dict[str, Any]]:
    """Return the details of all ledger entries of a tag."""
    return [json.loads(row["detail"]) for row in await owner.fetch("select detail from audit_entries where tag = $1", tag)]


async def at_once(owner: asyncpg.Connection) -> None:
    """Let every pause be over."""
    await owner.execute("update token_refreshes set not_before = now()")


def reply(sandbox: Sandbox, provider: str, **changes: Any) -> None:
    """Order a token reply; None leaves a member out."""
    scopes = " ".join(scope.name for scope in Catalogue().get(provider).scopes if scope.mode == "observe")
    said = {
        "access_token": "access-of-the-suite",
        "refresh_token": "refresh-of-the-suite",
        "token_type": "bearer",
        "expires_in": 3600,
        "scope": scopes,
        **changes,
    }
    body = json.dumps({name: value for name, value in said.items() if value is not None})
    sandbox.order(provider, FaultKind.REPLY, Operation.REFRESH, body=body, status=200)
