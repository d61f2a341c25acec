"""Zoom's authorization server (§2.1): Basic authentication, rotating refresh tokens, one set of tokens per person and application."""

from __future__ import annotations

from typing import Any, Final

from customhouse_sandbox import oauth
from customhouse_sandbox.facts import Fact
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.oauth import Dialect, Trouble
from customhouse_sandbox.pages import Choice
from customhouse_sandbox.routing import Ask
from customhouse_sandbox.state import Application, Code, End, Kind, Realm, Token

_DAY: Final = 86_400.0

SCOPES: Final[dict[str, str]] = {
    "user:read:user": "View a user",
    "meeting:read:meeting": "View a meeting",
    "meeting:read:list_meetings": "View a user's meetings",
    "meeting:read:past_meeting": "View a past meeting",
    "meeting:read:list_past_participants": "View a past meeting's participants",
    "cloud_recording:read:list_user_recordings": "List all cloud recordings for a user",
    "cloud_recording:read:list_recording_files": "Return all of a meeting's recordings",
    "cloud_recording:read:meeting_transcript": "View a meeting's transcript",
}
"""What the application was registered for, in the words of the Marketplace (§2.2)."""

FACTS: Final = (
    Fact("spent_refresh_token", ("refused", "tolerated", "ends_grant"), "What becomes of a refresh token that was used before.", "§2.1"),
    Fact("refresh_token_days", ("90", "5475"), "How many days an unused refresh token lives.", "§1.2, §12"),
    Fact("code_reuse_ends_grant", ("no", "yes"), "Whether a code that is shown twice ends what it was exchanged for.", "RFC 6749 §4.1.2"),
    Fact("scope_separator", ("space", "comma"), "The separator of the authorization request's scopes.", "§2.1, §12"),
    Fact("error_codes", ("yes", "no"), "Whether the token endpoint's errors hold a number.", "§2.1"),
    Fact("revoke_takes", ("access", "both"), "Whether a refresh token can be revoked as well.", "§2.1"),
    Fact("revoked_again", ("refused", "success"), "The answer to revoking what is over already.", "§2.1"),
    Fact("scope_error_status", ("400", "401", "200"), "The status when a scope is missing.", "§2.1"),
    Fact("recordings_range", ("refused", "clamped"), "What becomes of a request for recordings of more than a month.", "§2.5"),
    Fact("timestamp_unit", ("seconds", "milliseconds"), "The unit of `x-zm-request-timestamp`.", "§2.4, §12"),
    Fact("url_validation_signed", ("yes", "no"), "Whether the endpoint's validation is signed.", "§2.4, §12"),
)

_ERRORS: Final[dict[Trouble, tuple[int, str, int, str]]] = {
    # Status and text are assumed where §2.1 has the number alone.
    Trouble.CLIENT: (401, "invalid_client", 4702, "Invalid client_id or client_secret"),
    Trouble.SECRET: (401, "invalid_client", 4702, "Invalid client_id or client_secret"),
    Trouble.METHOD_OF_AUTH: (401, "invalid_client", 4704, "Invalid client_id or client_secret"),
    Trouble.APPLICATION_DISABLED: (400, "invalid_request", 4717, "The app has been disabled."),
    Trouble.GRANT_TYPE: (400, "unsupported_grant_type", 4705, "Unsupported grant type"),
    Trouble.PARAMETER: (400, "invalid_request", 4706, "A required parameter is missing."),
    Trouble.REDIRECT: (400, "invalid_request", 4709, "Redirect URI mismatch."),
    Trouble.CODE_EXPIRED: (400, "invalid_grant", 4733, "Code is expired."),
    Trouble.CODE: (400, "invalid_grant", 4734, "Invalid authorization code."),
    Trouble.CODE_SPENT: (400, "invalid_grant", 4734, "Invalid authorization code."),
    # No number is known for a wrong verifier: RFC 7636 §4.6 asks for invalid_grant.
    Trouble.VERIFIER: (400, "invalid_grant", 0, "Invalid code verifier."),
    Trouble.OWNER_GONE: (400, "invalid_grant", 4735, "The owner of the token does not exist."),
    Trouble.REFRESH_UNKNOWN: (400, "invalid_grant", 4737, "The refresh token cannot be found."),
    Trouble.REFRESH_EXPIRED: (400, "invalid_grant", 4737, "The refresh token cannot be found."),
    Trouble.ADMIN: (400, "invalid_grant", 4738, "The authorized app has been disabled by the admin."),
    Trouble.REFRESH_SPENT: (400, "invalid_grant", 4740, "The refresh token has been used."),
    Trouble.REVOKED: (400, "invalid_grant", 4741, "The token has been revoked."),
    Trouble.WITHDRAWN: (400, "invalid_grant", 4741, "The token has been revoked."),
    Trouble.TOKEN: (400, "invalid_request", 0, "Invalid Token!"),
}


