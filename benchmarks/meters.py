"""What a round costs: CPU and memory of the service and of PostgreSQL, transactions, and statements counted on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from benchmarks.stage import Stage

from customhouse.cli.bench import usage

_HEAD = 5
_COUNTED = {ord("E"), ord("Q")}
"""Execute and simple Query of PostgreSQL's protocol (PostgreSQL documentation, 54.7): one each per statement of a client."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Meters at one moment: CPU in seconds, memory in bytes, transactions as PostgreSQL counts them."""

    service_cpu: float
    postgres_cpu: float
    service_rss: float
    transactions: int


async def read(stage: Stage) -> Reading:
    """Read the meters, those of all processes of the service together."""
    # What a backend has not reported yet, it does within a second of being idle.
    transactions: int = await stage.ask("select xact_commit + xact_rollback from pg_stat_database where datname = current_database()")
    return Reading(
        usage.cpu_of_service(stage.pid, stage.directory),
        usage.cpu_of_postgres(stage.directory),
        usage.memory_of_service(stage.pid, stage.directory)[0],
        transactions,
    )


@dataclass
class Round:
    """The meters before and after a round."""

    stage: Stage
    before: Reading | None = None

    async def begin(self) -> None:
        """Read them before."""
        self.before = await read(self.stage)

    async def end(self, deliveries: int) -> dict[str, float]:
        """Read them again, and return what one delivery has cost; memory in MB."""
        assert self.before is not None
        after = await read(self.stage)
        each = max(deliveries, 1)
        return {
            "service_cpu_us": (after.service_cpu - self.before.service_cpu) / each * 1e6,
            "postgres_cpu_us": (after.postgres_cpu - self.before.postgres_cpu) / each * 1e6,
            "transactions": (after.transactions - self.before.transactions) / each,
            "service_rss_mb": after.service_rss / 1e6,
        }


@dataclass
class Counter:
    """Statements that have passed."""

    port: int = 0
    statements: int = 0


class Frames:
    """Cuts what a client sends into messages of PostgreSQL's protocol, and counts those that run a statement."""

    def __init__(self, counter: Counter) -> None:
        """Take the counter."""
        self._counter = counter
        self._greeted = False
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes, wherever they were cut."""
        rest = self._rest + data
        place = 0
        while True:
            head = _HEAD if self._greeted else _HEAD - 1
            if len(rest) - place < head:
                break
            length = int.from_bytes(rest[place + head - 4 : place + head])
            end = place + head - 4 + length
            if len(rest) < end:
                break
            if self._greeted and rest[place] in _COUNTED:
                self._counter.statements += 1
            self._greeted = True
            place = end
        self._rest = rest[place:]


@asynccontextmanager
async def counted(postgres_port: int) -> AsyncIterator[Counter]:
    """Run a door to PostgreSQL (without encryption) that counts the statements passing through it."""
    counter = Counter()
    open_doors: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", postgres_port)
        frames = Frames(counter)
        pair = {writer, other_writer}
        open_doors.update(pair)

        async def pump(source: asyncio.StreamReader, drain: asyncio.StreamWriter, frames: Frames | None) -> None:
            with suppress(ConnectionError):
                while data := await source.read(65536):
                    if frames is not None:
                        frames.feed(data)
                    drain.write(data)
                    await drain.drain()
            drain.close()

        await asyncio.gather(pump(reader, other_writer, frames), pump(other_reader, writer, None))
        open_doors.difference_update(pair)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    counter.port = server.sockets[0].getsockname()[1]
    try:
        yield counter
    finally:
        server.close()
        for door in open_doors:
            door.close()
