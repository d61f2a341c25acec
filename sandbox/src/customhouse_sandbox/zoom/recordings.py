"""Zoom's calls about recordings and transcripts (§2.5), down to the bytes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

from customhouse_sandbox import oauth
from customhouse_sandbox.faults import Operation
from customhouse_sandbox.http import Reply, as_json, redirect
from customhouse_sandbox.paging import number, page
from customhouse_sandbox.ranges import partial
from customhouse_sandbox.routing import Ask, Route
from customhouse_sandbox.state import Person
from customhouse_sandbox.zoom.api import failed, found_meeting, opened, owner
from customhouse_sandbox.zoom.meetings import File, Meeting, meetings, recording

_PAGE_SECONDS: Final = 900.0
_DAY: Final = 86_400
_LONGEST_TTL: Final = 604_800
_MONTH: Final = timedelta(days=31)
_LIST: Final = "cloud_recording:read:list_user_recordings"
_FILES: Final = "cloud_recording:read:list_recording_files"
_TRANSCRIPT: Final = "cloud_recording:read:meeting_transcript"


def list_recordings(ask: Ask) -> Reply:
    """`GET /users/{user}/recordings`: at most one month per call, UTC dates."""
    person = owner(ask, _LIST)
    if isinstance(person, Reply):
        return person
    today = datetime.fromtimestamp(ask.realm.now(), UTC).date()
    last = _date(ask.query("to"), today)
    # Without a beginning it is the day alone: what Zoom takes then is not written down.
    first = _date(ask.query("from"), last) if last else None
    size = number(ask.query("page_size"), 30, 300)
    if first is None or last is None or size is None or first > last:
        return failed(400, 300, "Validation Failed.")
    if last - first > _MONTH:
        if ask.realm.facts["recordings_range"] == "refused":
            return failed(400, 300, "The next available date range is one month.")
        first = last - _MONTH
    items = [
        meeting
        for meeting in meetings(ask.realm, person)
        if meeting.files and first <= datetime.fromtimestamp(meeting.start, UTC).date() <= last
    ]
    found = page(ask.realm, ("recordings", person.login, first, last), items, size, ask.query("next_page_token"), _PAGE_SECONDS)
    if found is None:
        return failed(400, 300, "The next page token is invalid or expired.")
    return as_json(
        200,
        {
            "from": first.isoformat(),
            "to": last.isoformat(),
            "page_size": size,
            "total_records": len(items),
            "next_page_token": found[1],
            "meetings": [recording(ask.realm, person, meeting) for meeting in found[0]],
        },
    )


def _date(text: str, default: date) -> date | None:
    try:
        return date.fromisoformat(text) if text else default
    except ValueError:
        return None


def meeting_recordings(ask: Ask) -> Reply:
    """`GET /meetings/{meeting}/recordings`, with a download token where it is asked for."""
    person = opened(ask, _FILES)
    if isinstance(person, Reply):
        return person
    meeting = found_meeting(ask, person)
    if meeting is None or not meeting.files:
        return failed(404, 3301, "There is no recording for this meeting.")
    said = recording(ask.realm, person, meeting)
    if "download_access_token" in ask.query("include_fields").split(","):
        lifetime = number(ask.query("ttl"), _DAY, _LONGEST_TTL)
        if lifetime is None:
            return failed(400, 300, "Validation Failed.")
        said["download_access_token"] = download_token(ask, meeting, lifetime)
    return as_json(200, said)


def download_token(ask: Ask, meeting: Meeting, lifetime: float) -> str:
    """Return a token that opens one meeting's files and nothing else."""
    value = f"sandbox-zoom-download-{ask.realm.mint.next('download')}"
    ask.realm.store.setdefault("download-tokens", {})[value] = (meeting.uuid, ask.realm.now() + lifetime)
    return value


def transcript(ask: Ask) -> Reply:
    """`GET /meetings/{meeting}/transcript`."""
    person = opened(ask, _TRANSCRIPT)
    if isinstance(person, Reply):
        return person
    meeting = found_meeting(ask, person)
    file = next((file for file in meeting.files if file.type == "TRANSCRIPT"), None) if meeting else None
    if meeting is None or file is None:
        return failed(404, 3322, "There is no transcript for this meeting.")
    url = f"{ask.realm.base}/rec/download/{file.id}"
    return as_json(
        200,
        {"meeting_id": meeting.uuid, "account_id": person.organisation, "host_id": person.id, "can_download": True, "download_url": url},
    )


def download(ask: Ask) -> Reply:
    """`GET {download_url}`: sends on to where the bytes are."""
    file = _opened_file(ask)
    if isinstance(file, Reply):
        return file
    place = ask.realm.mint.next("archive", 32)
    ask.realm.store.setdefault("archive", {})[place] = file.id
    return redirect(f"{ask.realm.base}/rec/archive/{place}/{file.id}")


def _opened_file(ask: Ask) -> File | Reply:
    value = ask.request.headers.get("authorization", "").removeprefix("Bearer ")
    uuid, end = ask.realm.store.get("download-tokens", {}).get(value, ("", 0.0))
    shown = oauth.bearer(ask)
    every: list[Meeting] = ask.realm.store["meetings"]
    for meeting in every:
        for file in meeting.files:
            if file.id != ask.parts["file"]:
                continue
            by_download_token = meeting.uuid == uuid and ask.realm.now() < end
            if by_download_token or (shown is not None and _may_download(shown[0].scopes, shown[1], meeting)):
                return file
    return failed(401, 300, "Forbidden") if shown is None and not uuid else failed(404, 3301, "This recording does not exist.")


def _may_download(scopes: tuple[str, ...], person: Person, meeting: Meeting) -> bool:
    return meeting.host == person.login and any(scope.startswith("cloud_recording:read:") for scope in scopes)


def archive(ask: Ask) -> Reply:
    """Where a download leads: opened by its address, and in parts where a range is asked for (RFC 9110 §14)."""
    if ask.realm.store.get("archive", {}).get(ask.parts["place"]) != ask.parts["file"]:
        return failed(404, 3301, "This recording does not exist.")
    content: bytes = next(file.content for meeting in ask.realm.store["meetings"] for file in meeting.files if file.id == ask.parts["file"])
    return partial(ask.request, content)


ROUTES: Final = (
    Route("GET", "/v2/users/{user}/recordings", list_recordings, Operation.API, "§2.5 (list recordings)"),
    Route("GET", "/v2/meetings/{meeting}/recordings", meeting_recordings, Operation.API, "§2.5 (one meeting's files)"),
    Route("GET", "/v2/meetings/{meeting}/transcript", transcript, Operation.API, "§2.5 (transcript)"),
    Route("GET", "/rec/download/{file}", download, Operation.API, "§2.5 (download)"),
    Route("GET", "/rec/archive/{place}/{file}", archive, Operation.API, "§2.5 (download: follow redirects)"),
)
