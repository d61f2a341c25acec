"""One call: what every layer of the face needs to know of it, found in the headers once."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any, Final, cast

from customhouse import ids
from customhouse.errors import Fault, Invalid
from customhouse.privacy.detectors import identifier_carries_pii

Scope = MutableMapping[str, Any]
_KEY: Final = "customhouse.call"
_CORRELATION: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
# A header of these given twice means that two readers could see two different requests.
_SINGLE: Final = frozenset(
    {b"authorization", b"content-type", b"content-length", b"content-encoding", b"idempotency-key", b"x-correlation-id", b"host"}
)


class Call:
    """A request on its way through the face."""

    __slots__ = (
        "correlation_id",
        "headers",
        "repeated",
        "request_bytes",
        "request_id",
        "response_bytes",
        "route",
        "started",
        "status",
        "tenant_id",
        "told",
    )

    def __init__(self, scope: Scope) -> None:
        """Read the headers and give the call its own id; an incoming request id is not trusted."""
        listed: list[tuple[bytes, bytes]] = scope["headers"]
        self.headers = dict(listed)
        self.repeated: frozenset[bytes] = frozenset() if len(self.headers) == len(listed) else _repeated(listed)
        self.request_id = ids.show("req", ids.new())
        self.correlation_id = _correlation_id(self.header(b"x-correlation-id"))
        self.route: str | None = None
        self.status = 0
        self.tenant_id: str | None = None
        self.request_bytes = 0
        self.response_bytes = 0
        self.started = False
        self.told = False
        """What came of it is written elsewhere: its line in the log is for those who want all."""
        scope[_KEY] = self

    def header(self, name: bytes) -> bytes | None:
        """Return a header, or None; one that was given twice counts as not given."""
        return None if name in self.repeated else self.headers.get(name)

    def idempotency_key(self) -> str | None:
        """Return the text of the `Idempotency-Key` header; its form is not checked yet.

        Raises:
            Invalid: it was given twice.
        """
        if b"idempotency-key" in self.repeated:
            raise Invalid("The Idempotency-Key header is not acceptable.", (Fault("/idempotency_key", "is given more than once"),))
        value = self.headers.get(b"idempotency-key")
        return None if value is None else value.decode("latin-1")


def call_of(scope: Scope) -> Call:
    """Return the call of an ASGI scope."""
    return cast("Call", scope[_KEY])


def _repeated(listed: list[tuple[bytes, bytes]]) -> frozenset[bytes]:
    seen: set[bytes] = set()
    twice: set[bytes] = set()
    for name, _ in listed:
        (twice if name in seen else seen).add(name)
    return frozenset(twice & _SINGLE)


def _correlation_id(value: bytes | None) -> str | None:
    """Return the caller's correlation id if it may travel into logs and envelopes: of the form, and nothing personal."""
    if value is None:
        return None
    text = value.decode("latin-1")
    return text if _CORRELATION.fullmatch(text) and not identifier_carries_pii(text) else None
