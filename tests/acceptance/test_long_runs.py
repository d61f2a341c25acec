"""The long runs of `benchmarks/`, small: what they count agrees. How fast anything is, is not tested here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(240)


def run(name: str, *arguments: str, fails_with: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run one of them as its user does; return its JSON. Of what it checks, only what depends on the machine's speed may fail."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=220)
    assert done.stdout, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert [words for words in found["broken"] if words not in fails_with] == [], (done.stderr[-3000:], found.get("counts"))
    assert done.returncode == (0 if found["holds"] else 1)
    assert set(fails_with) <= set(found["checked"])
    return found


def test_a_small_soak_loses_nothing_and_counts_alike_on_three_sides() -> None:
    found = run("soak", "--events", "900", "--rate", "150", "--service-kills", "2", "--postgres-kills", "1", "--seed", "7")
    assert found["accepted"] == found["arrived"] == found["in_database"]["delivered"] == 900
    assert found["lost"] == 0
    assert {one["what"] for one in found["kills"]} == {"service", "postgresql"}
    assert found["duplicates"] <= found["most_duplicates_allowed"]


def test_a_small_growth_run_makes_its_history_and_reads_no_table_from_end_to_end() -> None:
    speed = "delivered per second with the history is within 20 % of without"
    found = run("growth", "--rows", "60000", "--rounds", "1", "--seconds", "1", "--asks", "3", fails_with=(speed,))
    assert found["history"]["attempts"] >= 60_000
    assert found["history"]["deliveries"] > 55_000
    assert found["reading_ms"]["history"].keys() == found["reading_ms"]["none"].keys()
    assert len(found["sequential_scans"]) == 8


def test_in_a_small_isolation_run_bad_endpoints_hold_no_more_than_their_cap() -> None:
    speed = ("the others' p50 is within 20 % of a run without", "the others' p99 is under 250 ms")
    found = run("isolation", "--rate", "100", "--seconds", "4", "--rounds", "1", fails_with=speed)
    assert found["most_held"].keys() == {"black hole", "drip"}
    assert 1 < max(found["most_held"].values()) <= found["workload"]["cap"]
    assert all(one["delivered"] == one["expected"] for side in found["rounds"].values() for one in side)


def test_a_small_run_of_token_reads_answers_each_with_its_entry_in_the_ledger() -> None:
    # So short a run also counts what the jobs of the service happen to send.
    short = "a read is one statement, and a share of its commit"
    speed = (short, "at least 2,000 reads a second at the highest concurrency", "p50 under 10 ms at the highest concurrency")
    found = run("token_reads", "--concurrency", "1,8", "--seconds", "1", "--tenants", "2", "--connections", "2", fails_with=speed)
    assert all(row["entries"] >= row["reads"] > 0 == row["failed"] for row in found["rows"])
    assert found["rows"][1]["entries_per_commit"] >= 1


def test_a_rotation_under_load_leaves_nothing_unverifiable() -> None:
    found = run("rotation", "--rate", "20", "--lead", "8", "--overlap", "4")
    assert found["unverifiable"] == 0
    both = {name: one for name, one in found["receivers"].items() if name.endswith("both")}
    assert len(both) == 2
    assert all(one["refused"] == 0 and one["verified_events"] == found["events"] > 0 for one in both.values())


def test_a_small_run_of_costs_counts_statements_and_finds_them_shared() -> None:
    found = run("cost", "--loads", "20,max", "--processes", "1,2", "--seconds", "2")
    assert len(found["rows"]) == 4
    for row in found["rows"]:
        assert row["accepted"] == row["delivered"] > 0
        assert row["service_cpu_us"] > 0
        assert row["postgres_cpu_us"] > 0
    assert found["against_one_process"].keys() == {"1", "2"}


def test_four_processes_that_want_one_token_cost_one_call_per_generation_whoever_is_killed() -> None:
    found = run(
        "refresh_torture", "--readers", "12", "--rounds", "1", "--providers", "zoom", "--brief", "--scenes", "quick_and_slow", "kills"
    )
    assert found["counts"]["generations"] >= 5
    valid = [one for one in found["rounds"] if one["round"].startswith("valid") and not one["round"].endswith("then ended")]
    assert {tuple(one["outcomes"]) for one in valid} == {("ok",)}
    killed = [one for one in found["rounds"] if "killed" in one["round"]]
    assert len({one["round"].split("refresh.")[1].split(",")[0] for one in killed}) == 4
