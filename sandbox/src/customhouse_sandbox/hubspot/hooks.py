"""HubSpot's webhooks (§8.3): arrays of events of any portals, signed over method, address, body and time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from typing import Any, Final

from customhouse_sandbox.hubspot.crm import records
from customhouse_sandbox.hubspot.oauth import app_id, number
from customhouse_sandbox.outgoing import Outgoing
from customhouse_sandbox.state import Application, Person, Realm

EVERYBODY: Final = "every_portal"
"""Before an event: one body with the same event of each portal."""
_KINDS: Final[dict[str, tuple[str, str]]] = {"contact": ("contacts", "0-1"), "company": ("companies", "0-2"), "deal": ("deals", "0-3")}
_CHANGES: Final = ("creation", "propertyChange", "deletion", "merge", "restore", "associationChange")
EVENTS: Final = (
    *(f"{kind}.{change}" for kind in _KINDS for change in _CHANGES),
    "contact.privacyDeletion",
    # The newer, generic types: what they are about stands in `objectTypeId`.
    *(f"object.{change}" for change in _CHANGES),
)
ESCAPES: Final = {f"%{ord(char):02X}": char for char in ":/?@!$'()*,;"}
"""Exactly these are decoded before signing; every other escape stays (§8.3)."""


def signed_uri(realm: Realm, url: str) -> str:
    """Return an address as it is signed."""
    rule = realm.facts["uri_decoding"]
    if rule == "none":
        return url

    def decoded(match: re.Match[str]) -> str:
        escape = match[0].upper() if rule == "any_case" else match[0]
        return ESCAPES.get(escape, match[0])

    return re.sub(r"%[0-9A-Fa-f]{2}", decoded, url)


def notify(realm: Realm, application: Application, person: Person, event: str, url: str) -> list[Outgoing]:
    """Return the webhook of an event.

    Raises:
        ValueError: there is no such event, or the address is not on this machine.
    """
    whose, _, name = event.rpartition(":")
    if name not in EVENTS or whose not in {"", EVERYBODY}:
        raise ValueError(f"HubSpot's events here are {', '.join(EVENTS)}; {EVERYBODY}: before one tells it of each portal, in one body.")
    people = {one.organisation: one for one in realm.people.values()}
    people[person.organisation] = person
    told = list(people.values()) if whose else [person]
    events = [_event(realm, application, one, name) for one in told]
    return [_outgoing(realm, application, name, url, events, 0)]


def _event(realm: Realm, application: Application, person: Person, name: str) -> dict[str, Any]:
    kind, _, change = name.partition(".")
    path, type_id = _KINDS.get(kind, _KINDS["contact"])
    held = list(records(realm, person.organisation, path).values())
    said: dict[str, Any] = {
        # Not unique for certain (§8.3): the same one may name two events of two portals.
        "eventId": 1 + int.from_bytes(name.encode()[:2]) % 1000,
        "subscriptionId": 1 + EVENTS.index(name),
        "portalId": number(person.organisation),
        "appId": app_id(application),
        "occurredAt": int(realm.now() * 1000),
        "subscriptionType": name,
        "attemptNumber": 0,
        "objectId": number(held[-1].id) if held else 1,
        "changeSource": "CRM_UI",
        "sourceId": f"userId:{person.id}",
    }
    if kind == "object":
        said["objectTypeId"] = type_id
    if change == "propertyChange":
        said |= {"propertyName": "lastname", "propertyValue": "Changed"}
    elif change in {"creation", "deletion"}:
        said["changeFlag"] = "CREATED" if change == "creation" else "DELETED"
    return said


def _outgoing(realm: Realm, application: Application, name: str, url: str, events: list[dict[str, Any]], attempt: int) -> Outgoing:
    """Return one attempt: it says which one it is, so that each has another body and another signature."""
    body = json.dumps([{**event, "attemptNumber": attempt} for event in events], ensure_ascii=False, separators=(",", ":")).encode()
    stamp = str(int(realm.now() * 1000))
    text = b"".join((b"POST", signed_uri(realm, url).encode(), body, stamp.encode()))
    secret = application.secret.encode()
    headers = (
        ("Content-Type", "application/json"),
        (
            "User-Agent",
            "HubSpot Connect 2.0 (http://dev.hubspot.com/) (namespace: webhooks-nio-http-client) - WebhooksExecutorDaemon-executor",
        ),
        # The older signature goes with it: anybody who has it can send it again at any time.
        ("X-HubSpot-Signature", hashlib.sha256(secret + body).hexdigest()),
        ("X-HubSpot-Signature-Version", "v1"),
        ("X-HubSpot-Signature-v3", base64.b64encode(hmac.new(secret, text, hashlib.sha256).digest()).decode()),
        ("X-HubSpot-Request-Timestamp", stamp),
    )
    return Outgoing(realm.name, name, url, headers, body, remade=lambda number: _outgoing(realm, application, name, url, events, number))
