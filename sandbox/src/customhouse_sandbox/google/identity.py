"""Who somebody is at Google (§3.1): user info, id tokens signed with RS256, the keys that verify them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from customhouse_sandbox import oauth, signing
from customhouse_sandbox.faults import FaultKind
from customhouse_sandbox.google.errors import insufficient, unauthenticated
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.routing import Ask
from customhouse_sandbox.state import Person, Realm, Token

ISSUER: Final = "https://accounts.google.com"
_AUTH: Final = "https://www.googleapis.com/auth/"
_EMAIL: Final = frozenset({"email", f"{_AUTH}userinfo.email"})
_PROFILE: Final = frozenset({"profile", f"{_AUTH}userinfo.profile"})


def userinfo(ask: Ask) -> Reply:
    """`GET /oauth2/v2/userinfo`."""
    return _about(ask, "id", "verified_email")


def openid_userinfo(ask: Ask) -> Reply:
    """`GET /v1/userinfo`, the same in the words of OpenID Connect."""
    return _about(ask, "sub", "email_verified")


def _about(ask: Ask, key: str, verified: str) -> Reply:
    shown = oauth.bearer(ask)
    if shown is None:
        return unauthenticated()
    held, person = shown
    if not {"openid", *_EMAIL, *_PROFILE} & set(held.scopes):
        return insufficient()
    found: dict[str, Any] = {key: person.id}
    if _EMAIL & set(held.scopes):
        found |= {"email": person.email, verified: True}
    if _PROFILE & set(held.scopes):
        found |= {"name": person.name, "given_name": person.given, "family_name": person.family}
    found["picture"] = "https://lh3.example.com/a"
    if person.organisation:
        found["hd"] = person.organisation
    if FaultKind.IDENTITY_MISSING in ask.faults:
        del found[key]
    return as_json(200, found)


def id_token(realm: Realm, person: Person, audience: str, access: Token, nonce: str) -> str:
    """Return an id token (OpenID Connect Core §2, §3.1.3.6)."""
    now = int(realm.now())
    half = hashlib.sha256(access.value.encode()).digest()[:16]
    claims: dict[str, Any] = {"iss": ISSUER, "azp": audience, "aud": audience, "sub": person.id, "at_hash": signing.encoded(half)}
    if _EMAIL & set(access.scopes):
        claims |= {"email": person.email, "email_verified": True}
    if person.organisation:
        claims["hd"] = person.organisation
    if nonce:
        claims["nonce"] = nonce
    return signed({**claims, "iat": now, "exp": now + 3600})


def signed(claims: Mapping[str, Any]) -> str:
    """Return a JWT of Google's, signed with this process's key."""
    return signing.signed("google", claims)


def certificates(_ask: Ask) -> Reply:
    """`GET /oauth2/v3/certs`: the keys, as JWK (RFC 7517)."""
    return as_json(200, {"keys": [signing.public_key("google")]}, ("Cache-Control", "public, max-age=3600"))
