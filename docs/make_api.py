"""Write the generated table of routes in `docs/reference/api.md`; the text around it is kept."""

# ruff: noqa: INP001 - a script, run by path
from __future__ import annotations

import sys
from pathlib import Path

from customhouse.web.asgi import reference

BEGIN, END = "<!-- generated: `make schema` -->\n", "<!-- end -->"
PAGE = Path(__file__).parent / "reference" / "api.md"


def main() -> int:
    """Write the table if it changed."""
    before = PAGE.read_text(encoding="utf-8")
    head, _, rest = before.partition(BEGIN)
    _, _, tail = rest.partition(END)
    after = f"{head}{BEGIN}{reference()}{END}{tail}"
    if after != before:
        PAGE.write_text(after, encoding="utf-8")
        sys.stdout.write(f"docs/reference/{PAGE.name} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
