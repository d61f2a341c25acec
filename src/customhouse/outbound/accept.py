"""Accepting events: durable with the intent to deliver before anybody is told so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, Literal
from uuid import UUID
from weakref import WeakValueDictionary

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import Origin
from customhouse.clock import Clock
from customhouse.db import Database
from customhouse.errors import (
    Conflict,
    CustomhouseError,
    DatabaseRefused,
    DatabaseUnavailable,
    IdempotencyConflict,
    NotFound,
    Overloaded,
    PolicyViolation,
    TooManyRequests,
)
from customhouse.failpoints import Failpoints
from customhouse.group import GroupCommit
from customhouse.metrics import ACCEPT_BATCH, EVENTS_ACCEPTED, PII_REMOVED, Metrics
from customhouse.outbound.engine import Engine
from customhouse.outbound.envelope import assemble
from customhouse.outbound.prepare import KEY_PURPOSE, Planned, Prepared, prepare
from customhouse.outbound.reads import first_deliveries
from customhouse.outbound.recorder import release
from customhouse.outbound.requests import EventRequest
from customhouse.outbound.roster import SENDABLE, SQL, Rosters
from customhouse.outbound.work import LEASE_SECONDS, Work
from customhouse.types import JsonObject, TenantId
from customhouse.vault.vault import Vault

KEY_LIFE: Final = timedelta(days=7)
DELIVERY_LIFE: Final = timedelta(hours=72)
_PREPARED_IN_LOOP: Final = 16 * 1024
"""Bytes of a request up to which it is prepared at once."""
_LARGEST_GROUP: Final = 200
_GROUPS_AT_ONCE: Final = 2
_MOST_INSIDE: Final = 4_000
"""Calls under way, from the check of their tenant to their answer."""
_PATIENCE: Final = 3.0
"""Seconds after which a call whose group has not begun is answered that the database is behind; nothing of it was written."""
_STALE_TRIES: Final = 5
_LOST_REPLY_TRIES: Final = 6
_LOST_REPLY_WAIT: Final = 0.25

_Verdict = tuple[Literal["accepted", "duplicate", "conflict", "stale", "gone"], UUID | None]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to a publish call: `deliveries` are (delivery id, connection id, privacy)."""

    event_id: str
    duplicate: bool
    deliveries: tuple[tuple[str, str, JsonObject], ...]


