"""The one family of errors. Each class says what went wrong, its docstring what to do, its `code` what the API prints.

No HTTP in here: `web.problems` maps classes to statuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class CustomhouseError(Exception):
    """Something went wrong inside Customhouse; the log line with the same request id says what."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, detail: str | None = None) -> None:
        """Take a sentence that is safe to show to the caller: no secret, no body, no PII."""
        self.detail = detail or (type(self).__doc__ or "").split("\n", maxsplit=1)[0]
        super().__init__(self.detail)


class SettingsError(CustomhouseError):
    """A setting is missing, unknown or wrong; `customhouse doctor` explains each one."""

    code = "settings_error"


class DatabaseUnavailable(CustomhouseError):
    """PostgreSQL did not answer; repeat the call after a moment."""

    code = "database_unavailable"


class DatabaseRefused(CustomhouseError):
    """PostgreSQL refused a statement; nothing of it was written."""

    code = "internal_error"


class KeyServiceUnavailable(CustomhouseError):
    """The key service did not answer; nothing was stored, repeat the call after a moment."""

    code = "key_service_unavailable"


class Overloaded(CustomhouseError):
    """More work is waiting than can be promised; repeat the call after `retry_after` seconds."""

    code = "overloaded"

    def __init__(self, detail: str | None = None, *, retry_after: int = 1) -> None:
        """Take the seconds after which a repetition makes sense."""
        super().__init__(detail)
        self.retry_after = retry_after


class TooManyRequests(Overloaded):
    """This tenant sends events faster than they can be delivered at the moment; repeat the call after `retry_after` seconds."""

    code = "too_many_requests"


class Unsignable(CustomhouseError):
    """Nothing can be signed: a signing key is missing or does not fit the profile of its connection."""

    code = "unsignable"


class Unsealable(CustomhouseError):
    """A sealed value does not open in this place: it was moved, altered, or its key is gone."""

    code = "unsealable"


class KeyDestroyed(Unsealable):
    """The key of this value was destroyed on purpose; the value cannot come back."""

    code = "key_destroyed"


class PayloadExpired(CustomhouseError):
    """The payload of this delivery is not kept any more: its retention has ended, and it can neither be shown nor sent."""

    code = "payload_expired"


class Unauthenticated(CustomhouseError):
    """Send a valid API key as `Authorization: Bearer ck_…`."""

    code = "unauthenticated"


class ScopeMissing(CustomhouseError):
    """This API key does not carry the scope that the call needs."""

    code = "scope_missing"


class NotFound(CustomhouseError):
    """No such thing in this tenant."""

    code = "not_found"


class Conflict(CustomhouseError):
    """The thing exists already, or is in a state that does not allow the call."""

    code = "conflict"


class ProviderNotConfigured(Conflict):
    """This installation is not registered with the provider; the operator gives a client id and secret in the providers file."""

    code = "provider_not_configured"


class ConnectSessionOver(Conflict):
    """The connect session was used, has ended, or its time is over; make a new one."""

    code = "connect_session_over"


class UserMismatch(Conflict):
    """Another user was invited than the one who is logged in; what was granted is not kept, and is revoked at the provider."""

    code = "user_mismatch"


class ConnectionPending(Conflict):
    """The connection waits for the host's confirmation of its user; nothing can be done with it yet."""

    code = "connection_pending"


class ConnectionPaused(Conflict):
    """The connection is paused; resume it first."""

    code = "connection_paused"


class ConnectionEnded(Conflict):
    """The connection has ended; its user can connect again."""

    code = "connection_ended"


class TokenNotExportable(Conflict):
    """The token of this connection is not handed out; call the provider through the proxy."""

    code = "token_not_exportable"


class NotAllowed(CustomhouseError):
    """The provider's manifest does not let this call through, or not in the mode of this connection."""

    code = "not_allowed"


class ScopeNotGranted(CustomhouseError):
    """The connection's grant does not hold the scope that this call needs; its user can consent to more."""

    code = "scope_not_granted"


class ApprovalRequired(Conflict):
    """A person has to approve this very request first: make it as an action."""

    code = "approval_required"


class ProviderLimited(Overloaded):
    """The provider asked us to wait; the call was not made, repeat it after `retry_after` seconds."""

    code = "provider_rate_limited"


class ProviderSilent(Overloaded):
    """The provider could not be reached, or did not answer in time; whether it saw the call is not known."""

    code = "provider_silent"


class ProviderReplyTooLarge(CustomhouseError):
    """The provider's answer is larger than what passes through here."""

    code = "provider_reply_too_large"


class BulkReadStopped(Overloaded):
    """This key has read the credentials of unusually many connections and is stopped for a while; the operator was told."""

    code = "bulk_read_stopped"


class ConnectRefused(CustomhouseError):
    """Nothing came of a connect flow; the page says why, and `reason` is its code."""

    code = "connect_refused"

    def __init__(self, reason: str, back: tuple[str, str] | None = None, provider: str | None = None) -> None:
        """Take a code for the page, where the browser may go back to (with the session's id), and the provider's name."""
        super().__init__(reason)
        self.reason = reason
        self.back = back
        self.provider = provider


class ReauthorizationRequired(Conflict):
    """The user has to consent again: nothing can be had from the provider for this connection until then."""

    code = "reauthorization_required"

    def __init__(self, reason: str) -> None:
        """Take the connection's reason: a code."""
        super().__init__(f"The user has to consent again ({reason}): make a connect session for this connection.")
        self.reason = reason


class TokenUnavailable(Overloaded):
    """There is no fresh access token just now; repeat the call after `retry_after` seconds."""

    code = "token_unavailable"


class IdempotencyConflict(Conflict):
    """This idempotency key was used with another body; use a new key for a new request."""

    code = "idempotency_conflict"


class TooLarge(CustomhouseError):
    """The request is larger than the limit."""

    code = "too_large"


class UnsupportedMediaType(CustomhouseError):
    """Send the body as `Content-Type: application/json`, in UTF-8 and without a content encoding."""

    code = "unsupported_media_type"


class MalformedJson(CustomhouseError):
    """The request body is not JSON."""

    code = "malformed_json"


@dataclass(frozen=True, slots=True)
class Fault:
    """One invalid place in an input: a JSON pointer (RFC 6901) and a sentence without the offending value."""

    pointer: str
    detail: str


class Invalid(CustomhouseError):
    """The request is well-formed, but not acceptable; `errors` names each place."""

    code = "invalid_request"

    def __init__(self, detail: str | None = None, faults: tuple[Fault, ...] = ()) -> None:
        """Take the faults found, in document order."""
        super().__init__(detail)
        self.faults = faults


class CredentialRefused(Invalid):
    """The pasted key may not be kept: it is of another kind, may too much or too little, or is not known. `detail` says what to do."""

    code = "credential_refused"


class ProviderUnavailable(CustomhouseError):
    """The provider did not answer in a way that proves anything; nothing was stored or changed. Try again."""

    code = "provider_unavailable"


class PolicyViolation(Invalid):
    """The event carries personal data that the privacy policy does not let out (`on_violation: refuse`)."""

    code = "privacy_policy_violation"


class EgressRefused(CustomhouseError):
    """The address may not be dialled: it is private, reserved or otherwise not allowed."""

    code = "egress_refused"
