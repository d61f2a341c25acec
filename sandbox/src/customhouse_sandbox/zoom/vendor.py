"""Zoom's paths, and how it begins."""

from __future__ import annotations

from typing import Final

from customhouse_sandbox.faults import Operation
from customhouse_sandbox.oauth import Trouble
from customhouse_sandbox.routing import Route, Vendor
from customhouse_sandbox.state import Application, Person, Realm, fixed
from customhouse_sandbox.zoom import api, hooks, meetings, oauth, recordings

_PEOPLE: Final = (("ada", "Ada", "Example", "1"), ("grace", "Grace", "Sample", "1"), ("alan", "Alan", "Other", "2"))
"""Login, names, and the Zoom account: Ada and Grace share one."""


def _begin(realm: Realm, public_url: str) -> None:
    for login, given, family, account in _PEOPLE:
        organisation = fixed(f"zoom-account-{account}", 22)
        realm.people[login] = Person(login, fixed(f"zoom-{login}", 22), organisation, f"{login}@example.com", given, family)
    realm.applications["zoom"] = Application(
        "zoom",
        fixed("zoom-client-id", 22),
        fixed("zoom-client-secret", 32),
        (f"{public_url}/oauth/callback/zoom",),
        tuple(oauth.SCOPES),
        webhook_secret=fixed("zoom-webhook-secret", 22),
    )
    meetings.fill(realm)


def _overrides(realm: Realm) -> dict[str, dict[str, str]]:
    return {
        "zoom": {
            "authorize_url": f"{realm.base}/oauth/authorize",
            "token_url": f"{realm.base}/oauth/token",
            "revoke_url": f"{realm.base}/oauth/revoke",
            "identity_url": f"{realm.base}/v2/users/me",
            "api_base": f"{realm.base}/v2",
        }
    }


VENDOR: Final = Vendor(
    name="zoom",
    routes=(
        Route("GET", "/oauth/authorize", oauth.authorize, Operation.AUTHORIZE, "§2.1"),
        Route("POST", "/oauth/authorize", oauth.decide, Operation.AUTHORIZE, "§2.1, §2.2 (optional scopes)"),
        Route("POST", "/oauth/token", oauth.token, Operation.EXCHANGE, "§2.1"),
        Route("POST", "/oauth/revoke", oauth.revoke, Operation.REVOKE, "§2.1"),
        *api.ROUTES,
        *recordings.ROUTES,
    ),
    facts=oauth.FACTS,
    begin=_begin,
    overrides=_overrides,
    notify=hooks.notify,
    withdrawn=hooks.DEAUTHORIZED,
    # Per Zoom account, shared by all applications (§2.5).
    counted=lambda _token, person: person.organisation,
    unknown=api.unknown,
    limited=api.limited,
    ended=lambda realm: oauth.refuse(realm, Trouble.REFRESH_UNKNOWN),
)
