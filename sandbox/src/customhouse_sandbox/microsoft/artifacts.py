"""Graph's calls about online meetings, recordings and transcripts (§6.2, §6.3)."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from customhouse_sandbox.clock import rfc3339
from customhouse_sandbox.faults import Operation
from customhouse_sandbox.http import Reply, as_json, redirect
from customhouse_sandbox.microsoft import meetings
from customhouse_sandbox.microsoft.errors import failed, insufficient, invalid, missing
from customhouse_sandbox.microsoft.identity import opened
from customhouse_sandbox.microsoft.lists import listed
from customhouse_sandbox.microsoft.meetings import Artifact, Meeting
from customhouse_sandbox.ranges import partial
from customhouse_sandbox.routing import Ask, Route
from customhouse_sandbox.state import Person

READ: Final = "OnlineMeetings.Read"
SCOPES: Final = {"recordings": "OnlineMeetingRecording.Read.All", "transcripts": "OnlineMeetingTranscript.Read.All"}
_VTT: Final = "text/vtt"
_FILTER: Final = re.compile(r"\s*(JoinWebUrl|joinMeetingIdSettings/joinMeetingId)\s+eq\s+'((?:[^']|'')*)'\s*", re.IGNORECASE)


def find_meetings(ask: Ask) -> Reply:
    """`GET /v1.0/me/onlineMeetings?$filter=…`: one meeting, by its address or its number; there is no list of all."""
    shown = _person(ask, READ)
    if isinstance(shown, Reply):
        return shown
    asked = _FILTER.fullmatch(ask.query("$filter"))
    if asked is None:
        return invalid(
            ask.realm, "A filter expression is required, of JoinWebUrl or of joinMeetingIdSettings/joinMeetingId.", "InvalidArgument"
        )
    wanted = asked[2].replace("''", "'")
    by_address = asked[1].lower() == "joinweburl"
    found = [one for one in meetings.meetings(ask.realm, shown) if wanted == (one.address if by_address else one.number)]
    context = f"{ask.realm.base}/v1.0/$metadata#users('{shown.id}')/onlineMeetings"
    return as_json(200, {"@odata.context": context, "value": [meetings.told(one, shown) for one in found]})


def _person(ask: Ask, scope: str) -> Person | Reply:
    """Return whose meetings a call is about: the token's own, by `me` or by id."""
    shown = opened(ask, scope)
    if isinstance(shown, Reply):
        return shown
    _, person = shown
    if ask.parts.get("user", person.id) != person.id:
        return missing(ask.realm, "The user was not found, or is somebody else.")
    return person


def get_meeting(ask: Ask) -> Reply:
    """`GET /v1.0/me/onlineMeetings/{meeting}`; the collections of everything are for applications alone (§6.3)."""
    if ask.parts["meeting"].partition("(")[0] in {"getAllRecordings", "getAllTranscripts"}:
        shown = _person(ask, SCOPES["recordings" if "Recordings" in ask.parts["meeting"] else "transcripts"])
        return shown if isinstance(shown, Reply) else insufficient(ask.realm, ("an application permission",), ())
    person = _person(ask, READ)
    if isinstance(person, Reply):
        return person
    meeting = _meeting(ask, person)
    return meeting if isinstance(meeting, Reply) else as_json(200, meetings.told(meeting, person))


def _meeting(ask: Ask, person: Person) -> Meeting | Reply:
    found = next((one for one in meetings.meetings(ask.realm, person) if one.id == ask.parts["meeting"]), None)
    return found if found is not None else missing(ask.realm, "The meeting does not exist.")


def _opened(ask: Ask) -> tuple[Person, Meeting, list[Artifact]] | Reply:
    """Return the artifacts of a kind that a meeting has, to whoever may see them."""
    kind = ask.parts["kind"]
    if kind not in SCOPES:
        return invalid(ask.realm, f"Resource not found for the segment '{kind}'.")
    person = _person(ask, SCOPES[kind])
    if isinstance(person, Reply):
        return person
    if kind == "transcripts" and ask.realm.facts["transcripts"] == "blocked":
        message = "Access to transcripts is disabled by the administrator of the tenant."
        return failed(ask.realm, 403, "Forbidden", message, inner="GraphAccessToTranscriptsDisabled")
    meeting = _meeting(ask, person)
    if isinstance(meeting, Reply):
        return meeting
    return person, meeting, list(meeting.recordings if kind == "recordings" else meeting.transcripts)


