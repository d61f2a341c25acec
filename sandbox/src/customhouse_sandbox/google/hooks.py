"""Google's notifications (§3.7): channels, which have headers and no body, and Gmail's push through Pub/Sub, with a signed token."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Final

from customhouse_sandbox.google import identity
from customhouse_sandbox.outgoing import Outgoing
from customhouse_sandbox.state import Application, Grant, Person, Realm

PUSH: Final = "gmail.push"
STATES: Final = ("sync", "exists", "not_exists", "add", "remove", "update", "trash", "untrash", "change")
_TAKEN_BY_PUSH: Final = frozenset({102, 200, 201, 202, 204})
_SERVICE: Final = "gmail-push@sandbox.iam.gserviceaccount.com"


@dataclass(slots=True)
class Channel:
    """One subscription that a service made."""

    id: str
    resource: str
    uri: str
    address: str
    token: str = field(repr=False)
    ends_at: float
    grant: Grant
    number: int = 0
    """Of the last message."""
    watches: str = ""
    """Which of the person's resources."""


def channels(realm: Realm) -> dict[str, Channel]:
    """Return the channels by their id."""
    found: dict[str, Channel] = realm.store.setdefault("channels", {})
    return found


def is_open(realm: Realm, channel: Channel) -> bool:
    """Tell whether a channel still speaks."""
    outlives = realm.facts["channels_end_with_grant"] == "no"
    return realm.now() < channel.ends_at and (outlives or channel.grant.ended is None)


def message(realm: Realm, channel: Channel, state: str) -> Outgoing:
    """Return the next message of a channel: headers and an empty body."""
    # 1 on the sync message, then growing, with gaps (§3.7).
    channel.number = 1 if state == "sync" else channel.number + 1 + channel.number % 3
    headers = [
        ("X-Goog-Channel-ID", channel.id),
        ("X-Goog-Message-Number", str(channel.number)),
        ("X-Goog-Resource-ID", channel.resource),
        ("X-Goog-Resource-State", state),
        ("X-Goog-Resource-URI", channel.uri),
        ("X-Goog-Channel-Expiration", formatdate(channel.ends_at, usegmt=True)),
    ]
    if channel.token:
        headers.append(("X-Goog-Channel-Token", channel.token))
    return Outgoing(realm.name, f"channel.{state}", channel.address, tuple(headers), b"")


def notify(realm: Realm, application: Application, person: Person, event: str, url: str) -> list[Outgoing]:
    """Return the messages of all open channels of a person, or a push about their mailbox.

    Raises:
        ValueError: there is no such state, or the address is not on this machine.
    """
    if event == PUSH:
        return [_push(realm, person, url)]
    if event not in STATES:
        raise ValueError(f"Google's events here are {PUSH} and the states of a channel: {', '.join(STATES)}.")
    mine = [one for one in channels(realm).values() if (one.grant.application, one.grant.person) == (application.key, person.login)]
    return [message(realm, channel, event) for channel in mine if is_open(realm, channel)]


def _push(realm: Realm, person: Person, url: str) -> Outgoing:
    history = realm.store.setdefault("history", {})
    data = json.dumps({"emailAddress": person.email, "historyId": history.get(person.login, 1)}).encode()
    number = realm.mint.next("pubsub", 16)
    body = {
        "message": {"data": base64.b64encode(data).decode(), "messageId": number, "message_id": number, "attributes": {}},
        "subscription": "projects/sandbox/subscriptions/gmail",
    }
    now = int(realm.now())
    claims = {"iss": identity.ISSUER, "aud": url, "email": _SERVICE, "email_verified": True, "iat": now, "exp": now + 3600, "sub": "1"}
    headers = (("Content-Type", "application/json"), ("Authorization", f"Bearer {identity.signed(claims)}"))
    return Outgoing(realm.name, PUSH, url, headers, json.dumps(body).encode(), lambda status, _answer: status in _TAKEN_BY_PUSH)
