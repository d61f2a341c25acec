"""Subscriptions to changes (§6.4): made when both addresses have proven themselves; more than an hour only with a lifecycle address."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from customhouse_sandbox.clock import rfc3339
from customhouse_sandbox.faults import Operation
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.microsoft import artifacts, chats, directory, hooks, wishes
from customhouse_sandbox.microsoft.errors import failed, insufficient, invalid, missing
from customhouse_sandbox.microsoft.hooks import Subscription
from customhouse_sandbox.microsoft.identity import opened
from customhouse_sandbox.microsoft.lists import listed
from customhouse_sandbox.microsoft.meetings import meetings
from customhouse_sandbox.outgoing import Outgoing
from customhouse_sandbox.routing import Ask, Handshake, Route
from customhouse_sandbox.state import Person, Realm, Token

_OK: Final = 200
_PROOF_SECONDS: Final = 10.0
"""Whoever is slower has not proven anything (§6.4)."""
_KEYED: Final = re.compile(r"\('([^'/()]+)'\)")
"""`users('1')` is another way to write `users/1`."""
_OF_PERSON: Final = re.compile(r"(?:me|users/([^/]+))/onlineMeetings/getAll(Recordings|Transcripts)")
_OF_MEETING: Final = re.compile(r"communications/onlineMeetings/([^/]+)/(recordings|transcripts)")
_OF_TENANT: Final = re.compile(r"communications/onlineMeetings/getAll(?:Recordings|Transcripts)")
_OF_CHAT: Final = re.compile(r"chats/([^/]+)/messages")
_SCOPES: Final = {**artifacts.SCOPES, "messages": chats.READ}


@dataclass(frozen=True, slots=True)
class _Watched:
    kind: str
    within: str
    person: str
    """The id; empty: the token's own."""


def create(ask: Ask) -> Reply | Handshake:
    """`POST /v1.0/subscriptions`: answered when the addresses have sent the validation token back."""
    shown = _live(ask)
    if isinstance(shown, Reply):
        return shown
    token, person = shown
    said = ask.request.json() or {}
    watched = _watched(ask, said.get("resource"), token, person)
    if isinstance(watched, Reply):
        return watched
    if wrong := wishes.wrong(ask.realm, said, watched.kind):
        return invalid(ask.realm, wrong, "ValidationError")
    made = Subscription(
        id=directory.guid(ask.realm.mint.next("subscription")),
        grant=token.grant,
        tenant=person.organisation,
        resource=said["resource"],
        kind=watched.kind,
        within=watched.within,
        changes=tuple(said["changeType"].split(",")),
        address=said["notificationUrl"],
        lifecycle=said.get("lifecycleNotificationUrl", ""),
        secret=said.get("clientState", ""),
        ends_at=wishes.moment(said["expirationDateTime"]),
        certificate=base64.b64decode(said["encryptionCertificate"]) if said.get("includeResourceData") else b"",
        certificate_id=said["encryptionCertificateId"] if said.get("includeResourceData") else "",
    )

    def then(proven: bool) -> Reply:
        if not proven:
            return _unproven(ask.realm)
        hooks.subscriptions(ask.realm)[made.id] = made
        return as_json(201, _told(ask.realm, made))

    return Handshake(tuple(_validation(ask.realm, url) for url in (made.address, made.lifecycle) if url), then)


def _live(ask: Ask) -> tuple[Token, Person] | Reply:
    """Return the token of a call that needs no permission of its own."""
    return opened(ask, "User.Read", *_SCOPES.values())


def _watched(ask: Ask, resource: Any, token: Token, person: Person) -> _Watched | Reply:
    """Return what a resource means, to whoever may watch it (§6.4)."""
    path = _KEYED.sub(r"/\1", resource.removeprefix("/").partition("?")[0]) if isinstance(resource, str) else ""
    if _OF_TENANT.fullmatch(path):
        return insufficient(ask.realm, ("an application permission",), token.scopes)
    if of_person := _OF_PERSON.fullmatch(path):
        found = _Watched(of_person[2].lower(), "", of_person[1] or person.id)
    elif of_meeting := _OF_MEETING.fullmatch(path):
        found = _Watched(of_meeting[2], of_meeting[1], person.id)
    elif of_chat := _OF_CHAT.fullmatch(path):
        found = _Watched("messages", of_chat[1], person.id)
    else:
        return invalid(ask.realm, f"Unsupported resource: {path or 'none'}.", "ValidationError")
    shut = opened(ask, _SCOPES[found.kind])
    if isinstance(shut, Reply):
        return shut
    if found.person != person.id:
        return failed(ask.realm, 403, "Forbidden", "Changes of somebody else are not told.")
    if found.within and found.within not in _within(ask.realm, found.kind, person):
        return missing(ask.realm, "The meeting or chat does not exist.")
    return found


def _within(realm: Realm, kind: str, person: Person) -> set[str]:
    if kind == "messages":
        return {chat.id for chat in chats.chats(realm, person)}
    return {meeting.id for meeting in meetings(realm, person)}


