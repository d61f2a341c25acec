"""Rotation of keys under load and under kills: `python -m benchmarks.key_rotation [--connections N] [--tenants N] [--kills N] [--json]`.

Connections with sealed grants and tokens are made; processes of their own read their access tokens the whole time, as the API does.
`customhouse keys rotate` runs against them, two at once, and both are killed (SIGKILL) at random moments and started again. In the
end every key was replaced and every old one destroyed, every value names the key of now and opens, no read has failed, and the
ledger counts each step once. The waits are real: twice the cache time (10 s here) and two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
from benchmarks import report
from benchmarks.report import RunFailed, Step

from customhouse import ids, logs
from customhouse.app import EMBEDDED_LOGIN, App, Store
from customhouse.audit.log import SYSTEM
from customhouse.config import load
from customhouse.connections import tokens
from customhouse.connections.reading import Asker
from customhouse.connections.tokens import GrantSeal
from customhouse.crypto.envelope import KEY_BYTES, RecordKey
from customhouse.db import Migrator
from customhouse.embedded.throwaway import throwaway_cluster
from customhouse.errors import CustomhouseError
from customhouse.jobs.upkeep import upkeep_partitions
from customhouse.sql.migrate import migrate
from customhouse.tenants.idempotency import Once
from customhouse.types import Secret, TenantId
from customhouse.vault.keyring import data_key_of
from customhouse.vault.opening import CONNECTION

READERS: Final = 2
_AT_ONCE: Final = 8
_COPY: Final = 1000
_GENERATION: Final = 3
_SCOPES: Final = ["meeting:read:meeting"]
_KEYS: Final = ("tenant_id", "key_id", "purpose", "scope", "tenant_key_id", "wrapped", "created_at")
_CONNECTIONS: Final = ("tenant_id", "connection_id", "provider", "mode", "status", "grant_version", "mac")
_GRANTS: Final = (
    "tenant_id", "connection_id", "grant_version", "requested", "granted", "missing", "scopes_known", "manifest_version", "account_index",
    "account_sealed", "user_sealed",
)  # fmt: skip
_TOKENS: Final = ("tenant_id", "connection_id", "token_generation", "access_sealed", "refresh_sealed", "issued_at")
_LIVE: Final = """
    select d.key_id, d.purpose, d.scope, d.wrapped, d.state, d.tenant_key_id, t.kms_key, t.wrapped as tenant_wrapped,
           t.state as tenant_state
    from data_keys d join tenant_keys t on t.tenant_id = d.tenant_id and t.key_id = d.tenant_key_id
    where d.tenant_id = $1 and d.state <> 'destroyed' and d.purpose = 'connection'
    order by d.state
"""
_SEALED: Final = """
    select connection_id, grant_version, token_generation, access_sealed, refresh_sealed, account_sealed, user_sealed
    from integration_tokens join connection_grants using (tenant_id, connection_id) where tenant_id = $1
"""
LEFT: Final = """
    select (select count(*) from data_keys where state in ('next', 'retired')) as unfinished,
           (select count(*) from data_keys where state = 'active' and purpose = 'connection') as active,
           (select count(*) from data_keys where state = 'destroyed') as destroyed,
           (select count(*) from tenant_keys where state = 'active') as tenants,
           (select count(*) from tenant_keys where state = 'destroyed') as tenants_destroyed,
           (select count(*) from integration_tokens t where not exists (
              select from data_keys d where d.tenant_id = t.tenant_id and d.scope = t.connection_id::text and d.state = 'active'
                and uuid_send(d.key_id) = substring(t.access_sealed from 2 for 16)
                and uuid_send(d.key_id) = substring(t.refresh_sealed from 2 for 16))) as elsewhere
