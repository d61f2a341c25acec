"""Which strings the detectors have to look at: the cheap question in front of the dear one.

A test holds the promise against the detectors: what is not suspect has nothing in it that they would find.
"""

from __future__ import annotations

import html
import re
import string
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from customhouse.privacy import accounts, phones
from customhouse.privacy.credentials import PHRASES, PREFIXES
from customhouse.privacy.text import BASE64_OF_ASCII, plain, spaced

SHORTEST: Final = 6
"""No detector finds anything in fewer characters."""
_CLEAN_SHAPE: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?"
    r"|[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
    r"|(?:[a-z][a-z0-9]{1,7}:)?[0-9a-f]{32,128}"
    r"|[a-z]{2,16}_[0-7][0-9a-hjkmnp-tv-z]{25}|[a-z]{1,2}_[1-9]\d{0,11}"
    r"|[A-Za-z_./-]{1,11}|(?:[A-Za-z]{1,6}-)?\d{1,4}(?:[.,]\d{1,2})?"
    r"|(?:(?![Dd][Oo][Tt] )[A-Za-z]{1,11}[,;.!?]? ){1,64}[A-Za-z]{1,11}[.!?]?"
)
_LONG_WORD: Final = 12
_LONG: Final = b"x" * _LONG_WORD
_SOLID: Final = bytes(byte if byte in b" \n" else 0x78 for byte in range(256))
_DIGITS_AS_ZERO: Final = bytes(0x30 if byte in b"0123456789" else byte for byte in range(256))
_LETTERS: Final = (string.ascii_letters + " ").encode()
_MOST_MARKS: Final = 24
_FEW: Final = re.compile(rb"(?!(?:[^0]*0){6}|(?:[^.]*\.){3}|(?:[^-]*-){5})[0,;!_./-]*")
_PERCENT: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_BEGIN, _EARER, _ASIC = PHRASES
_DOT: Final = re.compile(r"\sdot\s", re.IGNORECASE)
_PREFIX: Final = re.compile("|".join(map(re.escape, PREFIXES)))
_HIDDEN_AT: Final = re.compile(r"[(\[{<]\s{0,2}(?:at|arroba|chiocciola|małpa)\b", re.IGNORECASE)
_DIGITS: Final = re.compile(r"\d(?:[ .\-/()]{0,3}\d){5,}")
_GROUPS: Final = re.compile(r"\d+")
_FEWEST_NATIONAL: Final = 9
_FEWEST_CARD: Final = 13
_FEWEST_LABELLED: Final = 7
_LONGEST_FIRST_GROUP: Final = 3
# Each pattern begins with a digit or a literal, so that the search skips to the few places that matter.
_LONG_NUMBER: Final = re.compile(r"\d{6}(?:[-+]\d{4}|\d{2}(?:[ -]?[A-Za-z]|\ ?\d\ ?[A-Z])|\d(?:(?<=[A-Za-z]\d{7})|(?<=[A-Za-z][ -]\d{7})))")
_IBAN_BEFORE: Final = re.compile(r"\d\d(?<=[A-Za-z]{2}\d\d).{0,32}$")
_LENGTH_OF_CODICE: Final = 16
_CODICE_FISCALE: Final = re.compile(r"\d\d(?<=[A-Za-z]{6}\d\d)[A-Za-z]")
# IP addresses of both versions, and French numbers of Corsicans, which have a letter among the digits.
_ADDRESS: Final = re.compile(r"\.\d{1,3}\.\d{1,3}\.\d|:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]|2[ABab]\ ?\d{3}\ ?\d{3}")
_WORDS: Final = re.compile(r"[^\W\d_]+")
_LABELS: Final = phones.LABELS | accounts.LABELS
_NUMBER_BEHIND_LABEL: Final = re.compile(r"(?:number|nummer|numer|no|nr)s?$")
_LABELS_WITHOUT_SPACES: Final = phones.LABELS_WITHOUT_SPACES + accounts.LABELS_WITHOUT_SPACES
_HOLDS_JSON: Final = re.compile(r"\s*[\[{\"]")
_GIVES_NAMES: Final = re.compile(r"[?&;][A-Za-z0-9_.\-\[\]%]{2,64}=|[\"']\s{0,8}:")
_LABEL_WINDOW: Final = 64
_LABEL_WORDS: Final = 4
_TAIL: Final = 6


def is_clean_shape(text: str) -> bool:
    """Return whether a string is too short to tell anything, or a time, UUID, digest, TypeID, short code or plain prose of short words."""
    return len(text) < SHORTEST or _CLEAN_SHAPE.fullmatch(text) is not None


