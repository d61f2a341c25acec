"""Bring a database to this version: numbered files, each in one transaction, recorded with its checksum."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from customhouse.db import Migrator
from customhouse.errors import SettingsError

_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file; `sql` is its text."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text: a file that was applied must never change."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Status:
    """What a database has, and what it lacks."""

    applied: tuple[int, ...]
    pending: tuple[Migration, ...]


def migrations() -> tuple[Migration, ...]:
    """Return the migrations that this version knows, in order, without a gap.

    Raises:
        SettingsError: the installation is damaged.
    """
    named = ((_NAME.fullmatch(entry.name), entry) for entry in files("customhouse.sql").joinpath("migrations").iterdir())
    found = sorted(
        (Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8")) for match, entry in named if match),
        key=lambda migration: migration.version,
    )
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise SettingsError("customhouse/sql/migrations is damaged: the numbers have a gap")
    return tuple(found)


def compare(recorded: dict[int, str], known: tuple[Migration, ...]) -> Status:
    """Judge what a database says was applied.

    Raises:
        SettingsError: the database is newer than this version, or an applied file was changed.
    """
    checksums = {migration.version: migration.checksum for migration in known}
    for version, checksum in recorded.items():
        if version not in checksums:
            raise SettingsError(f"The database has migration {version}, which this version does not know: run a newer Customhouse.")
        if checksums[version] != checksum:
            raise SettingsError(f"Migration {version} was applied with other contents than this version's: the installation is damaged.")
    return Status(tuple(sorted(recorded)), tuple(m for m in known if m.version not in recorded))


async def status(migrator: Migrator) -> Status:
    """Tell what a database has and lacks; changes nothing.

    Raises:
        SettingsError: as for `compare`.
    """
    return compare(await migrator.recorded(), migrations())


async def migrate(migrator: Migrator, *, login: str | None = None) -> tuple[Migration, ...]:
    """Apply what is pending, one transaction each, under a lock that keeps a second migrator waiting.

    Args:
        migrator: a connection as the owner of the schema (`MIGRATE_DATABASE_URL`).
        login: a role to make a member of `customhouse_service` (the embedded server's own login).

    Returns:
        The migrations that were applied.

    Raises:
        SettingsError: as for `compare`.
    """
    async with migrator.exclusive():
        pending = (await status(migrator)).pending
        for migration in pending:
            await migrator.apply(migration.version, migration.name, migration.checksum, migration.sql)
        if login is not None:
            await migrator.admit(login)
    return pending
