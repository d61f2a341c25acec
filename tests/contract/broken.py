"""One wrong provider per demand of the contract, each with the check that must fail and what it must say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from customhouse.providers.contract.recordings import Recording
from customhouse.providers.contract.subject import Subject
from customhouse.providers.manifest import (
    Alias,
    Exempt,
    Flow,
    Implied,
    Never,
    Revocation,
)
from customhouse.providers.vocabulary import Extent, Mode
from customhouse.types import Json
from tests.contract.subjects import sound


@dataclass(frozen=True)
class Broken:
    """A subject with one thing wrong."""

    name: str
    number: int
    says: str
    subject: Subject


def _provider(**changes: Any) -> Subject:
    subject = sound()
    return replace(subject, provider=replace(subject.provider, **changes))


def _auth(**changes: Any) -> Subject:
    return _provider(auth=replace(sound().provider.oauth2, **changes))


def _scope(**changes: Any) -> Subject:
    first, *rest = sound().provider.scopes
    return _provider(scopes=(replace(first, **changes), *rest))


def _endpoint(**changes: str) -> Subject:
    provider = sound().provider
    return _provider(endpoints=replace(provider.endpoints, **changes))


def _recording(name: str, change: Callable[[Recording], Recording]) -> Subject:
    subject = sound()
    assert name in {one.name for one in subject.recordings}
    return replace(subject, recordings=tuple(change(one) if one.name == name else one for one in subject.recordings))


def _without(keep: Callable[[Recording], bool]) -> Subject:
    subject = sound()
    return replace(subject, recordings=tuple(one for one in subject.recordings if keep(one)))


def _saying(name: str, **expect: Json) -> Subject:
    return _recording(name, lambda one: replace(one, expect=one.expect | expect))


def _bodied(name: str, **members: Json) -> Subject:
    return _recording(name, lambda one: one.but(**members))


BROKEN: tuple[Broken, ...] = (
    Broken("an id with a blank", 1, "the id `ac me` is none", _provider(id="ac me")),
    Broken("an id that is no provider's", 1, "the id `webhook` is none", _provider(id="webhook")),
    Broken("no purpose", 1, "`purpose` is empty", _provider(purpose=" ")),
    Broken("no version", 1, "`version` begins at 1", _provider(version=0)),
    Broken("a host with a scheme", 2, "is neither a host", _provider(hosts=("https://api.acme.example",))),
    Broken("plain http", 2, "`token_url` is not https", _endpoint(token_url="http://plain.acme.example/token")),
    Broken("a placeholder", 2, "holds a placeholder", _endpoint(token_url="https://id.acme.example/{tenant}/token")),
    Broken("a foreign host", 2, "the host of `revoke_url` is not in `hosts`", _endpoint(revoke_url="https://other.example/revoke")),
    Broken("no identity call", 2, "`identity_url` is missing", _endpoint(identity_url="")),
    Broken("no revocation call", 2, "`revoke_url` is missing", _endpoint(revoke_url="")),
    Broken("no modes", 3, "`modes` is empty", _provider(modes=(), scopes=sound().provider.scopes[:1])),
    Broken("acting first", 3, "does not begin with the one that may do least", _provider(modes=(Mode.ACT, Mode.OBSERVE))),
    Broken("nothing is never asked for", 3, "`not_requested` is empty", _provider(not_requested=())),
    Broken("no reason for never", 3, "`admin` in `not_requested` has no `why`", _provider(not_requested=(Never("admin", " "),))),
    Broken("a scope twice", 3, "names one twice", _provider(scopes=(*sound().provider.scopes, sound().provider.scopes[0]))),
    Broken("a scope without a reason", 3, "the scope `read` has no `why`", _scope(why="")),
    Broken("a scope without words", 3, "the scope `read` has no `words`", _scope(words="")),
    Broken("a scope that reaches nothing", 3, "the scope `read` has no `reaches`", _scope(reaches="")),
    Broken("an act scope without the mode", 3, "for act, which is not in `modes`", _provider(modes=(Mode.OBSERVE,))),
    Broken("a scope both asked for and never", 3, "is asked for and", _provider(not_requested=(Never("re*d", "No."),))),
    Broken("a scope that holds a forbidden one", 3, "is asked for and", _provider(implied=(Implied("read", ("admin",)),))),
    Broken("an alias of nothing", 3, "the alias `all` stands for", _provider(aliases=(Alias("all", ("everything",)),))),
    Broken(
        "an act mode that changes nothing",
        3,
        "no scope `writes`",
        _provider(scopes=tuple(replace(scope, writes=False) for scope in sound().provider.scopes)),
    ),
    Broken(
        "an identity that nobody may ask for",
        3,
        "needs `profile`",
        _auth(identity=replace(sound().provider.oauth2.identity, needs="profile")),
    ),
    Broken("no challenge", 4, "no S256 challenge", _auth(pkce=False)),
    Broken("no scopes in the request", 4, "does not name its scopes", _auth(sends_scopes=False)),
    Broken(
        "a secret in the address",
        4,
        "a secret of ours is in the address",
        _auth(authorize_extra=(("client_secret", "canary-client-secret"),)),
    ),
    Broken(
        "no recorded consent",
        5,
        "no recording shows the token reply of a full consent in act",
        _without(lambda one: one.name != "exchange-act"),
    ),
    Broken("no recorded refresh", 5, "the token reply of a refresh", _without(lambda one: one.name != "refresh")),
    Broken("no recorded identity", 5, "who was connected", _without(lambda one: one.sort != "identity")),
    Broken("an identity that cannot be read", 5, "identity: the identity cannot be read", _bodied("identity", sub=None)),
    Broken("another identity", 5, "identity: the identity is read as something else", _saying("identity", account="somebody else")),
    Broken("a reply without a token", 5, "the token reply cannot be read", _bodied("exchange-observe", access_token=None)),
    Broken("a reply that must not be read", 5, "is read, and must not be", _saying("exchange-observe", refused=True)),
    Broken("a lifetime that is no time", 5, "the token reply cannot be read", _bodied("exchange-observe", expires_in="soon")),
    Broken("another verdict", 5, "the grant counts as `same`, `expect` says `wider`", _saying("exchange-act", verdict="wider")),
    Broken("other missing scopes", 5, "the missing scopes are `[]`, `expect` says `['write']`", _saying("exchange-act", missing=["write"])),
    Broken("another lifetime", 5, "the lifetime is `3600`, `expect` says `7`", _saying("exchange-act", expires_in=7)),
    Broken("another API", 5, "the API's origin is `None`", _saying("exchange-act", api_origin="https://x.example")),
    Broken("another account", 5, "the account is `None`", _saying("exchange-act", account="a")),
    Broken("another refresh token", 5, "the refresh token is `new`, `expect` says `kept`", _saying("refresh", refresh_token="kept")),
    Broken("a rotation without a new token", 5, "brings no new one", _bodied("refresh", refresh_token=None)),
    Broken(
        "no recorded failure that passes",
        6,
        "no recording shows a failure of the refresh step that is `transient`",
        _without(lambda one: one.expect.get("kind") != "transient" or one.step != "refresh"),
    ),
    Broken("no recorded failure of ours", 6, "that is `application_wide`", _without(lambda one: one.name != "client")),
    Broken("no recorded end", 6, "that is `permanent`", _without(lambda one: one.name != "ended")),
    Broken("a failure that concerns somebody else", 6, "ended: counts as `permanent: grant_ended`", _saying("ended", kind="transient")),
    Broken("nothing said about what comes in", 11, "what comes in", _provider(flows=(Flow("out", "Changes"),))),
    Broken("nothing said about what goes out", 11, "what goes out", _provider(flows=(Flow("in", "Records"),))),
    Broken("no revocation", 12, "no call that ends a grant", _auth(revocation=Revocation(Extent.NOTHING, advice="Remove it there."))),
    Broken("no advice", 12, "needs `advice`", _auth(revocation=Revocation(Extent.NOTHING))),
    Broken("no source", 13, "ended: `source` is empty", _recording("ended", lambda one: replace(one, source=" "))),
    Broken("a real token", 13, "looks like a real key or token", _bodied("ended", hint="ya29.a0AfH6SMBx")),
    Broken("a real mailbox", 13, "a mailbox that may be somebody's", _bodied("ended", hint="ada@company.io")),
    Broken("a real host", 13, "somebody's host", _bodied("ended", hint="https://intranet.company.io/x")),
    Broken("an exemption from nothing", 15, "there is no demand `tests`", _provider(exempt=(Exempt("tests", "No time."),))),
    Broken("an exemption that is not needed", 15, "not needed any more", _provider(exempt=(Exempt("pkce", "Once it had none."),))),
    Broken(
        "an exemption without a reason",
        15,
        "gives no reason",
        replace(_auth(pkce=False), provider=replace(_auth(pkce=False).provider, exempt=(Exempt("pkce", ""),))),
    ),
)
"""In the order of the checks."""
