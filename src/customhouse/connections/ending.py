"""Disconnecting what was connected by consent: unusable at once, the tokens in escrow until the grant is seen to be ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM, Origin
from customhouse.clock import Clock
from customhouse.connections.ports import DISCONNECTED, Announce, Cancelled, OnDisconnect
from customhouse.connections.receipts import DEAUTHORIZED, REQUESTED, Opening, Receipt, Receipts, instructions
from customhouse.connections.revoking import HELD_FOR, Revoker, ends_others
from customhouse.connections.sql import SQL
from customhouse.crypto.envelope import key_id_of
from customhouse.db import Database, Executor, Row
from customhouse.errors import Conflict, CustomhouseError, NotFound, Unsealable
from customhouse.failpoints import Failpoints
from customhouse.logs import get
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.manifest import OAuth2, Provider
from customhouse.types import Json, TenantId
from customhouse.vault.keyring import WrappedDataKey
from customhouse.vault.vault import Vault

_log: Final = get("customhouse.connections")
_WARM: Final = 2.0
"""Seconds for which the key service is waited for: a disconnect works without it, and then nobody gets an e-mail."""
_UNFINISHED_AFTER: Final = timedelta(minutes=1)
_AT_ONCE: Final = 100
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a connection ends.

    Attributes:
        reason: `requested`, `deauthorized`, `incident`.
        status: what the connection is afterwards: `disconnected`, or `revoked` where the provider's side ended it.
        operation_id: of the mass disconnect.
        revoke_after: for how long the provider is not asked yet.
    """

    reason: str = REQUESTED
    status: str = "disconnected"
    operation_id: UUID | None = None
    revoke_after: timedelta = timedelta(0)

    @property
    def status_reason(self) -> str:
        """The reason as the connection shows it."""
        return self.status if self.reason == REQUESTED else self.reason


_AS_REQUESTED: Final = Cause()
_BY_PROVIDER: Final = Cause(DEAUTHORIZED, "revoked")


@dataclass(frozen=True, slots=True)
class _Moved:
    """What became of the tokens: in escrow, or dropped."""

    revocation_id: UUID | None
    status: str
    shared: bool = False


