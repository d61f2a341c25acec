"""Microsoft's paths, and how it begins."""

from __future__ import annotations

from typing import Final

from customhouse_sandbox.faults import Operation
from customhouse_sandbox.microsoft import artifacts, chats, directory, errors, hooks, identity, meetings, oauth, subscriptions
from customhouse_sandbox.oauth import Trouble
from customhouse_sandbox.routing import Route, Vendor
from customhouse_sandbox.state import Application, Realm, fixed

_KEY: Final = "microsoft-teams"


def _begin(realm: Realm, public_url: str) -> None:
    application = realm.applications[_KEY] = Application(
        _KEY,
        directory.guid("client-id"),
        fixed("microsoft-client-secret", 40),
        (f"{public_url}/oauth/callback/{_KEY}",),
        oauth.REGISTERED,
    )
    directory.fill(realm, application)
    meetings.fill(realm)


def _overrides(realm: Realm) -> dict[str, dict[str, str]]:
    server = f"{realm.base}/organizations/oauth2/v2.0"
    return {
        _KEY: {
            "authorize_url": f"{server}/authorize",
            "token_url": f"{server}/token",
            "identity_url": f"{realm.base}/v1.0/me?$select=id,displayName,mail,userPrincipalName",
            "api_base": f"{realm.base}/v1.0",
        }
    }


VENDOR: Final = Vendor(
    name="microsoft",
    routes=(
        Route("GET", "/{tenant}/oauth2/v2.0/authorize", oauth.authorize, Operation.AUTHORIZE, "§6.1"),
        Route("POST", "/{tenant}/oauth2/v2.0/authorize", oauth.decide, Operation.AUTHORIZE, "§6.1"),
        Route("POST", "/{tenant}/oauth2/v2.0/token", oauth.token, Operation.EXCHANGE, "§6.1"),
        Route("GET", "/{tenant}/adminconsent", oauth.ask_administrator, Operation.AUTHORIZE, "§6.1 (admin consent URL)"),
        Route("POST", "/{tenant}/adminconsent", oauth.decide_for_tenant, Operation.AUTHORIZE, "§6.1 (admin consent URL)"),
        *identity.ROUTES,
        *artifacts.ROUTES,
        *chats.ROUTES,
        *subscriptions.ROUTES,
    ),
    facts=oauth.FACTS,
    begin=_begin,
    overrides=_overrides,
    notify=hooks.notify,
    withdrawn=hooks.WITHDRAWN,
    # Per application and tenant (§6.3).
    counted=lambda token, person: f"{token.grant.application}:{person.organisation}",
    unknown=errors.unknown,
    limited=errors.limited,
    ended=lambda realm: errors.refuse(realm, Trouble.REVOKED),
    shared=oauth.together,
    subscribes=True,
)
