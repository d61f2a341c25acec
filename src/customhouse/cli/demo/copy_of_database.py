"""What somebody with a copy of the database has: PostgreSQL's own tools, as the owner who sees every row."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from customhouse.embedded import binaries, open_cluster
from customhouse.errors import DatabaseUnavailable

_ONE_PAYLOAD: Final = "select encode(sealed, 'hex') from customhouse.payloads limit 1"
_ONE_TOKEN: Final = "select encode(access_sealed, 'hex') from customhouse.integration_tokens limit 1"  # noqa: S105 - a query


class CopyOfDatabase:
    """Reads the embedded database from outside, beside the running service."""

    def __init__(self, directory: Path) -> None:
        """Take the service's `DATA_DIR`."""
        self._cluster = open_cluster(directory / "postgres")
        parts = urlsplit(self._cluster.dsn("owner"))
        ours = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}  # noqa: TID251 - handed on, not read
        self._environment = ours | {
            "PGHOST": parts.hostname or "",
            "PGPORT": str(parts.port),
            "PGUSER": parts.username or "",
            "PGPASSWORD": parts.password or "",
            "PGDATABASE": parts.path.lstrip("/"),
            "PGSSLMODE": "disable",
        }

    def close(self) -> None:
        """Let the server go; the service still uses it."""
        self._cluster.stop()

    async def dump(self) -> bytes:
        """Return what `pg_dump` gives: every row of every table.

        Raises:
            DatabaseUnavailable: it failed.
        """
        return await self._run("pg_dump", "--no-owner")

    async def sealed_payload(self) -> bytes:
        """Return the bytes of one stored payload.

        Raises:
            DatabaseUnavailable: there is none, or it cannot be read.
        """
        return await self._bytes(_ONE_PAYLOAD)

    async def sealed_token(self) -> bytes:
        """Return the bytes of one stored access token.

        Raises:
            DatabaseUnavailable: there is none, or it cannot be read.
        """
        return await self._bytes(_ONE_TOKEN)

    async def _bytes(self, query: str) -> bytes:
        return bytes.fromhex((await self._run("psql", "-XAtq", "-c", query)).decode().strip())

    async def _run(self, program: str, *arguments: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            binaries() / program, *arguments, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=self._environment
        )
        output, _ = await process.communicate()
        if process.returncode or not output.strip():
            raise DatabaseUnavailable(f"{program} could not read the database.")
        return output


def holds(copy: bytes, secret: str) -> bool:
    """Tell whether a value stands in a copy, as text or as the hexadecimal form in which `pg_dump` writes bytes."""
    return secret.encode() in copy or secret.encode().hex().encode() in copy
