"""The inbox: notices are written in the transaction of what they tell, listed, and marked as read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.canonical import dump, parse_object
from customhouse.clock import Clock
from customhouse.crypto.envelope import Place, seal
from customhouse.db import Database, Executor, Row
from customhouse.errors import KeyServiceUnavailable, NotFound, Unsealable
from customhouse.logs import get
from customhouse.notices.kinds import KINDS, check
from customhouse.notices.letters import usable
from customhouse.notices.ports import CREATED, Announce, Recipient
from customhouse.notices.sql import SQL
from customhouse.types import Json, JsonObject, TenantId
from customhouse.vault.vault import Vault

_log: Final = get("customhouse.notices")
READ_KEPT: Final = timedelta(days=90)
"""For how long a notice is kept that was read."""
KEPT: Final = timedelta(days=365)
"""For how long any notice is kept."""
_PURGE_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Notice:
    """One notice, as it can be shown."""

    notice_id: UUID
    user_id: str
    kind: str
    connection_id: UUID | None
    detail: JsonObject
    created_at: datetime
    read_at: datetime | None
    mail: str
    """`none` (no address, or no mail relay), `pending`, `sent`, `failed`."""
    mail_reason: str | None

    @property
    def says(self) -> str:
        """What happened, in a sentence; empty for a kind of another version."""
        kind = KINDS.get(self.kind)
        return "" if kind is None else kind.sentence


def address_place(environment: str, tenant: TenantId, notice_id: UUID) -> Place:
    """Return where the address of a notice lies sealed."""
    return Place(environment, tenant, "", "notices", "address_sealed", str(notice_id), 1)


class Notices:
    """Writes and shows notices; what other rooms know as `Notify`."""

    def __init__(self, database: Database, vault: Vault, clock: Clock, told: Announce, *, mails: bool) -> None:
        """Take the parts that it stands on; `mails`: there is a relay for e-mail."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._told = told
        self._mails = mails

    async def prepare(self, tenant: TenantId) -> None:
        """Have the keys at hand that `notify` needs; keys that cannot be had are left: then there is no e-mail."""
        await self._told.prepare(tenant, CREATED)
        day = self._clock.now().date()
        if self._mails and self._vault.cached_payload_key(tenant, day) is None:
            with suppress(KeyServiceUnavailable, Unsealable):
                await self._vault.payload_key(tenant, day)

    async def notify(
        self,
        conn: Executor,
        tenant: TenantId,
        to: Recipient,
        kind: str,
        *,
        connection_id: UUID | None = None,
        detail: Mapping[str, Json] | None = None,
    ) -> UUID:
        """Write a notice in the caller's open transaction, which is in `tenant`; see `ports.Notify`.

        What keeps an e-mail from being sent (an unusable address, keys that are away) keeps neither the notice nor the caller.

        Raises:
            ValueError: the kind or its detail is not declared.
        """
        said = dict(detail or {})
        check(kind, said)
        notice_id, now = ids.new(), self._clock.now()
        mail, reason, sealed = await self._mail(tenant, notice_id, to.email, now)
        await conn.execute(
            SQL["write"], tenant, notice_id, to.user_id, kind, connection_id, dump(said).decode(), now, mail, reason, sealed, now
        )
        about: JsonObject = {"notice_id": ids.show("ntc", notice_id), "user_id": to.user_id, "kind": kind}
        if connection_id is not None:
            about["connection_id"] = ids.show("con", connection_id)
        await self._told.announce(conn, tenant, CREATED, about)
        return notice_id

    async def _mail(self, tenant: TenantId, notice_id: UUID, email: str | None, now: datetime) -> tuple[str, str | None, bytes | None]:
        if email is None or not self._mails:
            return "none", None, None
        if not usable(email):
            return "failed", "address_unusable", None
        try:
            key = self._vault.cached_payload_key(tenant, now.date()) or await self._vault.payload_key(tenant, now.date())
        except (KeyServiceUnavailable, Unsealable) as error:
            _log.error("notice_not_mailed", tenant_id=tenant, error=error.code)
            return "failed", "key_unavailable", None
        return "pending", None, seal(key, address_place(self._vault.environment, tenant, notice_id), email.encode())

    async def find(self, tenant: TenantId, *, user_id: str | None, unread: bool, before: UUID | None, limit: int) -> Sequence[Notice]:
        """Return notices of a tenant, the newest first."""
        async with self._database.transaction(tenant) as conn:
            rows = await conn.fetch(SQL["find"], tenant, user_id, unread, before, limit)
        return [_notice(row) for row in rows]

    async def read(self, tenant: TenantId, notice_id: UUID) -> Notice:
        """Mark a notice as read, as of the first time; repeating it changes nothing.

        Raises:
            NotFound: there is none of this id.
        """
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["read"], tenant, notice_id, self._clock.now())
        if row is None:
            raise NotFound
        return _notice(row)

    async def purge(self) -> int:
        """Delete what nobody needs any more; return how many.

        Raises:
            DatabaseUnavailable: PostgreSQL is away; the next run goes on.
        """
        now, purged = self._clock.now(), 0
        while True:
            rows = await self._database.call(SQL["past"], now - READ_KEPT, now - KEPT, _PURGE_AT_ONCE)
            of: dict[TenantId, list[UUID]] = {}
            for row in rows:
                of.setdefault(TenantId(row["tenant_id"]), []).append(row["notice_id"])
            for tenant, past in of.items():
                async with self._database.transaction(tenant) as conn:
                    await conn.execute(SQL["delete"], tenant, past)
            purged += len(rows)
            if len(rows) < _PURGE_AT_ONCE:
                return purged


def _notice(row: Row) -> Notice:
    return Notice(
        row["notice_id"],
        row["user_id"],
        row["kind"],
        row["connection_id"],
        parse_object(row["detail"].encode()),
        row["created_at"],
        row["read_at"],
        row["mail"],
        row["mail_reason"],
    )
