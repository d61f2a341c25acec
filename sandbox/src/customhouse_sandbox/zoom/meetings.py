"""The meetings of Zoom's people, as they were when the sandbox began: past and coming ones, some of them recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from customhouse_sandbox.state import Person, Realm, fixed

_DAY: Final = 86_400.0
_MINUTE: Final = 60.0
_VIDEO_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class File:
    """One file of a recording."""

    id: str
    type: str
    extension: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Meeting:
    """One meeting of a person."""

    id: int
    uuid: str
    """Of this instance; may begin with `/` or hold `//`, and then it is encoded twice in a path (§2.5)."""
    host: str
    """The host's login."""
    topic: str
    start: float
    minutes: int
    participants: tuple[tuple[str, str], ...]
    """Names and addresses; the address of somebody outside the account is empty (§2.5)."""
    files: tuple[File, ...] = ()

    @property
    def end(self) -> float:
        """When it is over."""
        return self.start + self.minutes * _MINUTE


def zulu(at: float) -> str:
    """Return a moment as Zoom writes it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def fill(realm: Realm) -> None:
    """Give each person the same six meetings, seen from now."""
    found: list[Meeting] = []
    for person in realm.people.values():
        found += _of(person, realm.now())
    realm.store["meetings"] = found


def _of(person: Person, now: float) -> list[Meeting]:
    made = []
    beginnings = ("", "/", "", "", "", "")
    for index, days in enumerate((-40, -20, -10, -2, 1, 8)):
        stem = fixed(f"meeting-{person.login}-{index}", 22)
        uuid = f"{beginnings[index]}{stem[:10]}{'//' if index == 2 else 'x'}{stem[10:20]}=="  # noqa: PLR2004 - one of them
        participants = ((person.name, person.email), ("Guest Outside", "")) if days < 0 else ()
        meeting = Meeting(
            80_000_000_000 + int.from_bytes(stem[:4].encode()) % 1_000_000_000,
            uuid,
            person.login,
            f"Session {index + 1}",
            float(int(now + days * _DAY)),
            45,
            participants,
            _files(person, index) if days < 0 and index > 0 else (),
        )
        made.append(meeting)
    return made


def _files(person: Person, index: int) -> tuple[File, ...]:
    name = f"{person.login}-{index}"
    words = f"WEBVTT\n\n1\n00:00:01.000 --> 00:00:04.000\n{person.name}: This is session {index + 1}.\n\n"
    words += "2\n00:00:05.000 --> 00:00:07.000\nGuest Outside: It is.\n"
    return (
        File(fixed(f"video-{name}", 22), "MP4", "MP4", fixed(name, _VIDEO_BYTES).encode()),
        File(fixed(f"transcript-{name}", 22), "TRANSCRIPT", "VTT", words.encode()),
        File(fixed(f"chat-{name}", 22), "CHAT", "TXT", f"00:00:09\t{person.name}:\tHello\n".encode()),
    )


def meetings(realm: Realm, person: Person) -> list[Meeting]:
    """Return a person's meetings, the oldest first."""
    return [meeting for meeting in realm.store["meetings"] if meeting.host == person.login]


def recording(realm: Realm, person: Person, meeting: Meeting) -> dict[str, Any]:
    """Return a meeting's recording as the API and the webhooks tell it."""
    return {
        "uuid": meeting.uuid,
        "id": meeting.id,
        "account_id": person.organisation,
        "host_id": person.id,
        "topic": meeting.topic,
        "type": 2,
        "start_time": zulu(meeting.start),
        "timezone": "UTC",
        "duration": meeting.minutes,
        "total_size": sum(len(file.content) for file in meeting.files),
        "recording_count": len(meeting.files),
        "recording_files": [_file(realm, meeting, file) for file in meeting.files],
    }


def _file(realm: Realm, meeting: Meeting, file: File) -> dict[str, Any]:
    return {
        "id": file.id,
        "meeting_id": meeting.uuid,
        "recording_start": zulu(meeting.start),
        "recording_end": zulu(meeting.end),
        "file_type": file.type,
        "file_extension": file.extension,
        "file_size": len(file.content),
        "play_url": f"{realm.base}/rec/play/{file.id}",
        "download_url": f"{realm.base}/rec/download/{file.id}",
        "status": "completed",
        "recording_type": {"MP4": "shared_screen_with_speaker_view", "TRANSCRIPT": "audio_transcript", "CHAT": "chat_file"}[file.type],
    }
