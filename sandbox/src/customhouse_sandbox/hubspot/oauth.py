"""HubSpot's authorization server (§8.1): dated endpoints, everything in the body, tokens that outlive a revocation."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from customhouse_sandbox import oauth
from customhouse_sandbox.facts import Fact
from customhouse_sandbox.faults import FaultKind, Operation
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.hubspot.errors import failed, refuse
from customhouse_sandbox.oauth import Dialect, Trouble
from customhouse_sandbox.pages import Choice
from customhouse_sandbox.routing import Ask, Route
from customhouse_sandbox.state import Application, Code, End, Grant, Kind, Person, Realm, Token

WORDS: Final[dict[str, str]] = {
    "oauth": "Basic functionality that every app has",
    "crm.objects.contacts.read": "View properties and other details about contacts",
    "crm.objects.contacts.write": "Create, delete, or make changes to contacts",
    "crm.objects.companies.read": "View properties and other details about companies",
    "crm.objects.companies.write": "Create, delete, or make changes to companies",
    "crm.objects.deals.read": "View properties and other details about deals",
    "crm.objects.deals.write": "Create, delete, or make changes to deals",
}
REQUIRED: Final = ("oauth", "crm.objects.contacts.read")
OPTIONAL: Final = ("crm.objects.contacts.write",)
ACCESS_SECONDS: Final = 1800
_LEGACY_ENDS: Final = datetime(2027, 2, 16, tzinfo=UTC).timestamp()
_LONG: Final = 220
"""Letters of an access token: they are long, and grow (§8.1)."""

FACTS: Final = (
    Fact("legacy_v1", ("until_its_date", "gone"), "Whether the endpoints below `/oauth/v1` answer until 16 February 2027.", "§8.1"),
    Fact("scope_match", ("exact", "subset"), "Whether `scope` has to name exactly what the application requires of everybody.", "§8.1"),
    Fact("pkce", ("checked", "passed_over"), "Whether the authorization page takes a PKCE challenge.", "§8.1"),
    Fact("refresh_token", ("stable", "renewed", "single_use"), "Whether a renewal brings the same refresh token, or another.", "§8.1"),
    Fact("revoke_ends_access", ("no", "yes"), "Whether revoking the refresh token ends access tokens at once.", "§8.1, §12"),
    Fact("shared_grant", ("yes", "no"), "Whether all that one user gave to one application ends together.", "§8.1"),
    Fact("revoked_again", ("success", "refused"), "The answer to revoking what is over already.", "§8.1"),
    Fact("error_names", ("assumed", "confirmed"), "Whether `status` holds more names than the confirmed `BAD_REFRESH_TOKEN`.", "§8.1"),
    Fact("client_error_status", ("400", "401"), "The status when client id or secret are wrong.", "§8.1"),
    Fact("error_categories", ("yes", "no"), "Whether the API's errors name a category.", "§8.1"),
    Fact("code_reuse_ends_grant", ("no", "yes"), "Whether a code that is shown twice ends what it was exchanged for.", "RFC 6749 §4.1.2"),
    Fact("batch_size", ("100", "50"), "How many objects one batch takes.", "§8.2, §12"),
    Fact("partial_upsert", ("each_alone", "all_or_nothing"), "Whether an object of a batch that is refused leaves the others.", "§8.2"),
    Fact("rate_limit_headers", ("yes", "no"), "Whether answers say how many calls are left.", "§8.2"),
    Fact("uri_decoding", ("upper_case", "any_case", "none"), "Which of the twelve escapes are decoded before signing.", "§8.3, §12"),
)


def number(text: str) -> int:
    """Return an id that HubSpot writes as a number."""
    return int(text)


def _scopes(ask: Ask, application: Application) -> tuple[str, ...] | str:
    required = tuple(scope for scope in application.scopes if scope not in application.optional)
    asked, beside = tuple(ask.query("scope").split()), tuple(ask.query("optional_scope").split())
    if not set(beside) <= set(application.scopes):
        return "invalid_scope"
    if ask.realm.facts["scope_match"] == "exact" and set(asked) != set(required):
        return "invalid_scope"
    if not asked or not set(asked) <= set(application.scopes):
        return "invalid_scope"
    return tuple(dict.fromkeys([*asked, *beside]))


def _complete(ask: Ask, body: dict[str, Any], access: Token, _code: Code | None) -> dict[str, Any]:
    realm = ask.realm
    said = {**body, "token_type": "bearer", "expires_in": ACCESS_SECONDS}
    said.pop("scope", None)
    if "refresh_token" not in said and FaultKind.REFRESH_TOKEN_MISSING not in ask.faults:
        # The same value comes back (§8.1).
        held = _refreshing(realm, access.grant)
        said |= {"refresh_token": held[-1].value} if held else {}
    if ask.request.path.endswith("/v1/token"):
        return said  # The older endpoint says neither whose it is nor what was granted.
    said["token_use"] = f"{access.kind}_token"
    if FaultKind.SCOPE_MISSING not in ask.faults:
        said["scopes"] = list(access.scopes)
    person = realm.held(access)
    if person is not None and FaultKind.ACCOUNT_MISSING not in ask.faults:
        said |= {"hub_id": number(person.organisation), "user_id": number(person.id)}
    return said


def _refreshing(realm: Realm, grant: Grant) -> list[Token]:
    return [token for token in realm.tokens.values() if token.grant is grant and token.kind is Kind.REFRESH]


_DIALECT: Final = Dialect(
    name="HubSpot",
    ways=lambda _realm: frozenset({"body"}),
    default_method="plain",
    code_seconds=300,
    access_seconds=ACCESS_SECONDS,
    # Until it is revoked (§1.2).
    refresh_seconds=lambda _realm: float("inf"),
    scopes=_scopes,
    granted=lambda asked, _ticked: asked.scopes,
    words=lambda scope: Choice(scope, WORDS.get(scope, scope), fixed=True),
    refuse=refuse,
    complete=_complete,
    rotates=False,
    replaces=False,
    gives_refresh=lambda _realm, _code: True,
    back=lambda _realm: {},
    wants_response_type=False,
    value=lambda realm, kind, _scopes: f"sandbox-hubspot-{kind}-{realm.mint.next(kind, _LONG if kind is Kind.ACCESS else 43)}",
    # A request for other scopes than the application's own does not come back: the installation fails on the page.
    stays=lambda _realm, error: error == "invalid_scope",
    explained={"invalid_scope": "The scopes are not those that this application requires."},
)


def _dialect(realm: Realm) -> Dialect:
    renewal = realm.facts["refresh_token"]
    return replace(_DIALECT, pkce=realm.facts["pkce"] == "checked", rotates=renewal != "stable", spends=renewal == "single_use")


def authorize(ask: Ask) -> Reply:
    """`GET /oauth/authorize`."""
    return oauth.authorize(ask, _dialect(ask.realm))


def decide(ask: Ask) -> Reply:
    """The consent page's form."""
    return oauth.decide(ask, _dialect(ask.realm))


