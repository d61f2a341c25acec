"""Pipedrive's authorization server (§8.4): Basic, no PKCE, scopes of the registration, and the API's host in the reply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from customhouse_sandbox import oauth
from customhouse_sandbox.facts import Fact
from customhouse_sandbox.faults import FaultKind, Operation
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.oauth import Dialect, Trouble
from customhouse_sandbox.pages import Choice
from customhouse_sandbox.pipedrive import hooks
from customhouse_sandbox.pipedrive.errors import refuse
from customhouse_sandbox.routing import Ask, Route
from customhouse_sandbox.state import Application, Code, End, Grant, Kind, Person, Realm, Token

_DAY: Final = 86_400.0

WORDS: Final[dict[str, str]] = {
    "base": "Read settings and basic information",
    "contacts:read": "See people and organizations",
    "contacts:full": "See, create, change and delete people and organizations",
    "deals:read": "See deals",
    "deals:full": "See, create, change and delete deals",
    "search:read": "Search",
    "admin": "Administer the account",
    "webhooks:full": "See, create and delete webhooks",
}
SCOPES: Final = ("base", "contacts:full")
"""What the application was registered for, in the Developer Hub."""

FACTS: Final = (
    Fact(
        "refresh_token",
        ("single_use", "renewed", "stable"),
        "Whether a renewal brings another refresh token, and ends the old one.",
        "§8.4, §12",
    ),
    Fact("refresh_token_days", ("60", "90"), "How many days an unused refresh token lives.", "§8.4, §12"),
    Fact("code_reuse_ends_grant", ("no", "yes"), "Whether a code that is shown twice ends what it was exchanged for.", "RFC 6749 §4.1.2"),
    Fact("denied", ("user_denied", "access_denied"), "How the browser brings back that a person denied.", "§8.4"),
    Fact("api_domain", ("named", "missing"), "Whether a token reply names the API's host.", "§8.4"),
    Fact("revoked_access", ("alone", "everything"), "Whether revoking an access token leaves the refresh token alive.", "§8.4"),
    Fact(
        "uninstall_reaches", ("user", "company"), "Whether revoking a refresh token ends what one user gave, or all of the company.", "§8.4"
    ),
    Fact("revoked_again", ("success", "refused"), "The answer to revoking what is over already.", "§8.4"),
    Fact("revocation_calls_back", ("no", "yes"), "Whether the application is told of an end that it made itself.", "§8.4"),
    Fact("uninstall_header", ("basic", "none"), "Whether the call about an uninstallation shows the client's id and secret.", "§8.4, §12"),
    Fact("uninstall_ids", ("numbers", "texts"), "How that call writes the company's and the user's ids.", "§8.4"),
    Fact("created_status", ("200", "201"), "The status of a creation.", "§8.4"),
    Fact("rate_limit_headers", ("yes", "no"), "Whether answers say how many calls are left.", "§8.4"),
    Fact("webhooks_scope", ("admin", "webhooks:full"), "The scope that opens the webhooks.", "§8.4, §12"),
    Fact("meta_id", ("yes", "no"), "Whether a webhook of version 2.0 has an id of its own.", "§8.4, §12"),
)


def _complete(ask: Ask, body: dict[str, Any], access: Token, _code: Code | None) -> dict[str, Any]:
    realm = ask.realm
    said = {**body, "token_type": "Bearer"}
    if "scope" in said:
        said["scope"] = ",".join(access.scopes)
    if "refresh_token" not in said and FaultKind.REFRESH_TOKEN_MISSING not in ask.faults:
        # One always comes (§8.4): where none is made at a renewal, the one that stays.
        held = [token for token in realm.tokens.values() if token.grant is access.grant and token.kind is Kind.REFRESH]
        said |= {"refresh_token": held[-1].value} if held else {}
    if realm.facts["api_domain"] == "named":
        # The company's own host; here it is this server.
        said["api_domain"] = realm.base.removesuffix(f"/{realm.name}")
    return said


_DIALECT: Final = Dialect(
    name="Pipedrive",
    ways=lambda _realm: frozenset({"basic"}),
    default_method="",
    code_seconds=300,
    access_seconds=3600,
    refresh_seconds=lambda realm: float(realm.facts["refresh_token_days"]) * _DAY,
    # Whatever the request names: they are chosen where the application is registered.
    scopes=lambda _ask, application: application.scopes,
    granted=lambda asked, _ticked: asked.scopes,
    words=lambda scope: Choice(scope, WORDS.get(scope, scope), fixed=True),
    refuse=refuse,
    complete=_complete,
    rotates=True,
    # Another consent of the same user is another set of tokens.
    replaces=False,
    gives_refresh=lambda _realm, _code: True,
    back=lambda _realm: {},
    wants_response_type=False,
    pkce=False,
    # Tokens hold colons (§8.4).
    value=lambda realm, kind, _scopes: f"sandbox-pipedrive:{kind}:{realm.mint.next(kind)}",
)


def _dialect(realm: Realm) -> Dialect:
    renewal = realm.facts["refresh_token"]
    return replace(_DIALECT, rotates=renewal != "stable", spends=renewal == "single_use")


def authorize(ask: Ask) -> Reply:
    """`GET /oauth/authorize`."""
    return oauth.authorize(ask, _dialect(ask.realm))


def decide(ask: Ask) -> Reply:
    """The consent page's form."""
    reply = oauth.decide(ask, _dialect(ask.realm))
    denied = ask.realm.facts["denied"]
    return replace(reply, headers=tuple((name, value.replace("error=access_denied", f"error={denied}")) for name, value in reply.headers))


