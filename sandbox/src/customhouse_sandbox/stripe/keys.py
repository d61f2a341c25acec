"""Stripe's keys (§7.1): what the customer makes in the dashboard, with a permission per resource, and what becomes of it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from customhouse_sandbox import oauth
from customhouse_sandbox.http import Request
from customhouse_sandbox.routing import bearer_text
from customhouse_sandbox.state import End, Kind, Person, Realm, Token, fixed

RESOURCES: Final[dict[str, str]] = {
    "customer": "Customers",
    "subscription": "Subscriptions",
    "payment_intent": "PaymentIntents",
    "payment_method": "PaymentMethods",
    "checkout_session": "Checkout Sessions",
    "payment_links": "Payment Links",
    "product": "Products",
    "plan": "Prices and Plans",
    "invoice": "Invoices",
    "charge": "Charges",
    "refund": "Refunds",
    "transfer": "Transfers",
    "payout": "Payouts",
    "balance": "Balance",
    "dispute": "Disputes",
    "file": "Files",
    "webhook": "Webhook Endpoints",
    "event": "Events",
    "accounts_kyc_basic": "Accounts",
}
"""The part of `rak_…_read` and `rak_…_write` in the middle, and the dashboard's word (§7.1, permission slugs)."""

READ: Final = "read"
WRITE: Final = "write"
LEVELS: Final = ("none", READ, WRITE)
PREFIXES: Final = {"restricted": "rk", "secret": "sk", "publishable": "pk"}
MODES: Final = ("test", "live")
APPLICATION: Final = "stripe"
"""Nobody registers an application at Stripe: this is where the sandbox keeps what stands for the customer's keys."""
_LENGTH: Final = 107
_SHOWN: Final = 4
_LONGEST: Final = 30 * 86_400


def alphanumeric(text: str, length: int) -> str:
    """Return letters and digits that follow from a text."""
    return "".join(char for char in fixed(text, 2 * length + 16) if char.isalnum())[:length]


def make(
    realm: Realm, person: str, permissions: Mapping[str, str] | str = "all", *, kind: str = "restricted", mode: str = "test"
) -> tuple[str, str]:
    """Make a key, as the customer does in the dashboard; return its id, which is no secret, and the key.

    Args:
        realm: Stripe's.
        person: whose account it opens, by login.
        permissions: `none`, `read` or `write` by resource, none where it is not named; `all`: write on everything, which the dashboard
            offers for restricted keys as well.
        kind: `restricted`, `secret` or `publishable`; what a secret or a publishable key may do is not a matter of permissions.
        mode: `test` or `live`.

    Raises:
        ValueError: one of them does not exist.
    """
    if person not in realm.people:
        raise ValueError("There is no such person here.")
    if kind not in PREFIXES or mode not in MODES:
        raise ValueError(f"kind is one of {', '.join(PREFIXES)}, and mode one of {', '.join(MODES)}.")
    grant = realm.grant(realm.applications[APPLICATION], person, _slugs(permissions) if kind == "restricted" else ())
    return grant.id, _issue(realm, realm.people[person], grant.id, f"{PREFIXES[kind]}_{mode}_")


def change(realm: Realm, key_id: str, permissions: Mapping[str, str] | str) -> None:
    """Give a restricted key other permissions, as the dashboard lets its owner do; the key stays the same.

    Raises:
        ValueError: there is no such key, or it is not a restricted one, or one of the permissions does not exist.
    """
    scopes = _slugs(permissions)
    held = _of(realm, key_id)
    if not held[0].value.startswith("rk_"):
        raise ValueError("Only a restricted key has permissions.")
    held[0].grant.scopes = scopes
    for token in held:
        token.scopes = scopes


def roll(realm: Realm, key_id: str, seconds: float = 0) -> str:
    """Put a new key in the place of one that expires in so many seconds; return the new one.

    Raises:
        ValueError: there is no such key, or it is over, or the time is not one that can be chosen.
    """
    if not 0 <= seconds <= _LONGEST:
        raise ValueError(f"seconds is a number from 0 to {_LONGEST}")
    newest = _of(realm, key_id)[-1]
    person = realm.held(newest)
    if person is None or not newest.is_live(realm.now()):
        raise ValueError("This key is over already.")
    newest.expires_at = realm.now() + seconds
    return _issue(realm, person, key_id, newest.value[:8])


def delete(realm: Realm, key_id: str) -> None:
    """Delete a key, as the dashboard lets its owner do.

    Raises:
        ValueError: there is no such key.
    """
    oauth.end([_of(realm, key_id)[0].grant], End.DEAUTHORIZED)


def _of(realm: Realm, key_id: str) -> list[Token]:
    found = [token for token in realm.tokens.values() if token.grant.id == key_id]
    if not found:
        raise ValueError("There is no such key here.")
    return found


def _issue(realm: Realm, person: Person, key_id: str, start: str) -> str:
    grant = next(grant for grant in realm.grants if grant.id == key_id)
    stem = f"{start}51{person.organisation.removeprefix('acct_')[:14]}"
    value = stem + alphanumeric(realm.mint.next("key"), _LENGTH - len(stem))
    return realm.issue(grant, Kind.ACCESS, grant.scopes, None, value).value


def _slugs(permissions: Mapping[str, str] | str) -> tuple[str, ...]:
    said: Any = dict.fromkeys(RESOURCES, WRITE) if permissions == "all" else permissions
    if not isinstance(said, Mapping) or not all(name in RESOURCES and level in LEVELS for name, level in said.items()):
        raise ValueError(f"permissions are {', '.join(LEVELS)} by resource, of which there are {', '.join(RESOURCES)}; or all.")
    return tuple(f"rak_{name}_{said[name]}" for name in RESOURCES if said.get(name, "none") != "none")


def permitted(realm: Realm, token: Token, resource: str, level: str) -> bool:
    """Tell whether a key may read, or write, a resource (§7.1)."""
    if token.value.startswith("sk_"):
        return True
    opening = {f"rak_{resource}_{level}"}
    if level == READ and realm.facts["write_includes_read"] == "yes":
        opening.add(f"rak_{resource}_{WRITE}")
    if resource == "refund" and realm.facts["refunds_row"] == "with_charges" and permitted(realm, token, "charge", level):
        return True
    return bool(opening & set(token.scopes))


def named(realm: Realm, resource: str) -> str:
    """Return the resource whose permission opens a call, as a refusal names it."""
    return "charge" if resource == "refund" and realm.facts["refunds_row"] == "with_charges" else resource


def shown(realm: Realm, value: str) -> str:
    """Return a key as a message shows it."""
    if realm.facts["refusals_show_key"] == "whole":
        return value
    start = value[:8] if value[:8] in {f"{kind}_{mode}_" for kind in PREFIXES.values() for mode in MODES} else ""
    return f"{start}{'*' * max(0, len(value) - len(start) - _SHOWN)}{value[max(len(start), len(value) - _SHOWN) :]}"


def text_of(request: Request) -> str:
    """Return the key that a call shows, as a bearer token or as the user name of Basic; empty where it shows none."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return bearer_text(request)
    try:
        return base64.b64decode(rest.strip(), validate=True).decode("ascii").partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""
