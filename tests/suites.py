"""The suites that need more than PyPI can supply: `make test-NAME`. Without a name: which there are, for the end of `make test`.

python tests/suites.py redis [arguments for pytest]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
_PYTEST: Final = (sys.executable, "-m", "pytest", "-q")
_PEER: Final = ROOT / "tests" / "oidc"


@dataclass(frozen=True)
class Suite:
    """One of them: `says` what, `needs` programs, and runs `steps`, of which the last gets the arguments."""

    says: str
    steps: tuple[tuple[str, ...], ...]
    needs: tuple[tuple[str, str], ...] = ()
    """Program → the Debian package that has it."""


SUITES: Final = {
    # on_postgresql.py looks for the server's binaries itself.
    "pg15": Suite("the database suites on PostgreSQL 15", ((sys.executable, "tests/on_postgresql.py", "15"),)),
    "redis": Suite(
        "the receiver's replay cache on a Redis server", ((*_PYTEST, "receiver/tests_redis"),), (("redis-server", "redis-server"),)
    ),
    "oidc": Suite(
        "OAuth against a server that is not ours",
        (("npm", "ci", "--prefix", str(_PEER), "--ignore-scripts", "--silent"), (*_PYTEST, "tests/oidc")),
        (("node", "nodejs"), ("npm", "npm")),
    ),
    "browser": Suite("pages in a real browser", ((*_PYTEST, "tests/browser"),), (("chromium", "chromium"),)),
}


def missing(suite: Suite) -> list[str]:
    """Return the packages that this machine lacks for a suite."""
    return [package for program, package in suite.needs if shutil.which(program) is None]


def main(arguments: Sequence[str]) -> int:
    """Run a suite and return its exit code; without a name list them."""
    if not arguments:
        for name, suite in SUITES.items():
            sys.stdout.write(f"Not run here: test-{name} ({suite.says}): make test-{name}\n")
        return 0
    name, *further = arguments
    if name not in SUITES:
        sys.stderr.write(f"There is no suite {name!r}; there are {', '.join(f'test-{one}' for one in SUITES)}\n")
        return 2
    suite = SUITES[name]
    if lacking := missing(suite):
        sys.stderr.write(f"test-{name} needs {' and '.join(lacking)}; on Debian: apt-get install {' '.join(lacking)}\n")
        return 1
    for step in suite.steps:
        command = [*step, *further] if step is suite.steps[-1] else [*step]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
