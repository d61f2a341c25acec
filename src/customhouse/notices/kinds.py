"""What users are told: the closed list of kinds, a plain sentence for each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from customhouse.types import Json

_WORD: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_MOST: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of notice. What it says is the same for everybody: a notice carries ids and codes, never a value of a person."""

    subject: str
    """Of the e-mail; ASCII, one line."""
    sentence: str
    """What happened."""
    advice: str
    """What the user can do."""
    members: frozenset[str] = frozenset()
    """All that its detail may hold."""


_ABOUT: Final = frozenset({"provider"})
_WHY: Final = _ABOUT | {"reason"}

KINDS: Final[Mapping[str, Kind]] = {
    "connection.created": Kind(
        "A connection was made in your name",
        "A connection with an outside system was made in your name, after your consent there or with a key that was pasted for it.",
        "If this was not you, end the connection in the application and tell its administrator.",
        _ABOUT | {"mode"},
    ),
    "connection.renewed": Kind(
        "You gave a connection a new consent",
        "A connection of yours got a new consent; it took the place of the one before.",
        "If this was not you, end the connection in the application and tell its administrator.",
        _ABOUT | {"mode"},
    ),
    "connection.degraded": Kind(
        "A connection of yours works with less than it asked for",
        "A connection of yours may do less than it asked for, so some things will not work.",
        "If that is what you want, there is nothing to do. Else connect again and allow what was left out.",
        _WHY,
    ),
    "connection.reauthorization_required": Kind(
        "A connection of yours needs your consent",
        "A connection of yours cannot go on as it is without a new consent of yours.",
        "Connect again in the application. Nothing was given more rights in the meantime.",
        _WHY,
    ),
    "connection.disabled": Kind(
        "A connection of yours was switched off",
        "A connection of yours was switched off: its key may do more than it should.",
        "Make a key with just the permissions that are needed, replace the key in the application, and delete the old one.",
        _WHY,
    ),
    "connection.key_old": Kind(
        "A key of yours should be replaced",
        "The key of a connection of yours has become older than keys should.",
        "Make a new key, replace the key in the application, and delete the old one. Until then the connection goes on working.",
        _ABOUT,
    ),
    "connection.dormant": Kind(
        "A connection of yours will be paused",
        "A connection of yours has not been used for a long time; it will be paused unless it is used.",
        "If you still need it, use it, or have it resumed later. If not, end it in the application.",
        _ABOUT,
    ),
    "connection.paused": Kind(
        "A connection of yours was paused",
        "A connection of yours was paused because it has not been used for a long time. Nothing goes through it.",
        "If you still need it, have it resumed in the application. If not, end it there.",
        _WHY,
    ),
    "connection.refused": Kind(
        "A connection in your name was refused",
        "Somebody tried to make a connection in your name and it was refused; nothing of it was kept.",
        "If this was not you, tell the administrator of the application.",
        _WHY,
    ),
    "connection.not_withdrawn": Kind(
        "A provider did not withdraw a permission of yours",
        "A connection of yours was ended, and nothing is left of it here; but its provider was not seen to withdraw the permission.",
        "Remove the application in the settings of your account at the provider.",
        _ABOUT,
    ),
    "connection.disconnected": Kind(
        "A connection of yours was ended",
        "A connection of yours was ended, and the keys to what was stored for it were destroyed.",
        "If you still need it, connect again in the application.",
        _WHY,
    ),
}


def check(kind: str, detail: Mapping[str, Json]) -> Kind:
    """Return a kind for which this detail is declared: words of ours, ids, numbers, flags.

    Raises:
        ValueError: it is not declared, or says more than a word: a mistake of the code, never of an input.
    """
    found = KINDS.get(kind)
    if found is None or not detail.keys() <= found.members:
        raise ValueError(f"{kind} is no kind of notice, or does not declare {sorted(detail)}")
    for name, value in detail.items():
        word = isinstance(value, str) and _WORD.fullmatch(value) is not None
        number = isinstance(value, int) and abs(value) <= _MOST
        if not word and not number:
            raise ValueError(f"{kind}: {name} is neither a word nor a number")
    return found


def reference() -> str:
    """Return the table of `docs/reference/notices.md`."""
    rows = ["| kind | says | advice | detail |", "| --- | --- | --- | --- |"]
    for name, kind in sorted(KINDS.items()):
        members = ", ".join(f"`{member}`" for member in sorted(kind.members)) or "none"
        rows.append(f"| `{name}` | {kind.sentence} | {kind.advice} | {members} |")
    return "\n".join(rows) + "\n"
