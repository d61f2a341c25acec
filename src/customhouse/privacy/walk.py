"""The descent through a document: what is personal data in it, and what stays.

`inspect` holds the rules in words and is the only caller outside the tests and figures.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from customhouse.privacy.classes import PiiClass
from customhouse.privacy.declaration import Node
from customhouse.privacy.detectors import LARGE, detect, detect_number
from customhouse.privacy.fields import NAMELESS, VALUE_FIELDS, FieldName, is_known
from customhouse.privacy.keys import PLAIN_KEYS, read_key
from customhouse.privacy.survey import NOTHING_SEEN, Survey
from customhouse.privacy.suspicion import gives_names, holds_json, is_clean_shape
from customhouse.privacy.values import fits, is_bare_reference, is_meant, is_opaque, names_person
from customhouse.types import Json, JsonObject

_MAX_DEPTH: Final = 96
_MAX_NESTED_JSON: Final = 4


class _Gone(enum.Enum):
    GONE = 0


_GONE: Final = _Gone.GONE
_Left: TypeAlias = "Json | _Gone"
Path: TypeAlias = "tuple[str | int, ...]"
_Claims: TypeAlias = "frozenset[PiiClass]"
_NO_CLAIMS: Final[_Claims] = frozenset()
_EMAIL: Final[_Claims] = frozenset((PiiClass.EMAIL,))


@dataclass(frozen=True, slots=True)
class Found:
    """One piece of personal data."""

    path: Path
    """Raw keys and indexes: possibly personal data itself, never to be printed."""
    pii_class: PiiClass
    removed: bool


class _Place:
    """Where the walk stands, and what is declared for it."""

    __slots__ = ("_above", "_step", "declared", "depth", "nodes")

    def __init__(self, above: _Place | None, step: str | int, nodes: tuple[Node, ...], depth: int) -> None:
        self._above = above
        self._step = step
        self.nodes = nodes
        self.depth = depth
        self.declared = frozenset(node.pii_class for node in nodes if node.pii_class is not None) if nodes else _NO_CLAIMS

    def member(self, key: str) -> _Place:
        nodes = tuple(child for node in self.nodes for child in node.under_key(key)) if self.nodes else ()
        return _Place(self, key, nodes, self.depth + 1)

    def item(self, index: int) -> _Place:
        nodes = tuple(child for node in self.nodes for child in node.under_index()) if self.nodes else ()
        return _Place(self, index, nodes, self.depth + 1)

    @property
    def path(self) -> Path:
        steps: list[str | int] = []
        place = self
        while place._above is not None:
            steps.append(place._step)
            place = place._above
        return tuple(reversed(steps))


def walk(data: JsonObject, allowed: frozenset[str], root: Node, seen: Survey = NOTHING_SEEN) -> tuple[JsonObject, list[Found]]:
    """Return what may leave of a document and every piece of personal data found in it, in document order.

    Args:
        data: the document; it is not changed.
        allowed: canonical names of the allow-list.
        root: the tree of the event type's declaration.
        seen: the survey of this very document; it saves work and changes nothing.
    """
    descent = _Walk(allowed, seen)
    kept = descent.value(data, _Place(None, "", (root,) if root.children or root.pii_class else (), 0), NAMELESS, _NO_CLAIMS)
    return (kept if isinstance(kept, dict) else {}), descent.found


class _Walk:
    """One descent; `found` grows in document order."""

    __slots__ = ("_allowed", "_nested", "_plain", "_quick", "_quiet", "found")

    def __init__(self, allowed: frozenset[str], seen: Survey, nested: int = 0) -> None:
        self._allowed = allowed
        self._plain = seen.plain
        self._quiet = seen.quiet
        self._quick = all(map(is_known, allowed))
        self._nested = nested
        self.found: list[Found] = []

    def value(self, value: Json, place: _Place, field: FieldName, claims: _Claims) -> _Left:
        """Inspect a value outside person objects; `claims` are the classes that its name gives it."""
        if field.container or PiiClass.PERSON in place.declared:
            return self.person(value, place, None)
        if isinstance(value, dict | list):
            if place.depth > _MAX_DEPTH:
                return self._remove(place, PiiClass.OTHER)
            claims |= place.declared
            if self._quick and not claims and not place.nodes and id(value) in self._plain:
                return value
            if isinstance(value, dict):
                return self._members(value, place, field, claims)
            return self._items(value, place, lambda item, at: self.value(item, at, field, claims))
        return self._scalar(value, place, field, claims)

    def person(self, value: Json, place: _Place, granted: PiiClass | None) -> _Left:
        """Inspect a person object, a list of them, or a bare value in the place of one.

        Args:
            value: what stands there.
            place: where.
            granted: inside an allow-listed field that is an object itself, its class: members of that class pass too.
        """
        if isinstance(value, dict | list) and place.depth > _MAX_DEPTH:
            return self._remove(place, PiiClass.PERSON)
        if isinstance(value, dict):
            kept: JsonObject = {}
            for key, child in value.items():
                new = self._person_member(key, child, place.member(key), granted)
                if new is not _GONE:
                    kept[key] = new
            return kept
        if isinstance(value, list):
            return self._items(value, place, lambda item, at: self.person(item, at, granted))
        if value is None or isinstance(value, bool) or value == "" or (granted is None and is_bare_reference(value)):
            return value
        return self._remove(place, _class_of(value, PiiClass.PERSON))

    def _person_member(self, key: str, value: Json, place: _Place, granted: PiiClass | None) -> _Left:
        field, hits = read_key(key)
        by_name = field.class_in_person
        if not hits:
            if field.name in self._allowed or (granted is not None and by_name is granted):
                claims = frozenset((by_name,)) if by_name is not None else _NO_CLAIMS
                return self._allowed_in_person(value, place, claims, by_name)
            if field.opaque_id and by_name is None and not place.declared and (value is None or is_opaque(value)):
                return value
        return self._remove(place, by_name or _class_of(value, PiiClass.PERSON))

    def _allowed_in_person(self, value: Json, place: _Place, claims: _Claims, granted: PiiClass | None) -> _Left:
        if value is None or value == "":
            return value
        claims |= place.declared
        if isinstance(value, list) and place.depth <= _MAX_DEPTH:
            return self._items(value, place, lambda item, at: self._allowed_in_person(item, at, claims, granted))
        if isinstance(value, dict) and granted is not None:
            return self.person(value, place, granted)
        if fits(value, claims):
            self.found.append(Found(place.path, _first(claims), removed=False))
            return value
        return self._remove(place, _class_of(value, granted or PiiClass.PERSON))

    def _members(self, value: JsonObject, place: _Place, field: FieldName, claims: _Claims) -> JsonObject:
        kept: JsonObject = {}
        quick = self._quick and not claims and not place.nodes
        quiet = self._quiet.get(id(value), ()) if quick else ()
        for key, child in value.items():
            if isinstance(child, dict | list):
                if quick and id(child) in self._plain:
                    kept[key] = child
                    continue
            elif key in quiet or (quick and key in PLAIN_KEYS and _is_harmless(child)):
                kept[key] = child
                continue
            new = self._member(key, child, place.member(key), field, claims)
            if new is not _GONE:
                kept[key] = new
        return kept

    def _member(self, key: str, value: Json, place: _Place, parent: FieldName, claims: _Claims) -> _Left:
        own, hits = read_key(key)
        if hits:
            return self._remove(place, hits[0])
        if own.in_person:
            return self._person_member(key, value, place, None)
        if own.pii_class is not None:
            return self.value(value, place, own, frozenset((own.pii_class,)))
        if claims and (own.name in VALUE_FIELDS or claims != _EMAIL) and not own.container and own.name not in self._allowed:
            # An object in a personal field, `{"phone": {"value": …}}`: what is below counts as the field itself. Of a `mail` or
            # `email` object only the members that can be the address do: it is as often a message with a subject.
            return self.value(value, place, parent, claims)
        return self.value(value, place, own, claims - _EMAIL)

    def _items(self, value: list[Json], place: _Place, each: Callable[[Json, _Place], _Left]) -> list[Json]:
        kept: list[Json] = []
        for index, item in enumerate(value):
            new = each(item, place.item(index))
            if new is not _GONE:
                kept.append(new)
        return kept

    def _scalar(self, value: Json, place: _Place, field: FieldName, by_name: _Claims) -> _Left:
        if value is None or isinstance(value, bool) or value == "":
            return value
        claims = by_name | place.declared
        if not claims and field.name not in self._allowed and isinstance(value, str) and is_clean_shape(value):
            return value
        hits: tuple[PiiClass, ...] = ()
        if isinstance(value, str):
            if holds_json(value):
                parsed, readable = _parse(value)
                if readable:
                    return self._holding_json(value, parsed, place, field, claims)
            hits = detect(value, neutral=field.neutral)
            if not hits and gives_names(value) and names_person(value):
                hits = (PiiClass.PERSON,)
        elif isinstance(value, int | float):
            hits = detect_number(value)
        allowed = field.name in self._allowed
        if not hits and not allowed and not place.declared and not any(is_meant(value, claim) for claim in claims):
            return value
        if allowed and fits(value, claims):
            self.found.append(Found(place.path, _first(claims), removed=False))
            return value
        return self._remove(place, hits[0] if hits else _first(claims))

    def _holding_json(self, text: str, parsed: Json, place: _Place, field: FieldName, claims: _Claims) -> _Left:
        if self._nested >= _MAX_NESTED_JSON:
            return self._remove(place, PiiClass.OTHER)
        inner = _Walk(self._allowed, NOTHING_SEEN, self._nested + 1)
        inner.value(parsed, _Place(None, "", place.nodes, place.depth + 1), field, claims)
        for one in inner.found:
            if one.removed:
                return self._remove(place, one.pii_class)
        if inner.found:
            self.found.append(Found(place.path, inner.found[0].pii_class, removed=False))
        return text

    def _remove(self, place: _Place, pii_class: PiiClass) -> _Gone:
        self.found.append(Found(place.path, pii_class, removed=True))
        return _GONE


def _is_harmless(value: Json) -> bool:
    if isinstance(value, str):
        return is_clean_shape(value)
    return value is None or (isinstance(value, int | float) and abs(value) < LARGE)


def _first(claims: _Claims) -> PiiClass:
    return min(claims, default=PiiClass.OTHER)


def _class_of(value: Json, otherwise: PiiClass) -> PiiClass:
    return next(iter(detect(value)), otherwise) if isinstance(value, str) else otherwise


def _parse(text: str) -> tuple[Json, bool]:
    try:
        return json.loads(text, object_pairs_hook=_without_repeats), True
    except (ValueError, RecursionError):
        return None, False


def _without_repeats(pairs: list[tuple[str, Json]]) -> JsonObject:
    whole = dict(pairs)
    if len(whole) != len(pairs):
        raise ValueError("a member is repeated: the text is judged as text, so that no reading of it is missed")
    return whole
