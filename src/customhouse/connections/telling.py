"""Telling the user what the host is told about a connection: a notice beside the operational event, in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.connections.ports import (
    CHANGED,
    CREATED,
    DEGRADED,
    DISABLED,
    DISCONNECTED,
    DORMANT,
    KEY_OLD,
    PAUSED,
    REAUTHORIZE,
    REFUSED,
    REVOCATION_ENDED,
    Announce,
)
from customhouse.connections.tokens import GrantSeal, unpack
from customhouse.connections.users import user_from
from customhouse.db import Executor, Row, queries
from customhouse.errors import KeyServiceUnavailable, Unsealable
from customhouse.notices.kinds import KINDS
from customhouse.notices.ports import Notify, Recipient
from customhouse.types import Json, TenantId
from customhouse.vault.vault import Vault

_SQL: Final = queries(__package__, "telling.sql")
_KINDS: Final = {
    CREATED: "connection.created",
    CHANGED: "connection.renewed",
    DEGRADED: "connection.degraded",
    REAUTHORIZE: "connection.reauthorization_required",
    DISABLED: "connection.disabled",
    KEY_OLD: "connection.key_old",
    REFUSED: "connection.refused",
    DISCONNECTED: "connection.disconnected",
    DORMANT: "connection.dormant",
    PAUSED: "connection.paused",
    REVOCATION_ENDED: "connection.not_withdrawn",
}
_BEHIND_THEIR_BACK: Final = frozenset({"other_user", "not_confirmed", "scope_wider", "scope_forbidden", "other_account"})
"""Refusals after something was granted. Of the others, whoever sat there was told by the page."""


class Telling:
    """An `Announce` that tells the user too. What the host alone is to know (a pause) goes on to the host alone."""

    def __init__(self, host: Announce, notices: Notify, vault: Vault) -> None:
        """Take who tells the host, who tells users, and the keys under which their addresses lie."""
        self._host = host
        self._notices = notices
        self._vault = vault

    async def prepare(self, tenant: TenantId, event_type: str) -> None:
        """Have the keys at hand that `announce` needs, before a transaction is open."""
        await self._host.prepare(tenant, event_type)
        if event_type in _KINDS:
            await self._notices.prepare(tenant)

    async def announce(self, conn: Executor, tenant: TenantId, event_type: str, data: Mapping[str, Json]) -> None:
        """Tell both, in the caller's open transaction, which is in `tenant`."""
        await self._host.announce(conn, tenant, event_type, data)
        kind = _KINDS.get(event_type)
        if kind is None or not _concerns_the_user(event_type, data):
            return
        connection_id = _id_in(data, "con", "connection_id")
        to = await self._recipient(conn, tenant, event_type, connection_id, _id_in(data, "cns", "session_id"))
        if to is not None:
            detail: dict[str, Json] = {name: data[name] for name in ("provider", "reason") if name in data and name in KINDS[kind].members}
            await self._notices.notify(conn, tenant, to, kind, connection_id=connection_id, detail=detail)

    async def _recipient(
        self, conn: Executor, tenant: TenantId, event_type: str, connection_id: UUID | None, session_id: UUID | None
    ) -> Recipient | None:
        row = None if connection_id is None else await conn.fetchrow(_SQL["holder"], tenant, connection_id)
        if row is not None and connection_id is not None and row["user_id"] is not None:
            # The end of a connection must not wait for the key service, nor hold its row meanwhile.
            return Recipient(row["user_id"], await self._address(tenant, connection_id, row, wait=event_type != DISCONNECTED))
        user_id = None if session_id is None else await conn.fetchval(_SQL["invited"], tenant, session_id)
        return None if user_id is None else Recipient(user_id)

    async def _address(self, tenant: TenantId, connection_id: UUID, row: Row, *, wait: bool) -> str | None:
        """Return the address in the facts of the last consent; None where there is none that opens: then the inbox has to do."""
        if row["user_sealed"] is None:
            return None
        try:
            key = self._vault.cached_connection_key(tenant, connection_id)
            if key is None:
                if not wait:
                    return None
                key = await self._vault.connection_key(tenant, connection_id)
            seal = GrantSeal(self._vault.environment, tenant, connection_id, key)
            facts = seal.open("connection_grants", "user_sealed", str(connection_id), row["user_sealed"], row["grant_version"])
        except (KeyServiceUnavailable, Unsealable):
            return None
        return user_from(unpack(facts)).email


def _concerns_the_user(event_type: str, data: Mapping[str, Json]) -> bool:
    if event_type == CHANGED:
        changed = data.get("changed")
        return isinstance(changed, list) and "grant" in changed
    if event_type == REVOCATION_ENDED:
        return data.get("status") == "failed"
    return event_type != REFUSED or data.get("reason") in _BEHIND_THEIR_BACK


def _id_in(data: Mapping[str, Json], prefix: str, name: str) -> UUID | None:
    value = data.get(name)
    return ids.parse(prefix, value) if isinstance(value, str) else None
