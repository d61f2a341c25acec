"""What the parent decides without touching anything: how many processes, how long to wait, what it is told, what it says."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse import logs
from customhouse.supervisor.cores import MOST_BY_DEFAULT, cores_of_quota, default_processes
from customhouse.supervisor.group import default_program, pause_before
from customhouse.supervisor.journal import Journal
from customhouse.supervisor.member import Member, member_of


class FixedClock:
    def now(self) -> datetime:
        return datetime(2026, 11, 22, 9, 30, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Closed(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000", None),
        ("200000 100000\n", 2),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("0 100000", 1),
        ("1 0", None),
        ("-1 100000", None),
        ("", None),
        ("1 2 3", None),
    ],
)
def test_a_quota_leaves_whole_cores_and_at_least_one(text: str, cores: int | None) -> None:
    assert cores_of_quota(text) == cores


@given(st.text())
def test_any_quota_is_read(text: str) -> None:
    cores = cores_of_quota(text)
    assert cores is None or cores >= 1


def test_a_machine_gets_at_least_one_process_and_not_too_many() -> None:
    assert 1 <= default_processes() <= MOST_BY_DEFAULT


def test_the_first_death_is_answered_at_once_and_repeated_ones_slower_and_slower() -> None:
    assert [pause_before(deaths) for deaths in range(9)] == [0.0, 0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert pause_before(10**6) == 30.0


@given(
    st.builds(
        Member,
        command=st.sampled_from(["up", "serve", "work"]),
        jobs=st.booleans(),
        replaces=st.booleans(),
        channel=st.none() | st.integers(0, 1 << 20),
        api=st.none() | st.integers(0, 1 << 20),
        metrics=st.none() | st.integers(0, 1 << 20),
        tallies=st.none() | st.just("/tmp/ü n d"),
    )
)
def test_a_member_is_told_what_was_meant(member: Member) -> None:
    assert member_of(member.argument()) == member


def test_a_module_is_not_looked_for_in_the_working_folder() -> None:
    assert default_program("/python", "customhouse.supervisor") == ("/python", "-P", "-m", "customhouse.supervisor")


def test_a_line_has_the_form_of_all_others_and_passes_their_allow_list() -> None:
    stream = io.StringIO()
    Journal(FixedClock(), "info", stream).say("error", "process_died", process_id=4711, exit_status=-9)
    line = json.loads(stream.getvalue())
    assert line == logs.safe(line)
    assert line["timestamp"] == "2026-11-22T09:30:00Z"
    assert (line["event"], line["process_id"], line["exit_status"]) == ("process_died", 4711, -9)


def test_a_terminal_is_told_in_words_and_what_matters_less_is_left_out() -> None:
    terminal = Terminal()
    journal = Journal(FixedClock(), "warning", terminal)
    journal.say("info", "process_ready", process_id=4711)
    journal.say("warning", "process_died", process_id=4711)
    assert terminal.getvalue() == "2026-11-22T09:30:00Z [warning ] process_died process_id=4711\n"


def test_a_line_that_cannot_be_written_ends_nothing() -> None:
    Journal(FixedClock(), "info", Closed()).say("error", "process_died")
