"""How an object of Stripe comes to be and changes (§7.2): from parameters to members. What a call needs beyond its form is judged here."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from customhouse_sandbox.http import Reply
from customhouse_sandbox.state import Realm
from customhouse_sandbox.stripe.calls import VERSION, Caller
from customhouse_sandbox.stripe.errors import failed, missing_parameter, not_there
from customhouse_sandbox.stripe.keys import alphanumeric
from customhouse_sandbox.stripe.parameters import whole
from customhouse_sandbox.stripe.resources import objects

_MONTH: Final = 30 * 86_400
_DAY: Final = 86_400
_CURRENCY: Final = re.compile(r"[a-zA-Z]{3}")
_CAPTURES: Final = ("automatic", "automatic_async", "manual")
_MODES: Final = ("payment", "setup", "subscription")
NUMBERS: Final = frozenset({"amount", "unit_amount", "quantity", "trial_period_days", "application_fee_amount", "days_until_due"})
_FLAGS: Final = frozenset({"active", "cancel_at_period_end", "confirm", "off_session", "connect", "disabled", "allow_promotion_codes"})

Shape = Callable[[Realm, Caller, dict[str, Any]], dict[str, Any] | Reply]


def typed(said: dict[str, Any]) -> dict[str, Any]:
    """Return parameters as members: numbers and flags are no texts any more, and an empty text unsets."""
    found: dict[str, Any] = {}
    for name, value in said.items():
        if name in NUMBERS and isinstance(value, str):
            found[name] = whole(value)
        elif name in _FLAGS and isinstance(value, str):
            found[name] = value == "true"
        elif name == "metadata":
            found[name] = {key: text for key, text in value.items() if text != ""} if isinstance(value, dict) else {}
        elif name != "expand":
            found[name] = None if value == "" else value
    return found


def currency(said: dict[str, Any]) -> Reply | None:
    """Judge a currency, where there is one, and write it as Stripe does."""
    text = said.get("currency", "usd")
    if not isinstance(text, str) or _CURRENCY.fullmatch(text) is None:
        return failed(400, "Invalid currency.", param="currency")
    if "currency" in said:
        said["currency"] = text.lower()
    return None


def lines(realm: Realm, caller: Caller, said: dict[str, Any], name: str) -> list[dict[str, Any]] | Reply:
    """Return what is sold: a list of prices that exist, with quantities."""
    listed = said.get(name)
    if not isinstance(listed, list) or not listed:
        return missing_parameter(f"{name}[0][price]")
    prices = objects(realm, caller.account, "prices", live=caller.live)
    found = []
    for index, line in enumerate(listed):
        if not isinstance(line, dict) or not isinstance(line.get("price"), str):
            return missing_parameter(f"{name}[{index}][price]")
        price = prices.get(line["price"])
        if price is None:
            return not_there(int(realm.facts["missing_reference"]), "price", line["price"], f"{name}[{index}][price]")
        quantity = whole(line.get("quantity", "1"))
        if quantity is None or quantity < 0:
            return failed(400, "Invalid integer.", code="parameter_invalid_integer", param=f"{name}[{index}][quantity]")
        found.append({"price": price, "quantity": quantity})
    return found


def customer(realm: Realm, _caller: Caller, said: dict[str, Any]) -> dict[str, Any] | Reply:
    """A customer."""
    empty = dict.fromkeys(("email", "name", "description", "phone", "address", "shipping"))
    return {**empty, "delinquent": False, "invoice_prefix": alphanumeric(realm.mint.next("prefix"), 8).upper(), **typed(said)}


def product(_realm: Realm, _caller: Caller, said: dict[str, Any]) -> dict[str, Any] | Reply:
    """A product."""
    return {"active": True, "description": None, "images": [], "type": "service", **typed(said)}


def price(_realm: Realm, _caller: Caller, said: dict[str, Any]) -> dict[str, Any] | Reply:
    """A price."""
    recurring = said.get("recurring")
    return {"active": True, "nickname": None, "recurring": None, "type": "recurring" if recurring else "one_time", **typed(said)}


def subscription(realm: Realm, caller: Caller, said: dict[str, Any]) -> dict[str, Any] | Reply:
    """A subscription: of a customer, to prices that come again."""
    found = lines(realm, caller, said, "items")
    if isinstance(found, Reply):
        return found
    if not all(line["price"]["recurring"] for line in found):
        return failed(400, "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`.")
    now = int(realm.now())
    trial = whole(said.get("trial_period_days", "0"))
    if trial is None or trial < 0:
        return failed(400, "Invalid integer.", code="parameter_invalid_integer", param="trial_period_days")
    default = "trialing" if trial else "active"
    state = "incomplete" if said.get("payment_behavior") == "default_incomplete" and not trial else default
    items = [
        {
            "id": f"si_{alphanumeric(realm.mint.next('item'), 14)}",
            "object": "subscription_item",
            **line,
            "current_period_start": now,
            "current_period_end": now + (trial * _DAY or _MONTH),
        }
        for line in found
    ]
    rest = {key: value for key, value in typed(said).items() if key != "items"}
    start = {"status": state, "start_date": now, "cancel_at_period_end": False, "canceled_at": None, "ended_at": None}
    return {**start, "currency": found[0]["price"]["currency"], **rest, "items": {"object": "list", "has_more": False, "data": items}}


def payment_intent(realm: Realm, _caller: Caller, said: dict[str, Any]) -> dict[str, Any] | Reply:
    """A payment intent; confirmed in the same call where that is said."""
    if said.get("capture_method", "manual") not in _CAPTURES:
        return failed(400, f"Invalid capture_method: must be one of {', '.join(_CAPTURES)}", param="capture_method")
    confirming = said.get("confirm") == "true"
    if confirming and not said.get("payment_method"):
        return failed(400, "You cannot confirm this PaymentIntent because it's missing a payment method.", code="parameter_missing")
    state = "requires_confirmation" if said.get("payment_method") else "requires_payment_method"
    made = {"capture_method": "automatic_async", "customer": None, "description": None, **typed(said), "status": state}
    made["client_secret"] = f"pi_{alphanumeric(realm.mint.next('client-secret'), 24)}_secret_{alphanumeric(realm.mint.next('half'), 25)}"
    realm.secrets.append(made["client_secret"])
    return paid(made) if confirming else made


def paid(intent: dict[str, Any]) -> dict[str, Any] | Reply:
    """Confirm a payment: the method `pm_card_chargeDeclined` is declined (402), every other one is taken."""
    if intent.get("payment_method") == "pm_card_chargeDeclined":
        return failed(402, "Your card was declined.", kind="card_error", code="card_declined")
    manual = intent["capture_method"] == "manual"
    return {**intent, "status": "requires_capture" if manual else "succeeded", "amount_received": 0 if manual else intent["amount"]}


def session(realm: Realm, caller: Caller, said: dict[str, Any]) -> dict[str, Any] | Reply:
    """A checkout session, with the address of its page."""
    mode = said["mode"]
    if mode not in _MODES:
        return failed(400, f"Invalid mode: must be one of {', '.join(_MODES)}", param="mode")
    found = lines(realm, caller, said, "line_items") if mode != "setup" else []
    if isinstance(found, Reply):
        return found
    if mode == "subscription" and not all(line["price"]["recurring"] for line in found):
        return failed(400, "You must provide at least one recurring price in `subscription` mode.")
    total = sum(line["price"]["unit_amount"] * line["quantity"] for line in found)
    page = f"https://checkout.stripe.com/c/pay/{alphanumeric(realm.mint.next('page'), 40)}"
    rest = {key: value for key, value in typed(said).items() if key != "line_items"}
    state = {"status": "open", "payment_status": "unpaid", "payment_intent": None, "expires_at": int(realm.now()) + _DAY}
    return {**state, "amount_total": total, "currency": found[0]["price"]["currency"] if found else None, **rest, "url": page}


def payment_link(realm: Realm, caller: Caller, said: dict[str, Any]) -> dict[str, Any] | Reply:
    """A payment link."""
    found = lines(realm, caller, said, "line_items")
    if isinstance(found, Reply):
        return found
    rest = {key: value for key, value in typed(said).items() if key != "line_items"}
    return {"active": True, **rest, "url": f"https://buy.stripe.com/test_{alphanumeric(realm.mint.next('page'), 18)}"}


def refund(realm: Realm, caller: Caller, said: dict[str, Any]) -> dict[str, Any] | Reply:
    """A refund of a payment that was taken."""
    if not said.get("charge") and not said.get("payment_intent"):
        return failed(400, "One of the following params should be provided for this request: payment_intent or charge.")
    charges = objects(realm, caller.account, "charges", live=caller.live).values()
    taken = next((one for one in charges if said.get("charge", one["id"]) == one["id"] and _same_intent(said, one)), None)
    if taken is None:
        return failed(400, "This PaymentIntent does not have a successful charge to refund.", code="payment_intent_unexpected_state")
    amount = whole(said.get("amount", str(taken["amount"] - taken["amount_refunded"])))
    if not amount or taken["amount_refunded"] + amount > taken["amount"]:
        return failed(400, f"Charge {taken['id']} has already been refunded.", code="charge_already_refunded")
    rest = {key: value for key, value in typed(said).items() if key != "amount"}
    return {"status": "succeeded", "currency": taken["currency"], **rest, "charge": taken["id"], "amount": amount}


def _same_intent(said: dict[str, Any], charge: dict[str, Any]) -> bool:
    return bool(said.get("payment_intent", charge["payment_intent"]) == charge["payment_intent"])


def moved(realm: Realm, caller: Caller, said: dict[str, Any]) -> dict[str, Any] | Reply:
    """A transfer or a payout: as much as there is."""
    made = typed(said)
    if made["amount"] > available(realm, caller):
        return failed(400, "You have insufficient funds in your Stripe account.", code="balance_insufficient")
    return {"status": "pending", "destination": None, **made}


def available(realm: Realm, caller: Caller) -> int:
    """Return the account's balance: what was taken, less what was given back or moved."""
    taken: int = sum(one["amount"] for one in objects(realm, caller.account, "charges", live=caller.live).values())
    gone = [one for path in ("refunds", "transfers", "payouts") for one in objects(realm, caller.account, path, live=caller.live).values()]
    moved_away: int = sum(one["amount"] for one in gone)
    return taken - moved_away


def endpoint(realm: Realm, _caller: Caller, said: dict[str, Any]) -> dict[str, Any] | Reply:
    """A webhook endpoint, with the secret that is told once."""
    url = said["url"]
    events = said["enabled_events"]
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        return failed(400, "Invalid URL: An explicit scheme (such as https) must be provided.", code="url_invalid", param="url")
    if not isinstance(events, list) or not events:
        return failed(400, "Invalid array", param="enabled_events")
    secret = f"whsec_{alphanumeric(realm.mint.next('endpoint-secret'), 32)}"
    realm.secrets.append(secret)
    return {"status": "enabled", "api_version": VERSION, "application": None, **typed(said), "secret": secret}


SHAPES: Final[dict[str, Shape]] = {
    "customers": customer,
    "products": product,
    "prices": price,
    "subscriptions": subscription,
    "payment_intents": payment_intent,
    "checkout/sessions": session,
    "payment_links": payment_link,
    "refunds": refund,
    "transfers": moved,
    "payouts": moved,
    "webhook_endpoints": endpoint,
}
