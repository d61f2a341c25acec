"""The benchmark, run small: its three counts agree. How fast it is, is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = [sys.executable, "-m", "customhouse.cli", "bench", "--seconds", "1", "--connections", "8", "--json"]


@pytest.mark.parametrize("more", [["--tenants", "3"], ["--rate", "50"]], ids=["three tenants", "a fixed rate"])
def test_what_was_accepted_was_delivered_verified_and_is_in_the_database(more: list[str], tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    done = subprocess.run([*BENCH, *more, "--plot", plot], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    median = found["median"]
    assert found["holds"] is True
    assert median["accepted"] == median["delivered"] == median["in_database"] > 0
    assert median["refused"] == median["failed"] == 0
    assert f">{median['delivered']:,.0f}</text>" in plot.read_text(encoding="utf-8")


def test_a_plot_that_cannot_be_made_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    done = subprocess.run([*BENCH, "--plot", tmp_path / "plot.gif"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "plot.gif" in done.stderr
    assert done.stdout == ""
