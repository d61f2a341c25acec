"""The second gate of `make test`: files that decide over genuineness and secrecy are covered to the last branch."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FULL = (
    "customhouse_receiver/verify.py",
    "customhouse/crypto/certificates.py",
    "customhouse/crypto/envelope.py",
    "customhouse/crypto/signatures.py",
    "customhouse/crypto/statements.py",
    "customhouse/providers/failures.py",
    "customhouse/providers/replies.py",
    "customhouse/providers/scopes.py",
)


def shortfalls(report: Mapping[str, Any], full: Sequence[str] = FULL) -> list[str]:
    """Return a sentence for each file that is not measured, or not covered completely, lines and branches."""
    found = []
    for name in full:
        files = [summary for path, summary in report["files"].items() if Path(path).as_posix().endswith("/" + name)]
        if not files:
            found.append(f"{name}: not measured; was it moved?")
        for file in files:
            lines, branches = file["missing_lines"], file["missing_branches"]
            if lines or branches:
                found.append(f"{name}: must be covered completely; lines missing {lines}, branches missing {branches}")
    return found


def main(arguments: Sequence[str]) -> int:
    """Judge the report of `coverage json` at the given path."""
    found = shortfalls(json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    for sentence in found:
        sys.stderr.write(f"coverage: {sentence}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
