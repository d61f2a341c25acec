"""The parent's loop with processes that only play their part: who is replaced, when it gives up, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

PLAYER = Path(__file__).parent / "player.py"


@dataclass
class Stage:
    """A group at work."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, *directions: str) -> None:
        for direction in directions:
            self.direct(direction)
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, PLAYER, "group", self.folder], stdout=log, stderr=log, env=os.environ | {"TMPDIR": str(self.folder)}
            )

    def direct(self, direction: str) -> None:
        (self.folder / direction).touch()

    def lines(self, *events: str) -> list[dict[str, Any]]:
        """Return what was logged of these events so far."""
        text = (self.folder / "log").read_text()
        assert "Traceback" not in text, text
        whole = [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in whole if line["event"] in events]

    def until(self, holds: Callable[[], bool], within: float = 60) -> None:
        end = time.monotonic() + within
        while not holds():
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.01)

    def ready(self) -> list[int]:
        """Wait until all are ready; return their process ids."""
        self.until(lambda: bool(self.lines("all_ready")))
        return self.pids()

    def pids(self) -> list[int]:
        assert self.process is not None
        return [one.pid for one in psutil.Process(self.process.pid).children()]

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def ended(self) -> int:
        assert self.process is not None
        return self.process.wait(60)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def test_all_start_and_all_end_in_order(stage: Stage) -> None:
    stage.start()
    members = stage.ready()
    assert len(members) == 3
    started = [line["process_id"] for line in stage.lines("process_started")]
    assert sorted(started) == sorted(members)
    # The first is ready before the others are begun: it has the database to bring up to date.
    order = [(line["event"], line["process_id"]) for line in stage.lines("process_started", "process_ready")]
    assert order[:2] == [("process_started", started[0]), ("process_ready", started[0])]
    stage.send(signal.SIGTERM)
    assert stage.ended() == 0
    assert not any(psutil.pid_exists(pid) for pid in members)
    assert not stage.lines("process_died", "process_killed", "process_ended_badly")


def test_what_cannot_start_at_all_ends_the_group(stage: Stage) -> None:
    stage.start("fail")
    assert stage.ended() == 1
    (died,) = stage.lines("process_died")
    assert died["exit_status"] == 3
    assert len(stage.lines("process_started")) == 1


def test_one_that_dies_is_replaced_at_once_then_after_a_pause_and_the_others_stay(stage: Stage) -> None:
    stage.start()
    others = stage.ready()
    victim = others.pop(1)
    for deaths in (1, 2, 3):
        os.kill(victim, signal.SIGKILL)
        stage.until(lambda deaths=deaths: len(stage.lines("process_ready")) == 3 + deaths)  # type: ignore[misc]
        died = stage.lines("process_died")
        assert (died[-1]["process_id"], died[-1]["exit_status"], len(died)) == (victim, -signal.SIGKILL, deaths)
        victim = stage.lines("process_ready")[-1]["process_id"]
        assert set(stage.pids()) == {*others, victim}
    stage.send(signal.SIGINT)
    assert stage.ended() == 0


def test_a_successor_that_cannot_start_is_tried_again_and_does_not_end_the_others(stage: Stage) -> None:
    stage.start()
    members = stage.ready()
    stage.direct("fail")
    os.kill(members[0], signal.SIGKILL)
    stage.until(lambda: len(stage.lines("process_died")) >= 3)
    assert set(members[1:]) <= set(stage.pids())
    (stage.folder / "fail").unlink()
    stage.until(lambda: len(stage.lines("process_ready")) == 4)
    stage.send(signal.SIGTERM)
    assert stage.ended() == 0


def test_a_hangup_replaces_them_one_after_the_other(stage: Stage) -> None:
    stage.start()
    before = set(stage.ready())
    stage.send(signal.SIGHUP)
    stage.until(lambda: len(stage.lines("process_ready")) == 6 and len(stage.pids()) == 3)
    assert not before & set(stage.pids())
    assert not stage.lines("process_died", "process_ended_badly")
    # Each successor is ready before the next one is begun.
    order = [line["event"] for line in stage.lines("process_started", "process_ready")]
    assert order[-6:] == ["process_started", "process_ready"] * 3
    stage.send(signal.SIGTERM)
    assert stage.ended() == 0


def test_a_successor_that_fails_leaves_the_present_ones_at_work(stage: Stage) -> None:
    stage.start()
    before = set(stage.ready())
    stage.direct("fail")
    stage.send(signal.SIGHUP)
    stage.until(lambda: bool(stage.lines("replacement_failed")))
    assert before == set(stage.pids())
    stage.send(signal.SIGTERM)
    assert stage.ended() == 0


def test_a_closed_terminal_ends_them(stage: Stage) -> None:
    stage.start("hangup-ends")
    stage.ready()
    stage.send(signal.SIGHUP)
    assert stage.ended() == 0


def test_one_that_does_not_end_is_killed_and_that_is_a_failure(stage: Stage) -> None:
    stage.start("deaf")
    members = stage.ready()
    stage.send(signal.SIGTERM)
    assert stage.ended() == 1
    assert len(stage.lines("process_killed")) == 3
    assert {line["exit_status"] for line in stage.lines("process_ended_badly")} == {-signal.SIGKILL}
    assert not any(psutil.pid_exists(pid) for pid in members)


def test_when_the_parent_is_killed_they_hear_it(stage: Stage) -> None:
    stage.start()
    members = [psutil.Process(pid) for pid in stage.ready()]
    stage.send(signal.SIGKILL)
    assert stage.ended() == -signal.SIGKILL
    assert psutil.wait_procs(members, timeout=60)[1] == []


def test_a_signal_while_they_start_ends_them_all(stage: Stage) -> None:
    stage.start()
    stage.until(lambda: bool(stage.lines("process_started")))
    stage.send(signal.SIGTERM)
    assert stage.ended() == 0
    assert stage.lines("all_ended")


def test_a_parent_that_waits_for_the_last_to_end_rests(stage: Stage) -> None:
    stage.start("slow")
    members = stage.ready()
    stage.direct("fail")
    os.kill(members[0], signal.SIGKILL)
    # The third death in a row is followed by a pause of two seconds, in which all are told to end.
    stage.until(lambda: len(stage.lines("process_died")) >= 3)
    stage.send(signal.SIGTERM)
    stage.until(lambda: bool(stage.lines("ending")))
    assert stage.process is not None
    parent = psutil.Process(stage.process.pid)
    before = sum(parent.cpu_times()[:2])
    # The moment at which one would have been started again goes by; CPU is what counts, not the time.
    time.sleep(4)
    assert sum(parent.cpu_times()[:2]) - before < 0.3
    stage.direct("leave")
    stage.ended()
