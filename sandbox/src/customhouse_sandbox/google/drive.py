"""Google Drive v3 (§3.6): files that the application made, and, for `drive.meet.readonly`, files that Meet made."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import compat32
from typing import Any, Final
from urllib.parse import quote

from customhouse_sandbox.clock import rfc3339
from customhouse_sandbox.faults import Operation
from customhouse_sandbox.google.api import changed, invalid, missing, opened, paged, stop, watch
from customhouse_sandbox.google.errors import failed
from customhouse_sandbox.http import Reply, as_json, parsed
from customhouse_sandbox.routing import Ask, Route
from customhouse_sandbox.state import Person, Realm, Token

FILE: Final = "drive.file"
MEET: Final = "drive.meet.readonly"
MADE_BY_MEET: Final = "meet"
"""The maker of recordings and transcripts."""
_DAY: Final = 86_400.0
_HOUR: Final = 3600.0
_QUERY: Final = re.compile(r"name = '((?:[^'\\]|\\.)*)'")
_RANGE: Final = re.compile(r"bytes=([0-9]{1,13})-([0-9]{0,13})")
_TYPE: Final = re.compile(r"[\x20-\x7e]{1,255}")
_TYPES: Final = ("user", "group", "domain", "anyone")
_ROLES: Final = ("reader", "commenter", "writer", "fileOrganizer", "organizer", "owner")
_KNOWN: Final = ("name", "mimeType", "parents", "appProperties", "description")


@dataclass(slots=True)
class File:
    """One file of a person."""

    id: str
    owner: str
    maker: str
    """The integration that made it."""
    said: dict[str, Any]
    content: bytes = field(repr=False)
    at: float
    permissions: dict[str, dict[str, Any]] = field(default_factory=dict)


def files(realm: Realm) -> dict[str, File]:
    """Return all files by their id."""
    found: dict[str, File] = realm.store.setdefault("files", {})
    return found


def _seen(file: File, token: Token, person: Person) -> bool:
    if file.owner != person.login:
        return False
    scopes = {scope.rpartition("/")[2] for scope in token.scopes}
    return (FILE in scopes and file.maker == token.grant.application) or (MEET in scopes and file.maker == MADE_BY_MEET)


def _opened_file(ask: Ask, *scopes: str) -> tuple[Token, Person, File] | Reply:
    shown = opened(ask, *scopes)
    if isinstance(shown, Reply):
        return shown
    file = files(ask.realm).get(ask.parts["file"])
    if file is None or not _seen(file, *shown):
        # What others made does not exist for this scope.
        return missing(f"File not found: {ask.parts['file']}.")
    return (*shown, file)


def told(ask: Ask, file: File, *, whole: bool = False) -> dict[str, Any]:
    """Return a file's metadata: four members unless `fields` names others."""
    said: dict[str, Any] = {
        "kind": "drive#file",
        "id": file.id,
        "name": file.said.get("name", "Untitled"),
        "mimeType": file.said.get("mimeType", "application/octet-stream"),
    }
    more = {
        **{key: value for key, value in file.said.items() if key in _KNOWN},
        "size": str(len(file.content)),
        "createdTime": rfc3339(file.at),
        "webViewLink": f"{ask.realm.base}/drive/file/{file.id}",
        "ownedByMe": True,
    }
    wanted = ask.query("fields")
    if whole or wanted == "*":
        return {**more, **said}
    if not wanted:
        return said
    names = set(re.findall(r"[A-Za-z]+", wanted))
    return {key: value for key, value in {**more, **said}.items() if key in names}


def create(ask: Ask) -> Reply:
    """`POST /drive/v3/files`: metadata alone, an empty file."""
    return _created(ask, ask.request.json(), b"")


def upload(ask: Ask) -> Reply:
    """`POST /upload/drive/v3/files?uploadType=media|multipart`."""
    kind = ask.query("uploadType")
    declared = ask.request.headers.get("content-type", "")
    if kind == "media":
        return _created(ask, {"mimeType": declared or "application/octet-stream"}, ask.request.body)
    if kind != "multipart" or not declared.startswith("multipart/related"):
        return invalid("Unsupported uploadType.")
    message = message_from_bytes(f"Content-Type: {declared}\r\n\r\n".encode() + ask.request.body, policy=compat32)
    parts = [part for part in message.walk() if not part.is_multipart()]
    if not message.is_multipart() or len(parts) != 2:  # noqa: PLR2004 - metadata and content
        return invalid("Malformed multipart body.")
    raw, content = (part.get_payload(decode=True) for part in parts)
    said = parsed(raw) if isinstance(raw, bytes) else None
    if said is None or not isinstance(content, bytes):
        return invalid("Malformed multipart body.")
    return _created(ask, {"mimeType": parts[1].get_content_type(), **said}, content)


