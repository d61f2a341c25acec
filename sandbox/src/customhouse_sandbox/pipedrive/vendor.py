"""Pipedrive's paths, and how it begins."""

from __future__ import annotations

from typing import Final

from customhouse_sandbox.oauth import Trouble
from customhouse_sandbox.pipedrive import crm, errors, hooks, oauth
from customhouse_sandbox.routing import Vendor
from customhouse_sandbox.state import Application, Person, Realm, fixed

_PEOPLE: Final = (("ada", "Ada", "Example", 1), ("grace", "Grace", "Sample", 1), ("alan", "Alan", "Other", 2))
"""Login, names, and the company: Ada and Grace work in one."""


def _begin(realm: Realm, public_url: str) -> None:
    for index, (login, given, family, company) in enumerate(_PEOPLE, 1):
        realm.people[login] = Person(login, str(11_000_000 + index), str(7_000_000 + company), f"{login}@example.com", given, family)
    realm.applications["pipedrive"] = Application(
        "pipedrive",
        fixed("pipedrive-client-id", 16).encode().hex()[:16],
        fixed("pipedrive-client-secret", 40).encode().hex()[:40],
        (f"{public_url}/oauth/callback/pipedrive",),
        oauth.SCOPES,
    )
    crm.fill(realm)


def _overrides(realm: Realm) -> dict[str, dict[str, str]]:
    return {
        "pipedrive": {
            "authorize_url": f"{realm.base}/oauth/authorize",
            "token_url": f"{realm.base}/oauth/token",
            "revoke_url": f"{realm.base}/oauth/revoke",
            "identity_url": f"{realm.base}/api/v1/users/me",
            "api_base": f"{realm.base}/api",
        }
    }


VENDOR: Final = Vendor(
    name="pipedrive",
    routes=(*oauth.ROUTES, *crm.ROUTES, *hooks.ROUTES),
    facts=oauth.FACTS,
    begin=_begin,
    overrides=_overrides,
    notify=hooks.notify,
    withdrawn=hooks.UNINSTALLED,
    # The budget is the company's.
    counted=lambda _token, person: person.organisation,
    unknown=crm.unknown,
    limited=errors.limited,
    ended=lambda realm: errors.refuse(realm, Trouble.REFRESH_UNKNOWN),
    shared=lambda realm, application, person, _why: oauth.installed(realm, application, person),
    # The removal is told at the callback, whatever else is registered.
    subscribes=True,
    failing=errors.failing,
)
