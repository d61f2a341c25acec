"""Google's paths, and how it begins: four registrations, each in a project of its own."""

from __future__ import annotations

from typing import Final

from customhouse_sandbox.faults import Operation
from customhouse_sandbox.google import calendar, drive, errors, hooks, identity, mailbox, meet, oauth
from customhouse_sandbox.oauth import Trouble
from customhouse_sandbox.routing import Route, Vendor
from customhouse_sandbox.state import Application, Person, Realm, fixed

_PEOPLE: Final = (
    ("ada", "Ada", "Example", "100000000000000000001", "example.com"),
    ("grace", "Grace", "Sample", "100000000000000000002", "example.com"),
    ("alan", "Alan", "Other", "100000000000000000003", ""),
)
"""Login, names, account number, and the Workspace domain: Alan's account is a personal one."""

_REGISTERED: Final[dict[str, tuple[str, ...]]] = {
    "google-meet": ("meetings.space.readonly", "drive.meet.readonly"),
    "google-calendar": ("calendar.events.owned.readonly", "calendar.events.owned", "calendar.events.readonly", "calendar.events"),
    "gmail": ("gmail.readonly", "gmail.send"),
    "google-drive": ("drive.file",),
}
_API: Final = {"google-meet": "/meet/v2", "google-calendar": "/calendar/v3", "gmail": "/gmail/v1", "google-drive": "/drive/v3"}


def _begin(realm: Realm, public_url: str) -> None:
    for login, given, family, number, domain in _PEOPLE:
        email = f"{login}@{domain or 'mail.example.org'}"
        realm.people[login] = Person(login, number, domain, email, given, family)
    for position, (key, scopes) in enumerate(_REGISTERED.items(), 1):
        project = f"{100_000_000_000 + position}"
        realm.applications[key] = Application(
            key,
            f"{project}-{fixed(f'{key}-client-id', 32).lower().replace('_', 'a').replace('-', 'b')}.apps.googleusercontent.com",
            f"GOCSPX-{fixed(f'{key}-client-secret', 28)}",
            (f"{public_url}/oauth/callback/{key}",),
            ("openid", "email", "profile", *(f"{oauth.AUTH}{scope}" for scope in scopes)),
            project,
        )
    calendar.fill(realm)
    mailbox.fill(realm)
    meet.fill(realm)


def _overrides(realm: Realm) -> dict[str, dict[str, str]]:
    shared = {
        "authorize_url": f"{realm.base}/o/oauth2/v2/auth",
        "token_url": f"{realm.base}/token",
        "revoke_url": f"{realm.base}/revoke",
        "identity_url": f"{realm.base}/oauth2/v2/userinfo",
    }
    return {key: {**shared, "api_base": f"{realm.base}{path}"} for key, path in _API.items()}


VENDOR: Final = Vendor(
    name="google",
    routes=(
        Route("GET", "/o/oauth2/v2/auth", oauth.authorize, Operation.AUTHORIZE, "§3.1"),
        Route("POST", "/o/oauth2/v2/auth", oauth.decide, Operation.AUTHORIZE, "§3.1 (granular consent)"),
        Route("POST", "/token", oauth.token, Operation.EXCHANGE, "§3.1"),
        Route("POST", "/revoke", oauth.revoke, Operation.REVOKE, "§3.1"),
        Route("GET", "/oauth2/v2/userinfo", identity.userinfo, Operation.IDENTITY, "§3.1 (identity)"),
        Route("GET", "/v1/userinfo", identity.openid_userinfo, Operation.IDENTITY, "§3.1 (identity)"),
        Route("GET", "/oauth2/v3/certs", identity.certificates, Operation.METADATA, "§3.7 (keys)"),
        *meet.ROUTES,
        *calendar.ROUTES,
        *mailbox.ROUTES,
        *drive.ROUTES,
    ),
    facts=oauth.FACTS,
    begin=_begin,
    overrides=_overrides,
    notify=hooks.notify,
    withdrawn="",
    # Per project and per person (§3.4).
    counted=lambda token, person: f"{token.grant.project}:{person.login}",
    unknown=errors.unknown,
    limited=errors.limited,
    ended=lambda realm: errors.refuse(realm, Trouble.REVOKED),
)
