"""What Stripe keeps for an account (§7.1, §7.2): which calls there are, what they take, and whose permission opens them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from customhouse_sandbox.state import Realm
from customhouse_sandbox.stripe.keys import alphanumeric

_COMMON: Final = ("metadata", "expand")


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object."""

    path: str
    object: str
    prefix: str
    """Of ids."""
    permission: str
    """A key of `keys.RESOURCES`."""
    cites: str
    filters: tuple[str, ...] = ()
    """What a list can be narrowed by: members of the object."""
    creates: tuple[str, ...] = ()
    """Parameters of a creation; empty: it cannot be created."""
    needs: tuple[str, ...] = ()
    """Those that a creation must have."""
    updates: tuple[str, ...] = ()
    """Parameters of a change; empty: it cannot be changed."""
    refers: tuple[tuple[str, str], ...] = ()
    """Parameters that name another object, and the path of those."""
    amounts: tuple[str, ...] = ()
    """Parameters that are whole numbers of the smallest unit, at least 1."""
    deletes: bool = False
    actions: tuple[str, ...] = ()
    """Verbs below an object: `POST /{path}/{id}/{verb}`."""


_CUSTOMER: Final = (
    *("email", "name", "description", "phone", "address", "shipping", "payment_method", "invoice_settings", "preferred_locales"),
    *("balance", "tax_exempt", "source", *_COMMON),
)
_SUBSCRIPTION: Final = (
    *("items", "payment_behavior", "proration_behavior", "trial_period_days", "trial_end", "cancel_at_period_end", "cancel_at"),
    *("default_payment_method", "off_session", "collection_method", "days_until_due", "description", "billing_cycle_anchor"),
    # A way to privilege through an allowed call (§7.2, guard): it is taken, as Stripe takes it.
    *("transfer_data", "on_behalf_of", "application_fee_percent", *_COMMON),
)
_PAYMENT: Final = (
    *("amount", "currency", "customer", "payment_method", "payment_method_types", "automatic_payment_methods", "description"),
    *("receipt_email", "shipping", "setup_future_usage", "statement_descriptor", "transfer_data", "application_fee_amount", *_COMMON),
)
_LINE: Final = ("line_items", "payment_intent_data", "subscription_data", "allow_promotion_codes", "application_fee_amount", *_COMMON)

