"""What the calls of Google's APIs share: who opens them, pages, and the watching of resources (§3.1, §3.7)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from customhouse_sandbox import oauth
from customhouse_sandbox.google import hooks
from customhouse_sandbox.google.errors import failed, insufficient, unauthenticated
from customhouse_sandbox.google.hooks import Channel
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.outgoing import is_here
from customhouse_sandbox.paging import page
from customhouse_sandbox.routing import Ask
from customhouse_sandbox.state import Person, Token

AUTH: Final = "https://www.googleapis.com/auth/"
_CHANNEL: Final = re.compile(r"[A-Za-z0-9\-_+/=]{1,64}")
_LONGEST_TOKEN: Final = 256


def opened(ask: Ask, *scopes: str) -> tuple[Token, Person] | Reply:
    """Return the token that opens a call by any of some scopes, and whose it is; or the refusal."""
    shown = oauth.bearer(ask)
    if shown is None:
        return unauthenticated()
    if not {f"{AUTH}{scope}" for scope in scopes} & set(shown[0].scopes):
        return insufficient()
    return shown


def invalid(message: str, reason: str = "invalid") -> Reply:
    """Answer a request that is out of order."""
    return failed(400, message, state="INVALID_ARGUMENT", reason=reason)


def missing(message: str = "Not Found") -> Reply:
    """Answer a name that there is not."""
    return failed(404, message, state="NOT_FOUND", reason="notFound")


def size(ask: Ask, name: str, default: int, most: int) -> int | None:
    """Return a page size; more than the most is the most, as Google has it. None where it is no number."""
    text = ask.query(name)
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text[:9]) < 1:
        return None
    return min(int(text[:9]), most)


def paged(ask: Ask, question: tuple[object, ...], items: Sequence[Any], limits: tuple[str, int, int], name: str, **more: Any) -> Reply:
    """Return one page of a list; `limits`: the parameter of the size, its default, the most."""
    many = size(ask, *limits)
    found = None if many is None else page(ask.realm, question, items, many, ask.query("pageToken"))
    if found is None:
        return invalid("Invalid page size or page token.")
    following = {"nextPageToken": found[1]} if found[1] else {}
    return as_json(200, {name: found[0], **more, **following})


def moment(text: str) -> float | None:
    """Return an RFC 3339 time, which must name its zone; None where it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if found.tzinfo is None else found.timestamp()


def watch(ask: Ask, token: Token, resource: str, uri: str, most_seconds: float, default_seconds: float) -> Reply:
    """Open a channel: the sync message follows at once.

    Google wants `https` with a real certificate; the sandbox wants plain HTTP on this machine, and nothing else.
    """
    said = ask.request.json() or {}
    name, address, secret = said.get("id"), said.get("address"), said.get("token", "")
    if not isinstance(name, str) or _CHANNEL.fullmatch(name) is None or said.get("type") != "web_hook":
        return invalid("A channel needs an id of 1 to 64 characters, and the type web_hook.", "channelIdInvalid")
    if not isinstance(address, str) or not is_here(address):
        return failed(401, "Unauthorized WebHook callback channel.", reason="push.webhookUrlUnauthorized")
    if not isinstance(secret, str) or not secret.isascii() or not secret.isprintable() or len(secret) > _LONGEST_TOKEN:
        return invalid("A channel's token has at most 256 characters, all of them printable.")
    channels = hooks.channels(ask.realm)
    if name in channels:
        return failed(400, "Channel id not unique", reason="channelIdNotUnique")
    now = ask.realm.now()
    wanted = str(said.get("expiration", ""))
    end = min(float(wanted) / 1000, now + most_seconds) if wanted.isascii() and wanted.isdigit() else now + default_seconds
    if end <= now:
        return invalid("The expiration is over already.")
    channel = Channel(name, ask.realm.mint.next("resource", 27), uri, address, secret, end, token.grant)
    channel.watches = resource
    channels[name] = channel
    ask.realm.post(hooks.message(ask.realm, channel, "sync"))
    told = {"kind": "api#channel", "id": name, "resourceId": channel.resource, "resourceUri": uri, "expiration": str(int(end * 1000))}
    return as_json(200, {**told, **({"token": secret} if secret else {})})


def stop(ask: Ask, *scopes: str) -> Reply:
    """Close a channel that this application opened."""
    shown = opened(ask, *scopes)
    if isinstance(shown, Reply):
        return shown
    said = ask.request.json() or {}
    channel = hooks.channels(ask.realm).get(str(said.get("id")))
    mine = shown[0].grant
    if channel is None or channel.resource != said.get("resourceId"):
        return missing("Channel not found.")
    if (channel.grant.application, channel.grant.person) != (mine.application, mine.person):
        return missing("Channel not found.")
    del hooks.channels(ask.realm)[channel.id]
    return Reply(204)


def changed(ask: Ask, person: Person, resource: str, state: str) -> None:
    """Tell the open channels on a person's resource that it changed."""
    for channel in hooks.channels(ask.realm).values():
        if channel.watches == resource and channel.grant.person == person.login and hooks.is_open(ask.realm, channel):
            ask.realm.post(hooks.message(ask.realm, channel, state))
