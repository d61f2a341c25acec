"""`db migrate|status`: the schema of the database."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import typer

from customhouse import config
from customhouse.app import Store, migrate_store, open_store
from customhouse.cli.surroundings import AsJson, quiet_logs, say_json
from customhouse.db import Migrator
from customhouse.errors import SettingsError
from customhouse.sql.migrate import Migration, Status, status
from customhouse.types import Json, Secret

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

# The schema knows neither the root key nor the public address, so a migration job need not be given them.
_NOT_NEEDED: Final = {
    "KMS_KEY": "aws:arn:aws:kms:none:000000000000:key/none",
    "PUBLIC_URL": "https://unused.invalid",
}


@app.callback()
def _db() -> None:
    """The database: bring its schema to this version, or tell what it lacks."""


@app.command("migrate")
def migrate_database(as_json: AsJson = False) -> None:
    """Bring the schema to this version.

    A database of your own as the login of MIGRATE_DATABASE_URL; the embedded one by itself, as every start does.
    """
    quiet_logs()
    chosen = config.from_environment(_NOT_NEEDED)
    store = _store(chosen)
    try:
        applied = asyncio.run(migrate_store(store, chosen))
    finally:
        store.close()
    if as_json:
        say_json({"applied": _listed(applied)})
    elif applied:
        sys.stdout.writelines(f"applied {one.version:04} {one.name}\n" for one in applied)
    else:
        sys.stdout.write("Nothing is pending.\n")


@app.command("status")
def show_status(as_json: AsJson = False) -> None:
    """Tell what the database has and lacks.

    Exit code 1 where a migration is pending.
    """
    quiet_logs()
    chosen = config.from_environment(_NOT_NEEDED)
    store = _store(chosen)
    try:
        found = asyncio.run(_status(_owner(store, chosen)))
    finally:
        store.close()
    if as_json:
        say_json({"applied": [*found.applied], "pending": _listed(found.pending)})
    else:
        sys.stdout.write(f"{len(found.applied)} applied, {len(found.pending)} pending\n")
        sys.stdout.writelines(f"pending {one.version:04} {one.name}\n" for one in found.pending)
    if found.pending:
        raise typer.Exit(1)


def _store(chosen: config.Settings) -> Store:
    """Return the database to look at; with an owner's login there is no need for the service's, nor for an embedded server."""
    if chosen.migrate_database_url is not None:
        return Store(chosen.migrate_database_url)
    return open_store(chosen)


def _owner(store: Store, chosen: config.Settings) -> Secret:
    if store.cluster is not None:
        return Secret(store.cluster.dsn("owner").encode())
    if chosen.migrate_database_url is None:
        raise SettingsError("Set CUSTOMHOUSE_MIGRATE_DATABASE_URL to the login that owns the schema; /readyz tells what the service sees.")
    return chosen.migrate_database_url


async def _status(owner: Secret) -> Status:
    async with Migrator.connect(owner) as migrator:
        return await status(migrator)


def _listed(found: tuple[Migration, ...]) -> list[Json]:
    return [{"version": one.version, "name": one.name} for one in found]
