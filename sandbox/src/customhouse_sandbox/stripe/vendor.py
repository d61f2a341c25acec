"""Stripe's paths, its open facts, and how it begins."""

from __future__ import annotations

from typing import Any, Final

from customhouse_sandbox.facts import Fact
from customhouse_sandbox.http import Reply
from customhouse_sandbox.routing import Vendor
from customhouse_sandbox.state import Application, Person, Realm, fixed
from customhouse_sandbox.stripe import api, dashboard, errors, hooks, keys
from customhouse_sandbox.stripe.resources import put

_PEOPLE: Final = (("ada", "Ada", "Example", "1"), ("grace", "Grace", "Sample", "1"), ("alan", "Alan", "Other", "2"))
"""Login, names, and the account: Ada and Grace work on one."""

FACTS: Final = (
    Fact("permissions_judged", ("first", "last"), "Whether permissions are judged before parameters.", "§7.1, §12"),
    Fact("write_includes_read", ("yes", "no"), "Whether the permission to write includes reading.", "§7.1"),
    Fact(
        "refunds_row",
        ("apart", "with_charges"),
        "Whether refunds have a permission of their own, or are opened by that for charges.",
        "§7.1, §12",
    ),
    Fact("refusal_words", ("having", "enabling"), "How a refusal names the permission: `rak_customer_read`, or `customer_read`.", "§7.1"),
    Fact("refusal_names_account", ("yes", "no"), "Whether a refusal names the account.", "§7.1"),
    Fact("refusals_show_key", ("masked", "whole"), "Whether a refusal repeats the key, or its last letters only.", "§7.1"),
    Fact("account_needs_permission", ("yes", "no"), "Whether the account's own data need a permission.", "§7.1"),
    Fact("missing_reference", ("400", "404"), "The status when a parameter names an object that there is not.", "§7.1"),
    Fact("rate_limit", ("429", "400"), "Which of the two statuses says that there were too many calls.", "§7.1"),
    Fact("idempotency_hours", ("24", "720"), "How many hours an idempotency key is kept.", "§7.2"),
    Fact("idempotency_keeps_failures", ("yes", "no"), "Whether an answer of 5xx is repeated for the same idempotency key.", "§7.2"),
    Fact("idempotency_keeps_validation", ("no", "yes"), "Whether a refusal before anything was done is repeated as well.", "§7.2"),
)


def _begin(realm: Realm, _public_url: str) -> None:
    realm.applications[keys.APPLICATION] = Application(keys.APPLICATION, "", "", (), ())
    for login, given, family, account in _PEOPLE:
        organisation = f"acct_1{keys.alphanumeric(f'stripe-account-{account}', 15)}"
        realm.people[login] = Person(login, fixed(f"stripe-{login}", 16), organisation, f"{login}@example.com", given, family)
    for account in dict.fromkeys(person.organisation for person in realm.people.values()):
        for live in (False, True):
            _fill(realm, account, live=live)


def _fill(realm: Realm, account: str, *, live: bool) -> None:
    """Give an account a few customers, something to sell, and one of each that has to do with money."""

    def made(path: str, number: str = "1", **members: Any) -> dict[str, Any]:
        return put(realm, account, path, members, live=live, seed=number)

    product = made("products", name="Membership", active=True, description=None, type="service")
    sold = {"currency": "usd", "product": product["id"], "active": True, "nickname": None}
    price = made("prices", unit_amount=2_900, recurring={"interval": "month", "interval_count": 1}, type="recurring", **sold)
    made("prices", "2", unit_amount=9_900, recurring=None, type="one_time", **sold)
    customers = [made("customers", one, name=f"Customer {one}", email=f"customer{one}@example.org", delinquent=False) for one in "123"]
    whose = {"customer": customers[-1]["id"], "currency": "usd"}
    line = {"id": "si_1", "object": "subscription_item", "price": price, "quantity": 1}
    items = {"object": "list", "has_more": False, "data": [line]}
    subscription = made("subscriptions", status="active", cancel_at_period_end=False, items=items, **whose)
    made("invoices", status="paid", amount_paid=2_900, amount_due=2_900, subscription=subscription["id"], **whose)
    method = made("payment_methods", type="card", card={"brand": "visa", "last4": "4242"}, customer=whose["customer"])
    taken = {"amount": 2_900, "payment_method": method["id"], "status": "succeeded", **whose}
    intent = made("payment_intents", amount_received=2_900, capture_method="automatic_async", **taken)
    made("charges", payment_intent=intent["id"], paid=True, amount_refunded=0, **taken)


def _overrides(realm: Realm) -> dict[str, dict[str, str]]:
    return {keys.APPLICATION: {"api_base": f"{realm.base}/v1", "identity_url": f"{realm.base}/v1/account"}}


def _ended(_realm: Realm) -> Reply:
    return errors.failed(401, "Expired API Key provided.", code="api_key_expired")


VENDOR: Final = Vendor(
    name="stripe",
    routes=(*api.ROUTES, *dashboard.ROUTES),
    facts=FACTS,
    begin=_begin,
    overrides=_overrides,
    notify=hooks.notify,
    # Nobody is told that a key was deleted (§7.3).
    withdrawn="",
    counted=lambda token, person: f"{person.organisation}:{token.value[3:7]}",
    unknown=api.unknown,
    limited=errors.limited,
    ended=_ended,
    shows=keys.text_of,
    failing=errors.failing,
)
