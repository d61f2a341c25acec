"""Who somebody is at Microsoft (§6.1): id tokens, their keys, the profile, the organisation, and the end of all sessions."""

from __future__ import annotations

from typing import Any, Final

from customhouse_sandbox import oauth, signing
from customhouse_sandbox.faults import FaultKind, Operation
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.microsoft import directory
from customhouse_sandbox.microsoft.errors import insufficient, invalid, unauthenticated
from customhouse_sandbox.routing import Ask, Route
from customhouse_sandbox.state import End, Kind, Person, Realm, Token

LOGIN: Final = "https://login.microsoftonline.com"
OWNER: Final = "microsoft"
_SECONDS: Final = 3600
_IMPLIED: Final[dict[str, tuple[str, ...]]] = {
    "Chat.ReadWrite": ("Chat.Read", "Chat.ReadBasic", "ChatMessage.Send"),
    "Chat.Read": ("Chat.ReadBasic",),
    "User.ReadWrite": ("User.Read",),
}
"""What a wider permission opens as well (§6.2)."""


def opened(ask: Ask, *scopes: str) -> tuple[Token, Person] | Reply:
    """Return the token that opens a call by any of some permissions, and whose it is; or the refusal."""
    shown = oauth.bearer(ask)
    if shown is None:
        return unauthenticated(ask.realm, challenged=_was_ended(ask))
    held, _ = shown
    having = {*held.scopes, *(implied for scope in held.scopes for implied in _IMPLIED.get(scope, ()))}
    return shown if set(scopes) & having else insufficient(ask.realm, scopes, held.scopes)


def _was_ended(ask: Ask) -> bool:
    scheme, _, value = ask.request.headers.get("authorization", "").partition(" ")
    held = ask.realm.tokens.get(value.strip()) if scheme.lower() == "bearer" else None
    return held is not None and held.kind is Kind.ACCESS and held.grant.ended is not None and ask.realm.now() < held.expires_at


def id_token(realm: Realm, person: Person, audience: str, scopes: tuple[str, ...], nonce: str) -> str:
    """Return an id token (OpenID Connect Core §2) with the tenant and the object id (§6.1)."""
    now = int(realm.now())
    claims: dict[str, Any] = {
        "aud": audience,
        "iss": f"{LOGIN}/{person.organisation}/v2.0",
        "iat": now,
        "nbf": now,
        "exp": now + _SECONDS,
        "oid": person.id,
        "sub": directory.guid(f"sub-{person.id}-{audience}"),
        "tid": person.organisation,
        "ver": "2.0",
    }
    if "profile" in scopes:
        claims |= {"name": person.name, "preferred_username": person.email}
    if "email" in scopes:
        claims["email"] = person.email
    if nonce:
        claims["nonce"] = nonce
    return signing.signed(OWNER, claims)


def keys(_ask: Ask) -> Reply:
    """`GET /{tenant}/discovery/v2.0/keys`, and the older path of them."""
    return as_json(200, {"keys": [signing.public_key(OWNER)]}, ("Cache-Control", "public, max-age=86400"))


def metadata(ask: Ask) -> Reply:
    """`GET /{tenant}/v2.0/.well-known/openid-configuration`."""
    return _metadata(ask, ask.parts["tenant"], "/v2.0", f"{LOGIN}/{{tenantid}}/v2.0")


def older_metadata(ask: Ask) -> Reply:
    """`GET /common/.well-known/openid-configuration`: of the tokens that come with encrypted content (§6.4)."""
    return _metadata(ask, "common", "", "https://sts.windows.net/{tenantid}/")


def _metadata(ask: Ask, tenant: str, version: str, issuer: str) -> Reply:
    base = ask.realm.base
    found = directory.found(tenant)
    if tenant not in directory.SHARED and found is None:
        return invalid(ask.realm, "There is no such tenant.", "invalid_tenant")
    return as_json(
        200,
        {
            "issuer": issuer.replace("{tenantid}", found.id) if found else issuer,
            "authorization_endpoint": f"{base}/{tenant}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/{tenant}/oauth2/v2.0/token",
            "jwks_uri": f"{base}/common/discovery{version}/keys",
            "response_modes_supported": ["query"],
            "response_types_supported": ["code"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "id_token_signing_alg_values_supported": ["RS256"],
        },
    )


def me(ask: Ask) -> Reply:
    """`GET /v1.0/me`, with `$select`."""
    shown = opened(ask, "User.Read")
    if isinstance(shown, Reply):
        return shown
    _, person = shown
    found: dict[str, Any] = {
        "businessPhones": [],
        "displayName": person.name,
        "givenName": person.given,
        "jobTitle": None,
        "mail": person.email,
        "mobilePhone": None,
        "officeLocation": None,
        "preferredLanguage": "en-GB",
        "surname": person.family,
        "userPrincipalName": person.email,
        "id": person.id,
    }
    names = [name.strip() for name in ask.query("$select").split(",") if name.strip()]
    if unknown := next((name for name in names if name not in found), ""):
        return invalid(ask.realm, f"Could not find a property named '{unknown}' on type 'microsoft.graph.user'.")
    if names:
        found = {name: found[name] for name in names}
    if FaultKind.IDENTITY_MISSING in ask.faults:
        for name in ("id", "mail", "userPrincipalName"):
            found.pop(name, None)
    return as_json(200, {"@odata.context": f"{ask.realm.base}/v1.0/$metadata#users/$entity", **found})


def organization(ask: Ask) -> Reply:
    """`GET /v1.0/organization`: the tenant and its name."""
    shown = opened(ask, "User.Read")
    if isinstance(shown, Reply):
        return shown
    tenant = directory.tenant_of(shown[1])
    rows = []
    if tenant is not None:
        domain = {"name": tenant.domain, "isDefault": True, "isInitial": True, "type": "Managed"}
        rows = [{"id": tenant.id, "displayName": tenant.name, "verifiedDomains": [domain]}]
    return as_json(200, {"@odata.context": f"{ask.realm.base}/v1.0/$metadata#organization", "value": rows})


def revoke_sessions(ask: Ask) -> Reply:
    """`POST /v1.0/me/revokeSignInSessions`: ends the refresh tokens of every application that the person uses (§6.1)."""
    shown = opened(ask, "User.RevokeSessions.All", "User.ReadWrite")
    if isinstance(shown, Reply):
        return shown
    _, person = shown
    if not oauth.lies(ask):
        oauth.end([grant for grant in ask.realm.grants if grant.person == person.login and grant.ended is None], End.REVOKED)
    return as_json(200, {"@odata.context": f"{ask.realm.base}/v1.0/$metadata#Edm.Boolean", "value": True})


ROUTES: Final = (
    Route("GET", "/v1.0/me", me, Operation.IDENTITY, "§6.1 (identity)"),
    Route("GET", "/v1.0/organization", organization, Operation.API, "§6.1 (identity)"),
    Route("POST", "/v1.0/me/revokeSignInSessions", revoke_sessions, Operation.REVOKE, "§6.1 (revocation)"),
    Route("GET", "/common/discovery/keys", keys, Operation.METADATA, "§6.4 (keys)"),
    Route("GET", "/{tenant}/discovery/v2.0/keys", keys, Operation.METADATA, "§6.4 (keys)"),
    Route("GET", "/common/.well-known/openid-configuration", older_metadata, Operation.METADATA, "§6.4 (keys)"),
    Route("GET", "/{tenant}/v2.0/.well-known/openid-configuration", metadata, Operation.METADATA, "§6.4 (keys)"),
)