RESOURCES: Final = (
    Resource(
        *("customers", "customer", "cus_", "customer", "§7.2 (customer)"),
        filters=("email",),
        creates=_CUSTOMER,
        updates=_CUSTOMER,
        deletes=True,
    ),
    Resource(
        *("products", "product", "prod_", "product", "§7.1 (needs)"),
        filters=("active",),
        creates=("name", "active", "description", "images", "url", *_COMMON),
        needs=("name",),
        updates=("name", "active", "description", "images", "url", *_COMMON),
    ),
    Resource(
        *("prices", "price", "price_", "plan", "§7.1 (needs; `rak_plan_read`)"),
        filters=("product", "active", "currency", "type"),
        creates=("currency", "unit_amount", "product", "recurring", "active", "nickname", *_COMMON),
        needs=("currency", "unit_amount", "product"),
        updates=("active", "nickname", *_COMMON),
        refers=(("product", "products"),),
        amounts=("unit_amount",),
    ),
    Resource(
        *("subscriptions", "subscription", "sub_", "subscription", "§7.2 (subscription)"),
        filters=("customer", "status"),
        creates=("customer", "billing_mode", *_SUBSCRIPTION),
        needs=("customer", "items"),
        updates=_SUBSCRIPTION,
        refers=(("customer", "customers"),),
    ),
    Resource(
        *("invoices", "invoice", "in_", "invoice", "§7.1 (needs)"),
        filters=("customer", "status", "subscription"),
        updates=("description", "footer", *_COMMON),
    ),
    Resource(
        *("payment_intents", "payment_intent", "pi_", "payment_intent", "§7.2 (payment intent)"),
        filters=("customer",),
        creates=("confirm", "capture_method", "confirmation_method", "off_session", "on_behalf_of", "return_url", *_PAYMENT),
        needs=("amount", "currency"),
        updates=_PAYMENT,
        refers=(("customer", "customers"),),
        amounts=("amount",),
        actions=("cancel", "confirm", "capture"),
    ),
    Resource(
        *("payment_methods", "payment_method", "pm_", "payment_method", "§7.1 (needs)"),
        filters=("customer", "type"),
    ),
    Resource(
        *("checkout/sessions", "checkout.session", "cs_", "checkout_session", "§7.2 (checkout session)"),
        filters=("customer", "payment_intent", "status"),
        creates=("mode", "success_url", "cancel_url", "customer", "customer_email", "client_reference_id", "ui_mode", "return_url", *_LINE),
        needs=("mode",),
        updates=_COMMON,
        refers=(("customer", "customers"),),
        actions=("expire",),
    ),
    Resource(
        *("payment_links", "payment_link", "plink_", "payment_links", "§7.1 (needs)"),
        filters=("active",),
        creates=("after_completion", "transfer_data", "on_behalf_of", *_LINE),
        needs=("line_items",),
        updates=("active", "after_completion", *_COMMON),
    ),
    Resource(
        *("charges", "charge", "ch_", "charge", "§7.1 (never: charges)"),
        filters=("customer", "payment_intent"),
        updates=("description", "receipt_email", *_COMMON),
    ),
    Resource(
        *("refunds", "refund", "re_", "refund", "§7.1 (never: refunds)"),
        filters=("charge", "payment_intent"),
        creates=("charge", "payment_intent", "amount", "reason", "reverse_transfer", *_COMMON),
        refers=(("charge", "charges"), ("payment_intent", "payment_intents")),
        amounts=("amount",),
    ),
    Resource(
        *("transfers", "transfer", "tr_", "transfer", "§7.1 (never: transfers)"),
        filters=("destination",),
        creates=("amount", "currency", "destination", "source_transaction", "transfer_group", *_COMMON),
        needs=("amount", "currency", "destination"),
        amounts=("amount",),
    ),
    Resource(
        *("payouts", "payout", "po_", "payout", "§7.1 (never: payouts)"),
        filters=("status", "destination"),
        creates=("amount", "currency", "destination", "method", "description", *_COMMON),
        needs=("amount", "currency"),
        amounts=("amount",),
    ),
    Resource("disputes", "dispute", "dp_", "dispute", "§7.1 (never: disputes)", filters=("charge", "payment_intent")),
    Resource("files", "file", "file_", "file", "§7.1 (never: files)", filters=("purpose",)),
    Resource(
        *("webhook_endpoints", "webhook_endpoint", "we_", "webhook", "§7.1 (never: webhooks), §7.3 (endpoints by API)"),
        creates=("url", "enabled_events", "api_version", "description", "connect", *_COMMON),
        needs=("url", "enabled_events"),
        updates=("url", "enabled_events", "disabled", "description", *_COMMON),
        deletes=True,
    ),
    Resource("events", "event", "evt_", "event", "§7.3 (polling)", filters=("type",)),
    Resource("accounts", "account", "acct_", "accounts_kyc_basic", "§7.1 (never: accounts)"),
)

OF: Final = {resource.path: resource for resource in RESOURCES}


def objects(realm: Realm, account: str, path: str, *, live: bool) -> dict[str, dict[str, Any]]:
    """Return the objects of one kind, the oldest first, by id: an account's test mode and its live mode know nothing of each other."""
    store: dict[tuple[str, bool, str], dict[str, dict[str, Any]]] = realm.store.setdefault("objects", {})
    return store.setdefault((account, live, path), {})


def put(realm: Realm, account: str, path: str, members: dict[str, Any], *, live: bool, seed: str = "") -> dict[str, Any]:
    """Make an object; with a seed its id is always the same."""
    resource = OF[path]
    text = f"{account}:{live}:{path}:{seed}" if seed else realm.mint.next(path)
    mode = ("live_" if live else "test_") if resource.prefix == "cs_" else ""
    made = {
        "id": f"{resource.prefix}{mode}{alphanumeric(text, 24)}",
        "object": resource.object,
        "created": int(realm.now()),
        "livemode": live,
        "metadata": {},
        **members,
    }
    objects(realm, account, path, live=live)[made["id"]] = made
    return made
