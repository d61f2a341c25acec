"""One operating-system process of `benchmarks.refresh_torture`: the parts of the service that read and renew tokens, and many readers.

Orders come as lines of JSON on standard input, what came of each goes as one line to standard output.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any
from uuid import UUID

import uvloop

from customhouse import logs
from customhouse.app import App, Store
from customhouse.audit.log import SYSTEM
from customhouse.config import from_environment
from customhouse.connections.reading import Asker
from customhouse.errors import CustomhouseError, ReauthorizationRequired
from customhouse.supervisor.member import Member
from customhouse.types import TenantId


async def read(app: App, order: dict[str, Any], outcomes: Counter[str], generations: Counter[int]) -> None:
    """Read the token, for as long as the order says."""
    until = time.monotonic() + order["seconds"]
    while True:
        try:
            reading = await app.reader.token(TenantId(order["tenant"]), UUID(order["connection"]), Asker(SYSTEM), "proxy")
        except ReauthorizationRequired as error:
            outcomes[f"reauthorization_required: {error.reason}"] += 1
        except CustomhouseError as error:
            outcomes[error.code] += 1
        else:
            outcomes["ok"] += 1
            generations[reading.generation] += 1
        if time.monotonic() >= until:
            return
        await asyncio.sleep(0.02)


async def serve() -> None:
    """Obey until standard input ends."""
    logs.configure("warning", stream=sys.stderr)
    settings = from_environment()
    assert settings.database_url is not None
    # Without jobs: the runner decides when something is due.
    app = await App.open(settings, Store(settings.database_url), member=Member("serve", jobs=False))
    await app.start(first_key=False)
    print(json.dumps({"ready": True}), flush=True)
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            app.renewing._lease = order["lease"]  # noqa: SLF001 - shorter than any lease that is of use, so that providers are slower
            outcomes: Counter[str] = Counter()
            generations: Counter[int] = Counter()
            began = time.monotonic()
            await asyncio.gather(*(read(app, order, outcomes, generations) for _ in range(order["readers"])))
            said = {"outcomes": outcomes, "generations": generations, "seconds": round(time.monotonic() - began, 3)}
            print(json.dumps(said), flush=True)
    finally:
        await app.stop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
