"""Errors as the caller sees them: problem details (RFC 9457), one stable code each, never a value, never a stack trace."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from customhouse import errors
from customhouse.canonical import dump
from customhouse.errors import CustomhouseError, Fault
from customhouse.types import Json

MEDIA_TYPE: Final = "application/problem+json"
PAGES: Final = "/problems/"
_MOST_FAULTS: Final = 100


@dataclass(frozen=True, slots=True)
class Kind:
    """What a class of errors is called in HTTP."""

    status: int
    title: str
    retry_after: int | None = None
    """Seconds."""


_INTERNAL: Final = Kind(500, "Something went wrong here")

KINDS: Final[dict[type[CustomhouseError], Kind]] = {
    errors.Unauthenticated: Kind(401, "A valid API key is needed"),
    errors.ScopeMissing: Kind(403, "The API key may not do this"),
    errors.NotFound: Kind(404, "There is no such thing"),
    errors.Conflict: Kind(409, "The state of things does not allow this"),
    errors.ProviderNotConfigured: Kind(409, "The provider is not set up here"),
    errors.ConnectSessionOver: Kind(409, "The connect session is over"),
    errors.UserMismatch: Kind(409, "Another user was invited"),
    errors.ConnectionPending: Kind(409, "The connection waits for its confirmation"),
    errors.ConnectionPaused: Kind(409, "The connection is paused"),
    errors.ConnectionEnded: Kind(409, "The connection has ended"),
    errors.TokenUnavailable: Kind(503, "There is no valid token at the moment", 1),
    errors.TokenNotExportable: Kind(409, "The token is not handed out"),
    errors.NotAllowed: Kind(403, "The call is not let through"),
    errors.ScopeNotGranted: Kind(403, "The grant does not cover this call"),
    errors.ApprovalRequired: Kind(409, "The call needs an approval"),
    errors.ProviderLimited: Kind(429, "The provider asked us to wait", 1),
    errors.ProviderSilent: Kind(502, "The provider does not answer", 1),
    errors.ProviderReplyTooLarge: Kind(502, "The provider's answer is too large"),
    errors.BulkReadStopped: Kind(429, "This key reads too many credentials", 60),
    errors.ConnectRefused: Kind(400, "Nothing was connected"),
    errors.ReauthorizationRequired: Kind(409, "The user has to consent again"),
    errors.IdempotencyConflict: Kind(409, "The idempotency key belongs to another request"),
    errors.KeyDestroyed: Kind(410, "This was destroyed on purpose"),
    errors.PayloadExpired: Kind(410, "The payload is not kept any more"),
    errors.TooLarge: Kind(413, "The request is too large"),
    errors.UnsupportedMediaType: Kind(415, "The body has to be JSON"),
    errors.MalformedJson: Kind(400, "The body is not JSON"),
    errors.Invalid: Kind(422, "The request is not acceptable"),
    errors.CredentialRefused: Kind(422, "The key may not be kept"),
    errors.PolicyViolation: Kind(422, "The privacy policy refuses the event"),
    errors.EgressRefused: Kind(422, "The address may not be dialled"),
    errors.Overloaded: Kind(503, "Too much to do right now", 1),
    errors.TooManyRequests: Kind(429, "Too many events at once", 1),
    errors.DatabaseUnavailable: Kind(503, "The database does not answer", 1),
    errors.KeyServiceUnavailable: Kind(503, "The key service does not answer", 5),
    errors.ProviderUnavailable: Kind(503, "The provider does not answer as it should", 30),
}
"""By class; a class that is not here is answered like the nearest one above it, in the end as an internal error."""

_ROUTER: Final = {
    400: ("bad_request", "The request cannot be read", "The request is not HTTP as it should be."),
    404: ("not_found", "There is no such thing", "No such path."),
    431: ("head_too_large", "The head of the request is too large", "At most 100 header fields and 32 KiB in all."),
    405: ("method_not_allowed", "The path has no such method", "The header Allow lists the methods of this path."),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem, ready to be sent."""

    status: int
    code: str
    title: str
    detail: str
    faults: tuple[Fault, ...] = ()
    retry_after: int | None = None

    def members(self) -> dict[str, Json]:
        """Return the members of the problem object (RFC 9457 §3)."""
        said: dict[str, Json] = {
            "type": f"{PAGES}{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.faults:
            said["errors"] = [{"pointer": fault.pointer, "detail": fault.detail} for fault in self.faults[:_MOST_FAULTS]]
        return said

    def body(self) -> bytes:
        """Return the problem object as JSON."""
        return dump(self.members())

    def headers(self) -> dict[str, str]:
        """Return the headers that go with it."""
        headers = {"content-type": MEDIA_TYPE}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["www-authenticate"] = "Bearer"  # RFC 6750 §3
        return headers


def problem_of(error: BaseException) -> Problem:
    """Return the problem that an exception is; one that is not of our family, or not for callers, says nothing of itself."""
    kind = next((KINDS[cls] for cls in type(error).__mro__ if cls in KINDS), _INTERNAL)
    if not isinstance(error, CustomhouseError) or kind.status == _INTERNAL.status:
        return Problem(_INTERNAL.status, CustomhouseError.code, _INTERNAL.title, "The log line with this request id says more.")
    faults = error.faults if isinstance(error, errors.Invalid) else ()
    retry_after = error.retry_after if isinstance(error, errors.Overloaded) else kind.retry_after
    return Problem(kind.status, error.code, kind.title, error.detail, faults, retry_after)


def problem_of_router(status: int) -> Problem:
    """Return the problem for a status that the router itself answers with."""
    code, title, detail = _ROUTER.get(status, ("internal_error", _INTERNAL.title, "The log line with this request id says more."))
    return Problem(status if status in _ROUTER else _INTERNAL.status, code, title, detail)


def catalogue() -> dict[str, tuple[Kind, str]]:
    """Return every code that can be answered, with what to do about it."""
    found = {cls.code: (kind, (cls.__doc__ or "").split("\n", maxsplit=1)[0]) for cls, kind in KINDS.items()}
    found |= {code: (Kind(status, title), detail) for status, (code, title, detail) in _ROUTER.items() if code not in found}
    found[CustomhouseError.code] = (_INTERNAL, (CustomhouseError.__doc__ or "").split("\n", maxsplit=1)[0])
    return dict(sorted(found.items()))
