"""Gmail v1 (§3.5): sending, and reading threads and history. Sending has no idempotency key: the same call twice is two messages."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from email.policy import compat32
from email.utils import formatdate, getaddresses, make_msgid
from typing import Any, Final

from customhouse_sandbox.faults import Operation
from customhouse_sandbox.google.api import invalid, missing, opened, paged
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.routing import Ask, Route
from customhouse_sandbox.state import Person, Realm, fixed

_READ: Final = "gmail.readonly"
_SEND: Final = "gmail.send"
_LARGEST: Final = 36_700_160
_DAY: Final = 86_400.0
_PAGES: Final = ("maxResults", 100, 500)
_FORMATS: Final = ("full", "metadata", "minimal", "raw")


@dataclass(slots=True)
class Mail:
    """One message in a mailbox."""

    id: str
    thread: str
    labels: tuple[str, ...]
    raw: bytes = field(repr=False)
    history: int
    at: float

    @property
    def parsed(self) -> Message:
        """The message, parsed."""
        return message_from_bytes(self.raw, policy=compat32)

    def header(self, name: str) -> str:
        """Return a header; empty where there is none."""
        return str(self.parsed.get(name, ""))


@dataclass(slots=True)
class Mailbox:
    """One person's mail."""

    mails: list[Mail] = field(default_factory=list)
    history: int = 1000
    oldest: int = 1000
    """The oldest number from which history is still told."""

    def threads(self) -> dict[str, list[Mail]]:
        """Return the threads, the latest first."""
        found: dict[str, list[Mail]] = {}
        for mail in reversed(self.mails):
            found.setdefault(mail.thread, []).insert(0, mail)
        return found


def fill(realm: Realm) -> None:
    """Give each person three threads, of which the first has an answer."""
    boxes: dict[str, Mailbox] = {login: Mailbox() for login in realm.people}
    realm.store["mailboxes"] = boxes
    for login, person in realm.people.items():
        for index, subject in enumerate(("Your session", "Invoice 42", "Hello")):
            first = _text("client@example.net", person.email, subject, f"<{login}-{index}@example.net>", realm.now())
            thread = _keep(realm, login, first, "", ("INBOX", "UNREAD")).thread
            if index == 0:
                answer = _text(person.email, "client@example.net", f"Re: {subject}", f"<{login}-answer@example.com>", realm.now())
                _keep(realm, login, answer, thread, ("SENT",))


def _text(sender: str, to: str, subject: str, name: str, at: float) -> bytes:
    head = f"From: {sender}\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: {name}\r\nDate: {formatdate(at)}\r\n"
    return f"{head}Content-Type: text/plain; charset=utf-8\r\n\r\nThis is about: {subject}\r\n".encode()


def _keep(realm: Realm, login: str, raw: bytes, thread: str, labels: tuple[str, ...]) -> Mail:
    box: Mailbox = realm.store["mailboxes"][login]
    box.history += 1
    name = fixed(f"mail-{login}-{box.history}", 12).encode().hex()[:16]
    mail = Mail(name, thread or name, labels, raw, box.history, realm.now())
    box.mails.append(mail)
    realm.store.setdefault("history", {})[login] = box.history
    return mail


def _mailbox(ask: Ask, *scopes: str) -> tuple[Person, Mailbox] | Reply:
    shown = opened(ask, *scopes)
    if isinstance(shown, Reply):
        return shown
    person = shown[1]
    if ask.parts["user"] not in {"me", person.email}:
        return missing("Requested entity was not found.")
    box: Mailbox = ask.realm.store["mailboxes"][person.login]
    return person, box


def send(ask: Ask) -> Reply:
    """`POST /users/{user}/messages/send` with `{raw, threadId?}`."""
    found = _mailbox(ask, _SEND)
    if isinstance(found, Reply):
        return found
    person, box = found
    said = ask.request.json() or {}
    raw = _decoded(said.get("raw"))
    if raw is None:
        return invalid("'raw' RFC822 payload message string or uploading message via /upload/* URL required", "invalidArgument")
    return _sent(ask, person, box, raw, said.get("threadId", ""))


def upload(ask: Ask) -> Reply:
    """`POST /upload/gmail/v1/users/{user}/messages/send?uploadType=media`: the message as it is."""
    found = _mailbox(ask, _SEND)
    if isinstance(found, Reply):
        return found
    if ask.query("uploadType") != "media" or not ask.request.headers.get("content-type", "").startswith("message/rfc822"):
        return invalid("Media type is not supported.")
    if len(ask.request.body) > _LARGEST:
        return Reply(413)
    return _sent(ask, *found, ask.request.body, "")


def _decoded(text: Any) -> bytes | None:
    if not isinstance(text, str) or not text:
        return None
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None


