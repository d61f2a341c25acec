"""Pipedrive's webhooks (§8.4): unsigned, at most with Basic; and the call to the callback when an application is removed."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any, Final

from customhouse_sandbox.clock import rfc3339
from customhouse_sandbox.faults import Operation
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.outgoing import Outgoing, is_here
from customhouse_sandbox.pipedrive.crm import OF, answered, opened, records
from customhouse_sandbox.pipedrive.errors import failed
from customhouse_sandbox.routing import Ask, Route
from customhouse_sandbox.state import Application, Person, Realm, fixed

UNINSTALLED: Final = "uninstalled"
ACTIONS: Final = ("create", "change", "delete")
VERSIONS: Final = ("2.0", "1.0")
_OLD: Final = {"create": "added", "change": "updated", "delete": "deleted"}
_MOST: Final = 40
_LONGEST: Final = 255
_MORE: Final = ("activity", "lead", "note", "pipeline", "product", "stage", "user", "board", "phase", "project", "task", "*")
"""What can be subscribed to besides what is kept here."""
_KNOWN: Final = frozenset(
    {"subscription_url", "event_action", "event_object", "name", "user_id", "http_auth_user", "http_auth_password", "version"}
)


@dataclass(frozen=True, slots=True)
class Subscription:
    """One webhook of a company."""

    id: int
    company: str
    user: str
    url: str
    action: str = "*"
    object: str = "*"
    version: str = VERSIONS[0]
    auth_user: str = ""
    auth_password: str = field(default="", repr=False)
    name: str = ""

    def fits(self, action: str, name: str) -> bool:
        """Tell whether an event is one that it wants."""
        return self.action in {"*", action} and self.object in {"*", name}


def subscriptions(realm: Realm) -> dict[int, Subscription]:
    """Return all webhooks by their id."""
    found: dict[int, Subscription] = realm.store.setdefault("webhooks", {})
    return found


def subscribe(
    realm: Realm,
    person: Person,
    url: str,
    *,
    user: str = "",
    password: str = "",
    action: str = "*",
    name: str = "*",
    version: str = VERSIONS[0],
    label: str = "",
) -> Subscription:
    """Make a webhook, as a person does in the settings or an application by the API.

    Raises:
        ValueError: with what is wrong: the address, the event, the version, or that there are too many.
    """
    if not is_here(url):
        raise ValueError("subscription_url is on this machine: http://127.0.0.1:PORT/…")
    if action not in (*ACTIONS, "*") or name not in (*OF, *_MORE) or version not in VERSIONS:
        raise ValueError("event_action, event_object or version is none that there is")
    if ":" in user or not all(text.isprintable() and len(text) <= _LONGEST for text in (user, password, label)):
        raise ValueError("http_auth_user holds no colon, and texts are printable")
    held = subscriptions(realm)
    if sum(one.user == person.id for one in held.values()) >= _MOST:
        raise ValueError(f"a user has at most {_MOST} webhooks")
    realm.store["last-webhook"] = number = realm.store.get("last-webhook", 0) + 1
    made = held[number] = Subscription(number, person.organisation, person.id, url, action, name, version, user, password, label)
    if password:
        realm.secrets.append(password)
    return made


def notify(realm: Realm, application: Application, person: Person, event: str, url: str) -> list[Outgoing]:
    """Return the webhooks of an event: to whoever subscribed to it, or to one address, without Basic.

    Raises:
        ValueError: there is no such event, or nothing that it could be about, or nobody who wants it.
    """
    if event == UNINSTALLED:
        return uninstalled(realm, application, person, url)
    action, _, name = event.partition(".")
    if action not in ACTIONS or name not in OF:
        raise ValueError(f"Pipedrive's events here are {UNINSTALLED}, and {', '.join(ACTIONS)} before .{', .'.join(OF)}.")
    there = list(records(realm, person.organisation, OF[name].path).values())
    if not there:
        raise ValueError(f"There is no {name} that this event could be about.")
    wanting = [one for one in subscriptions(realm).values() if one.company == person.organisation and one.fits(action, name)]
    if url:
        wanting = [Subscription(0, person.organisation, person.id, url)]
    if not wanting:
        raise ValueError("Nobody subscribed to this event: say to which url it goes, or POST /_sandbox/subscriptions.")
    key = realm.mint.next("event", 32)
    return [_outgoing(realm, one, action, name, dict(there[-1]), key, 1) for one in wanting]


def _outgoing(realm: Realm, to: Subscription, action: str, name: str, one: dict[str, Any], key: str, attempt: int) -> Outgoing:
    """Return one attempt: it says which one it is."""
    said = (_first if to.version == VERSIONS[1] else _second)(realm, to, action, name, one, key, attempt)
    headers = [("Content-Type", "application/json"), ("User-Agent", "Pipedrive Webhooks")]
    if to.auth_user or to.auth_password:
        headers.append(("Authorization", _basic(to.auth_user, to.auth_password)))
    body = json.dumps(said, ensure_ascii=False).encode()
    return Outgoing(
        realm.name,
        f"{action}.{name}",
        to.url,
        tuple(headers),
        body,
        remade=lambda number: _outgoing(realm, to, action, name, one, key, number + 1),
    )


def _second(realm: Realm, to: Subscription, action: str, name: str, one: dict[str, Any], key: str, attempt: int) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "action": action,
        "entity": name,
        "entity_id": str(one["id"]),
        "version": to.version,
        "company_id": to.company,
        "user_id": to.user,
        "webhook_id": str(to.id),
        "timestamp": rfc3339(realm.now()),
        "attempt": attempt,
        "is_bulk_edit": False,
        "change_source": "app",
        "permitted_user_ids": [to.user],
        "host": f"company-{to.company}.pipedrive.com",
        "correlation_id": fixed(f"correlation-{key}", 32),
    }
    if realm.facts["meta_id"] == "yes":
        meta["id"] = key
    main = next(iter(OF[name].members))
    previous = {"create": None, "change": {main: None}, "delete": one}[action]
    return {"meta": meta, "data": None if action == "delete" else one, "previous": previous}


def _first(realm: Realm, to: Subscription, action: str, name: str, one: dict[str, Any], key: str, attempt: int) -> dict[str, Any]:
    now = realm.now()
    meta = {
        "v": 1,
        "action": _OLD[action],
        "object": name,
        "id": one["id"],
        "company_id": int(to.company),
        "user_id": int(to.user),
        "host": f"company-{to.company}.pipedrive.com",
        "timestamp": int(now),
        "timestamp_micro": int(now * 1_000_000),
        "webhook_id": str(to.id),
        "change_source": "app",
        "trans_pending": False,
        "correlation_id": fixed(f"correlation-{key}", 32),
    }
    current, previous = (None, one) if action == "delete" else (one, None if action == "create" else one)
    return {"v": 1, "meta": meta, "retry": attempt - 1, "current": current, "previous": previous, "event": f"{_OLD[action]}.{name}"}


def uninstalled(realm: Realm, application: Application, person: Person, url: str = "") -> list[Outgoing]:
    """Return the call that tells an application of its removal: `DELETE` to its callback.

    Nobody is told where the callback is not on this machine.
    """
    target = url or application.redirects[0]
    if not is_here(target):
        return []
    form = int if realm.facts["uninstall_ids"] == "numbers" else str
    said = {"client_id": application.id, "company_id": form(person.organisation), "user_id": form(person.id)}
    headers = [("Content-Type", "application/json")]
    if realm.facts["uninstall_header"] == "basic":
        headers.append(("Authorization", _basic(application.id, application.secret)))
    body = json.dumps({**said, "timestamp": rfc3339(realm.now())}).encode()
    return [Outgoing(realm.name, UNINSTALLED, target, tuple(headers), body, method="DELETE")]


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _told(one: Subscription) -> dict[str, Any]:
    return {
        "id": one.id,
        "company_id": int(one.company),
        "user_id": int(one.user),
        "event_action": one.action,
        "event_object": one.object,
        "subscription_url": one.url,
        "version": one.version,
        "name": one.name,
        "http_auth_user": one.auth_user or None,
        "http_auth_password": one.auth_password or None,
        "is_active": 1,
        "type": "general",
        "remove_time": None,
        "remove_reason": None,
    }


def list_webhooks(ask: Ask) -> Reply:
    """`GET /api/v1/webhooks`."""
    person = opened(ask, ask.realm.facts["webhooks_scope"])
    if isinstance(person, Reply):
        return person
    mine = [_told(one) for one in subscriptions(ask.realm).values() if one.company == person.organisation]
    return answered(ask, person, 200, {"status": "ok", "data": mine})


def create_webhook(ask: Ask) -> Reply:
    """`POST /api/v1/webhooks`."""
    person = opened(ask, ask.realm.facts["webhooks_scope"])
    if isinstance(person, Reply):
        return person
    said = ask.request.json() if ask.request.is_json else None
    if said is None or not set(said) <= _KNOWN or not all(isinstance(value, str) for key, value in said.items() if key != "user_id"):
        return failed(400, "The body has a wrong form")
    try:
        made = subscribe(
            ask.realm,
            person,
            said.get("subscription_url", ""),
            user=said.get("http_auth_user", ""),
            password=said.get("http_auth_password", ""),
            action=said.get("event_action", ""),
            name=said.get("event_object", ""),
            version=said.get("version", VERSIONS[0]),
            label=said.get("name", ""),
        )
    except ValueError as error:
        return failed(400, str(error))
    return as_json(201, {"status": "ok", "success": True, "data": _told(made)})


def delete_webhook(ask: Ask) -> Reply:
    """`DELETE /api/v1/webhooks/{id}`."""
    person = opened(ask, ask.realm.facts["webhooks_scope"])
    if isinstance(person, Reply):
        return person
    held = subscriptions(ask.realm)
    found = next((one for one in held.values() if str(one.id) == ask.parts["id"] and one.company == person.organisation), None)
    if found is None:
        return failed(404, "Webhook not found")
    del held[found.id]
    return as_json(200, {"status": "ok", "success": True})


ROUTES: Final = (
    Route("GET", "/api/v1/webhooks", list_webhooks, Operation.API, "§8.4 (webhooks)"),
    Route("POST", "/api/v1/webhooks", create_webhook, Operation.API, "§8.4 (webhooks)"),
    Route("DELETE", "/api/v1/webhooks/{id}", delete_webhook, Operation.API, "§8.4 (webhooks)"),
)
