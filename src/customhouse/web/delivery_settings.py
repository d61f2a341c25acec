"""What a connection may say about how it is delivered to: the shapes in calls and answers."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from customhouse.outbound.throttle import Rate
from customhouse.outbound.wishes import FASTEST, KEEP, LONGEST_WAIT, MOST_BURST, MOST_WAITS, SLOWEST, Kept
from customhouse.web.routes import Body, Shape

RetrySchedule = Annotated[
    list[Annotated[int, Field(ge=1, le=LONGEST_WAIT)]],
    Field(
        min_length=1,
        max_length=MOST_WAITS,
        description="Seconds before the second, third ... attempt, each drawn from ±20 %; null: the service's own schedule.",
        examples=[[10, 60, 600, 3600]],
    ),
]


class RateLimit(Body):
    """How fast deliveries may go to this connection; what is over it waits, and no attempt is counted."""

    per_second: Annotated[float, Field(ge=SLOWEST, le=FASTEST, description="Deliveries per second, over time.", examples=[10])]
    burst: Annotated[
        int | None,
        Field(ge=1, le=MOST_BURST, description="Deliveries that may go at once after a quiet time; default: those of one second."),
    ] = None

    def rate(self) -> Rate:
        """Return the limit with its default filled in."""
        return Rate(self.per_second, math.ceil(self.per_second) if self.burst is None else self.burst)


class RateLimitShape(Shape):
    """The rate limit of a connection, over all processes of the service."""

    per_second: float
    burst: int


class DeliverySettings(Body):
    """What a connection may set, and a change may take away by null."""

    retry_schedule: RetrySchedule | None = None
    rate_limit: Annotated[RateLimit | None, Field(description="Null: no limit.")] = None

    def schedule(self) -> tuple[int, ...] | None:
        """Return the retry schedule."""
        return None if self.retry_schedule is None else tuple(self.retry_schedule)

    def rate(self) -> Rate | None:
        """Return the rate limit."""
        return None if self.rate_limit is None else self.rate_limit.rate()

    def changed_schedule(self) -> tuple[int, ...] | None | Kept:
        """Return the retry schedule, `KEEP` where the body does not name it."""
        return self.schedule() if "retry_schedule" in self.model_fields_set else KEEP

    def changed_rate(self) -> Rate | None | Kept:
        """Return the rate limit, `KEEP` where the body does not name it."""
        return self.rate() if "rate_limit" in self.model_fields_set else KEEP


def shown_rate(rate: Rate | None) -> RateLimitShape | None:
    """Return a rate limit as it is answered."""
    return None if rate is None else RateLimitShape(per_second=rate.per_second, burst=rate.burst)
