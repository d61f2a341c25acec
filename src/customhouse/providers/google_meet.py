"""Google Meet: conference records, recordings and transcripts, read only."""

from __future__ import annotations

from typing import Final

from customhouse.providers import google
from customhouse.providers.manifest import Allowance, Flow, Implied, Never, Provider, Scope
from customhouse.providers.vocabulary import Risk

_MEETINGS: Final = f"{google.AUTH}meetings.space.readonly"
_FILES: Final = f"{google.AUTH}drive.meet.readonly"

PROVIDER: Final = Provider(
    id="google-meet",
    name="Google Meet",
    purpose="Session recording and transcription",
    risk=Risk.HIGH,
    risk_why="raw session data",
    version=1,
    hosts=(*google.HOSTS, "meet.googleapis.com"),
    endpoints=google.endpoints("https://meet.googleapis.com/v2"),
    auth=google.OAUTH2,
    scopes=(
        *google.IDENTITY_SCOPES,
        Scope(
            _MEETINGS,
            words="see your past meetings, who took part, and their recordings and transcripts",
            why="Finds the recording and transcript of a session.",
            reaches="times, participants and transcripts of your meetings",
        ),
        Scope(
            _FILES,
            words="download the files that Google Meet saved to your Drive",
            why="Recordings are files in your Drive; this opens those of Meet and no others.",
            reaches="recordings and transcript documents made by Meet",
        ),
    ),
    not_requested=(
        Never(f"{google.AUTH}meetings.space.created", "It would let us make meetings; we only look at past ones."),
        Never(f"{google.AUTH}meetings.space.settings", "It would let us change the settings of your meetings."),
        Never(f"{google.AUTH}drive", "It would open all of your files.", named=True),
        Never(f"{google.AUTH}drive.readonly", "It would open all of your files for reading."),
        Never(f"{google.AUTH}drive.metadata*", "It would list all of your files."),
    ),
    flows=(
        Flow("in", "Recordings and transcripts of your meetings"),
        Flow("in", "Times and participants of your meetings"),
        Flow("in", "Your e-mail address and account number at Google"),
    ),
    register=google.register("Google Meet API and the Google Drive API"),
    allow=tuple(
        Allowance("GET", f"/conferenceRecords{path}", _MEETINGS)
        for path in (
            "",
            "/{record}",
            "/{record}/participants",
            "/{record}/recordings",
            "/{record}/recordings/{recording}",
            "/{record}/transcripts",
            "/{record}/transcripts/{transcript}",
            "/{record}/transcripts/{transcript}/entries",
        )
    ),
    implied=(
        Implied(f"{google.AUTH}drive", (f"{google.AUTH}drive.readonly",)),
        Implied(f"{google.AUTH}drive.readonly", (_FILES, f"{google.AUTH}drive.metadata.readonly")),
    ),
    aliases=google.ALIASES,
    errors=google.ERRORS,
    shares=google.SHARES,
    project=google.PROJECT,
    unconfirmed=google.UNCONFIRMED,
)
