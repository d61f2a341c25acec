"""Stripe: customers, subscriptions and payments, by a restricted key that the customer makes."""

from __future__ import annotations

from typing import Final

from customhouse.providers.manifest import (
    Allowance,
    Endpoints,
    ErrorRule,
    Flow,
    Identity,
    KeyAnswers,
    KeyPrefix,
    Never,
    Probe,
    Provider,
    RestrictedKey,
    Scope,
)
from customhouse.providers.vocabulary import Kind, Mode, Reason, Risk, Step

_CODE: Final = ("/error/code",)
_API: Final = (Step.API,)
_NOBODY: Final = "customhouse0probe0of0permissions"
"""An id that nothing has."""

SCOPES: Final = (
    Scope(
        "rak_customer_write",
        words="make and change customers",
        why="Creates customers.",
        reaches="names, e-mail addresses and addresses of your customers",
        mode=Mode.ACT,
        spec="create customers",
        writes=True,
    ),
    Scope(
        "rak_subscription_write",
        words="make, change and end subscriptions",
        why="Manages subscriptions.",
        reaches="your customers' subscriptions",
        mode=Mode.ACT,
        spec="manage subscriptions",
        writes=True,
    ),
    Scope(
        "rak_payment_intent_write",
        words="take payments",
        why="Processes payments.",
        reaches="amounts and states of payments; never card numbers",
        mode=Mode.ACT,
        spec="process payments",
        writes=True,
    ),
    Scope(
        "rak_checkout_session_write",
        words="make payment pages",
        why="Processes payments on Stripe's own pages, so that no card number comes near us.",
        reaches="amounts and states of payments",
        mode=Mode.ACT,
        spec="process payments",
        writes=True,
    ),
    Scope(
        "rak_product_read",
        words="see your products",
        why="A subscription is made for a product.",
        reaches="your products",
        spec="manage subscriptions",
    ),
    Scope(
        "rak_plan_read",
        words="see your prices",
        why="A subscription is made at a price.",
        reaches="your prices",
        spec="manage subscriptions",
    ),
    Scope(
        "rak_invoice_read",
        words="see invoices",
        why="Tells whether a subscription was paid.",
        reaches="your customers' invoices",
        spec="manage subscriptions",
    ),
)

