"""Stripe's events (§7.3): kept for 30 days, and sent with `Stripe-Signature` to the endpoint that the customer made."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any, Final

from customhouse_sandbox.outgoing import Outgoing
from customhouse_sandbox.state import Application, Person, Realm
from customhouse_sandbox.stripe.calls import VERSION
from customhouse_sandbox.stripe.keys import MODES, alphanumeric
from customhouse_sandbox.stripe.resources import OF, objects, put

NAMES: Final[dict[str, str]] = {
    "customer": "customer",
    "product": "product",
    "price": "price",
    "subscription": "customer.subscription",
    "payment_intent": "payment_intent",
    "payment_link": "payment_link",
    "refund": "refund",
    "transfer": "transfer",
    "payout": "payout",
    "checkout.session": "checkout.session",
}
"""What events of an object begin with."""
EVENTS: Final[dict[str, str]] = {
    "customer.created": "customers",
    "customer.updated": "customers",
    "customer.deleted": "customers",
    "customer.subscription.created": "subscriptions",
    "customer.subscription.updated": "subscriptions",
    "customer.subscription.deleted": "subscriptions",
    "invoice.paid": "invoices",
    "invoice.payment_failed": "invoices",
    "payment_intent.succeeded": "payment_intents",
    "payment_intent.payment_failed": "payment_intents",
    "charge.succeeded": "charges",
    "charge.refunded": "charges",
}
"""What can be ordered, and where its object is taken from: the newest one."""
_LONGEST: Final = 86_400.0
"""How long, in seconds, an endpoint's earlier secret goes on signing while it is rolled (§7.3)."""


def record(
    realm: Realm,
    account: str,
    event: str,
    one: dict[str, Any],
    *,
    live: bool,
    previous: dict[str, Any] | None = None,
    key: str | None = None,
) -> dict[str, Any]:
    """Write an event down, as the list of events tells it."""
    data: dict[str, Any] = {"object": json.loads(json.dumps(one))}
    if previous:
        data["previous_attributes"] = previous
    request = {"id": f"req_{alphanumeric(realm.mint.next('request'), 14)}", "idempotency_key": key}
    said: dict[str, Any] = {"type": event, "api_version": VERSION, "pending_webhooks": 0, "request": request, "data": data}
    made = put(realm, account, "events", said, live=live)
    del made["metadata"]
    return made


def endpoint(realm: Realm, person: str, mode: str = "test", *, rolled: bool = False) -> str:
    """Return the signing secret of the webhook endpoint that a customer made in the dashboard.

    Args:
        realm: Stripe's.
        person: whose account it belongs to.
        mode: `test` or `live`.
        rolled: put a new secret in its place; for a day the earlier one signs as well.

    Raises:
        ValueError: there is no such person or mode.
    """
    if person not in realm.people or mode not in MODES:
        raise ValueError(f"There is no such person here, or mode is none of {', '.join(MODES)}.")
    held = _secrets(realm, person, mode)
    if rolled or not held:
        ending = realm.now() + _LONGEST
        held[:] = [(secret, min(until, ending)) for secret, until in held]
        made = f"whsec_{alphanumeric(realm.mint.next('endpoint-secret'), 32)}"
        realm.secrets.append(made)
        held.append((made, float("inf")))
    return held[-1][0]


def _secrets(realm: Realm, person: str, mode: str) -> list[tuple[str, float]]:
    store: dict[tuple[str, str], list[tuple[str, float]]] = realm.store.setdefault("endpoint-secrets", {})
    return store.setdefault((realm.people[person].organisation, mode), [])


def notify(realm: Realm, _application: Application, person: Person, event: str, url: str) -> list[Outgoing]:
    """Return the webhook of an event; `live:` before its name means live mode.

    Raises:
        ValueError: there is no such event, or nothing that it could be about, or the address is not on this machine.
    """
    mode, _, name = event.rpartition(":")
    if name not in EVENTS or mode not in {"", *MODES}:
        raise ValueError(f"Stripe's events here are {', '.join(EVENTS)}; with live: before them, of live mode.")
    mode = mode or MODES[0]
    live = mode == "live"
    there = list(objects(realm, person.organisation, EVENTS[name], live=live).values())
    if not there:
        raise ValueError(f"There is no {OF[EVENTS[name]].object} that this event could be about.")
    made = record(realm, person.organisation, name, there[-1], live=live)
    made["pending_webhooks"] = 1
    endpoint(realm, person.login, mode)
    return [signed(realm, person, mode, made, url)]


def signed(realm: Realm, person: Person, mode: str, said: dict[str, Any], url: str) -> Outgoing:
    """Return a webhook with `Stripe-Signature` over `{t}.{raw body}`, by each secret that counts now (§1.3, §7.3)."""
    body = json.dumps(said, ensure_ascii=False, indent=2).encode()
    now = realm.now()
    stamp = str(int(now))
    # The whole text of the secret is the key: it is not decoded.
    made = objects(realm, person.organisation, "webhook_endpoints", live=mode == "live").values()
    # An endpoint that was made by the API has the secret that its creation told; the others have the dashboard's.
    counting = [one["secret"] for one in made if one["url"] == url]
    counting = counting or [secret for secret, until in _secrets(realm, person.login, mode) if now < until]
    signatures = [f"v1={_digest(secret, stamp, body)}" for secret in counting]
    if mode != "live":
        # Of no use to anybody: a scheme that must be ignored.
        signatures.append(f"v0={_digest('decoy', stamp, body)}")
    headers = (
        ("Content-Type", "application/json; charset=utf-8"),
        ("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)"),
        ("Stripe-Signature", ",".join([f"t={stamp}", *signatures])),
    )
    return Outgoing(realm.name, said["type"], url, headers, body)


def _digest(secret: str, stamp: str, body: bytes) -> str:
    return hmac.new(secret.encode(), b"%b.%b" % (stamp.encode(), body), hashlib.sha256).hexdigest()
