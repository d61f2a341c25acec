"""What lies sealed under the keys of connections, wherever that is: sealed again under the key that took over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from customhouse.crypto.envelope import Place, RecordKey, key_id_of, open_sealed, seal
from customhouse.db import Executor, Row
from customhouse.errors import Unsealable
from customhouse.types import TenantId

NO_QUERY: Final = ""


@dataclass(frozen=True, slots=True)
class SealedTable:
    """A table with values that are sealed under the key of a connection. The rooms that own tables declare them.

    Attributes:
        name: of the table, as in every `Place`.
        columns: the sealed ones.
        find: locks and returns `connection_id`, `row`, `generation` and the columns of what a key of $3 sealed; leaves out what is locked.
        put: writes values back: $2 rows, $3 connections, then one array per column.
        left: returns, as `key`, the keys of $3 that still seal something. `find` and `put` are empty where values are never moved and
            their key waits for them.
    """

    name: str
    columns: tuple[str, ...]
    find: str
    put: str
    left: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One connection whose key was replaced: from now on what `old` sealed is sealed by `new`."""

    connection_id: UUID
    old: RecordKey
    new: RecordKey


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a batch: values moved, connections with a value that does not open, keys that still seal something."""

    values: int
    unreadable: frozenset[UUID]
    left: frozenset[UUID]


async def move(tx: Executor, environment: str, tenant: TenantId, tables: Sequence[SealedTable], turns: Sequence[Turn]) -> Moved:
    """Seal again what the old keys sealed, in the caller's transaction, which is in the tenant; then look what they still seal.

    A row that somebody else has locked, and a value that does not open, stay as they are: their key is among those that are left.

    Args:
        tx: the transaction.
        environment: part of every place.
        tenant: whose.
        tables: where to look.
        turns: at most one per connection.
    """
    by_connection = {turn.connection_id: turn for turn in turns}
    connections, keys = list(by_connection), [turn.old.key_id.bytes for turn in turns]
    values, unreadable, left = 0, set[UUID](), set[UUID]()
    for table in tables:
        if table.find:
            fresh = []
            for row in await tx.fetch(table.find, tenant, connections, keys):
                turn = by_connection[row["connection_id"]]
                try:
                    fresh.append((row, _sealed_anew(environment, tenant, table, turn, row)))
                except Unsealable:
                    unreadable.add(turn.connection_id)
            if fresh:
                arrays = [[row[name] for row, _ in fresh] for name in ("row", "connection_id")]
                await tx.execute(table.put, tenant, *arrays, *([new[name] for _, new in fresh] for name in table.columns))
                values += len(fresh)
        # After the writing: what somebody else sealed meanwhile, or had locked, is seen here.
        left |= {UUID(bytes=bytes(row["key"])) for row in await tx.fetch(table.left, tenant, connections, keys)}
    return Moved(values, frozenset(unreadable), frozenset(left))


def _sealed_anew(environment: str, tenant: TenantId, table: SealedTable, turn: Turn, row: Row) -> Mapping[str, bytes | None]:
    """Return every column of a row as it is to be written."""
    values: dict[str, bytes | None] = {}
    for column in table.columns:
        sealed = row[column]
        if sealed is None or key_id_of(sealed) != turn.old.key_id:
            values[column] = sealed
            continue
        place = Place(environment, tenant, str(turn.connection_id), table.name, column, row["row"], row["generation"])
        values[column] = seal(turn.new, place, open_sealed(turn.old, place, sealed))
    return values
