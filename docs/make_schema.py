"""Write `src/customhouse/sql/schema.sql` from the migrations, on a server that is thrown away."""

# ruff: noqa: INP001 - a script, run by path
from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from customhouse.db import Migrator
from customhouse.embedded.binaries import binaries
from customhouse.embedded.throwaway import throwaway_cluster
from customhouse.sql.dump import dump
from customhouse.sql.migrate import migrate
from customhouse.types import Secret

PAGE = Path(__file__).parents[1] / "src" / "customhouse" / "sql" / "schema.sql"


async def main(owner: str) -> None:
    """Migrate and dump."""
    async with Migrator.connect(Secret(owner.encode())) as migrator:
        await migrate(migrator)
    PAGE.write_text(dump(owner, binaries() / "pg_dump"), encoding="utf-8")
    sys.stdout.write(f"{PAGE.name} written\n")


if __name__ == "__main__":
    with throwaway_cluster() as cluster:
        asyncio.run(main(cluster.dsn("owner")))
