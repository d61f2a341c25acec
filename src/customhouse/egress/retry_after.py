"""The `Retry-After` header (RFC 9110 §10.2.3): seconds or a date. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import ceil
from typing import Final

MAX_RETRY_AFTER: Final = 24 * 60 * 60
"""Seconds. A receiver cannot put a delivery off for longer than a day."""

_SECONDS: Final = re.compile(r"[0-9]{1,18}")
_MAX_LENGTH: Final = 64


def parse_retry_after(value: str, now: datetime) -> int | None:
    """Return the seconds to wait, 0 to 86,400, or None where the value says nothing that can be understood.

    Args:
        value: The header as received.
        now: The present moment, aware. A date in the past means 0.
    """
    value = value.strip(" \t")
    if len(value) > _MAX_LENGTH or not value.isascii():
        return None
    if _SECONDS.fullmatch(value):
        return min(int(value), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:  # asctime-date, and what carries -0000: HTTP dates are UTC (RFC 9110 §5.6.7)
            moment = moment.replace(tzinfo=UTC)
        wait = ceil((moment - now).total_seconds())
    except (ValueError, OverflowError, TypeError, IndexError):
        # parsedate_to_datetime leaks more than it documents on hostile input.
        return None
    return min(max(wait, 0), MAX_RETRY_AFTER)
