"""Reading what providers answer: token replies and identities. Pure; whatever the bytes are, a value or a failure comes out."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from customhouse.errors import Invalid
from customhouse.providers.failures import LARGEST_REPLY, Failure, classify, read, refused
from customhouse.providers.manifest import Identity, OAuth2, Provider, ScopeMember
from customhouse.providers.members import pick, text_at
from customhouse.providers.vocabulary import Kind, Reason, Step
from customhouse.types import Json, JsonObject, Secret

MAX_TOKEN: Final = 8192
"""Bytes of one token."""
MAX_SCOPES: Final = 256
_MAX_SCOPE: Final = 256
_MAX_LIFETIME: Final = 10 * 365 * 86_400
_MAX_ACCOUNT: Final = 256
_MAX_LABEL: Final = 320  # an e-mail address: RFC 5321 §4.5.3.1
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")  # RFC 6749 appendix A.12; without blanks: it travels in a header
_DIGITS: Final = re.compile(r"[0-9]{1,10}")
_SCOPE_GAPS: Final = re.compile(r"[\s,]+")
_HOST: Final = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_UNREADABLE: Final = Failure(Kind.TRANSIENT, Reason.UNREADABLE)


@dataclass(frozen=True, slots=True)
class TokenReply:
    """What the token endpoint gave."""

    access_token: Secret
    refresh_token: Secret | None
    """The new one, else the one that was shown; None: this grant has none."""
    expires_in: int | None
    """Seconds; None: it does not end by itself."""
    refresh_expires_in: int | None
    """Seconds, where the reply says so."""
    scopes: tuple[str, ...] | None
    """As spelled by the provider; None: the reply does not say, which is not the same as "as requested"."""
    id_token: Secret | None
    api_origin: str | None
    """This account's own API, checked: takes the place of the origin of `api_base`. None: there is no other."""
    account: Account | None = None
    """Where the reply itself tells who was connected."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who was connected."""

    id: str
    """Names the account for good."""
    label: str
    """What people call it: often an e-mail address, so personal data."""
    organisation: str | None = None


def parse_token_reply(
    provider: Provider,
    step: Step,
    status: int,
    raw: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    shown: Secret | None = None,
) -> TokenReply | Failure:
    """Read an answer of the token endpoint (RFC 6749 §5).

    Args:
        provider: the manifest.
        step: `EXCHANGE` or `REFRESH`.
        status: of the answer.
        raw: the body, decompressed; more than 64 KiB are not read.
        headers: of the answer, names in lower case; a content type that is not JSON makes it unreadable. None: not looked at.
        shown: the refresh token of the call: kept where the reply brings none.

    Returns:
        The reply, or why there is none. Nothing is raised, whatever the bytes are.
    """
    auth = provider.oauth2
    body = read(raw)
    if status != HTTPStatus.OK or refused(auth, body):
        return classify(provider, step, status, raw)
    if headers is not None and not _is_json(headers.get("content-type", "application/json")):
        return _UNREADABLE
    if not isinstance(body, dict):
        return _UNREADABLE
    try:
        return _token_reply(provider, body, shown)
    except Invalid:
        return _UNREADABLE


def parse_identity(provider: Provider, status: int, raw: bytes) -> Account | Failure:
    """Read the answer of the identity call, or the introspection (RFC 7662) where that is this provider's way. Nothing is raised."""
    body = read(raw)
    auth = provider.auth
    if status != HTTPStatus.OK or (isinstance(auth, OAuth2) and refused(auth, body)):
        return classify(provider, Step.API, status, raw)
    if auth.identity.by == "introspect" and isinstance(body, dict) and body.get("active") is not True:
        return Failure(Kind.PERMANENT, Reason.TOKEN_REFUSED)
    account = account_of(auth.identity, body)
    return _UNREADABLE if account is None else account


def parse_introspection(provider: Provider, status: int, raw: bytes) -> tuple[str, ...] | Failure:
    """Return the scopes that an introspection names (RFC 7662 §2.2), for token replies that name none. Nothing is raised."""
    body = read(raw)
    if status != HTTPStatus.OK or refused(provider.oauth2, body):
        return classify(provider, Step.API, status, raw)
    if not isinstance(body, dict):
        return _UNREADABLE
    if body.get("active") is not True:
        return Failure(Kind.PERMANENT, Reason.TOKEN_REFUSED)
    try:
        scopes = _scopes((*provider.oauth2.scope_members, ScopeMember("/scope"), ScopeMember("/scopes")), body)
    except Invalid:
        return _UNREADABLE
    return _UNREADABLE if scopes is None else scopes


