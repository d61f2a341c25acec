"""Lines of ordering keys under everything at once: whatever happens in whatever order, no line loses its head or its order."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.errors import Conflict
from customhouse.outbound.endpoints import Made
from customhouse.outbound.reads import Search
from customhouse.outbound.roster import SQL
from customhouse.types import TenantId
from tests.receivers import Recorder, recorder
from tests.scenes import connect, publish, still

pytestmark = pytest.mark.anyio
KEYS = ("a", "b", "c")
NOBODY = UUID(int=0)


class Hand:
    """A process as the database knows one: it claims, and writes whatever it likes."""

    def __init__(self, app: App, luck: random.Random) -> None:
        self.app = app
        self.luck = luck
        self.process_id = ids.new()
        self.held: list[tuple[str, UUID, int, UUID, bytes]] = []
        self.claimed: list[UUID] = []

    async def claim(self, most: int = 3) -> int:
        """Claim some of what is due."""
        await self.app.database.call(SQL["heartbeat"], self.process_id)
        rows = await self.app.database.call(SQL["claim_due"], self.process_id, most, most, 60.0, [], "", NOBODY, 50)
        found = [(row["tenant_id"], row["delivery_id"], row["lease"]) for row in rows[:-1]]
        loaded = await self.app.database.call(SQL["load_batch"], self.process_id, [one[0] for one in found], [one[1] for one in found])
        keys = {row["delivery_id"]: (row["connection_id"], row["ordering_key"]) for row in loaded}
        self.held += [(*one, *keys[one[1]]) for one in found]
        self.claimed += [one[1] for one in found]
        return len(found)

    async def end(self, outcome: str) -> None:
        """Write the same of everything that it holds."""
        held, self.held = sorted(self.held), []
        if not held:
            return
        count, now = len(held), self.app.clock.now()
        nothing = [None] * count
        await self.app.database.call(
            SQL["record_batch"], self.process_id, False, [held[0][0]], [count],  # noqa: FBT003 - a query takes places
            [one[1] for one in held], [one[2] for one in held], [outcome] * count, nothing, [True] * count, [ids.new() for _ in held],
            [now] * count, nothing, nothing, nothing, nothing, nothing, nothing, [0.0] * count,
            [one[3] for one in held], [one[4] for one in held],
        )  # fmt: skip

    async def die(self) -> None:
        """Be silent; somebody finds its leases."""
        self.held = []
        await self.app.database.call(SQL["farewell"], self.process_id)
        await self.app.database.call(SQL["recover_leases"], 10.0)
        self.process_id = ids.new()

    async def retry(self, tenant: TenantId) -> None:
        """Bring one back that has ended."""
        ended = await self.app.reads.deliveries(tenant, Search(status=self.luck.choice(["failed", "delivered", "expired"])), 50)
        if ended:
            try:
                await self.app.operations.retry(tenant, self.luck.choice(ended).delivery_id, SYSTEM, force=True)
            except Conflict:
                return

    async def act(self, tenant: TenantId) -> None:
        """Do one thing or another."""
        match self.luck.randrange(9):
            case 0 | 1 | 2:
                await publish(self.app, tenant, ordering_key=self.luck.choice(KEYS))
            case 3 | 4:
                await self.claim()
            case 5 | 6:
                await self.end(self.luck.choice(["delivered", "failed", "retrying", "cancelled"]))
            case 7:
                await self.retry(tenant)
            case _:
                await self.die()


_WRONG = """
    with line as (
      select q.*, q.delivery_id in (select a.delivery_id from attempts a where a.outcome <> 'retrying') as came_back
      from delivery_queue q
    )
    select tenant_id, connection_id, ordering_key
    from line
    group by 1, 2, 3
    having count(*) filter (where not blocked) <> 1
      or min(ordering_place) filter (where not came_back) < min(ordering_place) filter (where not blocked)
"""
"""Lines without one head, or with one that stands before its turn. What came back after its end stands behind a head that somebody had."""


@pytest.mark.parametrize("seed", range(4))
async def test_no_interleaving_breaks_a_line(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection, seed: int
) -> None:
    async with recorder() as second:
        await connect(app, tenant, second.url())
        await still(app, "claims", "jobs", "presence")
        hands = [Hand(app, random.Random(seed * 100 + place)) for place in range(4)]

        async def work(hand: Hand) -> None:
            for _ in range(40):
                await hand.act(tenant)

        await asyncio.gather(*(work(hand) for hand in hands))
        assert await owner.fetch(_WRONG) == []
        assert await owner.fetchval("select count(*) from delivery_queue") > 0, "nothing waits: the interleaving proves nothing"

        # What is left goes out in order.
        for hand in hands:
            await hand.die()
        left = await owner.fetch("select delivery_id, connection_id, ordering_key, ordering_place from delivery_queue")
        ended = {row[0] for row in await owner.fetch("select delivery_id from attempts where outcome <> 'retrying'")}
        last = Hand(app, random.Random(seed))
        while await last.claim(10):
            assert await owner.fetch(_WRONG) == []
            await last.end("delivered")
        assert sorted(last.claimed) == sorted(row["delivery_id"] for row in left)
        went: dict[tuple[UUID, bytes], list[int]] = {}
        for row in sorted(left, key=lambda row: last.claimed.index(row["delivery_id"])):
            if row["delivery_id"] not in ended:
                went.setdefault((row["connection_id"], row["ordering_key"]), []).append(row["ordering_place"])
        assert went
        assert all(line == sorted(line) for line in went.values())


async def test_a_transaction_holds_a_bounded_number_of_turns_however_many_keys_it_has(owner: asyncpg.Connection) -> None:
    luck = random.Random(1)
    keys = [luck.randbytes(32) for _ in range(20_000)]
    async with owner.transaction():
        await owner.execute("select hold_lines_v1($1)", [*keys, None])
        assert await owner.fetchval("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()") == 1024


async def test_two_rows_of_a_line_cannot_be_heads(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    await still(app, "claims", "jobs")
    for _ in range(2):
        await publish(app, tenant, ordering_key="a")
    with pytest.raises(asyncpg.UniqueViolationError):
        await owner.execute("update delivery_queue set blocked = false")
    with pytest.raises(asyncpg.CheckViolationError):
        await owner.execute("update delivery_queue set owner = $1, lease_until = now() where blocked", app.process_id)


async def test_moving_on_in_a_long_line_reads_a_few_rows_also_by_plans_that_were_made_while_it_was_empty(owner: asyncpg.Connection) -> None:
    read = "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = 'delivery_queue'"
    connection_id, key = ids.new(), bytes(32)
    async with owner.transaction():
        await owner.execute("select set_config('app.tenant_id', 'acme', true)")
        for _ in range(7):
            await owner.execute("select advance_lines_v1('acme', array[$1::uuid], array[$2::bytea])", connection_id, key)
        await owner.execute(
            """
            insert into delivery_queue (tenant_id, delivery_id, event_uid, connection_id, variant, policy_version, next_at, expires_at,
                                        ordering_key, ordering_place, blocked)
            select 'acme', gen_random_uuid(), gen_random_uuid(), $1, 0, 0, now(), now(), $2, n, true from generate_series(1, 3000) n
            """,
            connection_id,
            key,
        )
        before = await owner.fetchval(read)
        await owner.execute("select advance_lines_v1('acme', array[$1::uuid], array[$2::bytea])", connection_id, key)
        assert await owner.fetchval(read) - before < 10
        assert await owner.fetchval("select ordering_place from delivery_queue where not blocked") == 1
