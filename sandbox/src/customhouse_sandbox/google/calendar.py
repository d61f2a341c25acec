"""Google Calendar v3 (§3.4): events of the primary calendar, with versions, guarded changes, incremental lists, channels."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from customhouse_sandbox.clock import rfc3339
from customhouse_sandbox.faults import Operation
from customhouse_sandbox.google.api import changed, invalid, missing, moment, opened, paged, stop, watch
from customhouse_sandbox.google.errors import failed
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.routing import Ask, Route
from customhouse_sandbox.state import Person, Realm, Token, fixed

_READ: Final = ("calendar.events.owned.readonly", "calendar.events.readonly", "calendar.events.owned", "calendar.events")
_WRITE: Final = ("calendar.events.owned", "calendar.events")
_ID: Final = re.compile(r"[a-v0-9]{5,1024}")
_DAY: Final = 86_400.0
_WEEK: Final = 7 * _DAY
_SYNC_SECONDS: Final = 30 * _DAY
"""How long a sync token is good: assumed, Google names no time."""
_NOT_WITH_SYNC: Final = ("q", "orderBy", "timeMin", "timeMax", "updatedMin", "iCalUID", "privateExtendedProperty", "sharedExtendedProperty")
_UPDATES: Final = ("", "all", "externalOnly", "none")
_KEPT: Final = (
    "summary",
    "description",
    "location",
    "start",
    "end",
    "attendees",
    "recurrence",
    "reminders",
    "extendedProperties",
    "visibility",
)


@dataclass(slots=True)
class Shelf:
    """One person's primary calendar."""

    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    count: int = 0

    def put(self, event: dict[str, Any], now: float) -> dict[str, Any]:
        """Keep an event in its next version."""
        self.count += 1
        name = str(event["id"])
        self.versions[name] = self.count
        self.events[name] = {**event, "etag": f'"{1_000_000 + self.count}"', "updated": rfc3339(now)}
        return self.events[name]


def fill(realm: Realm) -> None:
    """Give each person two past and three coming events."""
    shelves = realm.store["calendars"] = {login: Shelf() for login in realm.people}
    now = float(int(realm.now()))
    for login, shelf in shelves.items():
        for index, days in enumerate((-9, -2, 1, 2, 9)):
            start = now + days * _DAY
            name = "".join(character for character in fixed(f"event-{login}-{index}", 40).lower() if _ID.fullmatch(character * 5))
            times = {"start": {"dateTime": rfc3339(start)}, "end": {"dateTime": rfc3339(start + 1800)}}
            shelf.put(_made(realm, realm.people[login], name, {"summary": f"Event {index + 1}", **times}), now)


def _made(realm: Realm, person: Person, name: str, said: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "calendar#event",
        "id": name,
        "status": "confirmed",
        "htmlLink": f"{realm.base}/calendar/event?eid={name}",
        "created": rfc3339(realm.now()),
        "creator": {"email": person.email, "self": True},
        "organizer": {"email": person.email, "self": True},
        "iCalUID": f"{name}@google.com",
        "sequence": 0,
        **{key: value for key, value in said.items() if key in _KEPT},
    }


def _calendar(ask: Ask, *scopes: str) -> tuple[Token, Person, Shelf] | Reply:
    shown = opened(ask, *scopes)
    if isinstance(shown, Reply):
        return shown
    token, person = shown
    if ask.parts["calendar"] not in {"primary", person.email}:
        return missing()
    shelf: Shelf = ask.realm.store["calendars"][person.login]
    return token, person, shelf


def _span(event: dict[str, Any]) -> tuple[float, float] | None:
    times = []
    for edge in ("start", "end"):
        value = event.get(edge)
        text = value.get("dateTime") or f"{value.get('date')}T00:00:00+00:00" if isinstance(value, dict) else ""
        at = moment(str(text))
        if at is None:
            return None
        times.append(at)
    return (times[0], times[1]) if times[0] <= times[1] else None


