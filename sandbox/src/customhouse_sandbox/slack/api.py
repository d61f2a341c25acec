"""Slack's Web API (§4.3, §4.5): who a token is of, people, messages, and the end of tokens."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from customhouse_sandbox import oauth
from customhouse_sandbox.faults import FaultKind, Operation
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.routing import Ask, Route
from customhouse_sandbox.slack import hooks
from customhouse_sandbox.slack.oauth import DIALECT, failed
from customhouse_sandbox.slack.workspaces import USER, app_id, bot, channels, installed, is_enterprise, messages, named, title
from customhouse_sandbox.state import Application, End, Grant, Kind, Person, Realm, Token

_LONGEST_TEXT: Final = 40_000
_MOST_BLOCKS: Final = 50
_STAMP: Final = re.compile(r"[0-9]{1,16}\.[0-9]{6}")


def unknown(_ask: Ask) -> Reply:
    """Answer a method that there is not."""
    return failed("unknown_method")


def limited(realm: Realm, retry_after: int | None) -> Reply:
    """Answer too many calls: the one thing that is no 200 (§4.5)."""
    wait = () if retry_after is None else (("Retry-After", str(retry_after)),)
    return as_json(429, {"ok": False, "error": realm.facts["rate_limit_error"]}, *wait)


def opened(ask: Ask, scope: str = "") -> tuple[Token, Person] | Reply:
    """Return the token that opens a call and whose it is, or the refusal (§4.1, errors)."""
    scheme, _, value = ask.request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not value.strip():
        return failed("not_authed")
    held = ask.realm.tokens.get(value.strip())
    if held is None or held.kind is not Kind.ACCESS:
        return failed("invalid_auth")
    person = ask.realm.held(held)
    if person is None:
        return failed("account_inactive")
    if held.grant.ended is not None or held.revoked or held.spent:
        return failed("team_access_not_granted" if held.grant.ended is End.ADMIN else ask.realm.facts["ended_error"])
    if ask.realm.now() >= held.expires_at:
        return failed("token_expired")
    granted = [one.removeprefix(USER) for one in held.scopes]
    if scope and scope not in granted:
        return told(ask, held, {"ok": False, "error": "missing_scope", "needed": scope, "provided": ",".join(granted)})
    return held, person


def told(ask: Ask, held: Token, said: dict[str, Any]) -> Reply:
    """Return an answer to a token that is known, with the scopes that it has (§4.1)."""
    scopes = ",".join(scope.removeprefix(USER) for scope in held.scopes)
    # A fault can grant a scope that no header may hold.
    fits = ask.realm.facts["scopes_header"] == "yes" and scopes.isascii() and scopes.isprintable()
    return as_json(200, said, *((("X-OAuth-Scopes", scopes),) if fits else ()))


def auth_test(ask: Ask) -> Reply:
    """`auth.test`: no scope is needed."""
    shown = opened(ask)
    if isinstance(shown, Reply):
        return shown
    held, person = shown
    application = ask.realm.applications[held.grant.application]
    wide = is_enterprise(person.organisation)
    said: dict[str, Any] = {
        "ok": True,
        "url": f"{ask.realm.base}/",
        "team": title(ask.realm, person.organisation),
        "team_id": person.organisation,
        "is_enterprise_install": wide,
        **({"enterprise_id": person.organisation} if wide else {}),
    }
    if _is_personal(held):
        said |= {"user": person.login, "user_id": person.id}
    else:
        user, robot = bot(application, person.organisation)
        said |= {"user": application.key, "user_id": user, "bot_id": robot}
    if FaultKind.IDENTITY_MISSING in ask.faults:
        del said["team_id"], said["user_id"]
    return told(ask, held, said)


def _is_personal(held: Token) -> bool:
    return bool(held.scopes) and held.scopes[0].startswith(USER)


def users_info(ask: Ask) -> Reply:
    """`users.info`: a member of the workspace; the address only with a scope of its own (§4.2)."""
    shown = opened(ask, "users:read")
    if isinstance(shown, Reply):
        return shown
    held, person = shown
    wanted = oauth.parameters(ask.request).get("user", "")
    found = next((one for one in ask.realm.people.values() if (one.id, one.organisation) == (wanted, person.organisation)), None)
    if found is None:
        return told(ask, held, {"ok": False, "error": "user_not_found"})
    profile: dict[str, Any] = {"real_name": found.name, "display_name": found.given, "team": found.organisation}
    if "users:read.email" in held.scopes:
        profile["email"] = found.email
    user = {
        "id": found.id,
        "team_id": found.organisation,
        "name": found.login,
        "deleted": False,
        "real_name": found.name,
        "tz": "Europe/London",
        "profile": profile,
        "is_admin": False,
        "is_bot": False,
    }
    return told(ask, held, {"ok": True, "user": user})


def post_message(ask: Ask) -> Reply:
    """`chat.postMessage`: JSON or a form; the same call twice is two messages (§4.5)."""
    shown = opened(ask, "chat:write")
    if isinstance(shown, Reply):
        return shown
    held, person = shown
    said = _arguments(ask)
    if isinstance(said, str):
        return told(ask, held, {"ok": False, "error": said})
    wrong = _wrong(said)
    place = _place(ask.realm, person.organisation, said.get("channel")) if not wrong else ("", "")
    if wrong or place[1]:
        return told(ask, held, {"ok": False, "error": wrong or place[1]})
    message = _message(ask, held, person, said)
    messages(ask.realm).append({**message, "channel": place[0]})
    return told(ask, held, {"ok": True, "channel": place[0], "ts": message["ts"], "message": message})


def _arguments(ask: Ask) -> dict[str, Any] | str:
    if ask.request.is_json:
        said = ask.request.json()
        return "invalid_json" if said is None else said
    found: dict[str, Any] = dict(oauth.parameters(ask.request))
    for name in ("blocks", "metadata"):
        if name in found:
            try:
                found[name] = json.loads(found[name])
            except (ValueError, RecursionError):
                return "invalid_blocks_format" if name == "blocks" else "invalid_metadata_format"
    return found


def _wrong(said: dict[str, Any]) -> str:
    text, blocks = said.get("text", ""), said.get("blocks", [])
    if not isinstance(said.get("channel"), str) or not isinstance(text, str):
        return "invalid_arguments"
    if not isinstance(blocks, list) or len(blocks) > _MOST_BLOCKS or not all(isinstance(one, dict) and "type" in one for one in blocks):
        return "invalid_blocks"
    if not isinstance(said.get("metadata", {}), dict):
        return "invalid_metadata_format"
    thread = said.get("thread_ts")
    if thread is not None and (not isinstance(thread, str) or _STAMP.fullmatch(thread) is None):
        return "invalid_arguments"
    if not text and not blocks:
        return "no_text"
    return "msg_too_long" if len(text) > _LONGEST_TEXT else ""


def _place(realm: Realm, organisation: str, wanted: Any) -> tuple[str, str]:
    """Return the channel that is meant, and the error of writing there."""
    for channel in channels(organisation):
        if channel.id == wanted:
            return channel.id, channel.refuses
    for person in realm.people.values():
        direct = named("D", person.id)
        # A person's id means the direct messages with them (§4.2).
        if person.organisation == organisation and wanted in {person.id, direct}:
            return direct, ""
    return "", "channel_not_found"


def _message(ask: Ask, held: Token, person: Person, said: dict[str, Any]) -> dict[str, Any]:
    application = ask.realm.applications[held.grant.application]
    written = messages(ask.realm)
    last = int(written[-1]["ts"].replace(".", "")) if written else 0
    stamp = str(max(int(ask.realm.now() * 1_000_000), last + 1))
    user, robot = bot(application, person.organisation)
    author = {"user": person.id} if _is_personal(held) else {"user": user, "bot_id": robot}
    kept: dict[str, Any] = {name: said[name] for name in ("blocks", "thread_ts", "metadata") if name in said}
    common = {"type": "message", "text": said.get("text", ""), "ts": f"{stamp[:-6]}.{stamp[-6:]}", "team": person.organisation}
    return {**common, "app_id": app_id(application), **author, **kept}


def revoke(ask: Ask) -> Reply:
    """`auth.revoke`: the token that is shown; `test=1` tries it without effect."""
    shown = opened(ask)
    if isinstance(shown, Reply):
        return shown
    held, person = shown
    if oauth.parameters(ask.request).get("test") in {"1", "true"}:
        return told(ask, held, {"ok": True, "revoked": False})
    reply = told(ask, held, {"ok": True, "revoked": True})
    if oauth.lies(ask):
        return reply
    realm, grant = ask.realm, held.grant
    extent = "token" if _is_personal(held) else realm.facts["bot_revocation"]
    if extent == "workspace":
        oauth.end(list(installed(realm, grant.application, person.organisation)), End.REVOKED)
    elif extent == "installation":
        oauth.end([grant], End.REVOKED)
    else:
        held.revoked = True
    if realm.facts["revocation_told"] == "yes":
        hooks.tell(realm, realm.applications[grant.application], person, hooks.REVOKED)
    return reply


def uninstall(ask: Ask) -> Reply:
    """`apps.uninstall`: the application leaves the workspace, whoever installed it."""
    application = oauth.known(ask, DIALECT)
    if isinstance(application, Reply):
        return application
    shown = opened(ask)
    if isinstance(shown, Reply):
        return shown
    held, person = shown
    if held.grant.application != application.key:
        return told(ask, held, {"ok": False, "error": "client_id_token_mismatch"})
    reply = told(ask, held, {"ok": True})
    if oauth.lies(ask):
        return reply
    oauth.end(together(ask.realm, application, person, End.DEAUTHORIZED), End.DEAUTHORIZED)
    hooks.tell(ask.realm, application, person, hooks.UNINSTALL)
    return reply


def together(realm: Realm, application: Application, person: Person, _why: End) -> list[Grant]:
    """Return what ends when an application leaves a person's workspace."""
    return list(installed(realm, application.key, person.organisation))


ROUTES: Final = tuple(
    Route(method, f"/api/{name}", answer, operation, cites)
    for name, answer, operation, cites in (
        ("auth.test", auth_test, Operation.IDENTITY, "§4.3"),
        ("users.info", users_info, Operation.API, "§4.3"),
        ("chat.postMessage", post_message, Operation.API, "§4.5"),
        ("auth.revoke", revoke, Operation.REVOKE, "§4.1 (revoke)"),
        ("apps.uninstall", uninstall, Operation.REVOKE, "§4.1 (full removal)"),
    )
    for method in (("POST",) if name == "chat.postMessage" else ("GET", "POST"))
)
