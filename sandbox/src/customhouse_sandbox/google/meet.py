"""Google Meet v2 (§3.3): past conferences, their recordings, transcripts and participants."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from customhouse_sandbox.clock import rfc3339
from customhouse_sandbox.faults import Operation
from customhouse_sandbox.google import drive
from customhouse_sandbox.google.api import invalid, missing, moment, opened, paged
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.routing import Ask, Route
from customhouse_sandbox.state import Person, Realm, fixed

_SCOPES: Final = ("meetings.space.readonly",)
_DAY: Final = 86_400.0
_KEPT: Final = 30 * _DAY
_TERM: Final = re.compile(r'(space\.name|space\.meeting_code|start_time|end_time) ?(=|>=|<=|>|<) ?"([^"]{1,200})"')


@dataclass(frozen=True, slots=True)
class Conference:
    """One conference of a person."""

    id: str
    host: str
    code: str
    start: float
    end: float | None
    """None while it is live."""
    video: str = ""
    """The file of its recording; empty: there is none."""
    document: str = ""
    """The document of its transcript; empty: there is none."""
    pending: bool = False
    """Its recording has ended and is no file yet."""

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"conferenceRecords/{self.id}"


def fill(realm: Realm) -> None:
    """Give each person four conferences: a recorded one, one whose file is not ready, one without a recording, and a live one."""
    made: list[Conference] = []
    now = float(int(realm.now()))
    for login, person in realm.people.items():
        for index, days in enumerate((10.0, 3.0, 1.0, 0.01)):
            stem = fixed(f"conference-{login}-{index}", 24)
            letters = "".join(character for character in fixed(stem, 43).lower() if character.isalpha())[:10]
            start = now - days * _DAY
            video = document = ""
            if index == 0:
                video, document = (_file(realm, person, kind, start) for kind in ("video/mp4", "application/vnd.google-apps.document"))
            code = f"{letters[:3]}-{letters[3:7]}-{letters[7:]}"
            made.append(Conference(stem, login, code, start, None if days < 1 else start + 1800, video, document, pending=index == 1))
    realm.store["conferences"] = made


def _file(realm: Realm, person: Person, kind: str, at: float) -> str:
    name = fixed(f"meet-file-{person.login}-{kind}", 33)
    content = fixed(name, 65_536).encode() if kind == "video/mp4" else f"{person.name}\nWelcome.\n".encode()
    drive.files(realm)[name] = drive.File(name, person.login, drive.MADE_BY_MEET, {"name": "Meeting", "mimeType": kind}, content, at + 1800)
    return name


def _conferences(ask: Ask, person: Person) -> list[Conference]:
    """Return a person's conferences, the newest first; a record is deleted 30 days after the end."""
    every: list[Conference] = ask.realm.store["conferences"]
    mine = [one for one in every if one.host == person.login and (one.end is None or ask.realm.now() < one.end + _KEPT)]
    return sorted(mine, key=lambda one: one.start, reverse=True)


def _told(one: Conference) -> dict[str, Any]:
    ended = {} if one.end is None else {"endTime": rfc3339(one.end), "expireTime": rfc3339(one.end + _KEPT)}
    return {"name": one.name, "startTime": rfc3339(one.start), **ended, "space": f"spaces/{_space(one)}"}


def _space(one: Conference) -> str:
    return fixed(f"space-{one.code}", 12)


def list_records(ask: Ask) -> Reply:
    """`GET /conferenceRecords?filter=…`."""
    shown = opened(ask, *_SCOPES)
    if isinstance(shown, Reply):
        return shown
    terms = [term.strip() for term in re.split(r"\bAND\b", ask.query("filter")) if term.strip()]
    matches = [_TERM.fullmatch(term) for term in terms]
    found = _conferences(ask, shown[1])
    for match in matches:
        kept = None if match is None else _filtered(found, match[1], match[2], match[3])
        if kept is None:
            return invalid("Invalid filter.")
        found = kept
    question = ("conferences", shown[1].login, ask.query("filter"))
    return paged(ask, question, [_told(one) for one in found], ("pageSize", 25, 100), "conferenceRecords")


def _filtered(found: list[Conference], field: str, sign: str, text: str) -> list[Conference] | None:
    if field.startswith("space."):
        wanted = {one.id: one.code if field == "space.meeting_code" else f"spaces/{_space(one)}" for one in found}
        return [one for one in found if wanted[one.id] == text] if sign == "=" else None
    edge = moment(text)
    if edge is None:
        return None
    times = {one.id: one.start if field == "start_time" else one.end for one in found}
    return [one for one in found if (at := times[one.id]) is not None and _holds(at, sign, edge)]


def _holds(at: float, sign: str, edge: float) -> bool:
    return {"=": at == edge, ">=": at >= edge, "<=": at <= edge, ">": at > edge, "<": at < edge}[sign]


def _one(ask: Ask) -> Conference | Reply:
    shown = opened(ask, *_SCOPES)
    if isinstance(shown, Reply):
        return shown
    found = next((one for one in _conferences(ask, shown[1]) if one.id == ask.parts["record"]), None)
    return missing("Requested entity was not found.") if found is None else found


def get_record(ask: Ask) -> Reply:
    """`GET /conferenceRecords/{record}`."""
    one = _one(ask)
    return one if isinstance(one, Reply) else as_json(200, _told(one))


