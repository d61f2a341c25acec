"""The benchmark of what happens to an event before it is written runs, and does what the service does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[3] / "benchmarks" / "bench_prepare.py"


def test_the_benchmark_measures_every_step_of_every_kind_of_event() -> None:
    done = subprocess.run([sys.executable, BENCH, "--quick", "--json"], capture_output=True, text=True, check=True, timeout=100)
    found = json.loads(done.stdout)
    assert set(found) == {"bench event", "without a person", "with a key and an id"}
    for steps in found.values():
        assert {"whole", "parse", "read", "prepare", "inspect", "seal"} <= steps.keys()
        assert all(cost > 0 for cost in steps.values())
