"""One attempt: may it still go, send the very bytes that were signed, judge what came back."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Final

from customhouse import retry
from customhouse.clock import Clock
from customhouse.db import Database
from customhouse.egress.client import Egress
from customhouse.errors import CustomhouseError, NotFound, Unsignable
from customhouse.failpoints import Failpoints
from customhouse.outbound.roster import HELD, SENDABLE, Endpoint, Roster, Rosters
from customhouse.outbound.throttle import Throttle
from customhouse.outbound.work import Ending, Result, Work
from customhouse.tenants import policies

CONTENT_TYPE: Final = "application/json"


class Held(CustomhouseError):
    """Not now: the connection is paused, or its keys cannot be had. The delivery goes back without an attempt."""

    code = "held"


class Throttled(CustomhouseError):
    """Not yet: the connection has a rate limit, and this process no token. The delivery waits without an attempt."""

    code = "throttled"

    def __init__(self, seconds: float, each: float) -> None:
        """Take the seconds until there may be a token, and those between two deliveries at this process's share of the rate."""
        super().__init__()
        self.seconds = seconds
        self.each = each


class Sender:
    """Makes attempts. Nothing but `Held`, `Throttled` and a cancellation comes out of it: every other end is a `Result`."""

    def __init__(
        self,
        database: Database,
        rosters: Rosters,
        egress: Egress,
        clock: Clock,
        failpoints: Failpoints,
        throttle: Throttle,
        *,
        schedule: tuple[float, ...],
    ) -> None:
        """Take the parts that it stands on; `schedule` is for connections that have none of their own."""
        self._database = database
        self._rosters = rosters
        self._egress = egress
        self._clock = clock
        self._failpoints = failpoints
        self._throttle = throttle
        self._schedule = schedule

    async def attempt(self, work: Work, admitted: Callable[[Work], None]) -> Result:
        """Send once, if the connection, the policy and the bytes still allow it.

        Args:
            work: what to send.
            admitted: told that a delivery to a connection with a rate limit has its token and goes.

        Raises:
            Held: it has to wait; no attempt was made.
            Throttled: its connection's rate is used up; no attempt was made.
        """
        now = self._clock.now()
        if now >= work.expires_at:
            return self._ended(work, "expired", "life_exhausted")
        try:
            roster = self._rosters.held(work.tenant_id) or await self._rosters.get(work.tenant_id)
        except NotFound:
            return self._ended(work, "cancelled", "tenant_gone")
        except CustomhouseError as error:
            raise Held from error
        endpoint = roster.endpoints.get(work.connection_id)
        if endpoint is None:
            return self._ended(work, "cancelled", "connection_gone")
        if endpoint.status in HELD:
            raise Held
        if endpoint.status not in SENDABLE:
            return self._ended(work, "cancelled", "connection_gone")
        if roster.policy.version != work.policy_version and await self._narrowed(work, roster):
            return self._ended(work, "cancelled", "policy_changed")
        body_sha256 = hashlib.sha256(work.body).digest()
        if work.body_sha256 is not None and work.body_sha256 != body_sha256:
            return self._ended(work, "failed", "body_changed")
        if endpoint.rate is not None:
            wait = self._throttle.take(work.connection_id, endpoint.rate, self._clock.monotonic())
            if wait:
                raise Throttled(wait, self._throttle.each(endpoint.rate))
            admitted(work)
        return await self._send(work, endpoint, body_sha256)

    async def _narrowed(self, work: Work, roster: Roster) -> bool:
        """Tell whether the policy in force lets out less than the one that the variant was made under."""
        try:
            async with self._database.transaction(work.tenant_id) as conn:
                before = await policies.at_version(conn, work.tenant_id, work.policy_version)
        except CustomhouseError as error:
            raise Held from error
        then, current = before.effective(work.connection_id), roster.policy.effective(work.connection_id)
        return not then.allowed_fields <= current.allowed_fields

    async def _send(self, work: Work, endpoint: Endpoint, body_sha256: bytes) -> Result:
        at = self._clock.now()
        try:
            headers = endpoint.signer.headers(work.event_id, int(at.timestamp()), work.body)
        except Unsignable:
            return self._ended(work, "failed", "unsignable")
        headers["Content-Type"] = CONTENT_TYPE
        self._failpoints.hit("deliver.before_send")
        outcome = await self._egress.post(endpoint.target, headers, work.body)
        self._failpoints.hit("deliver.after_send")
        decision = retry.decide(
            status_code=outcome.status_code,
            retry_after=outcome.retry_after,
            attempts_made=work.attempts + 1,
            life_left=(work.expires_at - self._clock.now()).total_seconds(),
            draw=random.random(),  # noqa: S311 - jitter, not a secret
            schedule=endpoint.retry_schedule or self._schedule,
        )
        word: Ending
        reason: str | None = None
        retry_in = 0.0
        match decision:
            case retry.Delivered():
                word = "delivered"
            case retry.RetryIn(seconds):
                word, retry_in = "retrying", seconds
            case retry.GiveUp(why):
                word, reason = "failed", why
        return Result(
            work=work,
            outcome=word,
            reason=reason,
            sent=True,
            at=at,
            status_code=outcome.status_code,
            error=outcome.error,
            latency_ms=outcome.latency_ms,
            response_bytes=outcome.response_bytes,
            body_sha256=body_sha256,
            retry_in=retry_in,
        )

    def _ended(self, work: Work, outcome: Ending, reason: str) -> Result:
        return Result(work=work, outcome=outcome, reason=reason, sent=False, at=self._clock.now())