def account_of(identity: Identity, body: Json) -> Account | None:
    """Return the account that a reply names; None where a part of its id is missing, too long, or not printable."""
    parts = [text_at(body, pointer) for pointer in identity.account]
    if not parts or any(part is None or ":" in part for part in parts):
        return None
    account_id = ":".join(part for part in parts if part is not None)
    if len(account_id) > _MAX_ACCOUNT or not account_id.isprintable():
        return None
    label = next((text for pointer in identity.label if (text := text_at(body, pointer)) is not None), account_id)
    organisation = text_at(body, identity.organisation) if identity.organisation else None
    if organisation is not None and (len(organisation) > _MAX_ACCOUNT or not organisation.isprintable()):
        return None
    return Account(account_id, "".join(char for char in label if char.isprintable())[:_MAX_LABEL], organisation)


def account_in_refusal(provider: Provider, raw: bytes) -> Account | None:
    """Return the account that a refusal of a pasted key names by the way; None where it names none."""
    auth = provider.auth
    if isinstance(auth, OAuth2) or not auth.account_in_refusal or len(raw) > LARGEST_REPLY:
        return None
    found = re.search(auth.account_in_refusal, raw.decode(errors="replace"))
    return None if found is None else Account(found[1], found[1])


def _account_in(identity: Identity, body: JsonObject) -> Account | None:
    if identity.by == "token_reply":
        return account_of(identity, body)
    token = body.get("id_token")
    if identity.by != "id_token" or not isinstance(token, str):
        return None
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - RFC 7515 §3.1
        raise Invalid
    try:
        claims = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise Invalid from None
    account = account_of(identity, read(claims))
    if account is None:
        raise Invalid
    return account


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _token_reply(provider: Provider, body: JsonObject, shown: Secret | None) -> TokenReply:
    auth = provider.oauth2
    access = _token(body, "access_token")
    if access is None:
        raise Invalid
    kind = body.get("token_type")
    # RFC 6749 §7.1: a type that is not understood must not be used. Providers that name the kind of account here mean a bearer token.
    if kind is not None and (not isinstance(kind, str) or kind.casefold() not in {"bearer", "bot", "user"}):
        raise Invalid
    expires_in = _seconds(body.get("expires_in"))
    return TokenReply(
        access_token=access,
        refresh_token=_token(body, "refresh_token") or shown,
        expires_in=auth.refresh.access_seconds if expires_in is None else expires_in,
        refresh_expires_in=_seconds(body.get("refresh_token_expires_in")),
        scopes=_scopes(auth.scope_members, body),
        id_token=_token(body, "id_token"),
        api_origin=_api_origin(provider, body),
        account=_account_in(auth.identity, body),
    )


def _token(body: JsonObject, name: str) -> Secret | None:
    value = body.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_TOKEN or _TOKEN.fullmatch(value) is None:
        raise Invalid
    return Secret(value.encode())


def _seconds(value: Json) -> int | None:
    """Return whole seconds; some providers write them as text, some as a decimal number."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_LIFETIME:
        raise Invalid
    return int(value)


def _scopes(members: tuple[ScopeMember, ...], body: JsonObject) -> tuple[str, ...] | None:
    """Return the scopes of all members; None where no member is there, or the only thing there is nothing."""
    found: list[str] = []
    said = False
    for member in members:
        for value in pick(body, member.pointer):
            if value is None:
                continue
            said = True
            found += [member.prefix + name for name in _names(value)]
    if len(found) > MAX_SCOPES:
        raise Invalid
    return tuple(dict.fromkeys(found)) if said else None


def _names(value: Json) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    names: list[str] = []
    for text in texts:
        if not isinstance(text, str) or len(text) > LARGEST_REPLY:
            raise Invalid
        names += [name for name in _SCOPE_GAPS.split(text) if name]
    if any(len(name) > _MAX_SCOPE or not name.isprintable() for name in names):
        raise Invalid
    return names


def _api_origin(provider: Provider, body: JsonObject) -> str | None:
    """Return this account's own API.

    Raises:
        Invalid: the reply names a host that is not the provider's.
    """
    told = provider.oauth2.api_base
    found = pick(body, told.pointer) if told is not None else []
    if told is None or not found or found[0] is None:
        return None
    if not isinstance(found[0], str) or not found[0].isascii():
        raise Invalid
    try:
        parts = urlsplit(found[0])
    except ValueError:
        raise Invalid from None
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise Invalid
    origin = f"{parts.scheme}://{parts.netloc}"
    ours = parts.scheme == "https" and _HOST.fullmatch(parts.netloc) is not None and parts.netloc.endswith(told.suffix)
    if not ours and origin not in provider.trusts:
        raise Invalid
    return origin
