"""Slack's events and interactivity (§4.4): signed over the raw body, an envelope around each event, retries that say so."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

from customhouse_sandbox.outgoing import Outgoing
from customhouse_sandbox.slack.workspaces import app_id, bot, channels, is_enterprise, named
from customhouse_sandbox.state import Application, Person, Realm, fixed

VERIFICATION: Final = "url_verification"
UNINSTALL: Final = "uninstall"
"""Both events of an uninstallation, in the order that the fact says."""
UNINSTALLED: Final = "app_uninstalled"
REVOKED: Final = "tokens_revoked"
PRESSED: Final = "block_actions"
_USERS: Final = ("user_change", "team_join")
EVENTS: Final = (VERIFICATION, UNINSTALL, UNINSTALLED, REVOKED, *_USERS, PRESSED)
_JSON: Final = "application/json"
_OK: Final = 200


def notify(realm: Realm, application: Application, person: Person, event: str, url: str) -> list[Outgoing]:
    """Return the webhooks of an event.

    Raises:
        ValueError: there is no such event, or the address is not on this machine.
    """
    if event not in EVENTS:
        raise ValueError(f"Slack's events here are {', '.join(EVENTS)}.")
    if event == VERIFICATION:
        return [_verification(realm, application, url)]
    if event == PRESSED:
        said = urlencode({"payload": json.dumps(_pressed(realm, application, person))}).encode()
        return [signed(realm, application, event, url, said, "application/x-www-form-urlencoded")]
    names = [event]
    if event == UNINSTALL:
        names = [UNINSTALLED, REVOKED] if realm.facts["uninstall_order"] == "uninstalled_first" else [REVOKED, UNINSTALLED]
    return [_event(realm, application, person, name, url) for name in names]


def signed(realm: Realm, application: Application, event: str, url: str, body: bytes, kind: str) -> Outgoing:
    """Return a request with `X-Slack-Signature` over `v0:{timestamp}:{raw body}`."""
    timestamp = str(int(realm.now()))
    base = b"v0:%b:%b" % (timestamp.encode(), body)
    digest = hmac.new(application.webhook_secret.encode(), base, hashlib.sha256).hexdigest()
    headers = (
        ("Content-Type", kind),
        ("User-Agent", "Slackbot 1.0 (+https://api.slack.com/robots)"),
        ("X-Slack-Request-Timestamp", timestamp),
        ("X-Slack-Signature", f"v0={digest}"),
    )
    return Outgoing(realm.name, event, url, headers, body, retried=_retried)


def _retried(attempt: int) -> tuple[tuple[str, str], ...]:
    return ("X-Slack-Retry-Num", str(attempt)), ("X-Slack-Retry-Reason", "http_error")


def _verification(realm: Realm, application: Application, url: str) -> Outgoing:
    challenge = realm.mint.next("challenge", 52)
    said = {"token": legacy(application), "challenge": challenge, "type": VERIFICATION}
    made = signed(realm, application, VERIFICATION, url, json.dumps(said).encode(), _JSON)

    def proven(status: int, answer: bytes) -> bool:
        if status != _OK:
            return False
        try:
            return answer.strip() == challenge.encode() or json.loads(answer) == {"challenge": challenge}
        except ValueError:
            return False

    return replace(made, accepts=proven)


def legacy(application: Application) -> str:
    """Return the verification token of old, which proves nothing (§4.4)."""
    return fixed(f"slack-legacy-{application.key}", 24)


def _event(realm: Realm, application: Application, person: Person, name: str, url: str) -> Outgoing:
    user, _ = bot(application, person.organisation)
    wide = is_enterprise(person.organisation)
    inner: dict[str, Any] = {"type": name}
    if name == REVOKED:
        inner["tokens"] = {"oauth": [], "bot": [user]}
    elif name in _USERS:
        inner["user"] = {"id": person.id, "team_id": person.organisation, "name": person.login, "real_name": person.name}
    now = int(realm.now())
    said = {
        "token": legacy(application),
        "team_id": None if wide else person.organisation,
        **({"enterprise_id": person.organisation} if wide else {}),
        "api_app_id": app_id(application),
        "event": {**inner, "event_ts": f"{realm.now():.6f}"},
        "type": "event_callback",
        "event_id": f"Ev{named('', realm.mint.next('event', 12))}",
        "event_time": now,
        "authorizations": [
            {
                "enterprise_id": person.organisation if wide else None,
                "team_id": None if wide else person.organisation,
                "user_id": user,
                "is_bot": True,
                "is_enterprise_install": wide,
            }
        ],
    }
    return signed(realm, application, name, url, json.dumps(said).encode(), _JSON)


def _pressed(realm: Realm, application: Application, person: Person) -> dict[str, Any]:
    channel = channels(person.organisation)[0]
    return {
        "type": PRESSED,
        "token": legacy(application),
        "api_app_id": app_id(application),
        "trigger_id": realm.mint.next("trigger", 24),
        "team": {"id": person.organisation},
        "user": {"id": person.id, "username": person.login, "team_id": person.organisation},
        "channel": {"id": channel.id, "name": channel.name},
        "actions": [{"action_id": "approve", "block_id": "b1", "type": "button", "value": "yes", "action_ts": f"{realm.now():.6f}"}],
    }


def tell(realm: Realm, application: Application, person: Person, event: str) -> None:
    """Send an event to the application's registered address, where it has one."""
    if application.webhook_url:
        for outgoing in notify(realm, application, person, event, application.webhook_url):
            realm.post(outgoing)
