"""Stripe, imitated (§7 of the providers' facts): keys that a customer makes, what they open, and signed events."""

from customhouse_sandbox.stripe.vendor import VENDOR as VENDOR
