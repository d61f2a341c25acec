"""What one event costs between its bytes and the group: `python benchmarks/bench_prepare.py [--json] [--quick]`.

CPU µs (process time) per event: median over interleaved rounds, with the event that `customhouse bench` sends and the default policy.
Beside the whole are its steps, each measured alone; their sum leaves out what `prepare` itself adds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table

from customhouse import ids
from customhouse.canonical import dump, parse_object
from customhouse.cli.bench.generator import event
from customhouse.crypto.envelope import RecordKey, seal
from customhouse.crypto.signatures import Algorithm, Profile, SigningKey, new_secret, signer
from customhouse.egress.targets import parse_target
from customhouse.outbound.envelope import integration_of
from customhouse.outbound.prepare import Prepared, prepare
from customhouse.outbound.requests import EventRequest, read
from customhouse.outbound.roster import Endpoint, Roster
from customhouse.outbound.sealed import payload_place
from customhouse.privacy.declaration import NOTHING_DECLARED
from customhouse.privacy.inspect import inspect
from customhouse.tenants.policies import DEFAULT
from customhouse.types import JsonObject, Secret, TenantId

TENANT = TenantId("bench-000")
NOW = datetime(2026, 11, 22, 9, 0, 0, 123456, UTC)
KEY = RecordKey(UUID(int=7), Secret(bytes(range(32))))
ROUNDS, CALLS = 9, 400


def roster() -> Roster:
    """Return a tenant with one connection that wants everything."""
    connection_id = ids.new()
    endpoint = Endpoint(
        TENANT,
        connection_id,
        ids.show("con", connection_id),
        "active",
        ("*",),
        parse_target("https://receiver.example.com/hooks", https_required=True),
        signer(Profile.QUEAST_V1, [SigningKey("whk_1", new_secret(Algorithm.V1))]),
        integration_of(ids.show("con", connection_id), "webhook"),
        DEFAULT.effective(connection_id),
    )
    return Roster(TENANT, 1, 1, {connection_id: endpoint}, DEFAULT, {}, 0.0)


def bodies(size: int = 1024) -> list[bytes]:
    """Return events as the load generator sends them: the same but for the number of the order."""
    whole = event(str(TENANT), 1_000_000_000, size)
    before, found, after = whole.partition(b'"order_id":"o_1000000000"')
    return [b'%b"order_id":"o_%d"%b' % (before, 1_000_000_001 + number, after) for number in range(CALLS if found else 0)]


def clean(raw: bytes) -> bytes:
    """Return an event without the person."""
    body = parse_object(raw)
    data = body["data"]
    assert isinstance(data, dict)
    del data["person"]
    return dump(body)


def keyed(raw: bytes) -> bytes:
    """Return an event with an idempotency key and an id of its own."""
    body = parse_object(raw)
    data = body["data"]
    assert isinstance(data, dict)
    order = data["order"]
    assert isinstance(order, dict)
    return dump(body | {"idempotency_key": f"key-{order['order_id']}", "event_id": f"order:{order['order_id']}"})


def steps(raw: list[bytes]) -> dict[str, tuple[Callable[[Any], Any], list[Any]]]:
    """Return each step with what goes into it."""
    held = roster()
    policy = DEFAULT.effective(UUID(int=0))

    def prepared(request: EventRequest) -> Prepared:
        return prepare(
            request,
            held,
            payload_key=KEY,
            mac_key=KEY,
            environment="prod",
            now=NOW,
            request_id="req_01k5tq4z8nfx3s9gq2v7d4h6bc",
            size_bytes=1024,
        )

    parsed: list[JsonObject] = [parse_object(one) for one in raw]
    requests = [read(one) for one in parsed]
    ready = [prepared(one) for one in requests]
    return {
        "whole": (lambda one: prepared(read(parse_object(one))), raw),
        "parse": (parse_object, raw),
        "read": (read, parsed),
        "prepare": (prepared, requests),
        "inspect": (lambda one: inspect(one, policy, NOTHING_DECLARED), [one.data for one in requests]),
        "dump of the data": (dump, [one.data for one in requests]),
        "seal": (lambda one: seal(KEY, payload_place("prod", TENANT, one.event_uid, 0), one.variants[0]), ready),
        "a new id": (lambda _: ids.new(), ready),
        "an id as text": (lambda one: ids.show("evt", one.event_uid), ready),
    }


def cost(rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Return CPU µs per event: for each kind of event and each step, the median over the rounds."""
    raw = bodies()
    kinds = {"bench event": raw, "without a person": list(map(clean, raw)), "with a key and an id": list(map(keyed, raw))}
    work = {kind: steps(events) for kind, events in kinds.items()}
    taken: dict[str, dict[str, list[float]]] = {kind: {step: [] for step in found} for kind, found in work.items()}
    for _ in range(rounds):
        for kind, found in work.items():
            for step, (call, inputs) in found.items():
                before = time.process_time()
                for one in inputs:
                    call(one)
                taken[kind][step].append((time.process_time() - before) / len(inputs) * 1e6)
    return {kind: {step: round(statistics.median(runs), 1) for step, runs in found.items()} for kind, found in taken.items()}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="one round")
    options = parser.parse_args()
    figures = cost(1 if options.quick else ROUNDS)
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    table = Table(title="CPU µs per event")
    table.add_column("step")
    for kind in figures:
        table.add_column(kind, justify="right")
    for step in next(iter(figures.values())):
        table.add_row(step, *(f"{found[step]:.1f}" for found in figures.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
