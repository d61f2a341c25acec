"""What an event type declares about its own fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from customhouse.errors import Fault, Invalid
from customhouse.privacy.classes import CLASS_NAMES, PiiClass
from customhouse.types import Json, JsonObject

_MAX_POINTER: Final = 512
_MAX_DEPTH: Final = 64
_APPLICATORS: Final = frozenset(
    {"items", "prefixItems", "additionalItems", "unevaluatedItems", "additionalProperties", "unevaluatedProperties", "contains"}
    | {"not", "if", "then", "else", "allOf", "anyOf", "oneOf"}
)
_MAPS_OF_SCHEMAS: Final = frozenset({"patternProperties", "$defs", "definitions", "dependentSchemas"})


class Node:
    """One place of the declared tree."""

    __slots__ = ("children", "pii_class")

    def __init__(self) -> None:
        self.children: dict[str, Node] = {}
        self.pii_class: PiiClass | None = None

    def under_key(self, key: str) -> Iterator[Node]:
        """Yield what is declared for a member of an object."""
        for segment in (key, "*"):
            if segment in self.children:
                yield self.children[segment]

    def under_index(self) -> Iterator[Node]:
        """Yield what is declared for the items of a list; a number means any index, since removal moves the items."""
        for segment, node in self.children.items():
            if segment == "*" or segment.isdecimal():
                yield node


@dataclass(frozen=True, slots=True)
class Declaration:
    """Which places of an event type's `data` hold personal data, and which names may be printed."""

    fields: Mapping[str, str] = field(default_factory=dict)
    """JSON pointer into `data` (RFC 6901, `*` for any index or key) → class of `classes.PiiClass`; an unknown one counts as `other`."""
    named_segments: frozenset[str] = frozenset()
    """Member names that the event type's JSON Schema declares, so that they are no data themselves."""
    root: Node = field(init=False, repr=False, compare=False)
    """The same as a tree."""

    def __post_init__(self) -> None:
        root = Node()
        for pointer, pii_class in self.fields.items():
            node = root
            for segment in _segments(pointer):
                node = node.children.setdefault(segment, Node())
            node.pii_class = PiiClass(pii_class) if pii_class in CLASS_NAMES else PiiClass.OTHER
        object.__setattr__(self, "root", root)


NOTHING_DECLARED: Final = Declaration()
"""For event types that are not registered."""


def declare(pii: Mapping[str, str], schema: JsonObject) -> Declaration:
    """Return the declaration of an event type.

    Args:
        pii: JSON pointer into `data` → class, as given to `POST /v1/event-types`.
        schema: the JSON Schema of `data`; its property names become printable.

    Raises:
        Invalid: a pointer that is none, or an unknown class; the faults name the members of `pii` by their number.
    """
    faults: list[Fault] = []
    for number, (pointer, pii_class) in enumerate(pii.items()):
        if len(pointer) > _MAX_POINTER or (pointer and not pointer.startswith("/")) or _has_bad_escape(pointer):
            faults.append(Fault("/pii", f"member {number + 1}: the name must be a JSON pointer such as /person/phone or /persons/*/phone"))
        if pii_class not in CLASS_NAMES:
            faults.append(Fault("/pii", f"member {number + 1}: the class must be one of {', '.join(PiiClass)}"))
    if faults:
        raise Invalid("The declaration of personal data is not valid.", tuple(faults))
    return Declaration(fields=dict(pii), named_segments=frozenset(_property_names(schema)))


def _segments(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _has_bad_escape(pointer: str) -> bool:
    return "~" in pointer.replace("~0", "").replace("~1", "")


def _property_names(schema: JsonObject) -> set[str]:
    names: set[str] = set()
    waiting: list[tuple[Json, int]] = [(schema, 0)]
    while waiting:
        node, depth = waiting.pop()
        if isinstance(node, list):
            waiting += [(item, depth + 1) for item in node]
        if not isinstance(node, dict) or depth > _MAX_DEPTH:
            continue
        properties = node.get("properties")
        if isinstance(properties, dict):
            names |= properties.keys()
            waiting += [(child, depth + 1) for child in properties.values()]
        waiting += [(node[word], depth + 1) for word in _APPLICATORS & node.keys()]
        for word in _MAPS_OF_SCHEMAS & node.keys():
            children = node[word]
            if isinstance(children, dict):
                waiting += [(child, depth + 1) for child in children.values()]
    return names
