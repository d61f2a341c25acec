"""HubSpot, imitated (§8.1–§8.3 of the providers' facts): tokens of a portal, its contacts, and signed webhooks."""

from customhouse_sandbox.hubspot.vendor import VENDOR as VENDOR