def list_artifacts(ask: Ask) -> Reply:
    """`GET …/recordings` and `GET …/transcripts`."""
    found = _opened(ask)
    if isinstance(found, Reply):
        return found
    person, meeting, artifacts = found
    rows = [meetings.described(ask.realm, ask.parts["kind"], meeting, one, person) for one in artifacts]
    return listed(ask, (ask.parts["kind"], meeting.id), rows)


def get_artifact(ask: Ask) -> Reply:
    """`GET …/recordings/{artifact}` and `GET …/transcripts/{artifact}`."""
    found = _one(ask)
    if isinstance(found, Reply):
        return found
    person, meeting, artifact = found
    return as_json(200, meetings.described(ask.realm, ask.parts["kind"], meeting, artifact, person))


def _one(ask: Ask) -> tuple[Person, Meeting, Artifact] | Reply:
    found = _opened(ask)
    if isinstance(found, Reply):
        return found
    person, meeting, artifacts = found
    artifact = next((one for one in artifacts if one.id == ask.parts["artifact"]), None)
    return missing(ask.realm) if artifact is None else (person, meeting, artifact)


def content(ask: Ask) -> Reply:
    """`GET …/content`: a recording's bytes, perhaps elsewhere; a transcript as WebVTT and as nothing else."""
    found = _one(ask)
    if isinstance(found, Reply):
        return found
    artifact = found[2]
    if ask.parts["kind"] == "transcripts":
        wanted = ask.query("$format") or ask.request.headers.get("accept", "*/*").partition(",")[0].partition(";")[0].strip()
        if wanted not in {_VTT, "*/*", "text/*", ""}:
            return failed(ask.realm, 406, "NotAcceptable", "Transcripts are text/vtt.")
        return Reply(200, artifact.content, (("Content-Type", _VTT),))
    if ask.realm.facts["content"] == "bytes":
        return partial(ask.request, artifact.content, "video/mp4")
    place = ask.realm.mint.next("storage", 32)
    ask.realm.store.setdefault("storage", {})[place] = artifact
    return redirect(f"{ask.realm.base}/storage/{place}")


def storage(ask: Ask) -> Reply:
    """Where a recording's bytes are: opened by the address alone."""
    artifact: Artifact | None = ask.realm.store.get("storage", {}).get(ask.parts["place"])
    return missing(ask.realm) if artifact is None else partial(ask.request, artifact.content, "video/mp4")


def metadata_content(ask: Ask) -> Reply:
    """`GET …/transcripts/{artifact}/metadataContent`: who spoke when."""
    found = _one(ask)
    if isinstance(found, Reply):
        return found
    if ask.parts["kind"] != "transcripts":
        return invalid(ask.realm, "Resource not found for the segment 'metadataContent'.")
    person, _, artifact = found
    spoken: dict[str, Any] = {
        "startDateTime": rfc3339(artifact.start + 1),
        "endDateTime": rfc3339(artifact.start + 4),
        "speakerName": person.name,
        "spokenText": "This is a session.",
        "spokenLanguage": "en-gb",
    }
    words = f"WEBVTT\r\n\r\n00:00:01.000 --> 00:00:04.000\r\n{json.dumps(spoken)}\r\n"
    return Reply(200, words.encode(), (("Content-Type", _VTT),))


ROUTES: Final = (
    Route("GET", "/v1.0/me/onlineMeetings", find_meetings, Operation.API, "§6.3 (find meeting)"),
    *(
        Route("GET", f"/v1.0/{whose}/onlineMeetings/{{meeting}}{rest}", answer, Operation.API, cites)
        for whose in ("me", "users/{user}")
        for rest, answer, cites in (
            ("", get_meeting, "§6.3 (find meeting; all of a user)"),
            ("/{kind}", list_artifacts, "§6.3 (recordings, transcripts)"),
            ("/{kind}/{artifact}", get_artifact, "§6.3 (recordings, transcripts)"),
            ("/{kind}/{artifact}/content", content, "§6.3 (recordings, transcripts)"),
            ("/{kind}/{artifact}/metadataContent", metadata_content, "§6.3 (transcripts)"),
        )
    ),
    Route("GET", "/storage/{place}", storage, Operation.API, "§6.3 (302 to storage)"),
)