def _sent(ask: Ask, person: Person, box: Mailbox, raw: bytes, thread: Any) -> Reply:
    message = message_from_bytes(raw, policy=compat32)
    to = getaddresses([str(value) for name in ("To", "Cc", "Bcc") for value in message.get_all(name, [])])
    if not any("@" in address for _, address in to):
        return invalid("Recipient address required", "invalidArgument")
    if not isinstance(thread, str):
        return invalid("Invalid thread id.", "invalidArgument")
    if thread and thread not in box.threads():
        return missing("Requested entity was not found.")
    if "Message-ID" not in message:
        raw = f"Message-ID: {make_msgid(domain='mail.gmail.com')}\r\n".encode() + raw
    mail = _keep(ask.realm, person.login, raw, thread if _joins(box, message, thread) else "", ("SENT",))
    return as_json(200, {"id": mail.id, "threadId": mail.thread, "labelIds": list(mail.labels)})


def _joins(box: Mailbox, message: Message, thread: str) -> bool:
    """Tell whether a message joins the thread that it names: same subject, and an answer to one of its messages (§3.5)."""
    if not thread:
        return False
    others = box.threads()[thread]
    named = f"{message.get('References', '')} {message.get('In-Reply-To', '')}".split()
    subjects = {_bare(mail.header("Subject")) for mail in others}
    return _bare(str(message.get("Subject", ""))) in subjects and any(mail.header("Message-ID") in named for mail in others)


def _bare(subject: str) -> str:
    return subject.removeprefix("Re:").strip().lower()


def list_threads(ask: Ask) -> Reply:
    """`GET /users/{user}/threads`."""
    found = _mailbox(ask, _READ)
    if isinstance(found, Reply):
        return found
    person, box = found
    chosen = {name: mails for name, mails in box.threads().items() if any(_fits(ask, mail) for mail in mails)}
    rows = [{"id": name, "snippet": _snippet(mails[-1]), "historyId": str(mails[-1].history)} for name, mails in chosen.items()]
    question = ("threads", person.login, ask.query("q"), ask.query("labelIds"))
    return paged(ask, question, rows, _PAGES, "threads", resultSizeEstimate=len(rows))


def list_messages(ask: Ask) -> Reply:
    """`GET /users/{user}/messages`: with `rfc822msgid:` the way to learn whether a message was sent."""
    found = _mailbox(ask, _READ)
    if isinstance(found, Reply):
        return found
    person, box = found
    rows = [{"id": mail.id, "threadId": mail.thread} for mail in reversed(box.mails) if _fits(ask, mail)]
    question = ("messages", person.login, ask.query("q"), ask.query("labelIds"))
    return paged(ask, question, rows, _PAGES, "messages", resultSizeEstimate=len(rows))


def _fits(ask: Ask, mail: Mail) -> bool:
    labels = [value for name, value in ask.request.query if name == "labelIds"]
    if not set(labels) <= set(mail.labels):
        return False
    for term in ask.query("q").split():
        kind, _, text = term.partition(":")
        where = {
            "rfc822msgid": mail.header("Message-ID").strip("<>"),
            "from": mail.header("From"),
            "to": mail.header("To"),
            "subject": mail.header("Subject"),
        }.get(kind)
        if where is None:
            where, text = f"{mail.header('Subject')} {_snippet(mail)}", term
        wanted = text.strip("<>").lower()
        if where.lower() != wanted if kind == "rfc822msgid" else wanted not in where.lower():
            return False
    return True


def _snippet(mail: Mail) -> str:
    payload = mail.parsed.get_payload(decode=True)
    return payload.decode("utf-8", "replace").strip()[:200] if isinstance(payload, bytes) else ""


def get_thread(ask: Ask) -> Reply:
    """`GET /users/{user}/threads/{thread}?format=full|metadata|minimal`."""
    found = _mailbox(ask, _READ)
    if isinstance(found, Reply):
        return found
    mails = found[1].threads().get(ask.parts["thread"])
    if mails is None:
        return missing("Requested entity was not found.")
    if ask.query("format", "full") not in _FORMATS[:3]:
        return invalid("Invalid format.")
    return as_json(200, {"id": mails[0].thread, "historyId": str(mails[-1].history), "messages": [_told(ask, mail) for mail in mails]})


def get_message(ask: Ask) -> Reply:
    """`GET /users/{user}/messages/{message}`."""
    found = _mailbox(ask, _READ)
    if isinstance(found, Reply):
        return found
    mail = next((mail for mail in found[1].mails if mail.id == ask.parts["message"]), None)
    if mail is None:
        return missing("Requested entity was not found.")
    return as_json(200, _told(ask, mail)) if ask.query("format", "full") in _FORMATS else invalid("Invalid format.")


