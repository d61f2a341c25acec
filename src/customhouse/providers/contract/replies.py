"""Checks of what a provider says to us, by recorded replies: 5, 6 and 13."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import urlsplit

from customhouse.providers import calls
from customhouse.providers.contract.recordings import Recording
from customhouse.providers.contract.subject import SHOWN, Details, Subject
from customhouse.providers.failures import Failure, classify
from customhouse.providers.manifest import OAuth2, Provider, RestrictedKey
from customhouse.providers.replies import Account, TokenReply, parse_identity, parse_token_reply
from customhouse.providers.scopes import compare
from customhouse.providers.vocabulary import Kind, Rotation, Step
from customhouse.types import Json

_FAILURES: Final = (Kind.TRANSIENT, Kind.APPLICATION, Kind.PERMANENT)
# What could be somebody's: test material lives on reserved names (RFC 2606, RFC 6761) and the provider's own hosts.
_MAILBOX: Final = re.compile(r"[A-Za-z0-9._%+-]+@([A-Za-z0-9.-]+\.[A-Za-z]{2,})")
_URL_HOST: Final = re.compile(r"https?://([^/\s\"'?#]+)")
_KEY: Final = re.compile(
    r"ya29\.|xox[a-z]-\d|[sr]k_live_|eyJ[A-Za-z0-9_-]{20}|AKIA[0-9A-Z]{12}|-----BEGIN|[A-Fa-f0-9]{40}|[A-Za-z0-9+/_-]{60}"
)
_RESERVED_NAMES: Final = (".example", "example.com", "example.net", "example.org", ".invalid", ".test")


def judge_replies(subject: Subject) -> Details:
    """Check 5."""
    provider, auth = subject.provider, subject.provider.auth
    yield from _recorded_identities(subject)
    if not isinstance(auth, OAuth2):
        return
    tokens = [one for one in subject.recordings if one.sort == "token"]
    for mode in provider.modes:
        if not any(one.step is Step.EXCHANGE and one.mode is mode and one.expect.get("verdict") == "same" for one in tokens):
            yield f"no recording shows the token reply of a full consent in {mode} (`step: exchange`, `expect.verdict: same`)", ""
    if auth.refresh.rotation is not Rotation.NONE and not any(one.step is Step.REFRESH for one in tokens):
        yield "no recording shows the token reply of a refresh (`step: refresh`)", ""
    for one in tokens:
        yield from ((f"{one.name}: {detail}", "") for detail in _token_reply(provider, auth, one))


def _recorded_identities(subject: Subject) -> Details:
    provider = subject.provider
    found = [one for one in subject.recordings if one.sort == "identity"]
    told = provider.auth.identity.by in {"token_reply", "id_token"} and any("account" in one.expect for one in subject.recordings)
    if not found and not told:
        yield "no recording shows who was connected (`sort: identity`, or `expect.account` where the token reply tells it)", ""
    for one in found:
        account = parse_identity(provider, one.status, one.raw)
        if not isinstance(account, Account):
            yield f"{one.name}: the identity cannot be read", ""
            continue
        expected = {name: one.expect[name] for name in ("account", "label", "organisation") if name in one.expect}
        if {"account": account.id, "label": account.label, "organisation": account.organisation} | expected != {
            "account": account.id,
            "label": account.label,
            "organisation": account.organisation,
        }:
            yield f"{one.name}: the identity is read as something else than `expect` says", ""


def _token_reply(provider: Provider, auth: OAuth2, one: Recording) -> Iterator[str]:
    def read(recording: Recording) -> TokenReply | Failure:
        return parse_token_reply(provider, recording.step, recording.status, recording.raw, shown=SHOWN)

    reply = read(one)
    if not isinstance(reply, TokenReply):
        if one.expect.get("refused") is not True:
            yield "the token reply cannot be read"
        return
    if one.expect.get("refused") is True:
        yield "the token reply is read, and must not be"
        return
    if one.mode not in provider.modes:
        yield f"is for {one.mode}, which is not in `modes`"
        return
    came = "kept" if reply.refresh_token == SHOWN else "none" if reply.refresh_token is None else "new"
    yield from _unexpected(provider, one, reply, came)
    if one.step is Step.REFRESH and auth.refresh.rotation in {Rotation.SINGLE_USE, Rotation.RENEWED} and came != "new":
        yield f"the refresh tokens of this provider are `{auth.refresh.rotation}`, and this reply brings no new one"
    yield from _varied(auth, one, reply, read)


def _unexpected(provider: Provider, one: Recording, reply: TokenReply, came: str) -> Iterator[str]:
    comparison = compare(provider, one.mode, reply.scopes)
    read: dict[str, tuple[Json, str]] = {
        "verdict": (comparison.verdict, "the grant counts as"),
        "missing": ([*comparison.missing], "the missing scopes are"),
        "expires_in": (reply.expires_in, "the lifetime is"),
        "api_origin": (reply.api_origin, "the API's origin is"),
        "account": (None if reply.account is None else reply.account.id, "the account is"),
        "refresh_token": (came, "the refresh token is"),
    }
    for name, (value, says) in read.items():
        if name in one.expect and one.expect[name] != value:
            yield f"{says} `{value}`, `expect` says `{one.expect[name]}`"


def _varied(auth: OAuth2, one: Recording, reply: TokenReply, read: Callable[[Recording], TokenReply | Failure]) -> Iterator[str]:
    if isinstance(one.body, dict) and isinstance(one.body.get("expires_in"), int):
        again = read(one.but(expires_in=str(one.body["expires_in"])))
        if not isinstance(again, TokenReply) or again.expires_in != reply.expires_in:
            yield "a lifetime that is written as a text is not understood"
    kept = read(one.but(refresh_token=None))
    if not isinstance(kept, TokenReply) or (auth.refresh.rotation is not Rotation.NONE and kept.refresh_token != SHOWN):
        yield "a reply without a refresh token does not keep the old one"
    if not isinstance(read(one.but(access_token=None)), Failure):
        yield "a reply without an access token is read"


def judge_failures(subject: Subject) -> Details:
    """Check 6."""
    provider = subject.provider
    errors = [one for one in subject.recordings if one.sort == "error"]
    step = Step.REFRESH if isinstance(provider.auth, OAuth2) and provider.auth.refresh.rotation is not Rotation.NONE else Step.API
    for kind in _FAILURES:
        # A pasted key has no registration of ours that could be refused.
        if kind is Kind.APPLICATION and (isinstance(provider.auth, RestrictedKey) or step is Step.API):
            continue
        if not any(one.step is step and one.expect.get("kind") == kind for one in errors):
            yield f"no recording shows a failure of the {step} step that is `{kind}`", ""
    for one in errors:
        failure = classify(provider, one.step, one.status, one.raw)
        if {"kind": failure.kind, "reason": failure.reason} != one.expect:
            said = f"{one.expect.get('kind')}: {one.expect.get('reason')}"
            yield f"{one.name}: counts as `{failure.kind}: {failure.reason}`, `expect` says `{said}`", ""


def judge_material(subject: Subject) -> Details:
    """Check 13."""
    own = (*subject.provider.hosts, urlsplit(subject.provider.endpoints.authorize_url).netloc)
    for one in subject.recordings:
        text = one.raw.decode(errors="replace")
        if not one.source.strip():
            yield f"{one.name}: `source` is empty", ""
        if _KEY.search(text):
            yield f"{one.name}: holds what looks like a real key or token", ""
        for host in _MAILBOX.findall(text):
            if not host.lower().endswith(_RESERVED_NAMES):
                yield f"{one.name}: holds a mailbox that may be somebody's: use example.com", ""
        for host in _URL_HOST.findall(text):
            if not host.lower().endswith(_RESERVED_NAMES) and not any(calls.host_fits(pattern, host) for pattern in own):
                yield f"{one.name}: holds the address of somebody's host: use example.com", ""
