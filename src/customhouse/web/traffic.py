"""What is under way in this process, and what became of it: the bound on calls, their line in the log, their place in the metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from customhouse.app import App
from customhouse.errors import Overloaded
from customhouse.logs import get
from customhouse.metrics import HTTP_REQUESTS, HTTP_SECONDS, OTHER
from customhouse.web.calls import Call
from customhouse.web.problems import Problem, problem_of

MOST_AT_ONCE: Final = 6_000
"""Calls under way in one process; more are refused at the door, before they cost anything."""
_ACCEPTED: Final = 202
_SERVER_ERRORS: Final = 500


class Traffic:
    """The calls of one process, by whichever way they come in."""

    def __init__(self, app: App, most_at_once: int = MOST_AT_ONCE) -> None:
        """Take the application for its clock and metrics, and the bound."""
        self.monotonic = app.clock.monotonic
        self._metrics = app.metrics
        self._most_at_once = most_at_once
        self._under_way = 0
        # Templates, the parser's methods and our statuses: a closed set.
        self._bound: dict[tuple[str | None, str, int], tuple[Callable[[], None], Callable[[float], None]]] = {}
        # Bound once: the level is chosen by now, and what it leaves out costs half a microsecond.
        self._log = get("customhouse.web").bind()
        self._says_all = self._log.is_enabled_for(logging.DEBUG)

    def enter(self) -> float:
        """Count a call in and return when it began, in monotonic seconds; each call that entered has to `leave`."""
        self._under_way += 1
        return self.monotonic()

    def check(self) -> None:
        """Refuse the call that came last.

        Raises:
            Overloaded: more are under way than can be held.
        """
        if self._under_way > self._most_at_once:
            raise Overloaded

    def problem(self, call: Call, error: BaseException) -> Problem:
        """Return how an error is answered; one that nobody expected is told to the log."""
        problem = problem_of(error)
        if problem.status >= _SERVER_ERRORS and not problem.retry_after:
            self._log.error("unexpected", request_id=call.request_id, route=call.route, exc_info=error)
        return problem

    def leave(self, call: Call, method: str, began: float) -> None:
        """Count a call out, with its answer."""
        self._under_way -= 1
        seconds = self.monotonic() - began
        key = (call.route, method, call.status)
        bound = self._bound.get(key)
        if bound is None:
            route = call.route or OTHER
            bound = self._bound[key] = (
                self._metrics.counter(HTTP_REQUESTS, route=route, method=method, status=str(call.status)).inc,
                self._metrics.histogram(HTTP_SECONDS, route=route).observe,
            )
        count, observe = bound
        count()
        observe(seconds)
        # An accepted event has its own traces; a line for each would cost more than its signature.
        told = call.told or call.status == _ACCEPTED
        if told and not self._says_all:
            return
        say = self._log.debug if told else self._log.info
        say(
            "http_request",
            request_id=call.request_id,
            correlation_id=call.correlation_id,
            tenant_id=call.tenant_id,
            route=call.route,
            method=method,
            status_code=call.status,
            latency_ms=seconds * 1000,
            request_bytes=call.request_bytes,
            response_bytes=call.response_bytes,
        )