def list_recordings(ask: Ask) -> Reply:
    """`GET /conferenceRecords/{record}/recordings`: a file only in the state `FILE_GENERATED`."""
    one = _one(ask)
    if isinstance(one, Reply):
        return one
    return paged(ask, ("recordings", one.id), _recordings(ask, one), ("pageSize", 10, 100), "recordings")


def _recordings(ask: Ask, one: Conference) -> list[dict[str, Any]]:
    if one.end is None or not (one.video or one.pending):
        return []
    said: dict[str, Any] = {
        "name": f"{one.name}/recordings/{fixed(f'recording-{one.id}', 16)}",
        "state": "FILE_GENERATED" if one.video else "ENDED",
        "startTime": rfc3339(one.start),
        "endTime": rfc3339(one.end),
    }
    if one.video:
        said["driveDestination"] = {"file": one.video, "exportUri": f"{ask.realm.base}/drive/file/{one.video}"}
    return [said]


def list_transcripts(ask: Ask) -> Reply:
    """`GET /conferenceRecords/{record}/transcripts`."""
    one = _one(ask)
    if isinstance(one, Reply):
        return one
    return paged(ask, ("transcripts", one.id), _transcripts(ask, one), ("pageSize", 10, 100), "transcripts")


def _transcripts(ask: Ask, one: Conference) -> list[dict[str, Any]]:
    if not one.document or one.end is None:
        return []
    destination = {"document": one.document, "exportUri": f"{ask.realm.base}/drive/file/{one.document}"}
    times = {"startTime": rfc3339(one.start), "endTime": rfc3339(one.end)}
    return [{"name": f"{one.name}/transcripts/{_transcript(one)}", "state": "FILE_GENERATED", **times, "docsDestination": destination}]


def get_recording(ask: Ask) -> Reply:
    """`GET /conferenceRecords/{record}/recordings/{recording}`."""
    return _alone(ask, "recordings", _recordings)


def get_transcript(ask: Ask) -> Reply:
    """`GET /conferenceRecords/{record}/transcripts/{transcript}`."""
    return _alone(ask, "transcripts", _transcripts)


def _alone(ask: Ask, kind: str, every: Callable[[Ask, Conference], list[dict[str, Any]]]) -> Reply:
    one = _one(ask)
    if isinstance(one, Reply):
        return one
    name = f"{one.name}/{kind}/{ask.parts[kind.removesuffix('s')]}"
    found = next((row for row in every(ask, one) if row["name"] == name), None)
    return missing("Requested entity was not found.") if found is None else as_json(200, found)


def _transcript(one: Conference) -> str:
    return fixed(f"transcript-{one.id}", 16)


def list_entries(ask: Ask) -> Reply:
    """`GET /conferenceRecords/{record}/transcripts/{transcript}/entries`."""
    one = _one(ask)
    if isinstance(one, Reply):
        return one
    if not one.document or ask.parts["transcript"] != _transcript(one):
        return missing("Requested entity was not found.")
    person = ask.realm.people[one.host]
    rows = [
        {
            "name": f"{one.name}/transcripts/{_transcript(one)}/entries/{number}",
            "participant": f"{one.name}/participants/{number % 2}",
            "text": f"{person.given if number % 2 else 'Guest'}: sentence {number}.",
            "languageCode": "en-US",
            "startTime": rfc3339(one.start + number * 5),
            "endTime": rfc3339(one.start + number * 5 + 4),
        }
        for number in range(1, 26)
    ]
    return paged(ask, ("entries", one.id), rows, ("pageSize", 10, 100), "transcriptEntries")


def list_participants(ask: Ask) -> Reply:
    """`GET /conferenceRecords/{record}/participants`."""
    one = _one(ask)
    if isinstance(one, Reply):
        return one
    person = ask.realm.people[one.host]
    ended = {} if one.end is None else {"latestEndTime": rfc3339(one.end)}
    people = ({"signedinUser": {"user": f"users/{person.id}", "displayName": person.name}}, {"anonymousUser": {"displayName": "Guest"}})
    times = {"earliestStartTime": rfc3339(one.start), **ended}
    rows = [{"name": f"{one.name}/participants/{number}", **who, **times} for number, who in enumerate(people)]
    return paged(ask, ("participants", one.id), rows, ("pageSize", 100, 250), "participants", totalSize=len(rows))


_RECORD: Final = "/meet/v2/conferenceRecords/{record}"

ROUTES: Final = (
    Route("GET", "/meet/v2/conferenceRecords", list_records, Operation.API, "§3.3"),
    Route("GET", _RECORD, get_record, Operation.API, "§3.3"),
    Route("GET", f"{_RECORD}/recordings", list_recordings, Operation.API, "§3.3 (recordings)"),
    Route("GET", f"{_RECORD}/recordings/{{recording}}", get_recording, Operation.API, "§3.3 (recordings)"),
    Route("GET", f"{_RECORD}/transcripts", list_transcripts, Operation.API, "§3.3 (transcripts)"),
    Route("GET", f"{_RECORD}/transcripts/{{transcript}}", get_transcript, Operation.API, "§3.3 (transcripts)"),
    Route("GET", f"{_RECORD}/transcripts/{{transcript}}/entries", list_entries, Operation.API, "§3.3 (entries)"),
    Route("GET", f"{_RECORD}/participants", list_participants, Operation.API, "§3.3 (participants)"),
)
