"""What a string gives away, whatever its field is called.

`detect` names the classes of personal data in a string. It is meant for the accept path: nearly all strings are cleared by
`suspicion`. Free-text names and postal addresses are out of scope: without a
field name they cannot be told from other words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from customhouse.privacy.accounts import card_spans, iban_spans, is_card, national_id_spans
from customhouse.privacy.classes import PiiClass
from customhouse.privacy.credentials import credential_spans
from customhouse.privacy.mail import identifier_has_mail, mail_spans
from customhouse.privacy.network import ip_spans
from customhouse.privacy.phones import has_phone
from customhouse.privacy.suspicion import is_clean_shape, is_suspect
from customhouse.privacy.text import readings, without

_BLANK: Final = re.compile(
    r"(?<![\w-])[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?![\w-])"
    r"|(?<!\d)(?:19|20)\d\d([-/.])(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
    r"(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\d)"
    r"|(?<!\d)(?:0?[1-9]|[12]\d|3[01])([./-])(?:0?[1-9]|1[0-2])\2(?:19|20)\d\d(?!\d)"
    r"|(?<![\d.])-?\d{1,3}\.\d{3,15}\s?[,;]\s?-?\d{1,3}\.\d{3,15}(?!\d)"
)
_QUOTED_NAME: Final = re.compile(r"""["']([A-Za-z0-9_.\-]{2,64})\\{0,8}["']\s{0,8}:""")
_QUERY_NAME: Final = re.compile(r"[?&;]([A-Za-z0-9_.\-\[\]]{2,40})=(?=[^&#\s])")
LARGE: Final = 10**13
"""Numbers below it are no payment card."""


def detect(text: str, *, neutral: bool = False) -> tuple[PiiClass, ...]:
    """Return the classes of personal data that a string holds; an empty tuple if none.

    Args:
        text: any string.
        neutral: the string stands in one of `fields.NEUTRAL_FIELDS`.
    """
    if is_clean_shape(text) or not is_suspect(text):
        return ()
    return detect_slowly(text, neutral=neutral)


def detect_slowly(text: str, *, neutral: bool = False) -> tuple[PiiClass, ...]:
    """Do as `detect`, without asking first whether the string is worth it."""
    return tuple(dict.fromkeys(found for reading in readings(text) for found in _in_reading(reading, neutral=neutral)))


_FINDERS: Final[tuple[tuple[PiiClass, Callable[[str], list[tuple[int, int]]]], ...]] = (
    (PiiClass.CREDENTIAL, credential_spans),
    (PiiClass.EMAIL, mail_spans),
    (PiiClass.BANK_ACCOUNT, iban_spans),
    (PiiClass.PAYMENT_CARD, card_spans),
    (PiiClass.NATIONAL_ID, national_id_spans),
)


def _in_reading(text: str, *, neutral: bool) -> list[PiiClass]:
    found: list[PiiClass] = []
    for pii_class, spans_in in _FINDERS:
        spans = spans_in(text)
        if spans:
            found.append(pii_class)
            text = without(text, spans)
    spans = ip_spans(text, four_parts=not neutral)
    if spans:
        found.append(PiiClass.IP_ADDRESS)
        text = without(text, spans)
    if has_phone(_BLANK.sub("\x1f", text), bare=not neutral):
        found.append(PiiClass.PHONE)
    return found


def detect_number(number: float) -> tuple[PiiClass, ...]:
    """Return the classes of personal data that a JSON number gives away by itself: only payment card numbers do."""
    if abs(number) < LARGE or number != number // 1:
        return ()
    return (PiiClass.PAYMENT_CARD,) if is_card(str(abs(int(number)))) else ()


def names_in(text: str) -> list[str]:
    """Return the names that a text gives to values: parameters of a query string, quoted keys of JSON or of a printed object."""
    names: list[str] = []
    if ":" not in text and "=" not in text:
        return names
    for reading in readings(text):
        names += _QUERY_NAME.findall(reading)
        names += _QUOTED_NAME.findall(reading)
    return names


def identifier_carries_pii(text: str) -> bool:
    """Return whether an event id, key, correlation id or event type tells who somebody is."""
    return bool(detect(text)) or identifier_has_mail(text)
