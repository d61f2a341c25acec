"""What the four Google integrations share: one OAuth server, one identity, one table of errors.

Each of them is registered in a project of its own: Google counts consent per project, so a shared one would let the token of one
integration carry the scopes of another, and revoking one would end them all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from customhouse.providers.manifest import DAY, Alias, Endpoints, ErrorRule, Identity, OAuth2, Refresh, Revocation, RevokeStep, Scope
from customhouse.providers.vocabulary import ClientAuth, Extent, Kind, Reason, Reuse, Rotation, Step

AUTH: Final = "https://www.googleapis.com/auth/"
"""Begins the name of nearly every Google scope."""

PROJECT: Final = r"([0-9]+)-[a-z0-9]+\.apps\.googleusercontent\.com"
"""A client id begins with the number of its project."""

HOSTS: Final = ("oauth2.googleapis.com", "www.googleapis.com")

_SERVER: Final = Endpoints(
    api_base="https://www.googleapis.com",
    authorize_url="https://accounts.google.com/o/oauth2/v2/auth",
    token_url="https://oauth2.googleapis.com/token",  # noqa: S106 - an address
    revoke_url="https://oauth2.googleapis.com/revoke",
    identity_url="https://www.googleapis.com/oauth2/v2/userinfo",
)

OAUTH2: Final = OAuth2(
    client_auth=ClientAuth.BODY,
    pkce=True,
    refresh=Refresh(Rotation.STABLE, access_seconds=3600, idle_seconds=180 * DAY, reuse=Reuse.WORKS),
    revocation=Revocation(
        Extent.PROJECT,
        (RevokeStep(),),
        gone=(ErrorRule(Kind.PERMANENT, Reason.TOKEN_REFUSED, ("invalid_token",), statuses=(400,)),),
    ),
    identity=Identity(account=("/id",), label=("/email",), organisation="/hd", needs="email"),
    issuer="https://accounts.google.com",
    # `offline` and `consent` bring a refresh token each time. `include_granted_scopes` stays off: with it a token would carry what
    # the person once gave to the same project for something else.
    authorize_extra=(("access_type", "offline"), ("prompt", "consent"), ("include_granted_scopes", "false")),
)

IDENTITY_SCOPES: Final = (
    Scope(
        "openid",
        words="know that you signed in with Google",
        why="Verifies which Google account was connected.",
        reaches="an account number",
    ),
    Scope(
        "email",
        words="see your e-mail address",
        why="Shows you which account is connected, and lets Google tell us when that account is in danger.",
        reaches="your e-mail address",
    ),
)

ALIASES: Final = (Alias(f"{AUTH}userinfo.email", ("email",)),)

ERRORS: Final = (
    # A Workspace policy asks the person to sign in again: the grant is still there.
    ErrorRule(Kind.PERMANENT, Reason.USER_NEEDED, ("invalid_rapt", "rapt_required"), ("/error_subtype", "/error")),
    ErrorRule(
        Kind.PERMANENT, Reason.ADMIN_BLOCKED, ("admin_policy_enforced", "org_internal"), steps=(Step.AUTHORIZE, Step.EXCHANGE, Step.REFRESH)
    ),
    ErrorRule(Kind.APPLICATION, Reason.APPLICATION_DISABLED, ("disabled_client", "deleted_client")),
    ErrorRule(Kind.TRANSIENT, Reason.UNAVAILABLE, ("internal_failure",), steps=(Step.EXCHANGE, Step.REFRESH, Step.REVOKE)),
    ErrorRule(
        Kind.TRANSIENT,
        Reason.RATE_LIMITED,
        ("rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded"),
        ("/error/errors/*/reason",),
        statuses=(403,),
        steps=(Step.API,),
    ),
    ErrorRule(
        Kind.PERMANENT,
        Reason.SCOPE_MISSING,
        ("insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"),
        ("/error/errors/*/reason", "/error/details/*/reason"),
        statuses=(403,),
        steps=(Step.API,),
    ),
    ErrorRule(Kind.TRANSIENT, Reason.RATE_LIMITED, ("RESOURCE_EXHAUSTED",), ("/error/status",), steps=(Step.API,)),
)

SHARES: Final = "Google counts consent per project: two connections of one account through the same project share one permission."

UNCONFIRMED: Final = (
    "That revoking either token ends everything the account gave to the project, and that a revoked token answers 400 `invalid_token`.",
    "The review class of each scope (sensitive, restricted).",
    "That a client which was disabled or deleted in the console answers `disabled_client` and `deleted_client`.",
    "How Google spells the identity scopes in replies: both spellings are understood.",
)


def endpoints(api_base: str) -> Endpoints:
    """Return Google's OAuth server with the API of one integration."""
    return replace(_SERVER, api_base=api_base)


def register(api: str) -> str:
    """Return how the operator registers one integration."""
    return (
        f"Google Cloud console: a project of its own (no other Google integration in it) with the {api} enabled, a consent screen "
        "that lists exactly the scopes above, and an OAuth client of type web application."
    )
