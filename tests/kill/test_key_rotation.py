"""Keys are replaced under read load and killed wherever that could hurt: no read fails, and after each kill everything opens."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from benchmarks.key_rotation import LEFT, Reads, opens, populate, read_on

from customhouse.app import App, Store
from customhouse.clock import SystemClock
from customhouse.config import load
from customhouse.failpoints import NAMES
from customhouse.supervisor.member import Member
from customhouse.types import TenantId

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

TENANTS, EACH, READERS = 4, 500, 4
CONNECTIONS = TENANTS * EACH
AGED = """
    with keys as (
      update data_keys set created_at = created_at - interval '1 hour', retired_at = retired_at - interval '1 hour'
    )
    update tenant_keys set created_at = created_at - interval '1 hour', retired_at = retired_at - interval '1 hour'
"""
STAGES = (
    ("rotate.tenant_key_replaced=kill:2", "rotate.wrapped=kill:4", "rotate.made=kill:6"),
    ("rotate.taken_over=kill:3",),
    ("rotate.before_move=kill:4", "rotate.moved=kill:5", "rotate.ended=kill:6"),
)
"""Where the processes die before each hour that passes; one after the other, each goes on where the one before was killed."""


class AheadClock(SystemClock):
    """The machine's clock, and the hours that a test lets pass."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead.total_seconds()


async def rotate(environ: dict[str, str], older_than: str, failpoints: str = "") -> dict[str, Any] | None:
    """Run `keys rotate --no-wait`; return what it said, None where it was killed."""
    one = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "customhouse.cli",
        *("keys", "rotate", "--older-than", older_than, "--no-wait", "--json"),
        env={**os.environ, **environ, "CUSTOMHOUSE_FAILPOINTS": failpoints},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await one.communicate()
    if one.returncode == -signal.SIGKILL:
        return None
    assert one.returncode == 0, complained.decode()
    answer: dict[str, Any] = json.loads(said)
    return answer


@asynccontextmanager
async def reading(app: App, grants: list[tuple[TenantId, UUID]]) -> AsyncIterator[Reads]:
    """Read tokens for the length of a block."""
    reads, stop = Reads(), asyncio.Event()
    readers = [asyncio.create_task(read_on(app, grants, reads, stop, number)) for number in range(READERS)]
    try:
        yield reads
    finally:
        stop.set()
        await asyncio.gather(*readers)


async def test_two_thousand_connections_get_other_keys_under_kills_and_no_read_fails(
    environ: dict[str, str], owner: asyncpg.Connection, tmp_path: Path
) -> None:
    settings = load(environ)
    assert settings.database_url is not None
    clock = AheadClock()
    # Its own jobs would go on with the rotation: here only the processes that are killed do.
    app = await App.open(settings, Store(settings.database_url), clock, Member("serve", jobs=False))
    try:
        await app.start(first_key=False)
        grants = await populate(owner, app, TENANTS, EACH)
        assert len(grants) == CONNECTIONS
        await owner.execute(AGED)
        struck = set()
        async with reading(app, grants) as reads:
            for number, stage in enumerate(STAGES):
                # At first everything is due, and later nothing but what was begun.
                older_than = "30d" if number else "30m"
                if number:
                    clock.ahead += timedelta(hours=1)
                    await owner.execute(AGED)
                for armed in stage:
                    before = reads.done
                    assert await rotate(environ, older_than, armed) is None, f"nothing was killed at {armed}"
                    struck.add(armed.partition("=")[0])
                    assert await opens(app, owner) == CONNECTIONS
                    assert reads.done > before
                    assert (reads.failed, reads.word) == (0, "")
                done = await rotate(environ, older_than)
                assert done is not None
                assert done["unreadable"] == 0
            clock.ahead += timedelta(hours=1)
            await owner.execute(AGED)
            last = await rotate(environ, "30d")
        assert last is not None
        assert (last["waiting"], last["replaced"]) == (0, 0)
        assert struck == {name for name in NAMES if name.startswith("rotate.")}
        assert (reads.failed, reads.word) == (0, "")
        left = dict(await owner.fetchrow(LEFT) or {})
        assert left == {
            "unfinished": 0,
            "active": CONNECTIONS,
            "destroyed": CONNECTIONS,
            "tenants": TENANTS + 1,
            "tenants_destroyed": TENANTS + 1,
            "elsewhere": 0,
        }
        assert await opens(app, owner) == CONNECTIONS
        counts = {row["tag"]: row["count"] for row in await owner.fetch("select tag, count(*) from audit_entries group by tag")}
        assert counts["connection_key.replaced"] == counts["connection_key.destroyed"] == CONNECTIONS
        assert counts["tenant_key.replaced"] == counts["tenant_key.destroyed"] == TENANTS + 1
        assert counts["token.read"] == reads.done
    finally:
        await app.stop()