def unclear(texts: Sequence[str]) -> list[int]:
    """Return the numbers of the strings that may tell something; of those left out no detector finds anything.

    Beside the clean shapes, strings of ASCII words below 12 characters are left out that have at most five digits, two full stops and four
    dashes, other marks of `,;!_/` only, and no word *dot*: all of them are judged by what is left without their letters and spaces.
    """
    lines = "\n".join(texts).encode("ascii", "replace")
    left = lines.translate(_DIGITS_AS_ZERO, _LETTERS).split(b"\n")
    if len(left) != len(texts) or b"dot" in lines.lower():
        return [number for number, text in enumerate(texts) if not is_clean_shape(text)]
    found = _lines_with_long_words(lines)
    # Only short ones are asked about, and so kept: the cache stays small whatever a tenant sends.
    telling = {marks for marks in set(left) if len(marks) > _MOST_MARKS or not _are_few(marks)}
    if telling:
        found |= {number for number, marks in enumerate(left) if marks in telling}
    return sorted(number for number in found if not is_clean_shape(texts[number]))


def _lines_with_long_words(lines: bytes) -> set[int]:
    solid = lines.translate(_SOLID)
    found: set[int] = set()
    number = line = 0
    place = solid.find(_LONG)
    while place >= 0:
        number += solid.count(b"\n", line, place)
        found.add(number)
        line = solid.find(b"\n", place)
        place = solid.find(_LONG, line) if line >= 0 else -1
    return found


@lru_cache(maxsize=1024)
def _are_few(marks: bytes) -> bool:
    """Tell whether what is left of a string leaves nothing to tell; the cache holds no letters and no digits but 0."""
    return _FEW.fullmatch(marks) is not None


def holds_json(text: str) -> bool:
    """Return whether a string may be JSON itself."""
    return _HOLDS_JSON.match(text) is not None


def gives_names(text: str) -> bool:
    """Return whether a string names its parts, so that `values.names_person` has to read the names."""
    return ("=" in text or '"' in text or "'" in text) and _GIVES_NAMES.search(text) is not None


def is_suspect(text: str) -> bool:
    """Return whether a text has to be looked at by the detectors. False promises that they find nothing in it."""
    text = plain(text)
    if not text.isascii():
        text = f"{text}\n{spaced(text)}"
    if "@" in text or _is_marked(text):
        return True
    if len(text) >= _LONG_WORD:
        words = text if " " not in text else " ".join([word for word in text.split() if len(word) >= _LONG_WORD])
        if words and (_PREFIX.search(words) or BASE64_OF_ASCII.search(words)):
            return True
        if len(words) >= _LENGTH_OF_CODICE and _CODICE_FISCALE.search(words):
            return True
    if _ADDRESS.search(text):
        return True
    return any(_is_suspect_number(text, digits) for digits in _DIGITS.finditer(text))


def _is_marked(text: str) -> bool:
    """Tell whether a text holds what hides or announces something. Substrings first: they cost a fraction of a pattern."""
    return (
        ("&" in text and ("&#" in text or html.unescape(text) != text))
        or "\\u" in text
        or ("%" in text and _PERCENT.search(text) is not None)
        or ("dot" in text.lower() and _DOT.search(text) is not None)
        or _BEGIN in text
        or _EARER in text
        or _ASIC in text
        or (("[" in text or "(" in text or "{" in text or "<" in text) and _HIDDEN_AT.search(text) is not None)
    )


def _is_suspect_number(text: str, run: re.Match[str]) -> bool:
    start = run.start()
    groups = _GROUPS.findall(run[0])
    digits = left = sum(map(len, groups))
    if digits >= _FEWEST_CARD or "+" in text[max(0, start - 2) : start] or _LONG_NUMBER.search(text, start, run.end() + _TAIL):
        return True
    for group in groups:
        if left < _FEWEST_NATIONAL:
            break
        if group[0] == "0" or len(group) <= _LONGEST_FIRST_GROUP:
            return True
        left -= len(group)
    before = text[max(0, start - _LABEL_WINDOW) : start]
    letters = before.rstrip(" ")[-2:]
    if (len(letters) > 1 and letters.isalpha() and letters.isascii()) or _IBAN_BEFORE.search(before):
        return True
    if digits < _FEWEST_LABELLED:
        return False
    words = _WORDS.findall(before)[-_LABEL_WORDS:]
    return any(_is_label(word.lower()) for word in words)


def _is_label(word: str) -> bool:
    return word in _LABELS or word.endswith(_LABELS_WITHOUT_SPACES) or _NUMBER_BEHIND_LABEL.sub("", word) in _LABELS