class Ending:
    """Ends connections that have a grant."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        clock: Clock,
        catalogue: Catalogue,
        revoker: Revoker,
        receipts: Receipts,
        announce: Announce,
        failpoints: Failpoints,
        cancels: Sequence[OnDisconnect] = (),
    ) -> None:
        """Take the parts that it stands on; `cancels`: who has work waiting for connections."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._catalogue = catalogue
        self._revoker = revoker
        self._receipts = receipts
        self._announce = announce
        self._failpoints = failpoints
        self._cancels = cancels

    async def disconnect(self, tenant: TenantId, connection_id: UUID, origin: Origin, cause: Cause = _AS_REQUESTED) -> Receipt:
        """End a connection, and its grant at the provider. The key service is not needed for the first.

        Raises:
            NotFound: no such connection in this tenant.
            Conflict: it has ended already, or waits for its confirmation and ends by itself without.
        """
        revocation_id = await self.cut(tenant, connection_id, origin, cause)
        await self.release(tenant, connection_id)
        if revocation_id is not None and not cause.revoke_after:
            try:
                await self._revoker.end(tenant, revocation_id)
            except CustomhouseError as error:
                _log.error("revocation_put_off", tenant_id=tenant, error=error.code)
        return await self._receipts.get(tenant, connection_id)

    async def deauthorized(self, tenant: TenantId, connection_id: UUID, origin: Origin = SYSTEM) -> Receipt:
        """End a connection whose permission was withdrawn at the provider: as a disconnect does, and no less is proven.

        Repeating it changes nothing.

        Raises:
            NotFound: no such connection in this tenant.
            Conflict: it waits for its confirmation.
        """
        try:
            return await self.disconnect(tenant, connection_id, origin, _BY_PROVIDER)
        except Conflict:
            try:
                return await self._receipts.get(tenant, connection_id)
            except NotFound:
                pass
            raise

    async def finish_due(self) -> None:
        """Destroy the keys of connections whose disconnect was interrupted after it was durable."""
        before = self._clock.now() - _UNFINISHED_AFTER
        for row in await self._database.call(SQL["disconnects_unfinished"], before, _AT_ONCE):
            try:
                await self.release(TenantId(row["tenant_id"]), row["connection_id"])
            except CustomhouseError as error:
                _log.error("disconnect_not_finished", tenant_id=row["tenant_id"], error=error.code)

    async def cut(self, tenant: TenantId, connection_id: UUID, origin: Origin, cause: Cause = _AS_REQUESTED) -> UUID | None:
        """Do all of a disconnect that is one transaction; return the revocation that is left to do.

        The tokens move as they lie, unopened, with their wrapped key; raises as `disconnect` does.
        """
        await self._announce.prepare(tenant, DISCONNECTED)
        with suppress(CustomhouseError, TimeoutError):
            # For the address of the user, which is sealed under it.
            async with asyncio.timeout(_WARM):
                await self._vault.connection_key(tenant, connection_id)
        for left in reversed(range(_TRIES)):
            keys = {key.key_id: key for key in await self._vault.wrapped_connection_keys(tenant, connection_id)}
            async with self._database.transaction(tenant) as conn:
                row = await conn.fetchrow(SQL["lock_connection"], tenant, connection_id)
                if row is None:
                    raise NotFound
                if row["status"] in {"disconnected", "revoked", "pending"}:
                    raise Conflict(f"This connection is {row['status']} and cannot be disconnected.")
                held = await conn.fetchrow(SQL["tokens_to_move"], tenant, connection_id)
                key = None if held is None else _key_of(held, keys)
                if isinstance(key, UUID):
                    if left:
                        # Sealed anew since the keyring was read: read it again.
                        continue
                    key = None
                revocation_id = await self._cut(conn, tenant, row, None if key is None else held, key, keys, origin, cause)
                self._failpoints.hit("disconnect.before_commit")
            self._failpoints.hit("disconnect.after_commit")
            return revocation_id
        raise AssertionError  # the last try returns or raises

    async def _cut(
        self,
        conn: Executor,
        tenant: TenantId,
        row: Row,
        held: Row | None,
        key: WrappedDataKey | None,
        keys: Mapping[UUID, WrappedDataKey],
        origin: Origin,
        cause: Cause,
    ) -> UUID | None:
        connection_id, now = row["connection_id"], self._clock.now()
        provider = self._provider(row["provider"])
        # Before it is decided who is the last on a shared grant.
        await conn.execute(SQL["set_status"], tenant, connection_id, cause.status, cause.status_reason)
        # A new grant that waits for the host's word: nobody can confirm it any more.
        await conn.execute(SQL["pending_to_escrow"], tenant, connection_id, row["provider"], now, now + HELD_FOR)
        moved = await self._move(conn, tenant, connection_id, row["provider"], provider, held, key, cause)
        for each in keys.values():
            if each.wrapped is not None:
                tenant_key_id = each.tenant_key.key_id
                await conn.execute(SQL["give_key_to_escrow"], tenant, connection_id, each.key_id, tenant_key_id, each.wrapped)
        await conn.execute(SQL["drop_tokens"], tenant, connection_id)
        took = [await cancel(conn, tenant, connection_id) for cancel in self._cancels]
        cancelled = Cancelled(sum(one.deliveries for one in took), sum(one.actions for one in took))
        detail: dict[str, Json] = {
            "provider": row["provider"],
            "reason": cause.reason,
            "deliveries_cancelled": cancelled.deliveries,
            "actions_cancelled": cancelled.actions,
        }
        if cause.operation_id is not None:
            detail["operation_id"] = ids.show("mop", cause.operation_id)
        entry_id = await log.append(
            conn, self._clock, tenant, origin, tags.CONNECTION_DISCONNECTED, connection_id=connection_id, detail=detail
        )
        told: dict[str, Json] = {
            "connection_id": ids.show("con", connection_id),
            "provider": row["provider"],
            "reason": cause.reason,
            "deliveries_cancelled": cancelled.deliveries,
        }
        await self._announce.announce(conn, tenant, DISCONNECTED, told)
        first = Opening(
            connection_id=connection_id,
            provider=row["provider"],
            reason=cause.reason,
            operation_id=cause.operation_id,
            revocation_id=moved.revocation_id,
            status=moved.status,
            shared=moved.shared,
            escrow_until=now + HELD_FOR,
            actions_cancelled=cancelled.actions,
            deliveries_cancelled=cancelled.deliveries,
            # The notice was written with the announcement.
            notified=row["user_id"] is not None,
            instructions=instructions(provider, moved.status, shared=moved.shared),
            audit_entry_id=entry_id,
            at=now,
        )
        await self._receipts.open(conn, tenant, first)
        return moved.revocation_id

    async def _move(
        self,
        conn: Executor,
        tenant: TenantId,
        connection_id: UUID,
        provider_id: str,
        provider: Provider | None,
        held: Row | None,
        key: WrappedDataKey | None,
        cause: Cause,
    ) -> _Moved:
        """Put the tokens into escrow, unless there is nothing that they could do there."""
        subscribed = provider is not None and isinstance(provider.auth, OAuth2) and self._revoker.ends_subscriptions
        if provider is not None and not subscribed and not (isinstance(provider.auth, OAuth2) and provider.auth.revocation.supported):
            return _Moved(None, "unsupported")
        index = await conn.fetchval(SQL["grant_index"], tenant, connection_id)
        if provider is not None and index is not None and ends_others(provider):
            await conn.execute(SQL["lock_sharing"], index)
            if await conn.fetchval(SQL["sharing"], index):
                return _Moved(None, "unsupported", shared=True)
        if held is None or key is None or key.wrapped is None:
            # Nobody can open what is left, or there is nothing.
            return _Moved(None, "revoked" if cause.reason == DEAUTHORIZED else "failed")
        revocation_id, now = ids.new(), self._clock.now()
        await conn.execute(
            SQL["move_to_escrow"],
            tenant,
            connection_id,
            revocation_id,
            provider_id,
            cause.reason,
            index,
            now + cause.revoke_after,
            now + HELD_FOR,
            key.key_id,
            key.tenant_key.key_id,
            key.wrapped,
        )
        return _Moved(revocation_id, "pending")

    async def release(self, tenant: TenantId, connection_id: UUID) -> None:
        """Destroy the key of a connection that was cut in the keyring; what waits in escrow has it with it."""
        await self._vault.destroy_connection_key(tenant, connection_id)
        self._failpoints.hit("disconnect.after_key")
        await self._receipts.released(tenant, connection_id)

    def _provider(self, provider_id: str) -> Provider | None:
        try:
            return self._catalogue.get(provider_id)
        except NotFound:
            return None


def _key_of(held: Row, keys: Mapping[UUID, WrappedDataKey]) -> WrappedDataKey | UUID | None:
    """Return the key of sealed tokens, its id where the keyring did not have it, None where nobody can open them."""
    try:
        named = {key_id_of(held[column]) for column in ("access_sealed", "refresh_sealed") if held[column] is not None}
    except Unsealable:
        return None
    if len(named) != 1:
        return None
    (key_id,) = named
    return keys.get(key_id, key_id)
