"""The benchmark of the vault runs, and its record opens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[3] / "benchmarks" / "bench_vault.py"


def test_the_benchmark_measures_seal_and_open_and_the_overhead() -> None:
    done = subprocess.run([sys.executable, BENCH, "--quick", "--json"], capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(done.stdout)
    assert found["overhead_bytes"]["customhouse"] == 81
    for what in ("seal token", "open token", "seal payload", "open payload"):
        assert found["microseconds"][f"customhouse: {what}"] > 0
