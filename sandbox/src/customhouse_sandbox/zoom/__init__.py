"""Zoom, imitated (§2 of the providers' facts)."""

from customhouse_sandbox.zoom.vendor import VENDOR as VENDOR