class Acceptor:
    """The door for events."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        rosters: Rosters,
        engine: Engine,
        clock: Clock,
        metrics: Metrics,
        failpoints: Failpoints,
        *,
        environment: str,
    ) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._vault = vault
        self._rosters = rosters
        self._engine = engine
        self._clock = clock
        self._failpoints = failpoints
        self._environment = environment
        self._group, self._ordered = (
            GroupCommit[Prepared, _Verdict](
                self._flush,
                largest=_LARGEST_GROUP,
                at_once=at_once,
                most_waiting=_MOST_INSIDE,
                patience=_PATIENCE,
                observe=metrics.histogram(ACCEPT_BATCH).observe,
            )
            # Events with an ordering key go apart, one group after the other: the rest never waits for the turns of their keys.
            for at_once in (_GROUPS_AT_ONCE, 1)
        )
        self._lines: WeakValueDictionary[tuple[TenantId, str], asyncio.Lock] = WeakValueDictionary()
        self._places: dict[UUID, list[bool]] = {}
        """By event: which of its deliveries have a place in memory, from the gate until a group takes them over."""
        self._inside: dict[TenantId, int] = {}
        self._all_inside = 0
        self._fresh = metrics.counter(EVENTS_ACCEPTED, duplicate="no")
        self._repeated = metrics.counter(EVENTS_ACCEPTED, duplicate="yes")
        self._removed = metrics.counter(PII_REMOVED)

    async def accept(self, request: EventRequest, tenant: TenantId, origin: Origin, *, size_bytes: int) -> Accepted:
        """Accept one event; when this returns, the event and its deliveries are durable.

        Raises:
            Invalid, PolicyViolation: the event is not acceptable.
            NotFound: no such active tenant.
            IdempotencyConflict: its key or id was used with another body.
            TooManyRequests: the tenant sends more than can be delivered or held now; repeat it later.
            Overloaded, DatabaseUnavailable, KeyServiceUnavailable: it was not accepted now; repeat it.
        """
        self._engine.gate.check(tenant)
        self._enter(tenant)
        try:
            if request.ordering_key is None:
                return await self._accept(request, tenant, origin, size_bytes)
            # One at a time of a key, in the order of the calls, however long each of them takes to prepare.
            line = self._lines.setdefault((tenant, request.ordering_key), asyncio.Lock())
            async with line:
                return await self._accept(request, tenant, origin, size_bytes)
        finally:
            self._leave(tenant)

    async def _accept(self, request: EventRequest, tenant: TenantId, origin: Origin, size_bytes: int) -> Accepted:
        try:
            for _ in range(_STALE_TRIES):
                prepared = await self._prepare(request, tenant, origin, size_bytes)
                await self._take_places(prepared)
                try:
                    verdict, first = await (self._group if prepared.ordering_key is None else self._ordered).submit(prepared)
                finally:
                    self._give_places_back(prepared)
                if verdict == "accepted":
                    self._fresh.inc()
                    self._removed.inc(prepared.removed)
                    return _answer(prepared)
                if verdict == "duplicate" and first is not None:
                    self._repeated.inc()
                    event_id, deliveries = await first_deliveries(self._database, tenant, first)
                    return Accepted(event_id, duplicate=True, deliveries=deliveries)
                if verdict == "conflict":
                    raise IdempotencyConflict
                self._rosters.forget(tenant)
                if verdict == "gone":
                    raise NotFound
            raise Overloaded("The tenant's connections are changing faster than the event can be accepted; repeat the call.")
        except PolicyViolation as violation:
            await self._record_refusal(request, tenant, origin, violation)
            raise

    def _enter(self, tenant: TenantId) -> None:
        """Count a call in; a tenant may have as many under way as are still free, so that one that floods leaves half to the others.

        Raises:
            TooManyRequests: it has.
        """
        mine = self._inside.get(tenant, 0)
        if mine >= max(1, _MOST_INSIDE - self._all_inside):
            raise TooManyRequests
        self._inside[tenant] = mine + 1
        self._all_inside += 1

    def _leave(self, tenant: TenantId) -> None:
        self._all_inside -= 1
        left = self._inside[tenant] - 1
        if left:
            self._inside[tenant] = left
        else:
            del self._inside[tenant]

    async def _prepare(self, request: EventRequest, tenant: TenantId, origin: Origin, size_bytes: int) -> Prepared:
        now = self._clock.now()
        roster = self._rosters.held(tenant) or await self._rosters.get(tenant)
        payload_key = self._vault.cached_payload_key(tenant, now.date()) or await self._vault.payload_key(tenant, now.date())
        mac_key = self._vault.cached_mac_key(tenant, KEY_PURPOSE) or await self._vault.mac_key(tenant, KEY_PURPOSE)
        work = partial(
            prepare,
            request,
            roster,
            payload_key=payload_key,
            mac_key=mac_key,
            environment=self._environment,
            now=now,
            request_id=origin.correlation_id or origin.request_id or "none",
            size_bytes=size_bytes,
        )
        # Inspecting a large event can take long (a second for 256 KiB made to annoy): not in the loop that serves everybody.
        return await asyncio.to_thread(work) if size_bytes > _PREPARED_IN_LOOP else work()

    async def _take_places(self, prepared: Prepared) -> None:
        """Find a place in memory for each delivery that may be sent at once, waiting where this process is behind."""
        places: list[bool] = []
        self._places[prepared.event_uid] = places
        try:
            for one in prepared.planned:
                if not _may_be_held(prepared, one):
                    places.append(False)
                    continue
                placed = self._engine.gate.place_at_once(prepared.tenant_id, one.endpoint.connection_id)
                places.append(await self._engine.gate.place(prepared.tenant_id, one.endpoint.connection_id) if placed is None else placed)
        except BaseException:
            self._give_places_back(prepared)
            raise

    def _give_places_back(self, prepared: Prepared) -> None:
        """Give back what no group has taken over."""
        for one, placed in zip(prepared.planned, self._places.pop(prepared.event_uid, ()), strict=False):
            if placed:
                self._engine.unreserve(one.endpoint.connection_id)

    def _places_of(self, item: Prepared) -> list[bool]:
        """Take over the places of an event; one whose group failed before, or whose caller has left, asks again and does not wait."""
        places = self._places.pop(item.event_uid, None)
        if places is not None:
            return places
        return [
            _may_be_held(item, one) and self._engine.reserve(one.endpoint.tenant_id, one.endpoint.connection_id) for one in item.planned
        ]

    async def _record_refusal(self, request: EventRequest, tenant: TenantId, origin: Origin, violation: PolicyViolation) -> None:
        async with self._database.transaction(tenant) as conn:
            await log.append(
                conn,
                self._clock,
                tenant,
                origin,
                tags.EVENT_REFUSED,
                subject=request.event_type,
                detail={"event_type": request.event_type, "fields": [fault.pointer for fault in violation.faults]},
            )

    async def close(self) -> None:
        """Let what is in be written, and refuse what comes."""
        await self._group.close()
        await self._ordered.close()

    # The group ----------------------------------------------------------------------------------------------------------

    async def _flush(self, group: Sequence[Prepared]) -> Sequence[_Verdict | BaseException]:
        try:
            return await self._write(group)
        except DatabaseUnavailable:
            return await self._after_lost_reply(group)
        except (DatabaseRefused, Conflict) as refused:
            if len(group) == 1:
                return [refused]
            # One bad row fails alone.
            results: list[_Verdict | BaseException] = []
            for item in group:
                results.extend(await self._flush([item]))
            return results

    async def _write(self, group: Sequence[Prepared]) -> Sequence[_Verdict | BaseException]:
        platform_version = max(item.platform_version for item in group)
        newest: dict[TenantId, int] = {}
        for item in group:
            newest[item.tenant_id] = max(newest.get(item.tenant_id, 0), item.version)
        # Rows sorted by (tenant, key): two groups never wait for each other in a ring.
        current = sorted(
            (item for item in group if item.platform_version == platform_version and item.version == newest[item.tenant_id]),
            key=lambda item: (item.tenant_id, item.keys[0][0] if item.keys else b""),
        )
        planned = [one for item in current for one in item.planned]
        owned = [placed for item in current for placed in self._places_of(item)]
        try:
            self._failpoints.hit("accept.before_commit")
            rows = await self._database.call(SQL["accept_batch"], *self._arguments(current, newest, platform_version, owned))
            self._failpoints.hit("accept.after_commit")
        except BaseException:
            for one, is_owned in zip(planned, owned, strict=True):
                if is_owned:
                    self._engine.unreserve(one.endpoint.connection_id)
            raise
        verdicts: dict[UUID, _Verdict] = {row["event_uid"]: (row["outcome"], row["first_uid"]) for row in rows}
        self._hand_off(current, owned, {uid for uid, verdict in verdicts.items() if verdict[0] == "accepted"})
        missing: _Verdict = ("stale", None)
        return [verdicts.get(item.event_uid, missing) for item in group]

    def _arguments(
        self, group: Sequence[Prepared], newest: dict[TenantId, int], platform_version: int, owned: list[bool]
    ) -> tuple[object, ...]:
        tenants: list[str] = []
        event_to: list[int] = []
        key_to: list[int] = []
        payload_to: list[int] = []
        delivery_to: list[int] = []
        keys = payloads = deliveries = 0
        for events, item in enumerate(group, 1):
            keys += len(item.keys)
            payloads += len(item.sealed)
            deliveries += len(item.planned)
            if tenants and tenants[-1] == item.tenant_id:
                event_to[-1], key_to[-1], payload_to[-1], delivery_to[-1] = events, keys, payloads, deliveries
            else:
                tenants.append(item.tenant_id)
                event_to.append(events)
                key_to.append(keys)
                payload_to.append(payloads)
                delivery_to.append(deliveries)
        planned = [(item, plan) for item in group for plan in item.planned]
        return (
            self._engine.process_id,
            LEASE_SECONDS,
            platform_version,
            tenants,
            [newest[TenantId(tenant)] for tenant in tenants],
            event_to,
            key_to,
            payload_to,
            delivery_to,
            [item.event_uid for item in group],
            [item.given_id for item in group],
            [item.event_type for item in group],
            [item.occurred_at for item in group],
            [item.correlation_id for item in group],
            [item.size_bytes for item in group],
            [item.privacy_text for item in group],
            [item.ordering_key for item in group] if group and group[0].ordering_key is not None else [],
            [item.event_uid for item in group for _ in item.keys],
            [key_hash for item in group for key_hash, _ in item.keys],
            [digest for item in group for _, digest in item.keys],
            KEY_LIFE.total_seconds(),
            [item.event_uid for item in group for _ in item.sealed],
            [number for item in group for number in range(len(item.sealed))],
            [sealed for item in group for sealed in item.sealed],
            [plan.delivery_id for _, plan in planned],
            [item.event_uid for item, _ in planned],
            [plan.endpoint.connection_id for _, plan in planned],
            [plan.variant for _, plan in planned],
            [item.policy_version for item, _ in planned],
            owned,
            DELIVERY_LIFE.total_seconds(),
        )

    def _hand_off(self, group: Sequence[Prepared], owned: Sequence[bool], accepted: set[UUID]) -> None:
        """Give the leased deliveries to the engine, only now that they are durable; what was not accepted gives its slots back."""
        expires_at = self._clock.now() + DELIVERY_LIFE
        leased_until = self._clock.monotonic() + LEASE_SECONDS
        place = 0
        for item in group:
            for planned in item.planned:
                is_owned = owned[place]
                place += 1
                if not is_owned:
                    if item.ordering_key is not None:
                        # Only the database knows whether it is the first of its line.
                        self._engine.behind.set()
                    continue
                if item.event_uid not in accepted:
                    self._engine.unreserve(planned.endpoint.connection_id)
                    continue
                self._engine.start(
                    Work(
                        tenant_id=item.tenant_id,
                        delivery_id=planned.delivery_id,
                        lease=0,
                        event_uid=item.event_uid,
                        event_id=item.event_id,
                        event_type=item.event_type,
                        connection_id=planned.endpoint.connection_id,
                        policy_version=item.policy_version,
                        tenant_version=item.version,
                        attempts=0,
                        expires_at=expires_at,
                        leased_until=leased_until,
                        body_sha256=None,
                        body=assemble(item.variants[planned.variant], planned.endpoint.integration),
                    )
                )

    async def _after_lost_reply(self, group: Sequence[Prepared]) -> Sequence[_Verdict | BaseException]:
        """The reply was lost, perhaps after COMMIT: look before answering. What cannot be looked up is not promised."""
        lost: _Verdict | BaseException = DatabaseUnavailable()
        for _ in range(_LOST_REPLY_TRIES):
            await asyncio.sleep(_LOST_REPLY_WAIT)
            try:
                rows = await self._database.call(
                    SQL["accepted_among"], [item.tenant_id for item in group], [item.event_uid for item in group]
                )
            except CustomhouseError:
                continue
            found = {row["event_uid"] for row in rows}
            # They are leased to this process without being in its hands: give them to whoever comes first.
            orphans = [(item.tenant_id, one.delivery_id, 0) for item in group if item.event_uid in found for one in item.planned]
            await release(self._database, self._engine.process_id, orphans, seconds=0.0)
            return [("accepted", None) if item.event_uid in found else lost for item in group]
        return [lost] * len(group)


def _may_be_held(prepared: Prepared, planned: Planned) -> bool:
    """Tell whether a delivery may go from hand to hand: not a paused connection's, nor one that has an order, which the database keeps."""
    return prepared.ordering_key is None and planned.endpoint.status in SENDABLE


def _answer(prepared: Prepared) -> Accepted:
    return Accepted(
        prepared.event_id,
        duplicate=False,
        deliveries=tuple(
            (ids.show("dlv", planned.delivery_id), planned.endpoint.shown_id, prepared.privacy[planned.variant])
            for planned in prepared.planned
        ),
    )
