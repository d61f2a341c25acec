"""What a connection may say about how it is delivered to: the shapes in calls and answers."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated

from pydantic import Field

from customhouse.crypto import credentials
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


class NewClientCertificate(Body):
    """What a receiver that asks for a client certificate (mTLS) is shown."""

    certificate: Annotated[
        str,
        Field(
            min_length=1,
            max_length=credentials.MOST_CHAIN_BYTES,
            description="PEM: the own certificate, then each one's issuer; the root may be left out.",
            examples=["-----BEGIN CERTIFICATE-----\n...\n-----END CERTIFICATE-----\n"],
        ),
    ]
    private_key: Annotated[
        str,
        Field(
            min_length=1,
            max_length=credentials.MOST_KEY_BYTES,
            repr=False,
            description="PEM, not encrypted: RSA 2048 to 4096, ECDSA P-256 or P-384, Ed25519. Sealed, never shown again.",
            examples=["-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----\n"],
        ),
    ]


class ClientCertificateShape(Shape):
    """The client certificate of a connection; its private key is never shown."""

    subject: str
    issuer: str
    fingerprint_sha256: str
    valid_from: datetime
    expires_at: datetime


class RateLimitShape(Shape):
    """The rate limit of a connection, over all processes of the service."""

    per_second: float
    burst: int


class DeliverySettings(Body):
    """What a connection may set, and a change may take away by null."""

    retry_schedule: RetrySchedule | None = None
    rate_limit: Annotated[RateLimit | None, Field(description="Null: no limit.")] = None
    client_certificate: Annotated[NewClientCertificate | None, Field(description="Null: none is shown.")] = None

    def schedule(self) -> tuple[int, ...] | None:
        """Return the retry schedule."""
        return None if self.retry_schedule is None else tuple(self.retry_schedule)

    def rate(self) -> Rate | None:
        """Return the rate limit."""
        return None if self.rate_limit is None else self.rate_limit.rate()

    def credential(self, now: datetime) -> credentials.Credential | None:
        """Return the client certificate and its key, judged.

        Raises:
            Invalid: with a fault at each place.
        """
        given = self.client_certificate
        if given is None:
            return None
        from customhouse.crypto.certificates import read_credential  # noqa: PLC0415 - X.509 costs memory

        return read_credential(given.certificate, given.private_key, now)

    def changed_schedule(self) -> tuple[int, ...] | None | Kept:
        """Return the retry schedule, `KEEP` where the body does not name it."""
        return self.schedule() if "retry_schedule" in self.model_fields_set else KEEP

    def changed_rate(self) -> Rate | None | Kept:
        """Return the rate limit, `KEEP` where the body does not name it."""
        return self.rate() if "rate_limit" in self.model_fields_set else KEEP

    def changed_credential(self, now: datetime) -> credentials.Credential | None | Kept:
        """Return the client certificate and its key, `KEEP` where the body does not name it.

        Raises:
            Invalid: as `credential`.
        """
        return self.credential(now) if "client_certificate" in self.model_fields_set else KEEP


def shown_certificate(one: credentials.ClientCertificate | None) -> ClientCertificateShape | None:
    """Return a client certificate as it is answered."""
    if one is None:
        return None
    return ClientCertificateShape(
        subject=one.subject,
        issuer=one.issuer,
        fingerprint_sha256=one.fingerprint,
        valid_from=one.begins_at,
        expires_at=one.expires_at,
    )


def shown_rate(rate: Rate | None) -> RateLimitShape | None:
    """Return a rate limit as it is answered."""
    return None if rate is None else RateLimitShape(per_second=rate.per_second, burst=rate.burst)
