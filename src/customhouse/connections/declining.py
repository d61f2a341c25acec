"""Saying no on our own page: the session ends at once, and the host is told."""

from __future__ import annotations

from typing import Final

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.clock import Clock
from customhouse.connections import tokens
from customhouse.connections.ports import REFUSED, Announce
from customhouse.connections.sessions import Session, Sessions, origin_of
from customhouse.connections.sql import SQL
from customhouse.connections.tokens import INDEX
from customhouse.db import Database
from customhouse.errors import NotFound
from customhouse.types import PLATFORM, Json
from customhouse.vault.vault import Vault

DECLINED: Final = "declined"
"""Why the session ended: nobody went on to the provider."""


class Declining:
    """Takes the no of the person at the consent page."""

    def __init__(self, database: Database, vault: Vault, clock: Clock, sessions: Sessions, announce: Announce) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._sessions = sessions
        self._announce = announce

    async def decline(self, link: str, browser: str) -> Session:
        """End the session of a link; a state that waits at the provider is void. What a connection had, it keeps.

        Raises:
            NotFound: there is no such link.
            ConnectSessionOver: it was used in another browser, answered, or its time is over.
            KeyServiceUnavailable: not now.
        """
        session = await self._sessions.look(link, browser)
        index_key = await self._vault.mac_key(PLATFORM, INDEX)
        browser_hash = tokens.hashed(index_key, "browser", browser)
        await self._announce.prepare(session.tenant_id, REFUSED)
        async with self._database.transaction(session.tenant_id) as conn:
            row = await conn.fetchrow(SQL["lock_session"], session.tenant_id, session.session_id)
            if row is None:
                raise NotFound
            self._sessions.check_open(row, browser_hash)
            await conn.execute(SQL["drop_states"], session.tenant_id, session.session_id)
            await conn.execute(SQL["end_session"], session.tenant_id, session.session_id, "ended", DECLINED, self._clock.now())
            about = row["connection_id"] if session.renews else None
            subject = ids.show("cns", session.session_id)
            detail: dict[str, Json] = {"provider": session.provider.id, "reason": DECLINED}
            await log.append(
                conn,
                self._clock,
                session.tenant_id,
                origin_of(session.session_id),
                tags.CONNECT_REFUSED,
                subject=subject,
                connection_id=about,
                detail=detail,
            )
            told: dict[str, Json] = {"session_id": subject, **detail}
            if about is not None:
                told["connection_id"] = ids.show("con", about)
            await self._announce.announce(conn, session.tenant_id, REFUSED, told)
        return session
