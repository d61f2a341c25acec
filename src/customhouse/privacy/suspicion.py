"""Which strings the detectors have to look at: the cheap question in front of the dear one.

A test holds the promise against the detectors: what is not suspect has nothing in it that they would find.
"""

from __future__ import annotations

import re
from typing import Final

from customhouse.privacy import accounts, phones
from customhouse.privacy.credentials import PREFIXES
from customhouse.privacy.text import BASE64_OF_ASCII, plain

_SHORTEST: Final = 6
_WORD: Final = 12
_CLEAN_SHAPE: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?"
    r"|[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
    r"|(?:[a-z][a-z0-9]{1,7}:)?[0-9a-f]{32,128}"
    r"|[a-z]{2,16}_[0-7][0-9a-hjkmnp-tv-z]{25}"
)
_MAIL: Final = re.compile(r"@|%[0-9A-Fa-f]{2}|&(?:#|commat|period)|\\u|[(\[{<]\s{0,2}(?:[Aa][Tt]|arroba|chiocciola|ma\u0142pa)\b")
_DIGITS: Final = re.compile(r"\d(?:[ .\-/()]{0,3}\d){6,}")
_GROUPS: Final = re.compile(r"\d+")
_FEWEST_NATIONAL: Final = 9
_FEWEST_CARD: Final = 13
_LONGEST_FIRST_GROUP: Final = 3
_OTHER: Final = re.compile(
    r"""\d{6}[-+]\d{4}
    |\d{8}(?:[ -]?[A-Za-z]|\ ?\d\ ?[A-Z])
    |[12]\ ?\d\d\ ?\d\d\ ?2[ABab]
    |\d{1,3}(?:\.\d{1,3}){3}
    |\d\d(?:(?<=(?<![0-9A-Za-z])[A-Za-z]{2}\d\d)|(?<=[A-Za-z]{2}\ \d\d))[ -]?[0-9A-Za-z]
    |\d\d(?<=[A-Za-z]{6}\d\d)[A-Za-z]
    |\d{7}(?<=[A-Za-z]\d{7})|\d{7}(?<=[A-Za-z][ -]\d{7})""",
    re.VERBOSE,
)
_V6: Final = re.compile(r":[0-9A-Fa-f]{0,4}:(?:[0-9A-Fa-f]|:)")
_WORDS: Final = re.compile(r"[^\W\d_]+")
_LABELS: Final = phones.LABELS | accounts.LABELS
_LABELS_WITHOUT_SPACES: Final = phones.LABELS_WITHOUT_SPACES + accounts.LABELS_WITHOUT_SPACES
_LABEL_WINDOW: Final = 64
_LABEL_WORDS: Final = 4


def is_clean_shape(text: str) -> bool:
    """Return whether a string is too short to tell anything, one short word, a time, a UUID, a digest or a TypeID."""
    if len(text) < _WORD and (len(text) < _SHORTEST or (text.isalpha() and text.isascii())):
        return True
    return _CLEAN_SHAPE.fullmatch(text) is not None


def is_suspect(text: str) -> bool:
    """Return whether a text has to be looked at by the detectors. False promises that they find nothing in it."""
    text = plain(text)
    if any(prefix in text for prefix in PREFIXES) or " dot " in text.lower():
        return True
    if _MAIL.search(text) or _OTHER.search(text) or _V6.search(text) or BASE64_OF_ASCII.search(text):
        return True
    return any(_is_suspect_number(text, digits) for digits in _DIGITS.finditer(text))


def _is_suspect_number(text: str, run: re.Match[str]) -> bool:
    start = run.start()
    groups = _GROUPS.findall(run[0])
    left = sum(map(len, groups))
    if left >= _FEWEST_CARD or "+" in text[max(0, start - 2) : start]:
        return True
    for group in groups:
        if left < _FEWEST_NATIONAL:
            break
        if group[0] == "0" or len(group) <= _LONGEST_FIRST_GROUP:
            return True
        left -= len(group)
    words = _WORDS.findall(text, max(0, start - _LABEL_WINDOW), start)[-_LABEL_WORDS:]
    return any(word.lower() in _LABELS or word.endswith(_LABELS_WITHOUT_SPACES) for word in words)
