"""Finds the signature headers among whatever headers a framework hands over."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, Optional, Union

from customhouse_receiver.errors import Reason, WebhookRejected

Headers = Union[
    Mapping[str, str],
    Mapping[bytes, bytes],
    Iterable[tuple[str, str]],
    Iterable[tuple[bytes, bytes]],
]
"""A mapping or pairs, text or bytes (an ASGI scope's list), names in any case."""

_LONGEST: Final = 1024
_PREFIX: Final = re.compile(r"[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*")


class QueastHeaders(NamedTuple):
    """The headers of the profile `queast-v1`, as they came."""

    timestamp: str
    signature: str
    key_id: Optional[str]


class StandardHeaders(NamedTuple):
    """The headers of the profile `standard-webhooks`, as they came."""

    message_id: str
    timestamp: str
    signatures: str


class HeaderNames:
    """The names to look for."""

    __slots__ = ("_lengths", "_slots")

    def __init__(self, prefix: str) -> None:
        """Take the sender's header prefix, such as `X-Queast`.

        Raises:
            ValueError: it is no header name, or it is the prefix of Standard Webhooks.
        """
        if not _PREFIX.fullmatch(prefix) or prefix.lower() == "webhook":
            raise ValueError("the header prefix is no header name of its own, such as X-Queast")
        ours = prefix.lower()
        names = (
            f"{ours}-timestamp",
            f"{ours}-signature",
            f"{ours}-signature-key-id",
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
        )
        self._slots: dict[Union[str, bytes], int] = {}
        for slot, name in enumerate(names):
            self._slots[name] = self._slots[name.encode()] = slot
        self._lengths = frozenset(len(name) for name in names)

    def pick(self, headers: Headers) -> Union[QueastHeaders, StandardHeaders]:
        """Return the headers of the one profile that is present.

        Raises:
            WebhookRejected: missing, repeated or overlong headers, or those of both profiles.
        """
        found: list[Optional[str]] = [None] * 6
        slots, lengths = self._slots, self._lengths
        # Frameworks bring classes of their own: whatever has `items` is asked for its pairs, and repeated ones show there.
        given: Any = headers
        try:
            for name, value in given.items() if hasattr(given, "items") else given:
                if len(name) not in lengths:
                    continue
                slot = slots.get(name.lower())
                if slot is None:
                    continue
                if found[slot] is not None:
                    raise WebhookRejected(Reason.REPEATED_HEADER)
                if len(value) > _LONGEST:
                    raise WebhookRejected(Reason.MALFORMED_HEADER)
                found[slot] = value if isinstance(value, str) else value.decode("ascii")
        except (TypeError, ValueError, AttributeError):  # not pairs of text or bytes; UnicodeDecodeError is a ValueError
            raise WebhookRejected(Reason.MALFORMED_HEADER) from None
        return _one_profile(found)


def _one_profile(found: list[Optional[str]]) -> Union[QueastHeaders, StandardHeaders]:
    timestamp, signature, key_id, message_id, standard_timestamp, signatures = found
    queast = timestamp is not None or signature is not None or key_id is not None
    standard = message_id is not None or standard_timestamp is not None or signatures is not None
    # No sender of ours mixes them, and a choice made here would be a choice left to whoever adds a header on the way.
    if queast and standard:
        raise WebhookRejected(Reason.AMBIGUOUS_PROFILE)
    if timestamp and signature:
        return QueastHeaders(timestamp, signature, key_id)
    if message_id and standard_timestamp and signatures:
        return StandardHeaders(message_id, standard_timestamp, signatures)
    raise WebhookRejected(Reason.MISSING_HEADER)
