"""What every call of Stripe's API goes through (§7.1, §7.2): key, version, permission, parameters, idempotency."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from customhouse_sandbox.faults import FaultKind
from customhouse_sandbox.http import Reply
from customhouse_sandbox.routing import Ask
from customhouse_sandbox.state import Person, Realm, Token
from customhouse_sandbox.stripe import keys
from customhouse_sandbox.stripe.errors import failed

_VERSION: Final = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}(?:\.[a-z]{1,32})?")
VERSION: Final = "2026-06-24.dahlia"
"""Of an account that pins nothing (§7.2)."""
_LONGEST_KEY: Final = 255
_HOUR: Final = 3600.0
_FAILURES: Final = 500
_JUDGED = TypeVar("_JUDGED")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls."""

    token: Token
    person: Person
    version: str

    @property
    def account(self) -> str:
        """The account's id."""
        return self.person.organisation

    @property
    def live(self) -> bool:
        """Whether the key is one of live mode: nothing of the other mode exists for it."""
        return self.token.value[3:8] == "live_"


@dataclass(frozen=True, slots=True)
class _Stored:
    """What a call with an idempotency key was answered."""

    call: tuple[str, str, bytes]
    reply: Reply
    until: float


def answer(
    ask: Ask, resource: str, level: str, judge: Callable[[Caller], _JUDGED | Reply], act: Callable[[Caller, _JUDGED], Reply]
) -> Reply:
    """Answer one call.

    Args:
        ask: the call.
        resource: whose permission it needs; empty: none.
        level: `read` or `write`.
        judge: looks at the parameters, changes nothing, and returns the refusal or what `act` needs.
        act: has the effect.
    """
    reply = _answer(ask, resource, level, judge, act)
    return replace(reply, headers=(*reply.headers, ("Request-Id", f"req_{keys.alphanumeric(ask.realm.mint.next('request'), 14)}")))


def _answer(
    ask: Ask, resource: str, level: str, judge: Callable[[Caller], _JUDGED | Reply], act: Callable[[Caller, _JUDGED], Reply]
) -> Reply:
    caller = _caller(ask)
    if isinstance(caller, Reply):
        return caller
    refusal = _refusal(ask.realm, caller, resource, level)
    if refusal is not None and ask.realm.facts["permissions_judged"] == "first":
        return refusal
    earlier = _earlier(ask, caller)
    if earlier is not None:
        return earlier if refusal is None else refusal
    judged = judge(caller)
    if isinstance(judged, Reply):
        if refusal is None and ask.realm.facts["idempotency_keeps_validation"] == "yes":
            _keep(ask, caller, judged)
        return judged
    if refusal is not None:
        return refusal
    reply = act(caller, judged)
    said: dict[str, Any] = ask.faults[FaultKind.REPLY].values if FaultKind.REPLY in ask.faults else {}
    if said.get("status", 0) >= _FAILURES:
        # The effect came to be, and what was told of it is a failure.
        if ask.realm.facts["idempotency_keeps_failures"] == "yes":
            _keep(ask, caller, Reply(said["status"], said["body"].encode(), reply.headers))
    else:
        _keep(ask, caller, reply)
    return reply


def _caller(ask: Ask) -> Caller | Reply:
    realm = ask.realm
    value = keys.text_of(ask.request)
    if not value:
        return failed(401, "You did not provide an API key.", ("WWW-Authenticate", 'Basic realm="Stripe"'))
    token = realm.tokens.get(value)
    person = realm.held(token) if token is not None else None
    if token is None or person is None or token.grant.ended is not None:
        return failed(401, f"Invalid API Key provided: {_printable(keys.shown(realm, value))}")
    if not token.is_live(realm.now()):
        return failed(401, f"Expired API Key provided: {keys.shown(realm, value)}", code="api_key_expired")
    if value.startswith("pk_"):
        return failed(403, "This API call cannot be made with a publishable API key.", code="secret_key_required")
    version = ask.request.headers.get("stripe-version", VERSION)
    if _VERSION.fullmatch(version) is None:
        return failed(400, "Invalid Stripe API version.")
    for header in ("stripe-account", "stripe-context"):
        named = ask.request.headers.get(header, person.organisation)
        if named != person.organisation:
            # Accounts of others are a platform's matter; a customer's own key reaches its own (§7.2, guard).
            words = f"The provided key '{keys.shown(realm, value)}' does not have access to account '{_printable(named)}'."
            return failed(403, words, code="account_invalid")
    return Caller(token, person, version)


def _refusal(realm: Realm, caller: Caller, resource: str, level: str) -> Reply | None:
    if not resource or keys.permitted(realm, caller.token, resource, level):
        return None
    named = keys.named(realm, resource)
    whose = f" on account '{caller.account}'" if realm.facts["refusal_names_account"] == "yes" else ""
    words = f"The provided key '{keys.shown(realm, caller.token.value)}' does not have the required permissions for this endpoint{whose}."
    if realm.facts["refusal_words"] == "having":
        hint = f"Having the 'rak_{named}_{level}' permission would allow this request to continue."
    else:
        word = f"{keys.RESOURCES[named]} {level.capitalize()}"
        hint = f"Enabling {word} ('{named}_{level}') permissions on this key would allow this request to continue."
    return failed(403, f"{words} {hint}")


def _place(ask: Ask, caller: Caller) -> tuple[str, bool, str] | None:
    key = ask.request.headers.get("idempotency-key", "")
    # Reading and deleting are idempotent by themselves.
    return (caller.account, caller.live, key) if key and ask.request.method == "POST" else None


def _earlier(ask: Ask, caller: Caller) -> Reply | None:
    """Return what the same call was answered before (§7.2), or the refusal of another call with its key."""
    place = _place(ask, caller)
    if place is None:
        return None
    if len(place[2]) > _LONGEST_KEY:
        return failed(400, f"Idempotency keys hold at most {_LONGEST_KEY} characters.", kind="idempotency_error")
    stored: _Stored | None = ask.realm.store.setdefault("idempotency", {}).get(place)
    if stored is None or ask.realm.now() >= stored.until:
        return None
    if stored.call != _call(ask):
        words = "Keys for idempotent requests can only be used with the same parameters they were first used with."
        return failed(400, words, kind="idempotency_error")
    return replace(stored.reply, headers=(*stored.reply.headers, ("Idempotent-Replayed", "true")))


def _keep(ask: Ask, caller: Caller, reply: Reply) -> None:
    place = _place(ask, caller)
    if place is not None:
        hours = float(ask.realm.facts["idempotency_hours"])
        ask.realm.store.setdefault("idempotency", {})[place] = _Stored(_call(ask), reply, ask.realm.now() + hours * _HOUR)


def _call(ask: Ask) -> tuple[str, str, bytes]:
    return ask.request.method, ask.request.target, ask.request.body


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