"""


@dataclass(slots=True)
class Reads:
    """What readers met."""

    done: int = 0
    failed: int = 0
    word: str = ""


def access_of(connection_id: UUID) -> bytes:
    """Return the token that a connection was made with."""
    return b"access of " + connection_id.bytes


async def populate(owner: asyncpg.Connection, app: App, tenants: int, each: int) -> list[tuple[TenantId, UUID]]:
    """Make connections as consent makes them, quickly: as the owner, in bulk. Return them all."""
    made: list[tuple[TenantId, UUID]] = []
    for number in range(tenants):
        tenant = TenantId(f"t{number}")
        await app.tenants.create(tenant, tenant, SYSTEM, Once(None, b""))
        root, mac_key = await app.rotating.tenant_key(tenant), await app.vault.mac_key(tenant, tokens.MAC_PURPOSE)
        at = app.clock.now() - timedelta(hours=1)
        for start in range(0, each, _COPY):
            keys: list[tuple[Any, ...]] = []
            connections: list[tuple[Any, ...]] = []
            grants: list[tuple[Any, ...]] = []
            held: list[tuple[Any, ...]] = []
            for _ in range(start, min(start + _COPY, each)):
                connection_id, key = ids.new(), RecordKey(ids.new(), Secret(os.urandom(KEY_BYTES)))
                seal, name = GrantSeal(app.vault.environment, tenant, connection_id, key), str(connection_id)
                wrapped = await app.vault.opener.wrap(root, key.key_id, (CONNECTION, name), key.material)
                guarded = {"mode": "observe", "grant_version": 1, "granted": _SCOPES, "account_index": bytes(32), "api_origin": None}
                keys.append((tenant, key.key_id, CONNECTION, name, root.key_id, wrapped, at))
                mac = tokens.guard(mac_key, connection_id, "zoom", guarded)
                connections.append((tenant, connection_id, "zoom", "observe", "active", 1, mac))
                account = seal.seal("connection_grants", "account_sealed", name, b"{}", 1)
                about = seal.seal("connection_grants", "user_sealed", name, b"{}", 1)
                grants.append((tenant, connection_id, 1, _SCOPES, _SCOPES, [], True, 1, bytes(32), account, about))
                access = seal.seal("integration_tokens", "access_sealed", name, access_of(connection_id), _GENERATION)
                refresh = seal.seal("integration_tokens", "refresh_sealed", name, b"refresh", _GENERATION)
                held.append((tenant, connection_id, _GENERATION, access, refresh, at))
                made.append((tenant, connection_id))
            async with owner.transaction():
                # Nobody is to be told of a thousand connections one by one.
                await owner.execute("set local session_replication_role = replica")
                for table, columns, records in (
                    ("data_keys", _KEYS, keys),
                    ("connections", _CONNECTIONS, connections),
                    ("connection_grants", _GRANTS, grants),
                    ("integration_tokens", _TOKENS, held),
                ):
                    await owner.copy_records_to_table(table, records=records, columns=columns)
    return made


async def opens(app: App, owner: asyncpg.Connection) -> int:
    """Return how many connections open completely, with the keys that a reader who asks now is given.

    Raises:
        Unsealable: one does not.
    """
    count = 0
    for (tenant,) in await owner.fetch("select tenant_id from tenants where tenant_id <> '_platform'"):
        keys: dict[str, list[RecordKey]] = defaultdict(list)
        for row in await owner.fetch(_LIVE, tenant):
            keys[row["scope"]].append(await app.vault.opener.material(data_key_of(tenant, row)))
        for row in await owner.fetch(_SEALED, tenant):
            active, *others = keys[str(row["connection_id"])]
            key, name = RecordKey(active.key_id, active.material, tuple(others)), str(row["connection_id"])
            seal = GrantSeal(app.vault.environment, tenant, row["connection_id"], key)
            found = [
                seal.open(table, column, name, row[column], row[generation]).reveal()
                for table, column, generation in (
                    ("integration_tokens", "access_sealed", "token_generation"),
                    ("integration_tokens", "refresh_sealed", "token_generation"),
                    ("connection_grants", "account_sealed", "grant_version"),
                    ("connection_grants", "user_sealed", "grant_version"),
                )
            ]
            count += found == [access_of(row["connection_id"]), b"refresh", b"{}", b"{}"]
    return count


async def read_on(app: App, grants: Sequence[tuple[TenantId, UUID]], reads: Reads, stop: asyncio.Event, seed: int) -> None:
    """Read access tokens, one after the other, until told to stop."""
    draw, asker = random.Random(seed), Asker(SYSTEM)
    while not stop.is_set():
        tenant, connection_id = draw.choice(grants)
        try:
            reading = await app.reader.token(tenant, connection_id, asker, "export")
            if reading.access.reveal() == access_of(connection_id):
                reads.done += 1
            else:
                reads.failed, reads.word = reads.failed + 1, "another token than was sealed"
        except CustomhouseError as error:
            reads.failed += 1
            reads.word = f"{type(error).__name__}: {error.detail}"


async def read_in_a_process(path: Path) -> None:
    """Be a reader: its connections are in a file, the end of its input ends it, and it says what it met."""
    given = json.loads(path.read_text(encoding="utf-8"))
    logs.configure("warning", stream=sys.stderr)
    grants = [(TenantId(tenant), UUID(connection_id)) for tenant, connection_id in given["grants"]]
    settings = load(given["environ"])
    assert settings.database_url is not None
    app = await App.open(settings, Store(settings.database_url))
    await app.start(first_key=False)
    reads, stop = Reads(), asyncio.Event()
    try:
        readers = [asyncio.create_task(read_on(app, grants, reads, stop, os.getpid() * _AT_ONCE + n)) for n in range(_AT_ONCE)]
        print("reading", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        stop.set()
        await asyncio.gather(*readers)
    finally:
        await app.stop()
    print(json.dumps([reads.done, reads.failed, reads.word]), flush=True)


@asynccontextmanager
async def readers(path: Path, count: int, total: Reads) -> AsyncIterator[None]:
    """Run so many reader processes for the length of a block; what they met is in `total` afterwards."""
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.key_rotation",
            "--read",
            str(path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(count)
    ]
    try:
        for one in running:
            assert one.stdout is not None
            if (await one.stdout.readline()).strip() != b"reading":
                raise RunFailed("a reader did not start")
        yield
        for one in running:
            said, _ = await one.communicate(b"")
            done, failed, word = json.loads(said.splitlines()[-1])
            total.done, total.failed, total.word = total.done + done, total.failed + failed, word or total.word
    finally:
        for one in running:
            with suppress(ProcessLookupError):
                one.kill()


async def rotate(environ: dict[str, str], kills: int, seed: int) -> tuple[int, float]:
    """Run `keys rotate` to its end, and kill it so many times on the way; return how many kills struck, and the seconds."""
    draw, struck, began = random.Random(seed), 0, time.monotonic()
    while True:
        one = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "customhouse.cli",
            "keys",
            "rotate",
            "--json",
            env={**os.environ, **environ},
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            if struck < kills:
                try:
                    async with asyncio.timeout(draw.uniform(3.0, 15.0)):
                        await one.wait()
                except TimeoutError:
                    one.kill()
                    await one.wait()
                    struck += 1
                    continue
            await one.communicate()
            if one.returncode:
                raise RunFailed(f"keys rotate ended with {one.returncode}")
            return struck, time.monotonic() - began
        finally:
            with suppress(ProcessLookupError):
                one.kill()


async def measure(connections: int, tenants: int, kills: int, step: Step) -> dict[str, Any]:
    """Do all of it on a server of its own."""
    each = max(1, connections // tenants)
    with throwaway_cluster() as cluster, tempfile.TemporaryDirectory(prefix="customhouse-keys-") as directory:
        environ = {
            "CUSTOMHOUSE_ENVIRONMENT": "dev",
            "CUSTOMHOUSE_DATA_DIR": directory,
            "CUSTOMHOUSE_DATABASE_URL": cluster.dsn("app"),
            "CUSTOMHOUSE_KMS_CACHE_TTL": "10",
            "CUSTOMHOUSE_DATABASE_POOL_SIZE": "10",
        }
        settings = load(environ)
        assert settings.database_url is not None
        logs.configure("error", stream=sys.stderr)
        async with Migrator.connect(Secret(cluster.dsn("owner").encode())) as migrator:
            await migrate(migrator, login=EMBEDDED_LOGIN)
        owner = await asyncpg.connect(cluster.dsn("owner"), server_settings={"search_path": "customhouse"})
        app = await App.open(settings, Store(settings.database_url))
        try:
            step(f"making {tenants * each} connections")
            await app.vault.create_tenant_key(TenantId("_platform"))
            await upkeep_partitions(app.database, settings.payload_retention)
            began = time.monotonic()
            made = await populate(owner, app, tenants, each)
            populated = time.monotonic() - began
            await owner.execute("analyze")
            listed = Path(directory) / "readers.json"
            sample = random.Random(1).sample(made, min(len(made), 20_000))
            listed.write_text(json.dumps({"environ": environ, "grants": [(t, str(c)) for t, c in sample]}), encoding="utf-8")
            total = Reads()
            step("rotating, reading, killing")
            async with readers(listed, READERS, total):
                ended = await asyncio.gather(*(rotate(environ, kills, seed) for seed in range(2)))
            step("opening everything")
            left = dict(await owner.fetchrow(LEFT) or {})
            opened = await opens(app, owner)
            entries = "select tag, count(*) from audit_entries where tag like '%_key.%' group by tag order by tag"
            ledger = {row["tag"]: row["count"] for row in await owner.fetch(entries)}
        finally:
            await app.stop()
            owner.terminate()
    seconds, struck = max(one[1] for one in ended), sum(one[0] for one in ended)
    checks = {
        "no read failed": total.failed == 0,
        "there were reads": total.done > 0,
        "every kill struck": struck == 2 * kills,
        "no key is left between its states": left["unfinished"] == 0,
        "every connection has one key, and every old one is destroyed": left["active"] == left["destroyed"] == len(made),
        "every tenant has another key, and every old one is destroyed": left["tenants"] == left["tenants_destroyed"] == tenants + 1,
        "every value names the key of now": left["elsewhere"] == 0,
        "every value opens": opened == len(made),
        "the ledger counts each step once": ledger["connection_key.replaced"] == ledger["connection_key.destroyed"] == len(made),
    }
    figures = {
        "connections": len(made),
        "tenants": tenants,
        "populated_seconds": round(populated, 1),
        "rotated_seconds": round(seconds, 1),
        "kills": struck,
        "reads": total.done,
        "reads_failed": total.failed,
        "last_failure": total.word,
        "left": left,
        "ledger": ledger,
    }
    return {"what": "key rotation", **figures, **report.verdict(checks)}


def view(result: dict[str, Any]) -> None:
    """Print a result."""
    rows = [(name, str(result[name])) for name in ("connections", "tenants", "rotated_seconds", "kills", "reads", "reads_failed")]
    report.show("Rotation of keys", rows, ("", ""))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and report; or be one of the readers."""
    parser = report.parser(__doc__)
    parser.add_argument("--connections", type=int, default=100_000)
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--kills", type=int, default=3, help="of each of the two that rotate")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.read is not None:
        asyncio.run(read_in_a_process(given.read))
        return 0
    return report.run(lambda step: measure(given.connections, given.tenants, given.kills, step), given, view)


if __name__ == "__main__":
    sys.exit(main())