def _told(ask: Ask, mail: Mail) -> dict[str, Any]:
    shape = ask.query("format", "full")
    said: dict[str, Any] = {
        "id": mail.id,
        "threadId": mail.thread,
        "labelIds": list(mail.labels),
        "snippet": _snippet(mail),
        "historyId": str(mail.history),
        "internalDate": str(int(mail.at * 1000)),
        "sizeEstimate": len(mail.raw),
    }
    if shape == "raw":
        said["raw"] = base64.urlsafe_b64encode(mail.raw).decode()
    if shape in {"full", "metadata"}:
        wanted = {value.lower() for name, value in ask.request.query if name == "metadataHeaders"}
        headers = [{"name": name, "value": value} for name, value in mail.parsed.items() if not wanted or name.lower() in wanted]
        said["payload"] = {"mimeType": mail.parsed.get_content_type(), "headers": headers}
    if shape == "full":
        content = mail.parsed.get_payload(decode=True)
        bytes_ = content if isinstance(content, bytes) else b""
        said["payload"]["body"] = {"size": len(bytes_), "data": base64.urlsafe_b64encode(bytes_).decode()}
    return said


def history(ask: Ask) -> Reply:
    """`GET /users/{user}/history?startHistoryId=…`: 404 where that is too old."""
    found = _mailbox(ask, _READ)
    if isinstance(found, Reply):
        return found
    person, box = found
    start = ask.query("startHistoryId")
    if not start.isascii() or not start.isdigit():
        return invalid("Missing required parameter: startHistoryId")
    if int(start[:19]) < box.oldest:
        return missing("Requested entity was not found.")
    rows = [
        {"id": str(mail.history), "messagesAdded": [{"message": {"id": mail.id, "threadId": mail.thread, "labelIds": list(mail.labels)}}]}
        for mail in box.mails
        if mail.history > int(start[:19])
    ]
    return paged(ask, ("history", person.login, start), rows, _PAGES, "history", historyId=str(box.history))


def profile(ask: Ask) -> Reply:
    """`GET /users/{user}/profile`; `gmail.send` does not open it (§3.2)."""
    found = _mailbox(ask, _READ)
    if isinstance(found, Reply):
        return found
    person, box = found
    totals = {"messagesTotal": len(box.mails), "threadsTotal": len(box.threads())}
    return as_json(200, {"emailAddress": person.email, **totals, "historyId": str(box.history)})


def watch(ask: Ask) -> Reply:
    """`POST /users/{user}/watch`: one per person and project; a new one takes the place of the old one."""
    found = _mailbox(ask, _READ)
    if isinstance(found, Reply):
        return found
    person, box = found
    topic = (ask.request.json() or {}).get("topicName")
    if not isinstance(topic, str) or not topic.startswith("projects/") or "/topics/" not in topic:
        return invalid("Invalid topicName does not match projects/*/topics/*", "invalidArgument")
    end = ask.realm.now() + 7 * _DAY
    ask.realm.store.setdefault("gmail-watches", {})[person.login] = (topic, end)
    return as_json(200, {"historyId": str(box.history), "expiration": str(int(end * 1000))})


def stop(ask: Ask) -> Reply:
    """`POST /users/{user}/stop`."""
    found = _mailbox(ask, _READ)
    if isinstance(found, Reply):
        return found
    ask.realm.store.setdefault("gmail-watches", {}).pop(found[0].login, None)
    return Reply(204)


_USER: Final = "/gmail/v1/users/{user}"

ROUTES: Final = (
    Route("POST", f"{_USER}/messages/send", send, Operation.API, "§3.5 (send)"),
    Route("POST", f"/upload{_USER}/messages/send", upload, Operation.API, "§3.5 (send: upload variant)"),
    Route("GET", f"{_USER}/threads", list_threads, Operation.API, "§3.5 (threads)"),
    Route("GET", f"{_USER}/threads/{{thread}}", get_thread, Operation.API, "§3.5 (threads)"),
    Route("GET", f"{_USER}/messages", list_messages, Operation.API, "§3.5 (search rfc822msgid)"),
    Route("GET", f"{_USER}/messages/{{message}}", get_message, Operation.API, "§3.5"),
    Route("GET", f"{_USER}/history", history, Operation.API, "§3.5 (history)"),
    Route("GET", f"{_USER}/profile", profile, Operation.API, "§3.2 (getProfile)"),
    Route("POST", f"{_USER}/watch", watch, Operation.API, "§3.5 (watch)"),
    Route("POST", f"{_USER}/stop", stop, Operation.API, "§3.5 (watch)"),
)
