"""Sending the e-mails: a job that takes what is due, at least once each, and writes down what came of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.clock import Clock
from customhouse.crypto.envelope import key_id_of, open_sealed
from customhouse.db import Database
from customhouse.egress.smtp import Post, Posting, Smtp
from customhouse.errors import CustomhouseError, Unsealable
from customhouse.logs import get
from customhouse.metrics import NOTICE_MAILS, Metrics
from customhouse.notices.inbox import address_place
from customhouse.notices.kinds import KINDS
from customhouse.notices.letters import compose, next_try
from customhouse.notices.sql import SQL
from customhouse.types import TenantId
from customhouse.vault.vault import Vault

_log: Final = get("customhouse.notices")
_AT_ONCE: Final = 200
_UNDER_WAY: Final = timedelta(minutes=10)
"""For how long a mail that is being sent is nobody else's; far longer than one sending may take."""


class Mailing:
    """Sends what is due. An e-mail may be sent twice (a crash, or a reply that was lost), under one Message-ID; it is never forgotten."""

    def __init__(
        self, database: Database, vault: Vault, clock: Clock, metrics: Metrics, smtp: Smtp, *, sender: str, public_url: str
    ) -> None:
        """Take the parts that it stands on, our address, and where people reach us."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._metrics = metrics
        self._smtp = smtp
        self._sender = sender
        self._public_url = public_url

    async def send_due(self) -> int:
        """Send what is due, all of it as long as the relay works; return how many were taken by it.

        Raises:
            DatabaseUnavailable: PostgreSQL is away; the next run goes on.
        """
        sent = 0
        async with self._smtp.session() as post:
            while True:
                rows = await self._database.call(SQL["mails_due"], self._clock.now(), _AT_ONCE)
                left = 0
                for row in rows:
                    tenant, notice_id = TenantId(row["tenant_id"]), row["notice_id"]
                    try:
                        posting = await self._send(post, tenant, notice_id)
                    except CustomhouseError as error:
                        # Its tenant's keys are away: left as it is for the next run, and holds up no other.
                        _log.warning("notice_not_mailed", tenant_id=tenant, error=error.code)
                        left += 1
                        continue
                    sent += posting is not None and posting.taken
                    if posting is not None and posting.relay_fails:
                        return sent
                if len(rows) < _AT_ONCE or left:
                    return sent

    async def _send(self, post: Post, tenant: TenantId, notice_id: UUID) -> Posting | None:
        """Send one; None: it is somebody else's, or cannot be sent by anybody."""
        async with self._database.transaction(tenant) as conn:
            sealed = await conn.fetchval(SQL["address"], tenant, notice_id)
        if sealed is None:
            return None
        try:
            key = await self._vault.key(tenant, key_id_of(sealed))
            address = open_sealed(key, address_place(self._vault.environment, tenant, notice_id), sealed).decode()
        except Unsealable:
            await self._end(tenant, notice_id, "failed", "address_gone")
            return None
        now = self._clock.now()
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["begin_mail"], tenant, notice_id, now, now + _UNDER_WAY)
        if row is None:
            return None
        about = row["connection_id"]
        # A newer version's kind: one of its processes will know it.
        if row["kind"] not in KINDS:
            posting = Posting(taken=False, reason="unknown_kind")
        else:
            letter = compose(
                kind=row["kind"],
                notice_id=ids.show("ntc", notice_id),
                connection_id=None if about is None else ids.show("con", about),
                sender=self._sender,
                to=address,
                public_url=self._public_url,
                at=row["created_at"],
            )
            posting = await post(self._sender, address, letter)
        await self._record(tenant, notice_id, posting, row["mail_attempts"])
        return posting

    async def _record(self, tenant: TenantId, notice_id: UUID, posting: Posting, attempts: int) -> None:
        if posting.taken:
            await self._end(tenant, notice_id, "sent", None)
            return
        again = None if posting.lasting else next_try(attempts, self._clock.now())
        _log.warning("notice_mail_refused", tenant_id=tenant, error=posting.reason, attempt=attempts)
        if again is None:
            await self._end(tenant, notice_id, "failed", posting.reason)
            return
        async with self._database.transaction(tenant) as conn:
            await conn.execute(SQL["put_mail_off"], tenant, notice_id, again, posting.reason)
        self._metrics.counter(NOTICE_MAILS, outcome="put_off").inc()

    async def _end(self, tenant: TenantId, notice_id: UUID, mail: str, reason: str | None) -> None:
        async with self._database.transaction(tenant) as conn:
            await conn.execute(SQL["end_mail"], tenant, notice_id, mail, reason, self._clock.now())
        self._metrics.counter(NOTICE_MAILS, outcome=mail).inc()
