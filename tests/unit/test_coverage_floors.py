"""The second coverage gate: it fails for a missing line, a missing branch and a file that is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

GATE = Path(__file__).parents[1] / "coverage_floors.py"
FILES = (
    "receiver/src/customhouse_receiver/verify.py",
    *(f"src/customhouse/crypto/{name}.py" for name in ("certificates", "envelope", "signatures", "statements")),
    *(f"src/customhouse/providers/{name}.py" for name in ("failures", "replies", "scopes")),
)


def judge(tmp_path: Path, files: dict[str, tuple[str, str]]) -> subprocess.CompletedProcess[str]:
    entries = ",".join(
        f'"{name}": {{"missing_lines": [{lines}], "missing_branches": [{branches}]}}' for name, (lines, branches) in files.items()
    )
    report = tmp_path / "coverage.json"
    report.write_text(f'{{"files": {{{entries}}}}}', encoding="utf-8")
    return subprocess.run([sys.executable, GATE, report], capture_output=True, text=True, check=False, timeout=60)


def test_complete_coverage_passes(tmp_path: Path) -> None:
    done = judge(tmp_path, dict.fromkeys(FILES, ("", "")))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("missing", [("7", ""), ("", "[7, 9]")])
def test_a_missing_line_or_branch_fails_and_is_named(tmp_path: Path, name: str, missing: tuple[str, str]) -> None:
    done = judge(tmp_path, dict.fromkeys(FILES, ("", "")) | {name: missing})
    assert done.returncode == 1
    assert Path(name).name in done.stderr
    assert "7" in done.stderr


def test_a_file_that_is_not_measured_fails(tmp_path: Path) -> None:
    done = judge(tmp_path, {FILES[0]: ("", "")})
    assert done.returncode == 1
    assert done.stderr.count("not measured") == len(FILES) - 1