PROVIDER: Final = Provider(
    id="stripe",
    name="Stripe",
    purpose="Billing, subscription management",
    risk=Risk.MEDIUM,
    risk_why="payment data",
    version=1,
    hosts=("api.stripe.com",),
    endpoints=Endpoints(api_base="https://api.stripe.com/v1", identity_url="https://api.stripe.com/v1/account"),
    auth=RestrictedKey(
        pattern=r"rk_(?:live|test)_[A-Za-z0-9]{16,240}",
        looks="rk_live_ or rk_test_, and 16 to 240 letters and digits",
        live_prefix="rk_live_",
        test_prefix="rk_test_",
        refused=(
            KeyPrefix("sk_", "A secret key can do everything in the account: make a restricted one."),
            KeyPrefix("pk_", "A publishable key is for browsers: make a restricted one."),
            KeyPrefix("whsec_", "This is the signing secret of a webhook endpoint: it belongs in webhook_secret."),
        ),
        allowed=(
            Probe("/customers?limit=1", "rak_customer_write"),
            Probe(f"/customers/cus_{_NOBODY}", "rak_customer_write", "POST"),
            Probe("/subscriptions?limit=1", "rak_subscription_write"),
            Probe(f"/subscriptions/sub_{_NOBODY}", "rak_subscription_write", "POST"),
            Probe("/payment_intents?limit=1", "rak_payment_intent_write"),
            Probe(f"/payment_intents/pi_{_NOBODY}", "rak_payment_intent_write", "POST"),
            Probe("/checkout/sessions?limit=1", "rak_checkout_session_write"),
            Probe(f"/checkout/sessions/cs_{_NOBODY}", "rak_checkout_session_write", "POST"),
            Probe("/products?limit=1", "rak_product_read"),
            Probe("/prices?limit=1", "rak_plan_read"),
            Probe("/invoices?limit=1", "rak_invoice_read"),
        ),
        forbidden=(
            Probe("/refunds?limit=1", "rak_refund_*"),
            Probe("/transfers?limit=1", "rak_transfer_*"),
            Probe("/payouts?limit=1", "rak_payout_*"),
            Probe("/balance", "rak_balance_*"),
            Probe("/disputes?limit=1", "rak_dispute_*"),
            Probe("/files?limit=1", "rak_file_*"),
            Probe("/webhook_endpoints?limit=1", "rak_webhook_*"),
            Probe(f"/charges/ch_{_NOBODY}", "rak_charge_write", "POST"),
            Probe(f"/products/prod_{_NOBODY}", "rak_product_write", "POST"),
            Probe(f"/prices/price_{_NOBODY}", "rak_plan_write", "POST"),
            Probe(f"/invoices/in_{_NOBODY}", "rak_invoice_write", "POST"),
        ),
        answers=KeyAnswers(
            kind="/error/type",
            kinds=("invalid_request_error",),
            message="/error/message",
            lacking=r"does not have the required permissions?\b",
            good="/object",
        ),
        create_url="https://dashboard.stripe.com/apikeys/create?name=Customhouse&"
        + "&".join(f"permissions[]={scope.name}" for scope in SCOPES),
        identity=Identity(account=("/id",), label=("/settings/dashboard/display_name", "/business_profile/name", "/email")),
        advice="Delete the key in Stripe's dashboard: a key that was pasted here cannot be ended from here. What we hold is destroyed.",
        account_in_refusal=r"on account '(acct_[A-Za-z0-9]{1,64})'",
        webhook_pattern=r"whsec_[A-Za-z0-9_+/=-]{16,240}",
    ),
    scopes=SCOPES,
    not_requested=(
        Never("rak_refund_*", "It would let us pay money back.", named=True),
        Never("rak_transfer_*", "It would let us move money to others.", named=True),
        Never("rak_payout_*", "It would let us move money to bank accounts."),
        Never("rak_balance_*", "Your balance is not needed."),
        Never("rak_charge_write", "It would let us refund, and take payments in an older way."),
        Never("rak_product_write", "Products are read, never changed."),
        Never("rak_plan_write", "Prices are read, never changed."),
        Never("rak_invoice_write", "Invoices are read, never changed or settled."),
        Never("rak_dispute_*", "Disputes are not needed."),
        Never("rak_file_*", "Files are not needed."),
        Never("rak_webhook_*", "It would let us send your events elsewhere."),
        Never("rak_accounts_*", "Account data is not needed."),
    ),
    flows=(
        Flow("out", "Customers, subscriptions and payments that we make, each after approval"),
        Flow("in", "Customers, subscriptions, payments, products, prices and invoices"),
    ),
    register="Nothing to register: each customer makes a restricted key with just these permissions by the prepared link.",
    modes=(Mode.ACT,),
    errors=(
        ErrorRule(Kind.PERMANENT, Reason.GRANT_ENDED, ("api_key_expired",), _CODE, steps=_API),
        ErrorRule(Kind.TRANSIENT, Reason.RATE_LIMITED, ("rate_limit", "lock_timeout"), _CODE, steps=_API),
        ErrorRule(Kind.TRANSIENT, Reason.UNAVAILABLE, statuses=(409,), steps=_API),
        ErrorRule(Kind.PERMANENT, Reason.SCOPE_MISSING, statuses=(403,), steps=_API),
    ),
    allow=(
        *(
            Allowance("GET", f"/{things}{path}", scope)
            for things, scope in (
                ("customers", "rak_customer_write"),
                ("subscriptions", "rak_subscription_write"),
                ("payment_intents", "rak_payment_intent_write"),
                ("checkout/sessions", "rak_checkout_session_write"),
                ("products", "rak_product_read"),
                ("prices", "rak_plan_read"),
                ("invoices", "rak_invoice_read"),
            )
            for path in ("", "/{id}")
        ),
        *(
            Allowance("POST", path, scope, approval=True)
            for path, scope in (
                ("/customers", "rak_customer_write"),
                ("/customers/{id}", "rak_customer_write"),
                ("/subscriptions", "rak_subscription_write"),
                ("/subscriptions/{id}", "rak_subscription_write"),
                ("/payment_intents", "rak_payment_intent_write"),
                ("/checkout/sessions", "rak_checkout_session_write"),
            )
        ),
        Allowance("DELETE", "/subscriptions/{id}", "rak_subscription_write", approval=True),
    ),
    shares="Each key is its own; the same key pasted twice is one key.",
    api_headers=(("stripe-version", "2026-06-24.dahlia"),),
    unconfirmed=(
        "That permissions are judged before parameters: anything but 403 on a forbidden probe counts as permission.",
        "That write includes read: both are probed, reading with a list, writing with a thing that does not exist.",
        "How the dashboard groups charges and refunds; leave both at None.",
        "Whether a key without permissions for accounts may still read its own: one that may is not refused for it.",
    ),
)
