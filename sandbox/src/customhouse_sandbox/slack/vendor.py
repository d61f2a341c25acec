"""Slack's paths, and how it begins."""

from __future__ import annotations

from typing import Final

from customhouse_sandbox.faults import Operation
from customhouse_sandbox.oauth import Trouble
from customhouse_sandbox.routing import Route, Vendor
from customhouse_sandbox.slack import api, hooks, oauth, workspaces
from customhouse_sandbox.state import Application, Realm, fixed


def _begin(realm: Realm, public_url: str) -> None:
    workspaces.fill(realm)
    realm.applications["slack"] = Application(
        "slack",
        "1000000000001.1000000000002",
        fixed("slack-client-secret", 32),
        (f"{public_url}/oauth/callback/slack",),
        tuple(oauth.SCOPES),
        webhook_secret=fixed("slack-signing-secret", 32),
    )


def _overrides(realm: Realm) -> dict[str, dict[str, str]]:
    return {
        "slack": {
            "authorize_url": f"{realm.base}/oauth/v2/authorize",
            "token_url": f"{realm.base}/api/oauth.v2.access",
            "revoke_url": f"{realm.base}/api/auth.revoke",
            "identity_url": f"{realm.base}/api/auth.test",
            "api_base": f"{realm.base}/api",
        }
    }


VENDOR: Final = Vendor(
    name="slack",
    routes=(
        Route("GET", "/oauth/v2/authorize", oauth.authorize, Operation.AUTHORIZE, "§4.1"),
        Route("POST", "/oauth/v2/authorize", oauth.decide, Operation.AUTHORIZE, "§4.1"),
        Route("POST", "/api/oauth.v2.access", oauth.token, Operation.EXCHANGE, "§4.1"),
        Route("POST", "/api/oauth.v2.exchange", oauth.exchange, Operation.EXCHANGE, "§4.1 (token rotation)"),
        *api.ROUTES,
    ),
    facts=oauth.FACTS,
    begin=_begin,
    overrides=_overrides,
    notify=hooks.notify,
    withdrawn=hooks.UNINSTALL,
    # Per application and workspace (§4.5).
    counted=lambda token, person: f"{token.grant.application}:{person.organisation}",
    unknown=api.unknown,
    limited=api.limited,
    ended=lambda realm: oauth.refuse(realm, Trouble.REFRESH_UNKNOWN),
    shared=api.together,
)
