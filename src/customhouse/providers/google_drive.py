"""Google Drive: the files that we made, or that the person picked."""

from __future__ import annotations

from typing import Final

from customhouse.providers import google
from customhouse.providers.manifest import Allowance, Flow, Implied, Never, Provider, Scope
from customhouse.providers.vocabulary import Mode, Risk

_FILE: Final = f"{google.AUTH}drive.file"
_DRIVE: Final = f"{google.AUTH}drive"

PROVIDER: Final = Provider(
    id="google-drive",
    name="Google Drive",
    purpose="Document sharing, resources",
    risk=Risk.MEDIUM,
    risk_why="file access",
    version=1,
    hosts=google.HOSTS,
    endpoints=google.endpoints("https://www.googleapis.com/drive/v3"),
    auth=google.OAUTH2,
    scopes=(
        *google.IDENTITY_SCOPES,
        # One scope for both modes: making and sharing a file is a matter of approval, not of another permission.
        Scope(
            _FILE,
            words="see, make and change the files that we made or that you picked",
            why="Shares session documents; every other file of yours stays closed.",
            reaches="files that we made, and files that you chose one by one",
            writes=True,
        ),
    ),
    not_requested=(
        Never(_DRIVE, "It would open all of your files.", named=True),
        Never(f"{_DRIVE}.readonly", "It would open all of your files for reading."),
        Never(f"{_DRIVE}.metadata*", "It would list all of your files."),
        Never(f"{_DRIVE}.scripts", "It would let us change your scripts."),
        Never(f"{_DRIVE}.appdata", "A hidden folder of ours in your Drive is not needed."),
        Never(f"{_DRIVE}.meet.readonly", "Recordings belong to the Google Meet integration."),
    ),
    flows=(
        Flow("in", "Files that we made or that you picked"),
        Flow("out", "In act mode: documents and who may see them, each after approval"),
        Flow("in", "Your e-mail address and account number at Google"),
    ),
    register=google.register("Google Drive API"),
    modes=(Mode.OBSERVE, Mode.ACT),
    allow=(
        Allowance("GET", "/files", _FILE),
        Allowance("GET", "/files/{file}", _FILE),
        Allowance("POST", "/files", _FILE, approval=True),
    ),
    implied=(Implied(_DRIVE, (_FILE, f"{_DRIVE}.readonly")), Implied(f"{_DRIVE}.readonly", (f"{_DRIVE}.metadata.readonly",))),
    aliases=google.ALIASES,
    errors=google.ERRORS,
    shares=google.SHARES,
    project=google.PROJECT,
    unconfirmed=google.UNCONFIRMED,
)
