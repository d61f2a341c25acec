"""Whose turn it is, and how much of the road each one may take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from customhouse import ids
from customhouse.outbound.lanes import Lanes
from customhouse.outbound.work import Work
from customhouse.types import TenantId


def lanes(held: int = 1000, slots: int = 4) -> Lanes:
    return Lanes(most_held=held, held_per_slot=4, slots_per_lane=slots)


def work(tenant: str, connection: UUID) -> Work:
    return Work(
        tenant_id=TenantId(tenant),
        delivery_id=ids.new(),
        lease=0,
        event_uid=ids.new(),
        event_id="e",
        event_type="t",
        connection_id=connection,
        policy_version=0,
        tenant_version=1,
        attempts=0,
        expires_at=datetime(2026, 1, 1, tzinfo=UTC),
        leased_until=0.0,
        body_sha256=None,
        body=b"{}",
    )


def fill(road: Lanes, tenant: str, connection: UUID, count: int) -> int:
    """Hold as many deliveries as there is room for; return how many."""
    taken = 0
    for _ in range(count):
        if not road.reserve(TenantId(tenant), connection):
            break
        road.put(work(tenant, connection))
        taken += 1
    return taken


def test_a_tenant_with_many_connections_gets_no_more_turns_than_one_with_one() -> None:
    road = lanes()
    for _ in range(10):
        fill(road, "many", ids.new(), 4)
    fill(road, "one", ids.new(), 4)
    first = Counter(taken.tenant_id for taken in (road.take() for _ in range(8)) if taken is not None)
    assert first == {"many": 4, "one": 4}


def test_connections_of_a_tenant_take_turns() -> None:
    road, first, second = lanes(), ids.new(), ids.new()
    fill(road, "acme", first, 3)
    fill(road, "acme", second, 3)
    assert [taken.connection_id for taken in (road.take() for _ in range(4)) if taken] == [first, second, first, second]


def test_no_connection_has_more_on_the_wire_than_its_slots() -> None:
    road, connection = lanes(slots=2), ids.new()
    fill(road, "acme", connection, 5)
    under_way = [road.take(), road.take()]
    assert road.take() is None
    assert under_way[0] is not None
    road.landed(under_way[0], answered=True)
    assert road.take() is not None


def test_a_connection_holds_no_more_than_its_share_and_says_that_it_is_crowded() -> None:
    road, crowded, free = lanes(held=16, slots=2), ids.new(), ids.new()
    assert fill(road, "acme", crowded, 100) == 8
    assert road.crowded() == [crowded]
    assert fill(road, "acme", free, 1) == 1


def test_one_that_answers_may_use_half_of_the_room_while_nobody_else_needs_it_and_one_that_does_not_may_not() -> None:
    road, alone, dead = lanes(held=100, slots=2), ids.new(), ids.new()
    assert fill(road, "acme", alone, 100) == 50
    assert fill(road, "acme", dead, 100) == 8
    taken = [one for one in (road.take() for _ in range(4)) if one is not None and one.connection_id == dead]
    for one in taken:
        road.landed(one, answered=False)
        road.unreserve(dead)
    assert road.slots(dead) == 1
    assert fill(road, "acme", dead, 100) == 0


def test_everything_held_is_bounded() -> None:
    road = lanes(held=10)
    assert sum(fill(road, "acme", ids.new(), 3) for _ in range(10)) == 10
    assert road.room == 0


def test_an_endpoint_that_does_not_answer_is_left_with_one_slot_and_wins_the_others_back_by_answering() -> None:
    road, connection = lanes(slots=8), ids.new()
    road.reserve(TenantId("acme"), connection)
    one = work("acme", connection)
    seen = []
    for answered in (False, False, False, False, True, True):
        road.put(one)
        assert road.take() is one
        road.landed(one, answered=answered)
        seen.append(road.slots(connection))
    assert seen == [4, 2, 1, 1, 2, 3]


def test_what_was_not_sent_says_nothing_about_the_endpoint() -> None:
    road, connection = lanes(slots=8), ids.new()
    road.reserve(TenantId("acme"), connection)
    one = work("acme", connection)
    road.put(one)
    road.take()
    road.landed(one, answered=None)
    assert road.slots(connection) == 8


def test_draining_takes_out_what_waits_and_leaves_what_is_on_the_wire() -> None:
    road, connection = lanes(), ids.new()
    fill(road, "acme", connection, 3)
    under_way = road.take()
    assert under_way is not None
    waiting = road.drain()
    assert len(waiting) == 2
    assert road.take() is None
    for one in waiting:
        road.unreserve(one.connection_id)
    road.landed(under_way, answered=True)
    road.unreserve(connection)
    assert road.held == 0
    assert fill(road, "acme", connection, 1) == 1
    assert road.take() is not None


def test_a_lane_that_is_over_its_rate_is_shut_and_others_go_on() -> None:
    road, limited, free = lanes(), ids.new(), ids.new()
    fill(road, "acme", limited, 3)
    first = road.take()
    assert first is not None
    fill(road, "acme", free, 2)
    assert road.put_off(first, 3) == (3, [])
    road.landed(first, answered=None)
    assert [one.connection_id for one in (road.take(), road.take()) if one] == [free, free]
    assert road.take() is None
    road.reopen(limited)
    assert road.take() is first, "the one that waited goes first"
    assert road.take() is None, "one at a time asks"
    road.admitted(first)
    second = road.take()
    assert second is not None
    assert second.connection_id == limited


def test_a_lane_that_is_over_its_rate_keeps_the_places_that_its_rate_needs() -> None:
    road, limited = lanes(held=100, slots=2), ids.new()
    assert fill(road, "acme", limited, 100) == 50
    first = road.take()
    assert first is not None
    most, too_many = road.put_off(first, 3)
    road.landed(first, answered=None)
    assert (most, len(too_many)) == (3, 47)
    for one in too_many:
        road.unreserve(one.connection_id)
    assert (road.held, road.crowded(64)) == (3, [limited])
    assert fill(road, "acme", limited, 1) == 0


def test_lanes_that_wait_for_their_rates_have_half_of_the_room_together() -> None:
    road = lanes(held=100, slots=4)
    limited = [ids.new() for _ in range(10)]
    for _ in range(2):
        for connection in limited:
            fill(road, "acme", connection, 16)
            taken = road.take()
            assert taken is not None
            for one in road.put_off(taken, 1000)[1]:
                road.unreserve(one.connection_id)
            road.landed(taken, answered=None)
            road.reopen(taken.connection_id)
    while (taken := road.take()) is not None:
        for one in road.put_off(taken, 1000)[1]:
            road.unreserve(one.connection_id)
        road.landed(taken, answered=None)
    assert road.held <= 50
    assert fill(road, "other", ids.new(), 20) == 16, "as many as it has without them"
    assert not road.many_limited


def test_with_more_lanes_that_wait_than_half_of_the_room_even_one_place_each_is_too_much() -> None:
    road = lanes(held=10)
    for number in range(6):
        connection = ids.new()
        assert fill(road, "acme", connection, 1) == 1
        taken = road.take()
        assert taken is not None
        assert road.put_off(taken, 5) == (1 if number == 5 else 5 // (number + 1), [])
        road.landed(taken, answered=None)
    assert road.many_limited
    for one in road.drain():
        road.unreserve(one.connection_id)
    assert not road.many_limited


def test_one_that_held_back_ends_elsewhere_lets_the_next_one_ask() -> None:
    road, limited = lanes(), ids.new()
    fill(road, "acme", limited, 3)
    first = road.take()
    assert first is not None
    road.put_off(first, 3)
    road.landed(first, answered=None)
    road.reopen(limited)
    assert road.take() is first
    road.reopen(limited)
    assert road.take() is None, "a late timer opens nothing while one asks"
    road.landed(first, answered=None)
    road.unreserve(limited)
    assert road.take() is not None


def test_a_lane_whose_limit_was_taken_away_has_all_its_slots_again() -> None:
    road, connection = lanes(slots=4), ids.new()
    fill(road, "acme", connection, 4)
    first = road.take()
    assert first is not None
    road.put_off(first, 1)
    road.landed(first, answered=None)
    fill(road, "acme", connection, 4)
    road.reopen(connection)
    assert road.take() is first
    road.landed(first, answered=True)
    road.unreserve(connection)
    assert fill(road, "acme", connection, 4) == 4
    assert sum(road.take() is not None for _ in range(5)) == 4


class Road:
    """Three lanes, and what a test knows to be in them."""

    def __init__(self) -> None:
        self.road = lanes(held=30, slots=3)
        self.connections = [ids.new() for _ in range(3)]
        self.inside: set[UUID] = set()
        self.under_way: list[Work] = []

    def out(self, one: Work) -> None:
        self.inside.remove(one.delivery_id)
        self.road.unreserve(one.connection_id)

    def fill(self, connection: UUID) -> None:
        if self.road.reserve(TenantId("acme"), connection):
            made = work("acme", connection)
            self.inside.add(made.delivery_id)
            self.road.put(made)

    def take(self, _: UUID) -> None:
        if (taken := self.road.take()) is not None:
            self.under_way.append(taken)

    def admit(self, connection: UUID) -> None:
        for one in self._of(connection)[:1]:
            self.road.admitted(one)

    def put_off(self, connection: UUID) -> None:
        for one in self._of(connection)[-1:]:
            self.under_way.remove(one)
            _, too_many = self.road.put_off(one, 2)
            self.road.landed(one, answered=None)
            for other in too_many:
                self.out(other)

    def land(self, connection: UUID) -> None:
        for one in self._of(connection)[:1]:
            self.under_way.remove(one)
            self.road.landed(one, answered=True)
            self.out(one)

    def reopen(self, connection: UUID) -> None:
        self.road.reopen(connection)

    def drain(self, _: UUID) -> None:
        for one in self.road.drain():
            self.out(one)

    def _of(self, connection: UUID) -> list[Work]:
        return [one for one in self.under_way if one.connection_id == connection]


STEPS = (Road.fill, Road.fill, Road.take, Road.admit, Road.put_off, Road.land, Road.reopen, Road.drain)


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2)), max_size=150))
def test_whatever_happens_to_limited_lanes_nothing_is_lost_and_all_get_out_in_the_end(
    steps: list[tuple[Callable[[Road, UUID], None], int]],
) -> None:
    scene = Road()
    for step, number in steps:
        step(scene, scene.connections[number])
        assert scene.road.held == len(scene.inside) <= 30
    while scene.under_way:
        scene.land(scene.under_way[0].connection_id)
    for connection in scene.connections:
        scene.reopen(connection)
    while (taken := scene.road.take()) is not None:
        scene.road.admitted(taken)
        scene.road.landed(taken, answered=True)
        scene.out(taken)
    assert (scene.inside, scene.road.held, scene.road._limited) == (set(), 0, 0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.booleans()), max_size=120))
def test_whatever_happens_nothing_is_lost_held_twice_or_over_its_cap(steps: list[tuple[str, int, bool]]) -> None:
    road = lanes(held=20, slots=2)
    connections = {(tenant, number): ids.new() for tenant in "abc" for number in range(5)}
    waiting: Counter[UUID] = Counter()
    under_way: list[Work] = []
    for tenant, number, answered in steps:
        connection = connections[tenant, number]
        if road.reserve(TenantId(tenant), connection):
            road.put(work(tenant, connection))
            waiting[connection] += 1
        if (taken := road.take()) is not None:
            waiting[taken.connection_id] -= 1
            under_way.append(taken)
            assert sum(one.connection_id == taken.connection_id for one in under_way) <= 2
        if under_way and answered:
            ended = under_way.pop(0)
            road.landed(ended, answered=number > 0)
            road.unreserve(ended.connection_id)
        assert road.held == waiting.total() + len(under_way) <= 20