def token(ask: Ask) -> Reply:
    """`POST /oauth/2026-03/token`."""
    return oauth.token(_bare(ask), _dialect(ask.realm))


def _bare(ask: Ask) -> Ask:
    """Return the call without its query: everything that counts is in the body (§8.1)."""
    return replace(ask, request=replace(ask.request, target=ask.request.path))


def _known(ask: Ask) -> Application | Reply:
    return oauth.known(_bare(ask), _dialect(ask.realm))


def introspect(ask: Ask) -> Reply:
    """`POST /oauth/2026-03/token/introspect`: who was connected (RFC 7662 §2.2); `active` alone for what is over or another's."""
    application = _known(ask)
    if isinstance(application, Reply):
        return application
    value = dict(ask.request.form()).get("token", "")
    if not value:
        return refuse(ask.realm, Trouble.TOKEN)
    held = ask.realm.tokens.get(value)
    person = ask.realm.held(held) if held is not None else None
    if held is None or person is None or held.grant.application != application.key or not held.is_live(ask.realm.now()):
        return as_json(200, {"active": False})
    said = _about(ask, held, person, application)
    return as_json(200, {"active": True, "token_use": f"{held.kind}_token", "is_private_distribution": False, **said})


def _about(ask: Ask, held: Token, person: Person, application: Application) -> dict[str, Any]:
    said: dict[str, Any] = {
        "hub_id": number(person.organisation),
        "hub_domain": f"portal-{person.organisation}.example",
        "user": person.email,
        "user_id": number(person.id),
        "app_id": app_id(application),
        "client_id": application.id,
        "scopes": list(held.scopes),
        "token_type": held.kind,
    }
    if held.kind is Kind.ACCESS:
        said["expires_in"] = max(0, int(held.expires_at - ask.realm.now()))
    if FaultKind.IDENTITY_MISSING in ask.faults:
        del said["hub_id"], said["user_id"]
    return said


def app_id(application: Application) -> int:
    """Return the application's number."""
    return 1_000_000 + int.from_bytes(application.id[:2].encode())


def revoke(ask: Ask) -> Reply:
    """`POST /oauth/2026-03/token/revoke`: ends the refresh token; the application stays installed."""
    application = _known(ask)
    if isinstance(application, Reply):
        return application
    said = dict(ask.request.form())
    if not said.get("token") or said.get("token_type_hint", "refresh_token") not in {"refresh_token", "access_token"}:
        return refuse(ask.realm, Trouble.PARAMETER)
    return _revoked(ask, ask.realm.tokens.get(said["token"]), application.key, as_json(200, {}))


