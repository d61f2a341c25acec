"""Faults that are ordered in advance: the next call, or the next so many, goes wrong in one exact way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final


class Operation(StrEnum):
    """What a call is for; `ANY` in an order means each of them."""

    ANY = "any"
    AUTHORIZE = "authorize"
    EXCHANGE = "exchange"
    REFRESH = "refresh"
    REVOKE = "revoke"
    IDENTITY = "identity"
    API = "api"
    METADATA = "metadata"


class FaultKind(StrEnum):
    """What goes wrong."""

    SLOW = "slow"
    HOLD = "hold"
    STATUS = "status"
    UNREACHED = "unreached"
    LOST = "lost"
    INVALID_GRANT = "invalid_grant"
    RATE_LIMITED = "rate_limited"
    REPLY = "reply"
    SCOPE_MISSING = "scope_missing"
    SCOPE_MORE = "scope_more"
    SCOPE_FEWER = "scope_fewer"
    REFRESH_TOKEN_MISSING = "refresh_token_missing"  # noqa: S105 - a name
    IDENTITY_MISSING = "identity_missing"
    ACCOUNT_MISSING = "account_missing"
    REVOCATION_LIES = "revocation_lies"


MEANING: Final[dict[FaultKind, str]] = {
    FaultKind.SLOW: "answers after `seconds`",
    FaultKind.HOLD: "has its effect only when `POST /_sandbox/release` lets it go on",
    FaultKind.STATUS: "answers `status` with no effect; `retry_after` adds the header",
    FaultKind.UNREACHED: "the connection is cut before the effect",
    FaultKind.LOST: "the connection is cut after the effect: the reply is lost",
    FaultKind.INVALID_GRANT: "answers that the grant is over, although it is not",
    FaultKind.RATE_LIMITED: "answers that there were too many calls; `retry_after` in seconds",
    FaultKind.REPLY: "answers `body`, as it stands, with `status`, after the effect",
    FaultKind.SCOPE_MISSING: "the token reply does not say which scopes were granted",
    FaultKind.SCOPE_MORE: "grants `scopes` as well, which nobody asked for",
    FaultKind.SCOPE_FEWER: "does not grant `scopes`",
    FaultKind.REFRESH_TOKEN_MISSING: "the token reply has no refresh token",
    FaultKind.IDENTITY_MISSING: "the identity reply does not say who it is",
    FaultKind.ACCOUNT_MISSING: "the token reply does not say whose it is, where it would",
    FaultKind.REVOCATION_LIES: "answers 200 to a revocation and revokes nothing",
}

_ONLY: Final[dict[FaultKind, frozenset[Operation]]] = {
    FaultKind.INVALID_GRANT: frozenset({Operation.EXCHANGE, Operation.REFRESH}),
    FaultKind.SCOPE_MISSING: frozenset({Operation.EXCHANGE, Operation.REFRESH}),
    FaultKind.SCOPE_MORE: frozenset({Operation.EXCHANGE}),
    FaultKind.SCOPE_FEWER: frozenset({Operation.EXCHANGE}),
    FaultKind.REFRESH_TOKEN_MISSING: frozenset({Operation.EXCHANGE, Operation.REFRESH}),
    FaultKind.IDENTITY_MISSING: frozenset({Operation.IDENTITY}),
    FaultKind.ACCOUNT_MISSING: frozenset({Operation.EXCHANGE, Operation.REFRESH}),
    FaultKind.REVOCATION_LIES: frozenset({Operation.REVOKE}),
    FaultKind.RATE_LIMITED: frozenset({Operation.API, Operation.IDENTITY}),
}

_MOST_SECONDS: Final = 3600
_STATUSES: Final = range(200, 600)


def check(kind: FaultKind, operation: Operation, times: int | None, values: dict[str, Any]) -> None:
    """Refuse an order that cannot be meant.

    Raises:
        ValueError: with a sentence.
    """
    if times is not None and times < 1:
        raise ValueError("times is at least 1, or null for: until it is cleared")
    reached = _ONLY.get(kind)
    if reached is not None and operation is not Operation.ANY and operation not in reached:
        raise ValueError(f"{kind} is about {', '.join(sorted(reached))}, never about {operation}")
    needed, possible = _VALUES.get(kind, ((), ()))
    if missing := [name for name in needed if name not in values]:
        raise ValueError(f"{kind} needs {', '.join(missing)}")
    if extra := sorted(set(values) - {*needed, *possible}):
        raise ValueError(f"{kind} knows no {', '.join(extra)}")
    for name, value in values.items():
        if not _FORMS[name](value):
            raise ValueError(f"{name} of {kind} is out of its range")


_VALUES: Final[dict[FaultKind, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    FaultKind.SLOW: (("seconds",), ()),
    FaultKind.STATUS: (("status",), ("retry_after",)),
    FaultKind.RATE_LIMITED: ((), ("retry_after",)),
    FaultKind.REPLY: (("body",), ("status",)),
    FaultKind.SCOPE_MORE: (("scopes",), ()),
    FaultKind.SCOPE_FEWER: (("scopes",), ()),
}
"""What an order must, and may, say."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST_SECONDS


_FORMS: Final[dict[str, Callable[[Any], bool]]] = {
    "seconds": _is_number,
    "retry_after": lambda value: _is_number(value) and isinstance(value, int),
    "status": lambda value: isinstance(value, int) and value in _STATUSES,
    "body": lambda value: isinstance(value, str),
    "scopes": lambda value: isinstance(value, list | tuple) and bool(value) and all(isinstance(one, str) for one in value),
}


@dataclass(slots=True)
class Fault:
    """One order."""

    id: str
    kind: FaultKind
    operation: Operation = Operation.ANY
    application: str = ""
    """Only calls of this registration; empty: of any."""
    times: int | None = 1
    """How many calls; None: until it is cleared."""
    values: dict[str, Any] = field(default_factory=dict)

    def fits(self, operation: Operation, application: str) -> bool:
        """Tell whether it is about a call."""
        allowed = _ONLY.get(self.kind)
        if allowed is not None and operation not in allowed:
            return False
        return self.operation in {Operation.ANY, operation} and self.application in {"", application}


@dataclass(slots=True)
class Faults:
    """The orders of one provider, the oldest first."""

    waiting: list[Fault] = field(default_factory=list)

    def take(self, operation: Operation, application: str) -> dict[FaultKind, Fault]:
        """Return the oldest order of each kind that fits, and use each once."""
        found: dict[FaultKind, Fault] = {}
        for fault in tuple(self.waiting):
            if fault.kind in found or not fault.fits(operation, application):
                continue
            found[fault.kind] = fault
            if fault.times is not None:
                fault.times -= 1
                if fault.times == 0:
                    self.waiting.remove(fault)
        return found
