"""The look over a document before the walk: which parts of it need no walk, because nothing in them can be personal data.

A part qualifies when all keys from the top down to it and in it are known to say nothing, and no string or number in it gives anything
away. All its strings are asked about at once. What does not qualify is not judged here: the walk does that.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from customhouse.privacy.detectors import LARGE
from customhouse.privacy.keys import PLAIN_KEYS
from customhouse.privacy.suspicion import SHORTEST, gives_names, holds_json, is_suspect, unclear
from customhouse.types import Json, JsonObject

_ASKED_ONE_BY_ONE: Final = 4096
"""Characters of strings in which the ones that give something away are searched for; of more, all count as such."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What was seen. Objects and lists are named by `id`: they live as long as the document does."""

    plain: frozenset[int] = field(default_factory=frozenset)
    """Objects and lists with nothing in them, at any depth."""
    quiet: frozenset[int] = field(default_factory=frozenset)
    """Those whose own strings and numbers, under keys that say nothing, give nothing away."""


NOTHING_SEEN: Final = Survey()
"""The survey of who did not look: everything is walked."""


def survey(data: JsonObject) -> Survey:
    """Look over a document.

    Args:
        data: the document, a tree: no object or list stands in it twice.
    """
    nodes: list[JsonObject | list[Json]] = [data]
    above: list[int] = [-1]
    ends: list[int] = []
    texts: list[str] = []
    mixed: list[int] = []
    loud: list[int] = []
    for place, node in enumerate(nodes):
        values: Iterable[Json]
        if type(node) is not dict:
            values = node
        elif PLAIN_KEYS.issuperset(node):
            values = node.values()
        else:
            mixed.append(place)
            values = [value for key, value in node.items() if key in PLAIN_KEYS]
        for value in values:
            if type(value) is str:
                if len(value) >= SHORTEST:
                    texts.append(value)
            elif type(value) is dict or type(value) is list:
                nodes.append(value)
                above.append(place)
            elif type(value) is int or type(value) is float:
                if abs(value) >= LARGE:
                    loud.append(place)
            elif value is not None and type(value) is not bool:
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


def _drawn(nodes: Sequence[JsonObject | list[Json]], above: Sequence[int], mixed: Sequence[int], loud: Sequence[int]) -> Survey:
    """Return the survey: whoever holds a part to be walked has to be walked, too."""
    walked: set[int] = set()
    for place in (*mixed, *loud):
        holder = place
        while holder >= 0 and holder not in walked:
            walked.add(holder)
            holder = above[holder]
    speaking = set(loud)
    return Survey(
        plain=frozenset(id(node) for place, node in enumerate(nodes) if place not in walked),
        quiet=frozenset(id(nodes[place]) for place in walked if place not in speaking),
    )
