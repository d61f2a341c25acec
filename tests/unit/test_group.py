"""Group commit: everybody gets the answer to their own item, and nobody waits for a timer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse.errors import Conflict, Overloaded
from customhouse.group import GroupCommit

pytestmark = pytest.mark.anyio

NEVER = 1e6
"""A pace that no test lives to see."""


class Ledger:
    """A flush that can be held up, and says what it was given."""

    def __init__(self, *, largest: int = 100, at_once: int = 1, most_waiting: int = 1000, pace: float = 0.0) -> None:
        self.groups: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.entered = asyncio.Event()
        self.under_way = 0
        self.most_under_way = 0
        self.sizes: list[int] = []
        self.broken: BaseException | None = None
        self.group: GroupCommit[int, str] = GroupCommit(
            self.flush,
            largest=largest,
            at_once=at_once,
            most_waiting=most_waiting,
            observe=self.sizes.append,
            pace=pace,
        )

    async def flush(self, items: Sequence[int]) -> Sequence[str | BaseException]:
        self.groups.append(list(items))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.entered.set()
        try:
            await self.open.wait()
            if self.broken is not None:
                raise self.broken
            return [Conflict(str(item)) if item < 0 else f"#{item}" for item in items]
        finally:
            self.under_way -= 1

    async def until(self, waiting: int) -> None:
        """Let the loop turn until so many items wait."""
        async with asyncio.timeout(5):
            while len(self.group) != waiting:
                await asyncio.sleep(0)

    async def submit(self, *items: int) -> list[str | BaseException]:
        return list(await asyncio.gather(*(self.group.submit(item) for item in items), return_exceptions=True))


async def test_what_arrives_together_is_written_together_in_order() -> None:
    ledger = Ledger()
    assert await ledger.submit(1, 2, 3) == ["#1", "#2", "#3"]
    assert ledger.groups == [[1, 2, 3]]
    assert ledger.sizes == [3]


async def test_what_arrives_during_a_flush_goes_into_the_next_one() -> None:
    ledger = Ledger()
    ledger.open.clear()
    first = asyncio.create_task(ledger.submit(1))
    await ledger.entered.wait()
    rest = asyncio.create_task(ledger.submit(2, 3))
    await ledger.until(waiting=2)
    ledger.open.set()
    assert await first + await rest == ["#1", "#2", "#3"]
    assert ledger.groups == [[1], [2, 3]]


async def test_who_comes_after_a_quiet_time_goes_at_once_and_who_comes_soon_after_shares_a_flush() -> None:
    ledger = Ledger(pace=0.01)
    assert await ledger.submit(1) == ["#1"]
    assert [*await asyncio.gather(ledger.submit(2), ledger.submit(3))] == [["#2"], ["#3"]]
    assert ledger.groups == [[1], [2, 3]]


async def test_a_pace_holds_back_neither_a_full_group_nor_the_end() -> None:
    ledger = Ledger(pace=NEVER, largest=3)
    assert await ledger.submit(1) == ["#1"]
    early = [asyncio.ensure_future(ledger.submit(item)) for item in (2, 3)]
    await ledger.until(waiting=2)
    assert await ledger.submit(4) == ["#4"]
    assert [*await asyncio.gather(*early)] == [["#2"], ["#3"]]

    last = asyncio.ensure_future(ledger.submit(6))
    await ledger.until(waiting=1)
    await ledger.group.close()
    assert await last == ["#6"]
    assert ledger.groups == [[1], [2, 3, 4], [6]]


async def test_one_bad_item_fails_alone() -> None:
    answers = await Ledger().submit(1, -2, 3)
    assert answers[0] == "#1"
    assert isinstance(answers[1], Conflict)
    assert answers[2] == "#3"


async def test_a_flush_that_breaks_fails_its_own_group_and_no_other() -> None:
    ledger = Ledger(largest=2)
    ledger.broken = Conflict("broken")
    assert {type(answer) for answer in await ledger.submit(1, 2)} == {Conflict}
    ledger.broken = None
    assert await ledger.submit(3) == ["#3"]


async def test_groups_and_concurrent_flushes_keep_to_their_limits() -> None:
    ledger = Ledger(largest=3, at_once=2)
    ledger.open.clear()
    answers = asyncio.create_task(ledger.submit(*range(10)))
    await ledger.until(waiting=4)
    assert ledger.most_under_way == 2
    ledger.open.set()
    assert await answers == [f"#{item}" for item in range(10)]
    assert ledger.most_under_way == 2
    assert max(map(len, ledger.groups)) == 3
    assert [item for group in ledger.groups for item in group] == list(range(10))


async def test_too_many_waiting_are_refused_at_the_door() -> None:
    ledger = Ledger(most_waiting=2)
    ledger.open.clear()
    first = asyncio.create_task(ledger.submit(1))
    await ledger.entered.wait()
    waiting = asyncio.create_task(ledger.submit(2, 3))
    await ledger.until(waiting=2)
    with pytest.raises(Overloaded):
        await ledger.group.submit(4)
    ledger.open.set()
    assert await first + await waiting == ["#1", "#2", "#3"]
    assert [item for group in ledger.groups for item in group] == [1, 2, 3]


async def test_a_caller_that_leaves_takes_nobody_with_it() -> None:
    ledger = Ledger()
    ledger.open.clear()
    leaver = asyncio.create_task(ledger.group.submit(1))
    stayer = asyncio.create_task(ledger.group.submit(2))
    await ledger.entered.wait()
    leaver.cancel()
    ledger.open.set()
    assert await stayer == "#2"
    with pytest.raises(asyncio.CancelledError):
        await leaver


async def test_closing_writes_what_is_in_and_refuses_what_comes() -> None:
    ledger = Ledger(largest=1)
    ledger.open.clear()
    inside = asyncio.create_task(ledger.submit(1, 2, 3))
    await ledger.until(waiting=2)
    closing = asyncio.create_task(ledger.group.close())
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await ledger.group.submit(4)
    assert not closing.done()
    ledger.open.set()
    await closing
    assert await inside == ["#1", "#2", "#3"]


@given(st.lists(st.integers(-5, 100), max_size=40), st.integers(1, 7), st.integers(1, 3))
def test_whatever_comes_each_caller_gets_their_own_answer(items: list[int], largest: int, at_once: int) -> None:
    async def run() -> None:
        ledger = Ledger(largest=largest, at_once=at_once)
        for item, answer in zip(items, await ledger.submit(*items), strict=True):
            assert answer == f"#{item}" if item >= 0 else isinstance(answer, Conflict) and answer.detail == str(item)
        assert sorted(item for group in ledger.groups for item in group) == sorted(items)
        await ledger.group.close()

    asyncio.run(run())
