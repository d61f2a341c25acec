"""Slack, imitated (§4 of the providers' facts)."""

from customhouse_sandbox.slack.vendor import VENDOR as VENDOR
