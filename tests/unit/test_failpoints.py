"""Failpoints: a setting that is wrong is refused, an armed one kills at the right passage, the page names those in the code."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from customhouse.errors import SettingsError
from customhouse.failpoints import NAMES, Failpoints

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "failpoints.md"


def calls() -> dict[str, int]:
    found: dict[str, int] = {}
    for path in (ROOT / "src").rglob("*.py"):
        for name in re.findall(r"\.hit\(\s*([^)]*)\)", path.read_text(encoding="utf-8")):
            found[name] = found.get(name, 0) + 1
    return found


def test_every_name_is_passed_in_exactly_one_place_and_every_call_has_a_name() -> None:
    assert calls() == {f'"{name}"': 1 for name in NAMES}


def test_the_page_lists_the_names_that_the_code_has() -> None:
    assert sorted(re.findall(r"^\| `([a-z_.]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)) == sorted(NAMES)


WRONG = ("", "=kill", "=kill:0", "=kill:-1", "=sleep:1", "=kill:1;", "=kill:x", "=")


@pytest.mark.parametrize("text", ["x=kill:1", "=kill:1", *(f"accept.before_commit{wrong}" for wrong in WRONG)])
def test_a_setting_that_would_never_strike_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="FAILPOINTS"):
        Failpoints(text)


def test_nothing_armed_strikes_nowhere() -> None:
    idle = Failpoints("")
    passed = 0
    for name in NAMES:
        idle.hit(name)
        passed += 1
    assert passed == len(NAMES)


def test_the_armed_passage_kills_the_process_and_no_earlier_one() -> None:
    script = """
from customhouse.failpoints import Failpoints
points = Failpoints("record.after_commit=kill:3,accept.after_commit=kill:9")
for passage in range(1, 6):
    points.hit("record.before_commit")
    print(passage, flush=True)
    points.hit("record.after_commit")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["1", "2", "3"])