def token(ask: Ask) -> Reply:
    """`POST /oauth/token`."""
    return oauth.token(ask, _dialect(ask.realm))


def revoke(ask: Ask) -> Reply:
    """`POST /oauth/revoke`: a refresh token takes the application away from this user; an access token ends alone."""
    realm = ask.realm
    application = oauth.known(ask, _DIALECT)
    if isinstance(application, Reply):
        return application
    said = dict(ask.request.form())
    if not said.get("token") or said.get("token_type_hint", "refresh_token") not in {"refresh_token", "access_token"}:
        return refuse(realm, Trouble.TOKEN)
    held = realm.tokens.get(said["token"])
    done = as_json(200, {"success": True})
    if held is None or held.grant.application != application.key or not held.is_live(realm.now()):
        return done if realm.facts["revoked_again"] == "success" else refuse(realm, Trouble.TOKEN)
    if oauth.lies(ask):
        return done
    if held.kind is Kind.ACCESS and realm.facts["revoked_access"] == "alone":
        held.revoked = True
        return done
    _uninstalled(realm, application, held)
    return done


def installed(realm: Realm, application: Application, person: Person) -> list[Grant]:
    """Return what ends with an installation."""
    whole = realm.facts["uninstall_reaches"] == "company"
    logins = [one.login for one in realm.people.values() if whole and one.organisation == person.organisation] or [person.login]
    return [grant for login in logins for grant in realm.live(application.key, login)]


def _uninstalled(realm: Realm, application: Application, held: Token) -> None:
    person = realm.held(held)
    if person is None:
        return
    oauth.end(installed(realm, application, person), End.REVOKED)
    if realm.facts["revocation_calls_back"] == "yes":
        for outgoing in hooks.uninstalled(realm, application, person):
            realm.post(outgoing)


def metadata(ask: Ask) -> Reply:
    """`GET /.well-known/oauth-authorization-server` (RFC 8414 §3)."""
    base = f"{ask.realm.base}/oauth"
    return as_json(
        200,
        {
            "issuer": ask.realm.base,
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/token",
            "revocation_endpoint": f"{base}/revoke",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        },
    )


ROUTES: Final = (
    Route("GET", "/oauth/authorize", authorize, Operation.AUTHORIZE, "§8.4 (OAuth)"),
    Route("POST", "/oauth/authorize", decide, Operation.AUTHORIZE, "§8.4 (OAuth)"),
    Route("POST", "/oauth/token", token, Operation.EXCHANGE, "§8.4 (OAuth)"),
    Route("POST", "/oauth/revoke", revoke, Operation.REVOKE, "§8.4 (revoke)"),
    Route("GET", "/.well-known/oauth-authorization-server", metadata, Operation.METADATA, "§8.4 (metadata)"),
)
