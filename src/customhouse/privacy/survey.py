"""The look over a document before the walk: which parts of it need no walk, because nothing in them can be personal data.

A part qualifies when all keys from the top down to it and in it are known to say nothing, and no string or number in it gives anything
away. All its strings are asked about at once. What does not qualify is not judged here: the walk does that.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from customhouse.privacy.detectors import LARGE
from customhouse.privacy.keys import PLAIN_KEYS
from customhouse.privacy.suspicion import gives_names, holds_json, is_suspect, unclear
from customhouse.types import JsonObject

_ASKED_ONE_BY_ONE: Final = 4096
"""Characters of strings in which the ones that give something away are searched for; of more, all count as such."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What was seen. Objects and lists are named by `id`: they live as long as the document does."""

    plain: frozenset[int] = frozenset()
    """Objects and lists with nothing in them, at any depth."""
    quiet: Mapping[int, Container[str]] = field(default_factory=dict)
    """Other objects, and the keys in each that say nothing and whose strings and numbers give nothing away. The keys are those of the
    moment of the survey: what is learned of others later does not count.
    """


NOTHING_SEEN: Final = Survey()
"""The survey of who did not look: everything is walked."""


def survey(data: JsonObject) -> Survey:
    """Look over a document.

    Args:
        data: the document, a tree: no object or list stands in it twice.
    """
    nodes: list[Any] = [data]
    above: list[int] = [-1]
    ends: list[int] = []
    texts: list[str] = []
    mixed: dict[int, Container[str]] = {}
    loud: list[int] = []
    for place, node in enumerate(nodes):
        values: Iterable[Any]
        if type(node) is not dict:
            values = node
        elif PLAIN_KEYS.issuperset(node):
            values = node.values()
        else:
            known = mixed[place] = {key for key in node if key in PLAIN_KEYS}
            values = [node[key] for key in known]
        for value in values:
            kind = type(value)
            if kind is str:
                texts.append(value)
            elif kind is dict or kind is list:
                nodes.append(value)
                above.append(place)
            elif kind is int or kind is float:
                if abs(value) >= LARGE:
                    loud.append(place)
            elif value is not None and kind is not bool:
                loud.append(place)
        ends.append(len(texts))
    loud += [bisect_right(ends, number) for number in _telling(texts)]
    if not mixed and not loud:
        return Survey(plain=frozenset((id(data),)))
    return _drawn(nodes, above, mixed, loud)


def _telling(texts: list[str]) -> list[int]:
    """Return the numbers of the strings that may give something away."""
    doubtful = unclear(texts)
    if not doubtful:
        return []
    asked = [texts[number] for number in doubtful]
    joined = "\n".join(asked)
    if not is_suspect(joined) and not gives_names(joined) and not any(map(holds_json, asked)):
        return []
    if len(joined) > _ASKED_ONE_BY_ONE:
        return doubtful
    return [number for number in doubtful if is_suspect(texts[number]) or gives_names(texts[number]) or holds_json(texts[number])]


def _drawn(nodes: Sequence[Any], above: Sequence[int], mixed: Mapping[int, Container[str]], loud: Sequence[int]) -> Survey:
    """Return the survey: whoever holds a part to be walked has to be walked, too."""
    walked: set[int] = set()
    for place in (*mixed, *loud):
        holder = place
        while holder >= 0 and holder not in walked:
            walked.add(holder)
            holder = above[holder]
    return Survey(
        plain=frozenset([id(nodes[place]) for place, holder in enumerate(above) if holder in walked and place not in walked]),
        quiet={id(nodes[place]): mixed.get(place, nodes[place]) for place in walked.difference(loud)},
    )