def _created(ask: Ask, said: dict[str, Any] | None, content: bytes) -> Reply:
    shown = opened(ask, FILE)
    if isinstance(shown, Reply):
        return shown
    token, person = shown
    if said is None:
        return invalid("Parse Error", "parseError")
    if _TYPE.fullmatch(str(said.get("mimeType", "text/plain"))) is None:
        return invalid("Invalid MIME type.")
    parents = said.get("parents", [])
    if not isinstance(parents, list) or len(parents) > 1:
        return invalid("A file has one parent.", "teamDrivesParentLimit")
    reserved: set[str] = ask.realm.store.setdefault("file-ids", set())
    name = said.get("id", "")
    if not isinstance(name, str):
        return invalid("The provided file ID is not usable.", "fileIdInvalid")
    if name in files(ask.realm):
        return failed(409, "A file already exists with the provided ID.", reason="fileIdInUse")
    if name and name not in reserved:
        return invalid("The provided file ID is not usable.", "fileIdInvalid")
    name = name or ask.realm.mint.next("file", 33)
    file = files(ask.realm)[name] = File(
        name, person.login, token.grant.application, {key: value for key, value in said.items() if key in _KNOWN}, content, ask.realm.now()
    )
    changed(ask, person, _CHANGES, "change")
    return as_json(200, told(ask, file))


def generate_ids(ask: Ask) -> Reply:
    """`GET /drive/v3/files/generateIds`: an id taken first makes a repeated creation safe."""
    shown = opened(ask, FILE)
    if isinstance(shown, Reply):
        return shown
    count = ask.query("count", "10")
    if not count.isascii() or not count.isdigit() or not 1 <= int(count[:5]) <= 1000:  # noqa: PLR2004 - documented
        return invalid("Invalid count.")
    made = [ask.realm.mint.next("file", 33) for _ in range(int(count))]
    ask.realm.store.setdefault("file-ids", set()).update(made)
    return as_json(200, {"kind": "drive#generatedIds", "space": "drive", "ids": made})


def get(ask: Ask) -> Reply:
    """`GET /drive/v3/files/{file}`; with `alt=media` the bytes, in parts where a range is asked for."""
    found = _opened_file(ask, FILE, MEET)
    if isinstance(found, Reply):
        return found
    file = found[2]
    if ask.query("alt") != "media":
        return as_json(200, told(ask, file))
    kind = [("Content-Type", str(file.said.get("mimeType", "application/octet-stream"))), ("Accept-Ranges", "bytes")]
    wanted = _RANGE.fullmatch(ask.request.headers.get("range", ""))
    if wanted is None:
        return Reply(200, file.content, tuple(kind))
    first, last = int(wanted[1]), min(int(wanted[2] or len(file.content) - 1), len(file.content) - 1)
    if first > last:
        return Reply(416, b"", (("Content-Range", f"bytes */{len(file.content)}"),))
    kind.append(("Content-Range", f"bytes {first}-{last}/{len(file.content)}"))
    return Reply(206, file.content[first : last + 1], tuple(kind))


def export(ask: Ask) -> Reply:
    """`GET /drive/v3/files/{file}/export?mimeType=text/plain`: a Google Doc as text."""
    found = _opened_file(ask, FILE, MEET)
    if isinstance(found, Reply):
        return found
    if found[2].said.get("mimeType") != "application/vnd.google-apps.document" or ask.query("mimeType") != "text/plain":
        return failed(403, "Export only supports Docs Editors files.", reason="fileNotExportable")
    return Reply(200, found[2].content, (("Content-Type", "text/plain; charset=utf-8"),))


def list_files(ask: Ask) -> Reply:
    """`GET /drive/v3/files`; of the query language `name = '…'`, and `trashed = false`, which holds for all."""
    shown = opened(ask, FILE, MEET)
    if isinstance(shown, Reply):
        return shown
    terms = [term.strip() for term in ask.query("q").split(" and ") if term.strip()]
    names = [_QUERY.fullmatch(term) for term in terms if term.replace(" ", "") != "trashed=false"]
    if not all(names):
        return invalid("Invalid Value")
    wanted = {match[1].replace("\\'", "'") for match in names if match}
    visible = [file for file in files(ask.realm).values() if _seen(file, *shown)]
    rows = [told(ask, file) for file in visible if not wanted or {file.said.get("name")} == wanted]
    question = ("files", shown[1].login, shown[0].grant.application, ask.query("q"))
    return paged(ask, question, rows, ("pageSize", 100, 1000), "files", kind="drive#fileList", incompleteSearch=False)


