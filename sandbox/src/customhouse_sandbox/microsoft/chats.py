"""Chats of Teams (§6.2, §6.3): who is in them, and messages, each call one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from customhouse_sandbox.clock import rfc3339
from customhouse_sandbox.faults import Operation
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.microsoft import directory
from customhouse_sandbox.microsoft.errors import invalid, missing
from customhouse_sandbox.microsoft.identity import opened
from customhouse_sandbox.microsoft.lists import listed
from customhouse_sandbox.microsoft.meetings import meetings
from customhouse_sandbox.routing import Ask, Route
from customhouse_sandbox.state import Person, Realm, fixed

_BASIC: Final = "Chat.ReadBasic"
SEND: Final = "ChatMessage.Send"
READ: Final = "Chat.Read"
_TYPES: Final = ("text", "html")
_IMPORTANCE: Final = ("normal", "high", "urgent")


@dataclass(frozen=True, slots=True)
class Chat:
    """One chat and who is in it."""

    id: str
    kind: str
    topic: str | None
    members: tuple[Person, ...]


def chats(realm: Realm, person: Person) -> list[Chat]:
    """Return a person's chats: with each colleague, with all of them, and of each meeting that they organised."""
    if directory.tenant_of(person) is None:
        return []
    everybody = sorted(directory.colleagues(realm, person), key=lambda one: one.id)
    found = []
    for other in everybody:
        if other.id != person.id:
            pair = sorted([person, other], key=lambda one: one.id)
            found.append(Chat(f"19:{pair[0].id}_{pair[1].id}@unq.gbl.spaces", "oneOnOne", None, tuple(pair)))
    found.append(Chat(f"19:{fixed(f'group-{person.organisation}', 32)}@thread.v2", "group", "Project", tuple(everybody)))
    found += [Chat(one.thread, "meeting", one.subject, (person,)) for one in meetings(realm, person)]
    return found


def messages(realm: Realm) -> list[dict[str, Any]]:
    """Return what was written, the oldest first."""
    found: list[dict[str, Any]] = realm.store.setdefault("messages", [])
    return found


def _told(chat: Chat, person: Person) -> dict[str, Any]:
    return {"id": chat.id, "topic": chat.topic, "chatType": chat.kind, "tenantId": person.organisation, "webUrl": None}


def _opened(ask: Ask, *scopes: str) -> tuple[Person, Chat] | Reply:
    shown = opened(ask, *scopes)
    if isinstance(shown, Reply):
        return shown
    _, person = shown
    chat = next((one for one in chats(ask.realm, person) if one.id == ask.parts["chat"]), None)
    return missing(ask.realm, "The chat does not exist.") if chat is None else (person, chat)


def list_chats(ask: Ask) -> Reply:
    """`GET /v1.0/me/chats`."""
    shown = opened(ask, _BASIC)
    if isinstance(shown, Reply):
        return shown
    _, person = shown
    return listed(ask, ("chats", person.login), [_told(chat, person) for chat in chats(ask.realm, person)])


def get_chat(ask: Ask) -> Reply:
    """`GET /v1.0/chats/{chat}`."""
    found = _opened(ask, _BASIC)
    return found if isinstance(found, Reply) else as_json(200, _told(found[1], found[0]))


def list_members(ask: Ask) -> Reply:
    """`GET /v1.0/chats/{chat}/members`."""
    found = _opened(ask, _BASIC)
    if isinstance(found, Reply):
        return found
    person, chat = found
    rows = [
        {
            "@odata.type": "#microsoft.graph.aadUserConversationMember",
            "id": fixed(f"member-{chat.id}-{one.id}", 40),
            "roles": ["owner"],
            "displayName": one.name,
            "userId": one.id,
            "email": one.email,
            "tenantId": one.organisation,
        }
        for one in chat.members
    ]
    return listed(ask, ("members", person.login, chat.id), rows)


def list_messages(ask: Ask) -> Reply:
    """`GET /v1.0/chats/{chat}/messages`: needs a permission that sending does not (§6.2)."""
    found = _opened(ask, READ)
    if isinstance(found, Reply):
        return found
    person, chat = found
    rows = [one for one in reversed(messages(ask.realm)) if one["chatId"] == chat.id]
    return listed(ask, ("messages", person.login, chat.id), rows)


def send(ask: Ask) -> Reply:
    """`POST /v1.0/chats/{chat}/messages`: the same call twice is two messages (§6.3)."""
    found = _opened(ask, SEND)
    if isinstance(found, Reply):
        return found
    person, chat = found
    said = ask.request.json() if ask.request.is_json else None
    body = (said or {}).get("body")
    if said is None or not isinstance(body, dict) or not isinstance(body.get("content"), str) or not body["content"]:
        return invalid(ask.realm, "Missing body content.")
    if body.get("contentType", "text") not in _TYPES or said.get("importance", "normal") not in _IMPORTANCE:
        return invalid(ask.realm, "Invalid content type or importance.")
    written = messages(ask.realm)
    number = max(int(ask.realm.now() * 1000), int(written[-1]["id"]) + 1 if written else 0)
    now = rfc3339(number / 1000)
    message = {
        "id": str(number),
        "replyToId": None,
        "etag": str(number),
        "messageType": "message",
        "createdDateTime": now,
        "lastModifiedDateTime": now,
        "deletedDateTime": None,
        "subject": None,
        "chatId": chat.id,
        "importance": said.get("importance", "normal"),
        "locale": "en-us",
        "from": {
            "user": {"id": person.id, "displayName": person.name, "userIdentityType": "aadUser", "tenantId": person.organisation},
            "application": None,
            "device": None,
        },
        "body": {"contentType": body.get("contentType", "text"), "content": body["content"]},
        "attachments": [],
        "mentions": [],
        "reactions": [],
    }
    written.append(message)
    return as_json(201, {"@odata.context": f"{ask.realm.base}/v1.0/$metadata#chats('{chat.id}')/messages/$entity", **message})


ROUTES: Final = (
    Route("GET", "/v1.0/me/chats", list_chats, Operation.API, "§6.2 (to find the chat)"),
    Route("GET", "/v1.0/chats/{chat}", get_chat, Operation.API, "§6.2 (to find the chat)"),
    Route("GET", "/v1.0/chats/{chat}/members", list_members, Operation.API, "§6.2 (to find the chat)"),
    Route("GET", "/v1.0/chats/{chat}/messages", list_messages, Operation.API, "§6.2 (chat send)"),
    Route("POST", "/v1.0/chats/{chat}/messages", send, Operation.API, "§6.3 (send chat)"),
)
