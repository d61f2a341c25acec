"""Members of JSON replies, found by pointers."""

from __future__ import annotations

from customhouse.types import Json


def pick(value: Json, pointer: str) -> list[Json]:
    """Return what `pointer` leads to (RFC 6901 without escapes; `*` stands for each element of a list). Nothing there: an empty list."""
    found = [value]
    for name in pointer.split("/")[1:]:
        found = [below for one in found for below in _below(one, name)]
    return found


def _below(value: Json, name: str) -> list[Json]:
    if isinstance(value, dict):
        return [value[name]] if name in value else []
    if isinstance(value, list):
        if name == "*":
            return value
        return [value[int(name)]] if name.isascii() and name.isdecimal() and len(name) < 4 and int(name) < len(value) else []  # noqa: PLR2004
    return []


def text_at(value: Json, pointer: str) -> str | None:
    """Return the text, or the whole number as text, that `pointer` leads to first; None where there is none, or an empty one."""
    for one in pick(value, pointer):
        if isinstance(one, str) and one:
            return one
        if isinstance(one, int) and not isinstance(one, bool):
            return str(one)
    return None
