"""Write the generated tables of `docs/reference/{logs,metrics}.md`; the text around a table is kept."""

# ruff: noqa: INP001 - a script, run by path
from __future__ import annotations

import sys
from pathlib import Path

from customhouse import logs, metrics

BEGIN, END = "<!-- generated: `make schema` -->\n", "<!-- end -->"
PAGES = {"logs.md": logs.reference, "metrics.md": metrics.reference}


def main() -> int:
    """Write what changed and name it."""
    for name, table in PAGES.items():
        page = Path(__file__).parent / "reference" / name
        before = page.read_text(encoding="utf-8")
        head, _, rest = before.partition(BEGIN)
        _, _, tail = rest.partition(END)
        after = f"{head}{BEGIN}{table()}{END}{tail}"
        if after != before:
            page.write_text(after, encoding="utf-8")
            sys.stdout.write(f"docs/reference/{name} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