def _validation(realm: Realm, url: str) -> Outgoing:
    token = (
        f"Validation: Testing client application reachability for subscription Request-Id: {directory.guid(realm.mint.next('validation'))}"
    )
    address = f"{url}{'&' if '?' in url else '?'}validationToken={quote(token, safe='')}"

    def proven(status: int, answer: bytes) -> bool:
        return status == _OK and answer == token.encode()

    kind = (("Content-Type", "text/plain; charset=utf-8"),)
    return Outgoing(realm.name, "validation", address, kind, b"", proven, seconds=_PROOF_SECONDS, answers="text/plain")


def _unproven(realm: Realm) -> Reply:
    return invalid(
        realm, "Subscription validation request failed: the notification endpoint must answer 200 with the token.", "ValidationError"
    )


def _told(realm: Realm, one: Subscription) -> dict[str, Any]:
    return {
        "@odata.context": f"{realm.base}/v1.0/$metadata#subscriptions/$entity",
        "id": one.id,
        "resource": one.resource,
        "applicationId": realm.applications[one.grant.application].id,
        "changeType": ",".join(one.changes),
        "clientState": None,
        "notificationUrl": one.address,
        "lifecycleNotificationUrl": one.lifecycle or None,
        "expirationDateTime": rfc3339(one.ends_at),
        "creatorId": realm.people[one.grant.person].id if one.grant.person in realm.people else None,
        "includeResourceData": bool(one.certificate),
        "encryptionCertificateId": one.certificate_id or None,
        "latestSupportedTlsVersion": "v1_2",
    }


def _mine(ask: Ask) -> Subscription | Reply:
    """Return the subscription of a path, to the application and person that made it."""
    shown = _live(ask)
    if isinstance(shown, Reply):
        return shown
    grant = shown[0].grant
    one = hooks.subscriptions(ask.realm).get(ask.parts["subscription"])
    if one is None or not hooks.stands(ask.realm, one):
        return missing(ask.realm, "The subscription does not exist.")
    if (one.grant.application, one.grant.person) != (grant.application, grant.person):
        return missing(ask.realm, "The subscription does not exist.")
    return one


def list_all(ask: Ask) -> Reply:
    """`GET /v1.0/subscriptions`: this application's, of this person."""
    shown = _live(ask)
    if isinstance(shown, Reply):
        return shown
    grant = shown[0].grant
    rows = [_told(ask.realm, one) for one in hooks.mine(ask.realm, grant.application, grant.person) if hooks.stands(ask.realm, one)]
    return listed(ask, ("subscriptions", grant.application, grant.person), rows)


def get(ask: Ask) -> Reply:
    """`GET /v1.0/subscriptions/{subscription}`."""
    one = _mine(ask)
    return one if isinstance(one, Reply) else as_json(200, _told(ask.realm, one))


def delete(ask: Ask) -> Reply:
    """`DELETE /v1.0/subscriptions/{subscription}`."""
    one = _mine(ask)
    if isinstance(one, Reply):
        return one
    del hooks.subscriptions(ask.realm)[one.id]
    return Reply(204)


def reauthorize(ask: Ask) -> Reply:
    """`POST /v1.0/subscriptions/{subscription}/reauthorize`: with a token that may still read the resource."""
    one = _mine(ask)
    shown = one if isinstance(one, Reply) else opened(ask, _SCOPES[one.kind])
    if isinstance(one, Reply) or isinstance(shown, Reply):
        return shown if isinstance(shown, Reply) else missing(ask.realm)
    one.grant = shown[0].grant
    return Reply(204)


def update(ask: Ask) -> Reply | Handshake:
    """`PATCH /v1.0/subscriptions/{subscription}`: renews it, or moves it to an address that proves itself, or changes the certificate."""
    one = _mine(ask)
    if isinstance(one, Reply):
        return one
    shown = opened(ask, _SCOPES[one.kind])
    if isinstance(shown, Reply):
        return shown
    said = ask.request.json() or {}
    if wrong := wishes.wrong_change(ask.realm, one, said):
        return invalid(ask.realm, wrong, "ValidationError")
    grant = shown[0].grant

    def then(proven: bool) -> Reply:
        if not proven:
            return _unproven(ask.realm)
        one.grant = grant
        one.ends_at = wishes.moment(said["expirationDateTime"]) if "expirationDateTime" in said else one.ends_at
        one.address = said.get("notificationUrl", one.address)
        if "encryptionCertificate" in said:
            one.certificate, one.certificate_id = base64.b64decode(said["encryptionCertificate"]), said["encryptionCertificateId"]
        return as_json(200, _told(ask.realm, one))

    if "notificationUrl" in said:
        return Handshake((_validation(ask.realm, said["notificationUrl"]),), then)
    return then(proven=True)


ROUTES: Final = (
    Route("POST", "/v1.0/subscriptions", create, Operation.API, "§6.4 (create, validation)"),
    Route("GET", "/v1.0/subscriptions", list_all, Operation.API, "§6.4 (create, validation)"),
    Route("GET", "/v1.0/subscriptions/{subscription}", get, Operation.API, "§6.4 (create, validation)"),
    Route("PATCH", "/v1.0/subscriptions/{subscription}", update, Operation.API, "§6.4 (lifecycle events)"),
    Route("DELETE", "/v1.0/subscriptions/{subscription}", delete, Operation.API, "§6.1 (revocation: subscriptions first)"),
    Route("POST", "/v1.0/subscriptions/{subscription}/reauthorize", reauthorize, Operation.API, "§6.4 (lifecycle events)"),
)