def share(ask: Ask) -> Reply:
    """`POST /drive/v3/files/{file}/permissions`."""
    found = _opened_file(ask, FILE)
    if isinstance(found, Reply):
        return found
    _, person, file = found
    said = ask.request.json() or {}
    kind, role = said.get("type"), said.get("role")
    if kind not in _TYPES or role not in _ROLES or (kind in {"user", "group"} and "@" not in str(said.get("emailAddress", ""))):
        return invalid("The permission type or role is invalid, or its address is missing.")
    if role == "owner" and ask.query("transferOwnership") != "true":
        return failed(403, "The transferOwnership parameter must be enabled.", reason="forbidden")
    name = ask.realm.mint.next("permission", 20)
    file.permissions[name] = {"kind": "drive#permission", "id": name, "type": kind, "role": role}
    changed(ask, person, _CHANGES, "change")
    return as_json(200, file.permissions[name])


def unshare(ask: Ask) -> Reply:
    """`DELETE /drive/v3/files/{file}/permissions/{permission}`."""
    found = _opened_file(ask, FILE)
    if isinstance(found, Reply):
        return found
    if found[2].permissions.pop(ask.parts["permission"], None) is None:
        return missing(f"Permission not found: {ask.parts['permission']}.")
    return Reply(204)


def about(ask: Ask) -> Reply:
    """`GET /drive/v3/about?fields=user`; `fields` is needed."""
    shown = opened(ask, FILE)
    if isinstance(shown, Reply):
        return shown
    if not ask.query("fields"):
        return failed(400, "The 'fields' parameter is required for this method.", reason="required")
    person = shown[1]
    user = {"kind": "drive#user", "displayName": person.name, "me": True, "permissionId": person.id, "emailAddress": person.email}
    return as_json(200, {"user": user})


def start_page_token(ask: Ask) -> Reply:
    """`GET /drive/v3/changes/startPageToken`."""
    shown = opened(ask, FILE, MEET)
    if isinstance(shown, Reply):
        return shown
    return as_json(200, {"kind": "drive#startPageToken", "startPageToken": str(1000 + len(files(ask.realm)))})


def watch_changes(ask: Ask) -> Reply:
    """`POST /drive/v3/changes/watch?pageToken=…`: an hour unless an expiration is named, a week at most."""
    shown = opened(ask, FILE, MEET)
    if isinstance(shown, Reply):
        return shown
    if not ask.query("pageToken"):
        return invalid("Required parameter: pageToken", "required")
    uri = f"{ask.realm.base}/drive/v3/changes?alt=json&pageToken={quote(ask.query('pageToken'), safe='')}"
    return watch(ask, shown[0], _CHANGES, uri, 7 * _DAY, _HOUR)


def stop_channel(ask: Ask) -> Reply:
    """`POST /drive/v3/channels/stop`."""
    return stop(ask, FILE, MEET)


_CHANGES: Final = "drive"
_FILES: Final = "/drive/v3/files"

ROUTES: Final = (
    Route("POST", _FILES, create, Operation.API, "§3.6 (create)"),
    Route("POST", f"/upload{_FILES}", upload, Operation.API, "§3.6 (upload)"),
    Route("GET", _FILES, list_files, Operation.API, "§3.6"),
    Route("GET", f"{_FILES}/generateIds", generate_ids, Operation.API, "§3.6 (generateIds)"),
    Route("GET", f"{_FILES}/{{file}}", get, Operation.API, "§3.6, §3.3 (alt=media)"),
    Route("GET", f"{_FILES}/{{file}}/export", export, Operation.API, "§3.2 (files.export)"),
    Route("POST", f"{_FILES}/{{file}}/permissions", share, Operation.API, "§3.6 (share)"),
    Route("DELETE", f"{_FILES}/{{file}}/permissions/{{permission}}", unshare, Operation.API, "§3.6 (undo)"),
    Route("GET", "/drive/v3/about", about, Operation.API, "§3.6 (identity)"),
    Route("GET", "/drive/v3/changes/startPageToken", start_page_token, Operation.API, "§3.6 (watch)"),
    Route("POST", "/drive/v3/changes/watch", watch_changes, Operation.API, "§3.6 (watch)"),
    Route("POST", "/drive/v3/channels/stop", stop_channel, Operation.API, "§3.7"),
)
