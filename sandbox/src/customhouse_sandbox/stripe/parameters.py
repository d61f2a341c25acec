"""Stripe's parameters (§7.2): a form whose names nest by brackets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

_NAME: Final = re.compile(r"([A-Za-z0-9_]+)((?:\[[A-Za-z0-9_.-]*\])*)")
_DEEPEST: Final = 6


def nested(pairs: Iterable[tuple[str, str]]) -> dict[str, Any] | str:
    """Return the members that a form says; a text is the name of one that cannot be read, or that contradicts another.

    `items[0][price]=x` and `items[][price]=x` both make `{"items": [{"price": "x"}]}`.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        parts = _parts(name)
        if parts is None or not _put(found, parts, value):
            return name
    listed: dict[str, Any] = {key: _listed(value) for key, value in found.items()}
    return listed


def _parts(name: str) -> list[str] | None:
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    parts = [match[1], *re.findall(r"\[([^\]]*)\]", match[2])]
    return parts if len(parts) <= _DEEPEST else None


def _put(level: dict[str, Any], parts: list[str], value: str) -> bool:
    for index, part in enumerate(parts[:-1]):
        key = part or _appended(level, parts[index + 1])
        below = level.setdefault(key, {})
        if not isinstance(below, dict):
            return False
        level = below
    last = parts[-1] or str(len(level))
    if last in level:
        return False
    level[last] = value
    return True


def _appended(level: dict[str, Any], following: str) -> str:
    """Return the index that an empty one means: the last element, until it has what follows."""
    if not level:
        return "0"
    newest = next(reversed(level))
    below = level[newest]
    return str(len(level)) if not isinstance(below, dict) or following in below or not following else newest


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    below = {key: _listed(one) for key, one in value.items()}
    return list(below.values()) if below and all(key.isascii() and key.isdigit() for key in below) else below


def whole(text: Any) -> int | None:
    """Return a whole number; None where it is none."""
    if not isinstance(text, str) or re.fullmatch(r"-?[0-9]{1,12}", text) is None:
        return None
    return int(text)
