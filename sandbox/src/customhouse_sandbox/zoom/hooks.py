"""Zoom's webhooks (§2.4): signed over the raw body, with the endpoint's validation and the deauthorization."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any, Final

from customhouse_sandbox.outgoing import Outgoing
from customhouse_sandbox.state import Application, Person, Realm, fixed
from customhouse_sandbox.zoom.meetings import meetings, recording, zulu

VALIDATION: Final = "endpoint.url_validation"
DEAUTHORIZED: Final = "app_deauthorized"
_DAY: Final = 86_400.0
_TAKEN: Final = frozenset({200, 204})
_RECORDINGS: Final = frozenset({"recording.completed", "recording.transcript_completed", "recording.deleted", "recording.trashed"})
_MEETINGS: Final = frozenset({"meeting.ended"})
_USERS: Final = frozenset({"user.deactivated", "user.deleted"})
EVENTS: Final = tuple(sorted({VALIDATION, DEAUTHORIZED, *_RECORDINGS, *_MEETINGS, *_USERS}))


def notify(realm: Realm, application: Application, person: Person, event: str, url: str) -> list[Outgoing]:
    """Return the webhooks of an event.

    Raises:
        ValueError: there is no such event, or the address is not on this machine.
    """
    if event == VALIDATION:
        return [_validation(realm, application, url)]
    if event not in EVENTS:
        raise ValueError(f"Zoom's events here are {', '.join(EVENTS)}.")
    if event == DEAUTHORIZED and application.testing:
        return []  # Only published applications are told (§2.4).
    said: dict[str, Any] = {"event": event, "event_ts": int(realm.now() * 1000), "payload": _payload(realm, application, person, event)}
    if event in {"recording.completed", "recording.transcript_completed"}:
        said["download_token"] = _download_token(realm, said["payload"]["object"]["uuid"])
    return [signed(realm, application, event, url, said)]


def signed(realm: Realm, application: Application, event: str, url: str, said: dict[str, Any], *, sign: bool = True) -> Outgoing:
    """Return a webhook with `x-zm-signature` over `v0:{timestamp}:{raw body}`."""
    body = json.dumps(said, ensure_ascii=False).encode()
    unit = 1000 if realm.facts["timestamp_unit"] == "milliseconds" else 1
    timestamp = str(int(realm.now() * unit))
    headers = [("Content-Type", "application/json; charset=utf-8"), ("User-Agent", "Zoom Marketplace/1.0a")]
    if sign:
        digest = _digest(application, b"v0:%b:%b" % (timestamp.encode(), body))
        headers += [("x-zm-request-timestamp", timestamp), ("x-zm-signature", f"v0={digest}")]
    return Outgoing(realm.name, event, url, tuple(headers), body, lambda status, _answer: status in _TAKEN)


def _validation(realm: Realm, application: Application, url: str) -> Outgoing:
    plain = realm.mint.next("plain-token", 22)
    expected = {"plainToken": plain, "encryptedToken": _digest(application, plain.encode())}
    said = {"event": VALIDATION, "event_ts": int(realm.now() * 1000), "payload": {"plainToken": plain}}
    made = signed(realm, application, VALIDATION, url, said, sign=realm.facts["url_validation_signed"] == "yes")

    def proven(status: int, answer: bytes) -> bool:
        try:
            return status in _TAKEN and json.loads(answer) == expected
        except ValueError:
            return False

    return Outgoing(made.provider, made.event, made.url, made.headers, made.body, proven)


def _payload(realm: Realm, application: Application, person: Person, event: str) -> dict[str, Any]:
    if event == DEAUTHORIZED:
        return {
            "account_id": person.organisation,
            "user_id": person.id,
            # Of no use to anybody: the header is what is verified (§2.4).
            "signature": fixed(f"{person.id}:{application.id}", 43),
            "deauthorization_time": zulu(realm.now()),
            "client_id": application.id,
        }
    told: dict[str, Any] = {"id": person.id, "email": person.email}
    if event not in _USERS:
        recorded = [meeting for meeting in meetings(realm, person) if meeting.files]
        told = recording(realm, person, recorded[-1])
        if event in _MEETINGS:
            told = {key: value for key, value in told.items() if not key.startswith(("recording_", "total_"))}
            told["end_time"] = zulu(recorded[-1].end)
    return {"account_id": person.organisation, "object": told}


def _download_token(realm: Realm, uuid: str) -> str:
    value = f"sandbox-zoom-download-{realm.mint.next('download')}"
    realm.store.setdefault("download-tokens", {})[value] = (uuid, realm.now() + _DAY)
    return value


def _digest(application: Application, text: bytes) -> str:
    return hmac.new(application.webhook_secret.encode(), text, hashlib.sha256).hexdigest()