def _revoked(ask: Ask, held: Token | None, application: str, done: Reply) -> Reply:
    realm = ask.realm
    mine = held is not None and held.grant.application == application
    if held is None or not mine or not held.is_live(realm.now()):
        # RFC 7009 §2.2: a token that there is not is one that is over.
        return done if realm.facts["revoked_again"] == "success" else refuse(realm, Trouble.TOKEN)
    if oauth.lies(ask):
        return done
    if held.kind is Kind.ACCESS:
        held.revoked = True
        return done
    shared = realm.facts["shared_grant"] == "yes"
    grants = list(realm.live(application, held.grant.person)) if shared else [held.grant]
    if realm.facts["revoke_ends_access"] == "yes":
        oauth.end(grants, End.REVOKED)
    for grant in grants:
        for one in _refreshing(realm, grant):
            one.revoked = True
    return done


def installed(realm: Realm, application: Application, person: Person) -> list[Grant]:
    """Return what ends with an installation: whatever anybody of the portal gave (§8.1)."""
    portal = {one.login for one in realm.people.values() if one.organisation == person.organisation}
    return [grant for login in portal for grant in realm.live(application.key, login)]


def uninstall(ask: Ask) -> Reply:
    """`DELETE /appinstalls/2026-03/external-install`: removes the application from the token's portal."""
    shown = oauth.bearer(ask)
    if shown is None:
        return failed(ask.realm, 401, "INVALID_AUTHENTICATION", "Authentication credentials not found.")
    held, person = shown
    if not oauth.lies(ask):
        oauth.end(installed(ask.realm, ask.realm.applications[held.grant.application], person), End.REVOKED)
    return Reply(204)


def _legacy(ask: Ask) -> Reply | None:
    if ask.realm.facts["legacy_v1"] == "gone" or ask.realm.now() >= _LEGACY_ENDS:
        return failed(ask.realm, 404, "OBJECT_NOT_FOUND", "This endpoint does not exist any more.")
    return None


def legacy_token(ask: Ask) -> Reply:
    """`POST /oauth/v1/token`."""
    return _legacy(ask) or token(ask)


def legacy_about(ask: Ask) -> Reply:
    """`GET /oauth/v1/access-tokens/{token}` and `…/refresh-tokens/{token}`: whoever has the token may ask."""
    if (gone := _legacy(ask)) is not None:
        return gone
    held = ask.realm.tokens.get(ask.parts["token"])
    person = ask.realm.held(held) if held is not None else None
    kind = "refresh" if "/refresh-tokens/" in ask.request.path else "access"
    if held is None or person is None or held.kind != kind or not held.is_live(ask.realm.now()):
        return failed(ask.realm, 404, "OBJECT_NOT_FOUND", f"{kind} token not found")
    said = _about(ask, held, person, ask.realm.applications[held.grant.application])
    return as_json(200, {**said, "token": held.value})


def legacy_revoke(ask: Ask) -> Reply:
    """`DELETE /oauth/v1/refresh-tokens/{token}`: removes the refresh token alone (§8.1)."""
    if (gone := _legacy(ask)) is not None:
        return gone
    held = ask.realm.tokens.get(ask.parts["token"])
    if held is None or held.kind is not Kind.REFRESH or not held.is_live(ask.realm.now()):
        return failed(ask.realm, 404, "OBJECT_NOT_FOUND", "refresh token not found")
    if not oauth.lies(ask):
        held.revoked = True
    return Reply(204)


def _dated(version: str) -> tuple[Route, ...]:
    cites = f"§8.1 (`{version}`)"
    return (
        Route("POST", f"/oauth/{version}/token", token, Operation.EXCHANGE, cites),
        Route("POST", f"/oauth/{version}/token/introspect", introspect, Operation.IDENTITY, cites),
        Route("POST", f"/oauth/{version}/token/revoke", revoke, Operation.REVOKE, cites),
    )


ROUTES: Final = (
    Route("GET", "/oauth/authorize", authorize, Operation.AUTHORIZE, "§8.1 (authorize)"),
    Route("POST", "/oauth/authorize", decide, Operation.AUTHORIZE, "§8.1 (authorize)"),
    *_dated("2026-03"),
    *_dated("2026-09"),
    Route("POST", "/oauth/v1/token", legacy_token, Operation.EXCHANGE, "§8.1 (v1)"),
    Route("GET", "/oauth/v1/access-tokens/{token}", legacy_about, Operation.IDENTITY, "§8.1 (v1)"),
    Route("GET", "/oauth/v1/refresh-tokens/{token}", legacy_about, Operation.IDENTITY, "§8.1 (v1)"),
    Route("DELETE", "/oauth/v1/refresh-tokens/{token}", legacy_revoke, Operation.REVOKE, "§8.1 (v1)"),
    Route("DELETE", "/appinstalls/2026-03/external-install", uninstall, Operation.REVOKE, "§8.1 (full removal)"),
)
