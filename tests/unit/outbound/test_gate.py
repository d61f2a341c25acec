"""Who waits at the gate, for how long, and who is refused: only the one that floods, only while we are what is slow."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse import ids
from customhouse.errors import TooManyRequests
from customhouse.metrics import ACCEPT_HELD, Metrics
from customhouse.outbound.gate import Flow, Gate
from customhouse.types import TenantId

pytestmark = pytest.mark.anyio

ACME, OTHER = TenantId("acme"), TenantId("other")
TURN = 0.01


class Scene:
    """Places as the engine has them, and a clock that goes on by `TURN` with each turn of the loop while calls are made."""

    def __init__(self, *, deep: int = 4, most: int = 8, longest: float = 1.0) -> None:
        self.now = 1000.0
        self.turn = TURN
        self.held: Counter[UUID] = Counter()
        self.deepest = deep
        self.most = most
        self.given: list[UUID] = []
        self.metrics = Metrics("0.1.0")
        self.gate = Gate(self, self.monotonic, self.metrics, longest=longest)

    def monotonic(self) -> float:
        return self.now

    def reserve(self, tenant_id: TenantId, connection_id: UUID) -> bool:
        if self.held[connection_id] >= self.most:
            return False
        self.held[connection_id] += 1
        self.given.append(connection_id)
        return True

    def unreserve(self, connection_id: UUID) -> None:
        self.held[connection_id] -= 1
        self.gate.freed(connection_id)

    def deep(self, connection_id: UUID) -> int:
        return self.held[connection_id] - self.deepest

    def flows(self, connection_id: UUID, seconds: float, rate: float) -> None:
        """Let a connection have ended attempts for a while, each of so many seconds."""
        for _ in range(200):
            self.now += 1 / rate
            self.gate.attempted(connection_id, seconds)

    async def ask(self, tenant: TenantId, connection_id: UUID) -> bool:
        placed = self.gate.place_at_once(tenant, connection_id)
        return await self.gate.place(tenant, connection_id) if placed is None else placed

    async def asks(self, tenant: TenantId, connection_id: UUID, count: int) -> list[asyncio.Task[bool]]:
        """Begin so many calls, and let each get as far as it can."""
        tasks = [asyncio.create_task(self.ask(tenant, connection_id)) for _ in range(count)]
        for _ in range(5):
            await asyncio.sleep(0)
            self.now += self.turn
        return tasks

    def outcome(self, word: str) -> float:
        counted: float = self.metrics.counter(ACCEPT_HELD, outcome=word)._value.get()
        return counted


async def test_while_there_is_room_nobody_waits() -> None:
    scene, one = Scene(), ids.new()
    assert [scene.gate.place_at_once(ACME, one) for _ in range(4)] == [True] * 4
    assert scene.gate.place_at_once(ACME, one) is None
    assert len(scene.gate) == 0


async def test_where_we_are_slow_a_call_waits_for_a_place_and_gets_it_in_its_turn() -> None:
    scene, one = Scene(), ids.new()
    scene.flows(one, 3 * TURN, rate=40)
    first = await scene.asks(ACME, one, 4)
    assert all(task.result() for task in first)
    late = await scene.asks(ACME, one, 3)
    assert len(scene.gate) == 3
    scene.unreserve(one)
    await asyncio.sleep(0)
    assert [task.done() for task in late] == [True, False, False]
    scene.unreserve(one)
    scene.unreserve(one)
    assert await asyncio.gather(*late) == [True, True, True]
    assert (scene.outcome("placed"), scene.outcome("spilled"), len(scene.gate)) == (3, 0, 0)


async def test_a_slow_or_silent_endpoint_is_neither_waited_for_nor_a_reason_to_refuse() -> None:
    scene, slow, silent = Scene(), ids.new(), ids.new()
    scene.flows(slow, 50 * TURN, rate=40)
    for endpoint in (slow, silent):
        answers = await asyncio.gather(*await scene.asks(ACME, endpoint, 2000))
        # As many as memory holds; the rest goes to the database at once.
        assert Counter(answers) == {True: 8, False: 1992}
    assert len(scene.gate) == 0
    assert scene.outcome("refused") == 0


async def test_a_lane_that_moves_too_slowly_for_the_wait_is_not_waited_for() -> None:
    scene, one = Scene(), ids.new()
    # Its attempts are quick, but few: it has a rate limit, say.
    scene.flows(one, 2 * TURN, rate=2)
    await scene.asks(ACME, one, 4)
    late = await scene.asks(ACME, one, 10)
    # Two a second: two wait for a second, four more find room in memory, the rest goes to the database.
    assert [task.result() if task.done() else None for task in late] == [None] * 2 + [True] * 4 + [False] * 4
    for task in late:
        task.cancel()


async def test_a_burst_is_taken_in_and_only_a_lasting_overload_is_refused() -> None:
    scene, one = Scene(), ids.new()
    scene.flows(one, 2 * TURN, rate=2000)
    await scene.asks(ACME, one, 4)
    burst = await scene.asks(ACME, one, 2000)
    waiting = len(scene.gate)
    # Half of what may wait; the others are written at once.
    assert 495 <= waiting <= 505
    assert sum(task.done() and task.result() is False for task in burst) > 1000
    assert scene.outcome("refused") == 0
    scene.gate.check(ACME)
    scene.now += 1.0
    [refused] = await scene.asks(ACME, one, 1)
    with pytest.raises(TooManyRequests) as error:
        await refused
    assert error.value.retry_after == 1
    # From now on before it costs anything, and nobody else.
    with pytest.raises(TooManyRequests):
        scene.gate.check(ACME)
    scene.gate.check(OTHER)
    assert scene.outcome("refused") == 2
    for task in burst:
        task.cancel()


async def test_in_a_flood_what_has_waited_in_vain_is_refused_and_not_added_to_what_lies_in_the_database() -> None:
    scene, flooded, quiet = Scene(), ids.new(), ids.new()
    for _ in range(5):
        for one in (flooded, quiet):
            scene.flows(one, 2 * TURN, rate=2000)
    for tenant, one in ((ACME, flooded), (OTHER, quiet)):
        await scene.asks(tenant, one, 4)
    flood = await scene.asks(ACME, flooded, 600)
    scene.now += 0.9
    flood += await scene.asks(ACME, flooded, 100)
    scene.now += 0.3
    flood += await scene.asks(ACME, flooded, 100)
    [late] = await scene.asks(OTHER, quiet, 1)
    scene.now += 1.5
    scene.gate._sweep()
    answers = await asyncio.gather(*flood, return_exceptions=True)
    assert sum(isinstance(answer, TooManyRequests) for answer in answers) > 200
    assert await late


async def test_an_overload_ends_when_nobody_has_been_over_their_share_for_a_while() -> None:
    scene, one = Scene(), ids.new()
    scene.flows(one, 2 * TURN, rate=2000)
    await scene.asks(ACME, one, 4)
    for after, refusals in ((0.0, 0), (1.5, 100), (10.0, 0)):
        scene.now += after
        scene.flows(one, 2 * TURN, rate=2000)
        refused = scene.outcome("refused")
        scene.gate._sweep()
        calls = await scene.asks(ACME, one, 600)
        found = scene.outcome("refused") - refused
        assert (found >= 90) if refusals else (found == 0), (after, found)
        await asyncio.gather(*(call for call in calls if call.done()), return_exceptions=True)
        for call in calls:
            call.cancel()


async def test_who_does_not_flood_is_not_refused_because_of_who_does() -> None:
    scene, flooded, quiet = Scene(deep=4), ids.new(), ids.new()
    for _ in range(5):
        for one in (flooded, quiet):
            scene.flows(one, 2 * TURN, rate=2000)
    for tenant, one in ((ACME, flooded), (OTHER, quiet)):
        await scene.asks(tenant, one, 4)
    flood = await scene.asks(ACME, flooded, 3000)
    scene.now += 1.0
    answers = await scene.asks(OTHER, quiet, 100)
    assert not any(task.done() for task in answers)
    # Its own places are for its own calls: the flood in front of it does not make it the last.
    scene.given.clear()
    for _ in range(20):
        scene.unreserve(flooded)
        scene.unreserve(quiet)
    await asyncio.sleep(0)
    # (The flood has filled its lane beyond the depth at which calls wait: the first four only bring it back there.)
    assert Counter(scene.given) == {flooded: 16, quiet: 20}
    assert [task.result() for task in answers[:20]] == [True] * 20
    for task in (*flood, *answers):
        task.cancel()


async def test_nobody_waits_longer_than_the_setting_and_everybody_gets_an_answer() -> None:
    scene, one = Scene(longest=0.5), ids.new()
    scene.flows(one, 2 * TURN, rate=50)
    await scene.asks(ACME, one, 4)
    late = await scene.asks(ACME, one, 6)
    assert len(scene.gate) == 6
    scene.now += 1.0
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*late)
    # What memory can hold beyond the depth at which calls wait, and the rest to the database.
    assert Counter(answers) == {True: 4, False: 2}
    assert (scene.outcome("spilled"), len(scene.gate)) == (6, 0)


async def test_a_call_that_is_given_up_loses_no_place() -> None:
    scene, one = Scene(), ids.new()
    scene.flows(one, 2 * TURN, rate=50)
    await scene.asks(ACME, one, 4)
    first, second, third = await scene.asks(ACME, one, 3)
    first.cancel()
    scene.unreserve(one)
    # The second has its place and has not run yet.
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert first.cancelled()
    assert second.cancelled()
    await asyncio.sleep(0)
    assert third.done()
    assert third.result()
    assert (scene.held[one], len(scene.gate)) == (4, 0)


async def test_with_a_wait_of_nought_nobody_is_held() -> None:
    scene, one = Scene(longest=0.0), ids.new()
    scene.flows(one, 2 * TURN, rate=50)
    assert await asyncio.gather(*await scene.asks(ACME, one, 20)) == [True] * 8 + [False] * 12


async def test_while_the_loop_has_time_nobody_is_held() -> None:
    scene, one = Scene(), ids.new()
    # A quick endpoint, and a lane that is deep for another reason: slow turns are what would make it ours.
    scene.flows(one, TURN / 100, rate=50)
    scene.turn = TURN / 100
    assert await asyncio.gather(*await scene.asks(ACME, one, 20)) == [True] * 8 + [False] * 12


@given(st.lists(st.sampled_from(["ask a", "ask b", "end a", "end b", "leave", "late"]), max_size=200))
def test_places_and_waiting_calls_always_add_up(deeds: list[str]) -> None:
    async def play() -> None:
        scene = Scene(deep=2, most=4)
        lanes = {"a": ids.new(), "b": ids.new()}
        for one in lanes.values():
            scene.flows(one, 2 * TURN, rate=50)
        tasks: list[asyncio.Task[bool]] = []
        ended: Counter[UUID] = Counter()
        for deed in deeds:
            word, _, which = deed.partition(" ")
            if word == "ask":
                tasks += await scene.asks(ACME if which == "a" else OTHER, lanes[which], 1)
            elif word == "end" and scene.held[lanes[which]]:
                ended[lanes[which]] += 1
                scene.unreserve(lanes[which])
            elif word == "leave" and tasks:
                tasks[-1].cancel()
            elif word == "late":
                scene.now += 2.0
                scene.gate._sweep()
            for _ in range(3):
                await asyncio.sleep(0)
        scene.now += 5.0
        scene.gate._sweep()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert len(scene.gate) == 0
        # Nothing freed twice, nothing lost: what was placed is held or has ended.
        placed = sum(answer is True for answer in answers)
        assert placed == scene.held.total() + ended.total()
        assert all(0 <= count <= scene.most for count in scene.held.values())

    asyncio.run(play())


def test_a_rate_is_known_after_a_few_and_forgotten_after_a_rest() -> None:
    flow = Flow(0.0)
    flow.ended(0.001, 0.01)
    assert flow.rate == 0.0
    for number in range(2, 11):
        flow.ended(number * 0.001, 0.01)
    assert 500 < flow.rate <= 1100
    flow.ended(60.0, 0.01)
    assert flow.rate == 0.0
    for number in range(1, 1001):
        flow.ended(60.0 + number * 0.01, 0.02)
    assert flow.rate == pytest.approx(100, rel=0.1)
    assert flow.latency == pytest.approx(0.02)
