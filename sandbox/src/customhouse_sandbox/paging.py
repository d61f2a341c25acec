"""Pages of a list, behind tokens that are opaque, belong to one question, and may expire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from customhouse_sandbox.state import Realm

_NEVER: Final = float("inf")


def page(
    realm: Realm, question: tuple[object, ...], items: Sequence[Any], size: int, token: str, lifetime: float = _NEVER
) -> tuple[list[Any], str] | None:
    """Return one page and the token of the next one; the token is empty on the last page.

    Args:
        realm: keeps the tokens.
        question: who asks for what; a token of another question is refused.
        items: the whole list.
        size: of a page, at least 1.
        token: empty for the first page.
        lifetime: of the next token, in seconds.

    Returns:
        None where the token is none of this question, or too old.
    """
    tokens: dict[str, tuple[tuple[object, ...], int, float]] = realm.store.setdefault("page-tokens", {})
    start = 0
    if token:
        asked, start, end = tokens.get(token, ((), 0, 0.0))
        if asked != question or realm.now() >= end:
            return None
    following = ""
    if start + size < len(items):
        following = realm.mint.next("page", 24)
        tokens[following] = (question, start + size, realm.now() + lifetime)
    return list(items[start : start + size]), following


def number(text: str, default: int, most: int) -> int | None:
    """Return a page size; None where it is none."""
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > len(str(most)) or not 1 <= int(text) <= most:
        return None
    return int(text)
