"""Workspaces of Slack: their ids, names and channels, and the bot that an application has in each."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from customhouse_sandbox.state import Application, Grant, Person, Realm

USER: Final = "user/"
"""Stands before a scope that was asked for in a person's own name."""
ENTERPRISE: Final = "E"
"""How the id of a whole organisation begins; an application that is installed for one has no workspace (§4.1)."""
_NAMES: Final = {"1": "Example Works", "2": "Other Works", "grid": "Example Grid"}
_PEOPLE: Final = (
    ("ada", "Ada", "Example", "1"),
    ("grace", "Grace", "Sample", "1"),
    ("alan", "Alan", "Other", "2"),
    ("edith", "Edith", "Grid", "grid"),
)
"""Login, names, and the workspace: Ada and Grace share one; Edith installs for a whole organisation."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of a workspace."""

    id: str
    name: str
    refuses: str = ""
    """The error of whoever writes there; empty: the bot may."""


CHANNELS: Final = (("general", ""), ("others", "not_in_channel"), ("bygone", "is_archived"), ("announcements", "restricted_action"))
"""One of each kind: the bot is a member of the first."""


def named(prefix: str, text: str) -> str:
    """Return an id as Slack writes them: a letter that tells the kind, then capitals and digits."""
    return prefix + base64.b32encode(hashlib.sha256(f"slack:{prefix}:{text}".encode()).digest()).decode()[:10]


def fill(realm: Realm) -> None:
    """Let there be people and workspaces."""
    realm.store["workspaces"] = {}
    for login, given, family, place in _PEOPLE:
        organisation = named(ENTERPRISE if place == "grid" else "T", place)
        realm.store["workspaces"][organisation] = _NAMES[place]
        realm.people[login] = Person(login, named("U", login), organisation, f"{login}@example.com", given, family)
    realm.store["messages"] = []


def title(realm: Realm, organisation: str) -> str:
    """Return the name of a workspace or organisation."""
    found: str = realm.store["workspaces"][organisation]
    return found


def messages(realm: Realm) -> list[dict[str, Any]]:
    """Return what was written, the oldest first."""
    found: list[dict[str, Any]] = realm.store["messages"]
    return found


def channels(organisation: str) -> list[Channel]:
    """Return a workspace's channels."""
    return [Channel(named("C", f"{organisation}:{name}"), name, refuses) for name, refuses in CHANNELS]


def is_enterprise(organisation: str) -> bool:
    """Tell whether this is a whole organisation and not one workspace."""
    return organisation.startswith(ENTERPRISE)


def app_id(application: Application) -> str:
    """Return the application's id, which is not its client id."""
    return named("A", application.key)


def bot(application: Application, organisation: str) -> tuple[str, str]:
    """Return the user id and the bot id of an application in a workspace."""
    place = f"{application.key}:{organisation}"
    return named("U", place), named("B", place)


def installed(realm: Realm, application: str, organisation: str) -> Iterator[Grant]:
    """Yield what people of a workspace gave to an application: they share one bot."""
    members = {person.login for person in realm.people.values() if person.organisation == organisation}
    return (grant for grant in realm.grants if grant.application == application and grant.person in members and grant.ended is None)