def refuse(realm: Realm, trouble: Trouble) -> Reply:
    """Return an error of the token endpoint (§2.1, error classification)."""
    status, error, number, reason = _ERRORS[trouble]
    numbered = {"error_code": number} if number and realm.facts["error_codes"] == "yes" else {}
    return as_json(status, {"reason": reason, "error": error, **numbered})


def _scopes(ask: Ask, application: Application) -> tuple[str, ...] | str:
    said = ask.query("scope")
    if not said:
        return application.scopes
    separator = "," if ask.realm.facts["scope_separator"] == "comma" else " "
    asked = tuple(scope for scope in said.split(separator) if scope)
    return asked if set(asked) <= set(application.scopes) else "invalid_scope"


def _complete(ask: Ask, body: dict[str, Any], _access: Token, _code: Code | None) -> dict[str, Any]:
    # The API's host is told with the tokens (§2.1); here it is this server.
    return {**body, "token_type": "bearer", "api_url": ask.realm.base.removesuffix(f"/{ask.realm.name}")}


DIALECT: Final = Dialect(
    name="Zoom",
    ways=lambda _realm: frozenset({"basic"}),
    default_method="plain",
    code_seconds=300,
    access_seconds=3600,
    refresh_seconds=lambda realm: float(realm.facts["refresh_token_days"]) * _DAY,
    scopes=_scopes,
    granted=lambda _asked, ticked: ticked,
    words=lambda scope: Choice(scope, SCOPES.get(scope, scope)),
    refuse=refuse,
    complete=_complete,
    rotates=True,
    replaces=True,
    gives_refresh=lambda _realm, _code: True,
    back=lambda _realm: {},
)


def authorize(ask: Ask) -> Reply:
    """`GET /oauth/authorize`."""
    return oauth.authorize(ask, DIALECT)


def decide(ask: Ask) -> Reply:
    """The consent page's form."""
    return oauth.decide(ask, DIALECT)


def token(ask: Ask) -> Reply:
    """`POST /oauth/token`."""
    return oauth.token(ask, DIALECT)


def revoke(ask: Ask) -> Reply:
    """`POST /oauth/revoke`: ends the access token and the refresh token."""
    application = oauth.known(ask, DIALECT)
    if isinstance(application, Reply):
        return application
    held = ask.realm.tokens.get(oauth.parameters(ask.request).get("token", ""))
    done = as_json(200, {"status": "success"})
    if held is None or held.grant.application != application.key:
        return refuse(ask.realm, Trouble.TOKEN)
    if held.kind is Kind.REFRESH and ask.realm.facts["revoke_takes"] == "access":
        return refuse(ask.realm, Trouble.TOKEN)
    if not held.is_live(ask.realm.now()):
        return done if ask.realm.facts["revoked_again"] == "success" else refuse(ask.realm, Trouble.TOKEN)
    if oauth.lies(ask):
        return done
    oauth.end([held.grant], End.REVOKED)
    return done
