"""Write the generated part of `docs/reference/cli.md`; the text around it is kept."""

# ruff: noqa: INP001 - a script, run by path
from __future__ import annotations

import sys
from pathlib import Path

from customhouse.cli.reference import reference

PAGE = Path(__file__).parent / "reference" / "cli.md"
BEGIN, END = "<!-- generated: `make schema` -->\n", "<!-- end -->"


def page(before: str) -> str:
    """Return the page with today's help in the place of the old one."""
    head, _, rest = before.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{reference()}{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE.name} written\n")
