"""The inspection: one pass over the `data` of an event, before anything of it is stored.

Rules, in this order, for each member of each object:

1. A key that a detector hits goes, with its value.
2. In a person object (`fields.PERSON_CONTAINERS`, or declared `person`) only allow-listed fields and opaque ids pass.
3. Elsewhere, a value goes if its name, its declaration or a detector says that it is personal data, unless its name is allow-listed
   and it is what the name claims.
4. A string that holds JSON is inspected as what it holds; if anything in it would go, the whole string goes. It is never rewritten:
   its bytes may be signed or counted by someone else.

Lists keep their other items. Whatever is removed leaves no placeholder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from customhouse.errors import Fault, PolicyViolation
from customhouse.privacy.declaration import Declaration
from customhouse.privacy.detectors import LARGE
from customhouse.privacy.policy import OnViolation, Policy
from customhouse.privacy.suspicion import SHORTEST, is_clean_shape, is_suspect
from customhouse.privacy.walk import HOLDS_JSON, Path, are_plain_keys, gives_names, read_key, walk
from customhouse.types import Json, JsonObject

_MAX_FAULTS: Final = 100


@dataclass(frozen=True, slots=True)
class Inspected:
    """What may leave, and what the envelope's `privacy` says about it; the names are safe to log."""

    data: JsonObject
    contains_pii: bool
    """Whether `data` still holds personal data: allow-listed fields."""
    pii_fields: tuple[str, ...]
    """Where, as dotted paths (`person.work_email`); names that nobody declared, and indexes, print as `*`."""
    removed_fields: tuple[str, ...]
    """What was taken out, likewise."""


def inspect(data: JsonObject, policy: Policy, declaration: Declaration) -> Inspected:
    """Return the data without what the policy does not let out.

    Inspecting the result again removes nothing. The input is not changed; the result may share parts with it.

    Args:
        data: the `data` member of an event, at most 256 KiB of JSON; the caller limits it.
        policy: the effective policy of the connection.
        declaration: what the event type declares; `NOTHING_DECLARED` if it is not registered.

    Raises:
        PolicyViolation: something would be removed and the policy says `refuse`; the faults name JSON pointers and no values.
    """
    if _is_plain(data, policy, declaration):
        return Inspected(data=data, contains_pii=False, pii_fields=(), removed_fields=())
    kept, found = walk(data, policy.allowed_fields, declaration.root)
    removed = [one for one in found if one.removed]
    if removed and policy.on_violation is OnViolation.REFUSE:
        faults = tuple(
            Fault(_pointer(one.path, declaration), f"personal data ({one.pii_class}) that the privacy policy does not let out")
            for one in removed[:_MAX_FAULTS]
        )
        raise PolicyViolation(faults=faults)
    passed = tuple(dict.fromkeys(_dotted(one.path, declaration) for one in found if not one.removed))
    return Inspected(
        data=kept,
        contains_pii=bool(passed),
        pii_fields=passed,
        removed_fields=tuple(dict.fromkeys(_dotted(one.path, declaration) for one in removed)),
    )


def _is_plain(data: JsonObject, policy: Policy, declaration: Declaration) -> bool:
    """Tell in one cheap pass that the walk would find nothing. False promises nothing."""
    root = declaration.root
    if policy.custom or root.pii_class is not None or "*" in root.children or not root.children.keys().isdisjoint(data):
        return False
    waiting: list[JsonObject | list[Json]] = [data]
    texts: list[str] = []
    for node in waiting:
        if type(node) is dict:
            if not are_plain_keys(node):
                return False
            values: Iterable[Json] = node.values()
        else:
            values = node
        for value in values:
            if type(value) is str:
                if len(value) >= SHORTEST and not is_clean_shape(value):
                    texts.append(value)
            elif type(value) is dict or type(value) is list:
                waiting.append(value)
            elif (type(value) is int or type(value) is float) and abs(value) >= LARGE:
                return False
    joined = "\n".join(texts)
    if ("{" in joined or "[" in joined or '"' in joined) and any(map(HOLDS_JSON.match, texts)):
        return False
    return not is_suspect(joined) and not gives_names(joined)


def _segment(part: str | int, declaration: Declaration) -> str:
    if isinstance(part, int):
        return "*"
    return part if part in declaration.named_segments or read_key(part)[0].printable else "*"


def _dotted(path: Path, declaration: Declaration) -> str:
    return ".".join(_segment(part, declaration) for part in path) or "*"


def _pointer(path: Path, declaration: Declaration) -> str:
    return "".join("/" + _segment(part, declaration).replace("~", "~0").replace("/", "~1") for part in path)
