"""Write the generated lists of `docs/reference/privacy.md` (`--check`: compare, write nothing); the text around them is kept."""

# ruff: noqa: INP001 - a script, run by path
from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from customhouse.privacy import fields
from customhouse.privacy.classes import MEANING, PiiClass
from customhouse.privacy.phones import REGIONS
from customhouse.privacy.policy import DEFAULT_ALLOWED

PAGE = Path(__file__).parent / "reference" / "privacy.md"
BLOCK = re.compile(r"(<!-- generated: ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) + "\n"


def _by_class(table: Mapping[str, PiiClass]) -> str:
    rows = "".join(
        f"| `{pii_class}` | {_names(name for name, its in table.items() if its is pii_class).rstrip()} |\n"
        for pii_class in PiiClass
        if pii_class in table.values()
    )
    return f"| class | names |\n| --- | --- |\n{rows}"


BLOCKS = {
    "classes": "| class | meaning |\n| --- | --- |\n" + "".join(f"| `{name}` | {meaning} |\n" for name, meaning in MEANING.items()),
    "default": _names(DEFAULT_ALLOWED),
    "containers": _names(fields.PERSON_CONTAINERS),
    "known": _by_class(fields.KNOWN_FIELDS),
    "in person": _by_class(fields.PERSON_FIELDS),
    "qualifiers": _names(fields.QUALIFIERS),
    "neutral": _names(fields.NEUTRAL_FIELDS),
    "regions": _names(REGIONS),
}


def main() -> int:
    """Write or compare the page."""
    before = PAGE.read_text(encoding="utf-8")
    after = BLOCK.sub(lambda block: block[1] + BLOCKS[block[2]] + block[3], before)
    missing = BLOCKS.keys() - {block[1] for block in BLOCK.findall(before)}
    if missing:
        sys.stderr.write(f"{PAGE.name}: no place for {', '.join(sorted(missing))}\n")
        return 1
    if after == before:
        return 0
    if "--check" in sys.argv[1:]:
        sys.stderr.write(f"{PAGE.name} is not what the code says: run docs/make_privacy.py\n")
        return 1
    PAGE.write_text(after, encoding="utf-8")
    sys.stdout.write(f"{PAGE.name} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
