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

from dataclasses import dataclass
from typing import Final

from customhouse.errors import Fault, PolicyViolation
from customhouse.privacy.declaration import Declaration
from customhouse.privacy.keys import read_key
from customhouse.privacy.policy import OnViolation, Policy
from customhouse.privacy.survey import NOTHING_SEEN, survey
from customhouse.privacy.walk import Found, Path, walk
from customhouse.types import JsonObject

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
    # Where a name is allowed that the closed lists do not know, a key that says nothing may still be one that is let out.
    seen = NOTHING_SEEN if policy.custom else survey(data)
    if id(data) in seen.plain and not declaration.fields:
        return Inspected(data=data, contains_pii=False, pii_fields=(), removed_fields=())
    kept, found = walk(data, policy.allowed_fields, declaration.root, seen)
    if not found:
        return Inspected(data=kept, contains_pii=False, pii_fields=(), removed_fields=())
    if policy.on_violation is OnViolation.REFUSE:
        _refuse([one for one in found if one.removed], declaration)
    passed: dict[str, None] = {}
    removed: dict[str, None] = {}
    for one in found:
        (removed if one.removed else passed)[_dotted(one.path, declaration)] = None
    return Inspected(data=kept, contains_pii=bool(passed), pii_fields=tuple(passed), removed_fields=tuple(removed))


def _refuse(removed: list[Found], declaration: Declaration) -> None:
    if not removed:
        return
    raise PolicyViolation(
        faults=tuple(
            Fault(_pointer(one.path, declaration), f"personal data ({one.pii_class}) that the privacy policy does not let out")
            for one in removed[:_MAX_FAULTS]
        )
    )


def _segment(part: str | int, declaration: Declaration) -> str:
    if isinstance(part, int):
        return "*"
    return part if part in declaration.named_segments or read_key(part)[0].printable else "*"


def _dotted(path: Path, declaration: Declaration) -> str:
    return ".".join([_segment(part, declaration) for part in path]) or "*"


def _pointer(path: Path, declaration: Declaration) -> str:
    return "".join("/" + _segment(part, declaration).replace("~", "~0").replace("/", "~1") for part in path)
