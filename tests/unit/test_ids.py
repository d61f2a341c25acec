"""TypeIDs: ordered by time, shown and read back, and anything else does not exist."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from customhouse import ids
from customhouse.errors import NotFound


@given(st.uuids(), st.sampled_from(["con", "evt", "dlv", "aud", "key"]))
@example(UUID(int=0), "evt")
@example(UUID(int=(1 << 128) - 1), "evt")
def test_an_id_reads_back_as_what_was_shown(value: UUID, prefix: str) -> None:
    shown = ids.show(prefix, value)
    assert len(shown) == len(prefix) + 1 + 26
    assert ids.parse(prefix, shown) == value


@given(st.lists(st.uuids(), min_size=2, max_size=2))
def test_shown_ids_sort_as_their_numbers_do(pair: list[UUID]) -> None:
    assert sorted(ids.show("evt", value) for value in pair) == [ids.show("evt", value) for value in sorted(pair)]


@given(st.text(max_size=40))
@example("")
@example("evt_")
@example("evt_" + "0" * 25)
@example("evt_" + "8" + "0" * 25)
@example("evt_" + "z" * 26)
@example("EVT_" + "0" * 26)
@example("evt_" + "0" * 25 + "I")
@example("evt_" + "0" * 25 + "A")
@example("evt_" + "٣" * 26)
@example(" evt_" + "0" * 26)
def test_any_text_is_an_id_or_does_not_exist(text: str) -> None:
    try:
        value = ids.parse("evt", text)
    except NotFound:
        return
    assert ids.show("evt", value) == text


def test_an_id_of_another_kind_does_not_exist() -> None:
    with pytest.raises(NotFound):
        ids.parse("con", ids.show("evt", ids.new()))


def test_the_vectors_of_the_typeid_specification_hold() -> None:
    # TypeID specification 0.3.0, spec/valid.yml
    for shown, value in (
        ("prefix_00000000000000000000000000", "00000000-0000-0000-0000-000000000000"),
        ("prefix_0000000000000000000000000a", "00000000-0000-0000-0000-00000000000a"),
        ("prefix_7zzzzzzzzzzzzzzzzzzzzzzzzz", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
        ("prefix_0123456789abcdefghjkmnpqrs", "0110c853-1d09-52d8-d73e-1194e95b5f19"),
        ("prefix_01h455vb4pex5vsknk084sn02q", "01890a5d-ac96-774b-bcce-b302099a8057"),
    ):
        assert ids.show("prefix", UUID(value)) == shown
        assert ids.parse("prefix", shown) == UUID(value)


def test_ids_of_one_process_never_go_back_and_are_uuids_of_version_7() -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    made = [ids.new() for _ in range(20_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {(value.version, value.variant) for value in made} == {(7, "specified in RFC 4122")}
    assert before < ids.made_at(made[0]) <= ids.made_at(made[-1]) < datetime.now(UTC) + timedelta(seconds=1)


def test_ids_made_in_threads_are_distinct() -> None:
    with ThreadPoolExecutor(4) as pool:
        made = [value for batch in pool.map(lambda _: [ids.new() for _ in range(2_000)], range(4)) for value in batch]
    assert len(set(made)) == len(made)


@given(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - bounds are naive by contract
def test_the_bound_of_a_moment_lies_below_every_id_made_since(moment: datetime) -> None:
    floor = ids.floor_at(moment)
    assert floor.version == 7
    assert timedelta(0) <= moment - ids.made_at(floor) < timedelta(milliseconds=2)
    assert ids.floor_at(moment + timedelta(milliseconds=2)) > floor


def test_a_forked_process_makes_other_ids_than_its_parent() -> None:
    # In a process of its own: this one may have threads, and a fork would take their locks along.
    script = """
import os
from customhouse import ids
ids.new()
child = os.fork()
# The last four bytes are all random: the time and the counter are the parent's own.
os.write(1, b"".join(ids.new().bytes[-4:] for _ in range(100)))
if child:
    os.waitpid(child, 0)
"""
    made = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True).stdout
    assert len(made) == 800
    assert len({made[place : place + 4] for place in range(0, 800, 4)}) == 200
