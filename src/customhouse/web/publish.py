"""The two hot routes: publish one event, publish a batch. From a call to the JSON of its answer, no framework in between."""

from __future__ import annotations

import asyncio
from typing import Final

from customhouse.app import App
from customhouse.canonical import dump, parse_object
from customhouse.errors import CustomhouseError, Fault, Invalid, NotFound, TooLarge
from customhouse.logs import get
from customhouse.metrics import EVENTS_REFUSED
from customhouse.outbound.accept import Accepted
from customhouse.outbound.requests import check_key, read
from customhouse.tenants.api_keys import ApiKey, Scope
from customhouse.types import PLATFORM, Json, JsonObject
from customhouse.web.auth import authenticate, named_tenant, origin_of
from customhouse.web.bodies import Receive, read_body
from customhouse.web.calls import Call
from customhouse.web.problems import problem_of

BATCH_EVENTS: Final = 1000
BATCH_BYTES: Final = 8 * 1024 * 1024
_SLICE: Final = 100
"""Events of a batch that are prepared in one go, so that a batch does not hold up everybody else."""
_log: Final = get("customhouse.web.publish")


class Publish:
    """`POST /v1/events` and `POST /v1/events/batch`."""

    def __init__(self, app: App) -> None:
        """Take the running application."""
        self._app = app
        self._cap = app.settings.max_body_bytes

    async def one(self, call: Call, receive: Receive) -> bytes:
        """Publish one event, and return what a 202 says when it and its deliveries are durable.

        Raises:
            CustomhouseError: it was not accepted.
            ClientDisconnect: nobody waits for the answer.
        """
        try:
            key = await self._key(call)
            header_key = call.idempotency_key()
            raw = await read_body(call, receive, self._cap)
            if header_key is not None:
                check_key(header_key)
            accepted = await self._accept(key, call, parse_object(raw), len(raw), header_key)
        except CustomhouseError as error:
            self._count(error)
            raise
        return dump(_accepted(accepted))

    async def batch(self, call: Call, receive: Receive) -> bytes:
        """Publish up to 1000 events, each for itself, and return what a 202 says: one result per event, in their order.

        Raises:
            CustomhouseError: the batch as a whole is not acceptable; nothing was accepted.
            ClientDisconnect: nobody waits for the answer.
        """
        key = await self._key(call)
        if call.idempotency_key() is not None:
            raise Invalid(
                "A batch takes no Idempotency-Key header.", (Fault("/idempotency_key", "give each event an idempotency_key of its own"),)
            )
        body = parse_object(await read_body(call, receive, BATCH_BYTES))
        events = body.get("events")
        if not isinstance(events, list) or body.keys() != {"events"}:
            raise Invalid("The batch is not acceptable.", (Fault("/events", "is required, a list, and the only member"),))
        if not 1 <= len(events) <= BATCH_EVENTS:
            raise Invalid("The batch is not acceptable.", (Fault("/events", f"1–{BATCH_EVENTS} events"),))
        results: list[Json] = []
        for start in range(0, len(events), _SLICE):
            part = events[start : start + _SLICE]
            results += await asyncio.gather(*[self._result(key, call, event) for event in part])
        return dump({"results": results})

    async def _key(self, call: Call) -> ApiKey:
        key = await authenticate(self._app.api_keys, call)
        key.require(Scope.EVENTS_WRITE)
        return key

    async def _accept(self, key: ApiKey, call: Call, body: JsonObject, size: int, header_key: str | None = None) -> Accepted:
        request = read(body, header_key)
        tenant = named_tenant(key, request.tenant_id)
        if tenant == PLATFORM:
            # The operator's tenant publishes operational events only, and those are ours.
            raise NotFound
        return await self._app.acceptor.accept(request, tenant, origin_of(key, call), size_bytes=size)

    async def _result(self, key: ApiKey, call: Call, event: Json) -> JsonObject:
        try:
            return {"status": 202, **_accepted(await self._accept(key, call, *self._member(event)))}
        except CustomhouseError as error:
            self._count(error)
            problem = problem_of(error)
        except Exception as error:  # noqa: BLE001 - the other events of the batch have their answers, and must get them
            problem = problem_of(error)
            _log.error("unexpected", request_id=call.request_id, route=call.route, exc_info=error)
        return problem.members()

    def _member(self, event: Json) -> tuple[JsonObject, int]:
        if not isinstance(event, dict):
            raise Invalid("The event is not acceptable.", (Fault("", "is not a JSON object"),))
        size = len(dump(event))
        if size > self._cap:
            raise TooLarge(f"The event is larger than {self._cap} bytes.")
        return event, size

    def _count(self, error: CustomhouseError) -> None:
        self._app.metrics.counter(EVENTS_REFUSED, reason=error.code).inc()


def _accepted(accepted: Accepted) -> JsonObject:
    deliveries: list[Json] = [
        {"delivery_id": delivery_id, "connection_id": connection_id, "privacy": privacy}
        for delivery_id, connection_id, privacy in accepted.deliveries
    ]
    return {"event_id": accepted.event_id, "duplicate": accepted.duplicate, "deliveries": deliveries}
