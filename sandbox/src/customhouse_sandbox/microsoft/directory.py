"""Tenants of Microsoft Entra: their people, who administers them, and what their administrators consented to for everybody."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from customhouse_sandbox.state import Application, Grant, Person, Realm

PERSONAL: Final = "9188040d-6c67-4c5b-b112-36a304b66dad"
"""The tenant of all personal accounts."""
SHARED: Final = frozenset({"organizations", "common", "consumers"})
"""What stands in an address in place of one tenant (§6.1)."""


def guid(text: str) -> str:
    """Return a GUID that follows from a text."""
    return str(UUID(bytes=hashlib.sha256(f"microsoft:{text}".encode()).digest()[:16], version=4))


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer's directory."""

    id: str
    name: str
    domain: str


WORKS: Final = Tenant(guid("works"), "Example Works", "example.com")
OTHER: Final = Tenant(guid("other"), "Other Works", "other.example")
_NOBODYS: Final = Tenant(PERSONAL, "", "mail.example.org")
TENANTS: Final = (WORKS, OTHER)
_PEOPLE: Final = (
    ("ada", "Ada", "Example", WORKS),
    ("grace", "Grace", "Sample", WORKS),
    ("alan", "Alan", "Other", OTHER),
    ("mira", "Mira", "Keeper", OTHER),
    ("pat", "Pat", "Private", _NOBODYS),
)
"""Ada and Mira administer their tenants; Pat's account is a personal one."""
_ADMINISTRATORS: Final = frozenset({"ada", "mira"})


def fill(realm: Realm, application: Application) -> None:
    """Let there be people; Ada has consented for her tenant, Mira has not yet."""
    for login, given, family, tenant in _PEOPLE:
        realm.people[login] = Person(login, guid(f"person-{login}"), tenant.id, f"{login}@{tenant.domain}", given, family)
    realm.store["admin-consents"] = {WORKS.id: {application.key}}


def found(name: str) -> Tenant | None:
    """Return a tenant by its id or its domain."""
    return next((tenant for tenant in TENANTS if name.lower() in {tenant.id, tenant.domain}), None)


def tenant_of(person: Person) -> Tenant | None:
    """Return a person's tenant; None where the account is a personal one."""
    return found(person.organisation)


def administers(person: Person) -> bool:
    """Tell whether a person may consent for a whole tenant."""
    return person.login in _ADMINISTRATORS


def consents(realm: Realm, tenant: str) -> set[str]:
    """Return the applications that an administrator consented to for everybody in a tenant."""
    given: dict[str, set[str]] = realm.store["admin-consents"]
    return given.setdefault(tenant, set())


def colleagues(realm: Realm, person: Person) -> list[Person]:
    """Return everybody of a person's tenant, that person first."""
    others = [one for one in realm.people.values() if one.organisation == person.organisation and one is not person]
    return [person, *others]


def of_tenant(realm: Realm, application: str, tenant: str) -> list[Grant]:
    """Return what stands between an application and the people of a tenant."""
    members = {person.login for person in realm.people.values() if person.organisation == tenant}
    return [grant for grant in realm.grants if grant.application == application and grant.person in members and grant.ended is None]
