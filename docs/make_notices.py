"""Write the generated table of `docs/reference/notices.md`; the text around it is kept."""

# ruff: noqa: INP001 - a script, run by path
from __future__ import annotations

import sys
from pathlib import Path

from customhouse.notices import kinds

PAGE = Path(__file__).parent / "reference" / "notices.md"
BEGIN, END = "<!-- generated: `make schema` -->\n", "<!-- end -->"

if __name__ == "__main__":
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}{kinds.reference()}{END}{rest.partition(END)[2]}", encoding="utf-8")
    sys.stdout.write(f"{PAGE.name} written\n")
