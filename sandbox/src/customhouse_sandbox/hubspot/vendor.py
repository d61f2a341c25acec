"""HubSpot's paths, and how it begins."""

from __future__ import annotations

from typing import Final

from customhouse_sandbox.hubspot import crm, errors, hooks, oauth
from customhouse_sandbox.oauth import Trouble
from customhouse_sandbox.routing import Vendor
from customhouse_sandbox.state import Application, Person, Realm, fixed

_PEOPLE: Final = (("ada", "Ada", "Example", 1), ("grace", "Grace", "Sample", 1), ("alan", "Alan", "Other", 2))
"""Login, names, and the portal: Ada and Grace work on one."""


def _begin(realm: Realm, public_url: str) -> None:
    for index, (login, given, family, portal) in enumerate(_PEOPLE, 1):
        realm.people[login] = Person(login, str(70_000 + index), str(4_800_000 + portal), f"{login}@example.com", given, family)
    digits = fixed("hubspot-client-id", 32).encode().hex()
    realm.applications["hubspot"] = Application(
        "hubspot",
        f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:32]}",
        fixed("hubspot-client-secret", 36),
        (f"{public_url}/oauth/callback/hubspot",),
        (*oauth.REQUIRED, *oauth.OPTIONAL),
        optional=oauth.OPTIONAL,
    )
    crm.fill(realm)


def _overrides(realm: Realm) -> dict[str, dict[str, str]]:
    dated = f"{realm.base}/oauth/2026-03/token"
    return {
        "hubspot": {
            "authorize_url": f"{realm.base}/oauth/authorize",
            "token_url": dated,
            "revoke_url": f"{dated}/revoke",
            "introspect_url": f"{dated}/introspect",
            "api_base": realm.base,
        }
    }


VENDOR: Final = Vendor(
    name="hubspot",
    routes=(*oauth.ROUTES, *crm.ROUTES),
    facts=oauth.FACTS,
    begin=_begin,
    overrides=_overrides,
    notify=hooks.notify,
    # No event tells that an application was removed (§8.3).
    withdrawn="",
    # Per installed account (§8.2).
    counted=lambda _token, person: person.organisation,
    unknown=crm.unknown,
    limited=errors.limited,
    ended=lambda realm: errors.refuse(realm, Trouble.REFRESH_UNKNOWN),
    shared=lambda realm, application, person, _why: oauth.installed(realm, application, person),
    failing=errors.failing,
)
