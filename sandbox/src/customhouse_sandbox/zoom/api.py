"""Zoom's API (§2.3, §2.5): who somebody is, and their meetings."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

from customhouse_sandbox import oauth
from customhouse_sandbox.faults import FaultKind, Operation
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.paging import number, page
from customhouse_sandbox.routing import Ask, Route
from customhouse_sandbox.state import Person, Realm
from customhouse_sandbox.zoom.meetings import Meeting, meetings, zulu

_NEVER: Final = float("inf")
_PAGE_SECONDS: Final = 900.0
"""A page token lives 15 minutes (§2.5)."""


def failed(status: int, code: int, message: str, *headers: tuple[str, str]) -> Reply:
    """Return an error of the API."""
    return as_json(status, {"code": code, "message": message}, *headers)


def unknown(_ask: Ask) -> Reply:
    """Answer a path that there is not."""
    return failed(404, 2300, "This API endpoint is not recognized.")


def limited(_realm: Realm, retry_after: int | None) -> Reply:
    """Answer too many calls (§2.5)."""
    wait = () if retry_after is None else (("Retry-After", str(retry_after)),)
    return failed(429, 429, "You have reached the maximum per-second rate limit for this API. Try again later.", *wait)


def opened(ask: Ask, scope: str) -> Person | Reply:
    """Return whose token opens a call, or the refusal (§2.1, error table)."""
    shown = oauth.bearer(ask)
    if shown is None:
        return failed(401, 124, "Invalid access token.")
    held, person = shown
    if scope not in held.scopes:
        status = int(ask.realm.facts["scope_error_status"])
        return failed(status, 4711, f"Invalid access token, does not contain scopes:[{scope}].")
    return person


def me(ask: Ask) -> Reply:
    """`GET /v2/users/me`."""
    person = opened(ask, "user:read:user")
    if isinstance(person, Reply):
        return person
    found: dict[str, Any] = {
        "id": person.id,
        "account_id": person.organisation,
        "first_name": person.given,
        "last_name": person.family,
        "display_name": person.name,
        "email": person.email,
        "type": 2,
        "status": "active",
    }
    if FaultKind.IDENTITY_MISSING in ask.faults:
        del found["id"], found["account_id"]
    return as_json(200, found)


def owner(ask: Ask, scope: str) -> Person | Reply:
    """Return the person whose data a path with `{user}` is about: the token's own, by `me` or by id."""
    person = opened(ask, scope)
    if isinstance(person, Person) and ask.parts["user"] not in {"me", person.id}:
        return failed(404, 1001, f"User does not exist: {ask.parts['user']}.")
    return person


def found_meeting(ask: Ask, person: Person) -> Meeting | None:
    """Return the meeting that a path names by id or UUID; None where there is none of this person's.

    A UUID that begins with `/` or holds `//` has to be encoded twice (§2.5): decoded once, it is not found.
    """
    text = ask.parts["meeting"]
    if "/" in text and (text.startswith("/") or "//" in text):
        return None
    text = unquote(text)
    # The id alone means the latest instance.
    return next((one for one in reversed(meetings(ask.realm, person)) if text in {one.uuid, str(one.id)}), None)


def _told(meeting: Meeting, person: Person) -> dict[str, Any]:
    return {
        "uuid": meeting.uuid,
        "id": meeting.id,
        "host_id": person.id,
        "topic": meeting.topic,
        "type": 2,
        "start_time": zulu(meeting.start),
        "duration": meeting.minutes,
        "timezone": "UTC",
    }


def get_meeting(ask: Ask) -> Reply:
    """`GET /meetings/{meeting}`."""
    person = opened(ask, "meeting:read:meeting")
    if isinstance(person, Reply):
        return person
    meeting = found_meeting(ask, person)
    if meeting is None:
        return failed(404, 3001, f"Meeting does not exist: {ask.parts['meeting']}.")
    status = "waiting" if meeting.start > ask.realm.now() else "finished"
    return as_json(200, {**_told(meeting, person), "status": status, "join_url": f"{ask.realm.base}/j/{meeting.id}"})


def past_meeting(ask: Ask) -> Reply:
    """`GET /past_meetings/{meeting}`: when it really began and ended."""
    person = opened(ask, "meeting:read:past_meeting")
    if isinstance(person, Reply):
        return person
    meeting = found_meeting(ask, person)
    if meeting is None or meeting.end > ask.realm.now():
        return failed(404, 3001, f"Meeting does not exist: {ask.parts['meeting']}.")
    ended = {"end_time": zulu(meeting.end), "participants_count": len(meeting.participants), "total_minutes": meeting.minutes * 2}
    return as_json(200, {**_told(meeting, person), "user_name": person.name, "user_email": person.email, **ended})


def participants(ask: Ask) -> Reply:
    """`GET /past_meetings/{meeting}/participants`."""
    person = opened(ask, "meeting:read:list_past_participants")
    if isinstance(person, Reply):
        return person
    meeting = found_meeting(ask, person)
    if meeting is None or meeting.end > ask.realm.now():
        return failed(404, 3001, f"Meeting does not exist: {ask.parts['meeting']}.")
    rows = [
        {
            "id": "" if not email else person.id,
            "user_id": str(16_778_240 + index),
            "name": name,
            "user_email": email,
            "join_time": zulu(meeting.start),
            "leave_time": zulu(meeting.end),
            "duration": meeting.minutes * 60,
        }
        for index, (name, email) in enumerate(meeting.participants)
    ]
    return _paged(ask, ("participants", meeting.uuid), rows, "participants")


def list_meetings(ask: Ask) -> Reply:
    """`GET /users/{user}/meetings?type=scheduled|upcoming|previous_meetings`."""
    person = owner(ask, "meeting:read:list_meetings")
    if isinstance(person, Reply):
        return person
    kind = ask.query("type", "scheduled")
    now = ask.realm.now()
    # From when to when a meeting of this type may begin, or end.
    span = {"scheduled": (0.0, _NEVER), "upcoming": (now, _NEVER), "previous_meetings": (0.0, now)}.get(kind)
    if span is None:
        return failed(400, 300, "Validation Failed.")
    rows = [_told(meeting, person) for meeting in meetings(ask.realm, person) if span[0] <= meeting.start and meeting.end <= span[1]]
    return _paged(ask, ("meetings", person.login, kind), rows, "meetings")


def _paged(ask: Ask, question: tuple[str, ...], rows: list[dict[str, Any]], name: str) -> Reply:
    size = number(ask.query("page_size"), 30, 300)
    found = None if size is None else page(ask.realm, question, rows, size, ask.query("next_page_token"), _PAGE_SECONDS)
    if found is None:
        return failed(400, 300, "Validation Failed.")
    return as_json(200, {"page_size": size, "total_records": len(rows), "next_page_token": found[1], name: found[0]})


ROUTES: Final = (
    Route("GET", "/v2/users/me", me, Operation.IDENTITY, "§2.3"),
    Route("GET", "/v2/meetings/{meeting}", get_meeting, Operation.API, "§2.5 (meeting metadata)"),
    Route("GET", "/v2/past_meetings/{meeting}", past_meeting, Operation.API, "§2.5 (meeting metadata)"),
    Route("GET", "/v2/past_meetings/{meeting}/participants", participants, Operation.API, "§2.5 (meeting metadata)"),
    Route("GET", "/v2/users/{user}/meetings", list_meetings, Operation.API, "§2.5 (list meetings)"),
)
