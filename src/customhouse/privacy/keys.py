"""What the keys of documents say: read once, then known."""

from __future__ import annotations

import re
from typing import Final

from customhouse.privacy.classes import PiiClass
from customhouse.privacy.detectors import detect
from customhouse.privacy.fields import FieldName, read_name

_KEPT_KEYS: Final = 4096
_ORDINARY_KEY: Final = re.compile(r"[A-Za-z_$][A-Za-z_.-]{0,47}[0-9]{0,2}")

# Keys of documents repeat endlessly, so what they say is kept; only ordinary names are, no key that may itself be data.
_keys: dict[str, tuple[FieldName, tuple[PiiClass, ...]]] = {}
PLAIN_KEYS: Final[set[str]] = set()
"""Of the keys that are known, those that neither are personal data nor say that any is near. Only `read_key` changes it."""


def read_key(key: str) -> tuple[FieldName, tuple[PiiClass, ...]]:
    """Return what a key says about its value, and what it gives away by itself."""
    known = _keys.get(key)
    if known is not None:
        return known
    hits = detect(key)
    entry = (read_name(key), hits)
    if not hits and _ORDINARY_KEY.fullmatch(key):
        if len(_keys) >= _KEPT_KEYS:
            _keys.clear()
            PLAIN_KEYS.clear()
        _keys[key] = entry
        if _says_nothing(entry[0]):
            PLAIN_KEYS.add(key)
    return entry


def _says_nothing(field: FieldName) -> bool:
    return not (field.container or field.in_person or field.pii_class is not None)
