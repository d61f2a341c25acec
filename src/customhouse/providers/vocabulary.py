"""The closed vocabularies of manifests and failures."""

from __future__ import annotations

from enum import StrEnum


class Risk(StrEnum):
    """How much harm a leaked credential of this provider does."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Mode(StrEnum):
    """What a connection may be used for; `act` asks for the union of the scopes of both."""

    OBSERVE = "observe"
    ACT = "act"


class ClientAuth(StrEnum):
    """How the application shows who it is at the token endpoint (OpenID Connect Core §9, the names of RFC 7591 §2)."""

    BASIC = "client_secret_basic"
    BODY = "client_secret_post"
    NONE = "none"


class Rotation(StrEnum):
    """What a refresh does to the refresh token."""

    NONE = "none"
    """There is none: access tokens do not end."""
    STABLE = "stable"
    """It stays as it is; replies may leave it out."""
    SINGLE_USE = "single_use"
    """Each reply brings a new one, and the old one is spent."""
    RENEWED = "renewed"
    """Replies bring a new one, and the old one stays valid: it must be deleted here."""


class Reuse(StrEnum):
    """What becomes of a grant when a spent refresh token is shown again."""

    WORKS = "works"
    REFUSED = "refused"
    """The call is refused; the grant stays."""
    REVOKES = "revokes"
    """The whole grant ends (RFC 9700 §4.14.2)."""


class Token(StrEnum):
    """Which token."""

    ACCESS = "access_token"
    REFRESH = "refresh_token"


class Extent(StrEnum):
    """What a revocation ends."""

    GRANT = "grant"
    """Everything that this account gave this application."""
    PROJECT = "project"
    """Everything that this account gave any application of the same project."""
    TOKEN = "token"  # noqa: S105 - a word
    """The token alone; what was issued from it lives on until it ends by itself."""
    INSTALLATION = "installation"
    """The application's installation in the account, for all of its users."""
    NOTHING = "nothing"
    """The provider offers no revocation."""


class Kind(StrEnum):
    """Whom a failure concerns."""

    TRANSIENT = "transient"
    """This call: the same one may succeed later."""
    APPLICATION = "application_wide"
    """Our registration with the provider: every connection is affected, and the operator has to act."""
    PERMANENT = "permanent"
    """This connection, or this request: repeating it cannot help."""


class Reason(StrEnum):
    """Why a provider did not do what it was asked; `failures.MEANING` has a sentence for each."""

    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "provider_unavailable"
    UNREADABLE = "reply_unreadable"
    CLIENT_REFUSED = "client_refused"
    REQUEST_REFUSED = "request_refused"
    APPLICATION_DISABLED = "application_disabled"
    GRANT_ENDED = "grant_ended"
    CODE_REFUSED = "code_refused"
    TOKEN_REFUSED = "access_token_refused"  # noqa: S105 - a word
    SCOPE_MISSING = "scope_missing"
    ADMIN_BLOCKED = "blocked_by_administrator"
    USER_NEEDED = "user_must_sign_in"
    ACCOUNT_GONE = "account_gone"
    NOT_ALLOWED = "not_allowed"
    NOT_THERE = "not_there"
    DENIED = "consent_denied"


class Step(StrEnum):
    """During what a failure happened."""

    AUTHORIZE = "authorize"
    """The provider sent the browser back with an error (RFC 6749 §4.1.2.1)."""
    EXCHANGE = "exchange"
    """The authorization code was shown at the token endpoint."""
    REFRESH = "refresh"
    """The refresh token was shown at the token endpoint."""
    REVOKE = "revoke"
    API = "api"
    """Any call with the access token; the identity call too."""