def list_events(ask: Ask) -> Reply:
    """`GET /calendars/{calendar}/events`, whole or since a sync token."""
    found = _calendar(ask, *_READ)
    if isinstance(found, Reply):
        return found
    _, person, shelf = found
    since = ask.query("syncToken")
    if since:
        if any(ask.query(name) for name in _NOT_WITH_SYNC):
            return invalid("Sync token cannot be used with these parameters.")
        known: tuple[str, int, float] = ask.realm.store.get("sync-tokens", {}).get(since, ("", 0, 0.0))
        if known[0] != person.login or ask.realm.now() >= known[2]:
            return failed(
                410, "Sync token is no longer valid, a full sync is required.", state="FAILED_PRECONDITION", reason="fullSyncRequired"
            )
        events = [event for name, event in shelf.events.items() if shelf.versions[name] > known[1]]
        return _listed(ask, person, shelf, events, ("sync", since))
    chosen = _chosen(ask, shelf)
    if isinstance(chosen, Reply):
        return chosen
    question = tuple(ask.query(name) for name in (*_NOT_WITH_SYNC, "singleEvents", "showDeleted"))
    return _listed(ask, person, shelf, chosen, question)


def _chosen(ask: Ask, shelf: Shelf) -> list[dict[str, Any]] | Reply:
    edges: list[float] = []
    for name, unset in (("timeMin", float("-inf")), ("timeMax", float("inf"))):
        edge = moment(ask.query(name)) if ask.query(name) else unset
        if edge is None:
            return invalid("Bad Request", "badRequest")
        edges.append(edge)
    if ask.query("orderBy") not in {"", "startTime", "updated"}:
        return invalid("Invalid order.")
    if ask.query("orderBy") == "startTime" and ask.query("singleEvents") != "true":
        return invalid("The requested ordering is not available for the particular query.")
    found: list[tuple[float, dict[str, Any]]] = []
    for event in shelf.events.values():
        span = _span(event)
        # timeMin bounds the event's end (§3.4).
        inside = span is not None and span[1] > edges[0] and span[0] < edges[1]
        if span and inside and event["status"] != "cancelled" and ask.query("q").lower() in str(event.get("summary", "")).lower():
            found.append((span[0], event))
    if ask.query("orderBy") == "startTime":
        found.sort(key=lambda one: one[0])
    return [event for _, event in found]


def _listed(ask: Ask, person: Person, shelf: Shelf, events: list[dict[str, Any]], question: tuple[object, ...]) -> Reply:
    reply = paged(
        ask, ("events", person.login, *question), events, ("maxResults", 250, 2500), "items", kind="calendar#events", timeZone="UTC"
    )
    if reply.status != 200 or b'"nextPageToken"' in reply.body:  # noqa: PLR2004 - OK
        return reply
    token = ask.realm.mint.next("sync", 24)
    ask.realm.store.setdefault("sync-tokens", {})[token] = (person.login, shelf.count, ask.realm.now() + _SYNC_SECONDS)
    # Only the last page names a sync token.
    return Reply(200, reply.body[:-1] + f',"nextSyncToken":"{token}"}}'.encode(), reply.headers)


def insert_event(ask: Ask) -> Reply:
    """`POST /calendars/{calendar}/events`; an id of one's own makes a repeated call safe."""
    found = _calendar(ask, *_WRITE)
    if isinstance(found, Reply):
        return found
    _, person, shelf = found
    said = ask.request.json()
    if said is None or _span(said) is None or ask.query("sendUpdates") not in _UPDATES:
        return invalid("Missing end time." if said else "Parse Error", "required" if said else "parseError")
    name = said.get("id", ask.realm.mint.next("event", 40).lower().translate(_BASE32HEX))
    if not isinstance(name, str) or _ID.fullmatch(name) is None:
        return invalid("Invalid resource id value.")
    if name in shelf.events:
        return failed(409, "The requested identifier already exists.", state="ALREADY_EXISTS", reason="duplicate")
    event = shelf.put({**_made(ask.realm, person, name, said), **_conference(ask, said)}, ask.realm.now())
    changed(ask, person, _RESOURCE, "exists")
    return _one(event)


def _conference(ask: Ask, said: dict[str, Any]) -> dict[str, Any]:
    wanted = said.get("conferenceData")
    request = wanted.get("createRequest") if isinstance(wanted, dict) else None
    if ask.query("conferenceDataVersion") != "1" or not isinstance(request, dict) or not request.get("requestId"):
        return {}
    code = fixed(f"meet-{request['requestId']}", 10).lower()
    link = f"https://meet.google.com/{code[:3]}-{code[3:7]}-{code[7:]}"
    data = {
        "conferenceId": link.rpartition("/")[2],
        "conferenceSolution": {"key": {"type": "hangoutsMeet"}, "name": "Google Meet"},
        "createRequest": {**request, "status": {"statusCode": "success"}},
        "entryPoints": [{"entryPointType": "video", "uri": link}],
    }
    return {"conferenceData": data, "hangoutLink": link}


