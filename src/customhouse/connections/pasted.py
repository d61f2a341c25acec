"""What is written of a pasted key, and what its owner sees of it: the grant that its probes proved, its age, its last check."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from customhouse.connections import tokens
from customhouse.connections.ports import Cancelled
from customhouse.connections.probing import Findings
from customhouse.connections.reading import REFUSED_BY_PROVIDER
from customhouse.connections.sql import SQL
from customhouse.connections.tokens import GrantSeal
from customhouse.crypto.envelope import RecordKey, key_id_of
from customhouse.db import Database, Executor, Row, queries
from customhouse.providers import scopes
from customhouse.providers.manifest import Provider, RestrictedKey
from customhouse.providers.replies import Account
from customhouse.providers.vocabulary import Mode
from customhouse.types import Json, Secret, TenantId
from customhouse.vault.vault import Vault

KEYS: Final = queries(__package__, "pasted.sql")
"""The statements about pasted keys, by name."""
_SPREAD: Final = 0.1
_KNOWN: Final = True
"""What was probed is never guessed."""
WIDER: Final = "key_wider"
"""The status reason of a connection whose key may more than it should: it is disabled."""
ENDED: Final = REFUSED_BY_PROVIDER
"""The status reason of a connection whose key the provider does not know any more: nobody is handed it."""


def next_check(auth: RestrictedKey, now: datetime, draw: Callable[[], float] = random.random) -> datetime:
    """Return when a key's permissions are looked at again: drawn from ±10 %, so that keys pasted together are not probed together."""
    return now + timedelta(seconds=auth.recheck_seconds * (1 + _SPREAD * (2 * draw() - 1)))


def account_facts(account: Account) -> bytes:
    """Return an account as it is sealed."""
    facts: dict[str, Json] = {"id": account.id, "label": account.label}
    if account.organisation is not None:
        facts["organisation"] = account.organisation
    return tokens.pack(facts)


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """What a key that was probed is worth, ready to be written.

    Attributes:
        provider: whose key.
        mode: of the connection.
        version: of the grant.
        findings: what the probes showed.
        account_index: keyed hash of the account.
        account: its facts, to be sealed.
        user: the facts of the user, to be sealed.
    """

    provider: Provider
    mode: Mode
    version: int
    findings: Findings
    account_index: bytes
    account: bytes
    user: bytes

    def mac(self, key: RecordKey, connection_id: UUID) -> bytes:
        """Return the MAC of the connection with this grant."""
        guarded = {
            "mode": self.mode.value,
            "grant_version": self.version,
            "granted": self.findings.granted,
            "account_index": self.account_index,
            "api_origin": None,
        }
        return tokens.guard(key, connection_id, self.provider.id, guarded)

    async def put(self, conn: Executor, seal: GrantSeal) -> None:
        """Write the grant over what was there."""
        row = str(seal.connection_id)
        await conn.execute(
            SQL["put_grant"],
            seal.tenant_id,
            seal.connection_id,
            self.version,
            list(scopes.names(scopes.requested(self.provider, self.mode))),
            list(self.findings.granted),
            list(self.findings.missing),
            _KNOWN,
            self.provider.version,
            self.account_index,
            None,
            seal.seal("connection_grants", "account_sealed", row, self.account, self.version),
            seal.seal("connection_grants", "user_sealed", row, self.user, self.version),
        )


@dataclass(frozen=True, slots=True)
class KeyState:
    """What the owner of a connection sees of its key; the key itself is never part of it."""

    live: bool
    pasted_at: datetime
    checked_at: datetime
    """When its permissions were last seen for certain."""
    age_days: int
    old: bool
    """It is older than keys should become."""


class KeyStates:
    """Shows pasted keys."""

    def __init__(self, database: Database, *, max_age: timedelta) -> None:
        """Take the database, and how old keys may become; 0: as old as they like."""
        self._database = database
        self._max_age = max_age

    async def of(self, tenant: TenantId, connections: Iterable[UUID], now: datetime) -> Mapping[UUID, KeyState]:
        """Return the keys of those connections that have one."""
        wanted = list(connections)
        if not wanted:
            return {}
        async with self._database.transaction(tenant) as conn:
            rows = await conn.fetch(KEYS["key_states"], tenant, wanted)
        return {
            row["connection_id"]: KeyState(
                row["live"],
                row["pasted_at"],
                row["checked_at"],
                (now - row["pasted_at"]).days,
                is_old(row["pasted_at"], self._max_age, now),
            )
            for row in rows
        }


async def opened(vault: Vault, seal: GrantSeal, held: Row, table: str, column: str, generation: int) -> Secret:
    """Return a sealed value of a connection, opened with the key that it names: while keys are rotated that need not be the one of now.

    Raises:
        Unsealable: it is not what was sealed in this place.
        KeyServiceUnavailable: not now.
    """
    key = await vault.key(seal.tenant_id, key_id_of(held[column]))
    return replace(seal, key=key).open(table, column, str(seal.connection_id), held[column], generation)


async def forget_inbound(conn: Executor, tenant: TenantId, connection_id: UUID) -> Cancelled:
    """Destroy the secret of a webhook endpoint with its connection (`ports.OnDisconnect`); the key itself goes with its tokens."""
    await conn.execute(KEYS["destroy_inbound_secrets"], tenant, connection_id)
    return Cancelled()


def is_old(pasted_at: datetime, max_age: timedelta, now: datetime) -> bool:
    """Tell whether a key is older than keys should become."""
    return bool(max_age) and now - pasted_at >= max_age
