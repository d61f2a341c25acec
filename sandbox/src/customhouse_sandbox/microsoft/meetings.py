"""Online meetings of Teams (§6.2, §6.3), as they were when the sandbox began, with the recordings and transcripts that some have."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from customhouse_sandbox.clock import rfc3339
from customhouse_sandbox.microsoft import directory
from customhouse_sandbox.state import Person, Realm, fixed

_DAY: Final = 86_400.0
_MINUTES: Final = 45
_VIDEO_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Artifact:
    """A recording or a transcript of a meeting."""

    id: str
    call: str
    correlation: str
    start: float
    end: float
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Meeting:
    """One meeting of its organiser."""

    id: str
    organiser: str
    """The login."""
    subject: str
    start: float
    thread: str
    """Of the meeting's chat."""
    number: str
    """What people type to join."""
    address: str
    """What people press to join: it holds escapes of its own, so a filter has to escape it again (§6.3)."""
    recordings: tuple[Artifact, ...] = ()
    transcripts: tuple[Artifact, ...] = ()

    @property
    def end(self) -> float:
        """When it is over."""
        return self.start + _MINUTES * 60


def fill(realm: Realm) -> None:
    """Give each person of a tenant the same five meetings, seen from now; the one of ten days ago was made without a calendar event."""
    found: list[Meeting] = []
    for person in realm.people.values():
        if directory.tenant_of(person) is not None:
            found += [_meeting(person, index, realm.now() + days * _DAY) for index, days in enumerate((-30, -20, -10, -2, 3))]
    realm.store["meetings"] = found


def meetings(realm: Realm, person: Person) -> list[Meeting]:
    """Return a person's own meetings: nobody else's are told to them (§6.2)."""
    every: list[Meeting] = realm.store["meetings"]
    return [meeting for meeting in every if meeting.organiser == person.login]


def _meeting(person: Person, index: int, start: float) -> Meeting:
    name = f"{person.login}-{index}"
    thread = f"19:meeting_{fixed(f'thread-{name}', 40)}@thread.v2"
    context = quote(f'{{"Tid":"{person.organisation}","Oid":"{person.id}"}}', safe="")
    recordings = tuple(_recording(name, part, start) for part in range((1, 2, 0, 1, 0)[index]))
    transcripts = tuple(_transcript(person, name, part, start) for part in range((1, 0, 0, 1, 0)[index]))
    return Meeting(
        base64.b64encode(f"1*{person.id}*0**{thread}".encode()).decode().rstrip("="),
        person.login,
        f"Session {index + 1}",
        float(int(start)),
        thread,
        f"{int.from_bytes(fixed(f'number-{name}', 6).encode()) % 10**12:012d}",
        f"https://teams.microsoft.com/l/meetup-join/{quote(thread, safe='')}/0?context={context}",
        recordings,
        transcripts,
    )


def _recording(name: str, part: int, start: float) -> Artifact:
    content = fixed(f"video-{name}-{part}", _VIDEO_BYTES // 64).encode() * 64
    return _artifact(f"recording-{name}-{part}", start, content)


def _transcript(person: Person, name: str, part: int, start: float) -> Artifact:
    words = f"WEBVTT\r\n\r\n00:00:01.000 --> 00:00:04.000\r\n<v {person.name}>This is {name}.</v>\r\n"
    return _artifact(f"transcript-{name}-{part}", start, words.encode())


def _artifact(name: str, start: float, content: bytes) -> Artifact:
    return Artifact(
        fixed(name, 120), directory.guid(f"call-{name}"), directory.guid(f"correlation-{name}"), start, start + _MINUTES * 60, content
    )


def told(meeting: Meeting, person: Person) -> dict[str, Any]:
    """Return a meeting as Graph tells it."""
    identity = {"user": {"id": person.id, "displayName": person.name, "tenantId": person.organisation}}
    return {
        "id": meeting.id,
        "creationDateTime": rfc3339(meeting.start - _DAY),
        "startDateTime": rfc3339(meeting.start),
        "endDateTime": rfc3339(meeting.end),
        "subject": meeting.subject,
        "joinWebUrl": meeting.address,
        "joinMeetingIdSettings": {"joinMeetingId": meeting.number, "isPasscodeRequired": False, "passcode": None},
        "chatInfo": {"threadId": meeting.thread, "messageId": "0", "replyChainMessageId": None},
        "participants": {"organizer": {"identity": identity, "upn": person.email, "role": "presenter"}, "attendees": []},
    }


def described(realm: Realm, kind: str, meeting: Meeting, artifact: Artifact, person: Person) -> dict[str, Any]:
    """Return a recording or a transcript as Graph tells it; `kind`: `recordings` or `transcripts`."""
    address = f"{realm.base}/v1.0/me/onlineMeetings/{meeting.id}/{kind}/{artifact.id}/content"
    user = {"@odata.type": "#microsoft.graph.teamworkUserIdentity", "id": person.id, "displayName": None, "userIdentityType": "aadUser"}
    return {
        "id": artifact.id,
        "meetingId": meeting.id,
        "callId": artifact.call,
        "contentCorrelationId": artifact.correlation,
        "createdDateTime": rfc3339(artifact.start),
        "endDateTime": rfc3339(artifact.end),
        f"{'recording' if kind == 'recordings' else 'transcript'}ContentUrl": address,
        "meetingOrganizer": {"application": None, "device": None, "user": {**user, "tenantId": person.organisation}},
    }