def _held(ask: Ask, shelf: Shelf) -> dict[str, Any] | None:
    return shelf.events.get(ask.parts["event"])


def _guarded(ask: Ask, event: dict[str, Any]) -> bool:
    wanted = ask.request.headers.get("if-match", "*")
    return wanted in {"*", event["etag"]}


def get_event(ask: Ask) -> Reply:
    """`GET /calendars/{calendar}/events/{event}`."""
    found = _calendar(ask, *_READ)
    if isinstance(found, Reply):
        return found
    event = _held(ask, found[2])
    return missing() if event is None else _one(event)


def patch_event(ask: Ask) -> Reply:
    """`PATCH /calendars/{calendar}/events/{event}`; `If-Match` guards it."""

    def change(event: dict[str, Any], shelf: Shelf) -> Reply:
        said = ask.request.json()
        if said is None or ask.query("sendUpdates") not in _UPDATES:
            return invalid("Parse Error", "parseError")
        merged = {**event, **{key: value for key, value in said.items() if key in _KEPT}, "sequence": event["sequence"] + 1}
        merged = {key: value for key, value in merged.items() if value is not None}
        if _span(merged) is None:
            return invalid("The specified time range is empty.", "timeRangeEmpty")
        return _one(shelf.put({**merged, **_conference(ask, said)}, ask.realm.now()))

    return _change(ask, change, 404)


def delete_event(ask: Ask) -> Reply:
    """`DELETE /calendars/{calendar}/events/{event}`: cancelled, and seen as such by incremental lists."""

    def change(event: dict[str, Any], shelf: Shelf) -> Reply:
        shelf.put({**event, "status": "cancelled"}, ask.realm.now())
        return Reply(204)

    return _change(ask, change, 410)


def _change(ask: Ask, change: Callable[[dict[str, Any], Shelf], Reply], gone: int) -> Reply:
    found = _calendar(ask, *_WRITE)
    if isinstance(found, Reply):
        return found
    _, person, shelf = found
    event = _held(ask, shelf)
    if event is None or (event["status"] == "cancelled" and gone == 404):  # noqa: PLR2004 - Not Found
        return missing()
    if event["status"] == "cancelled":
        return failed(gone, "Resource has been deleted", reason="deleted")
    if not _guarded(ask, event):
        return failed(412, "Precondition Failed", state="FAILED_PRECONDITION", reason="conditionNotMet")
    reply = change(event, shelf)
    if reply.status < 300:  # noqa: PLR2004 - done
        changed(ask, person, _RESOURCE, "exists")
    return reply


def _one(event: dict[str, Any]) -> Reply:
    return as_json(200, event, ("ETag", str(event["etag"])))


def watch_events(ask: Ask) -> Reply:
    """`POST /calendars/{calendar}/events/watch`."""
    found = _calendar(ask, *_READ)
    if isinstance(found, Reply):
        return found
    token, person, _ = found
    uri = f"{ask.realm.base}/calendar/v3/calendars/{person.email}/events?alt=json"
    return watch(ask, token, _RESOURCE, uri, _WEEK, _WEEK)


def stop_channel(ask: Ask) -> Reply:
    """`POST /channels/stop`."""
    owned = _READ if ask.realm.facts["owned_scope_stops_channels"] == "yes" else ("calendar.events.readonly", "calendar.events")
    return stop(ask, *owned)


_RESOURCE: Final = "calendar"
_BASE32HEX: Final = str.maketrans("wxyz_-", "012345")
_EVENTS: Final = "/calendar/v3/calendars/{calendar}/events"

ROUTES: Final = (
    Route("GET", _EVENTS, list_events, Operation.API, "§3.4 (list)"),
    Route("POST", _EVENTS, insert_event, Operation.API, "§3.4 (create)"),
    Route("POST", f"{_EVENTS}/watch", watch_events, Operation.API, "§3.4 (watch), §3.7"),
    Route("GET", f"{_EVENTS}/{{event}}", get_event, Operation.API, "§3.2 (events.get)"),
    Route("PATCH", f"{_EVENTS}/{{event}}", patch_event, Operation.API, "§3.4 (update)"),
    Route("DELETE", f"{_EVENTS}/{{event}}", delete_event, Operation.API, "§3.4 (delete)"),
    Route("POST", "/calendar/v3/channels/stop", stop_channel, Operation.API, "§3.4 (stop), §3.7"),
)
