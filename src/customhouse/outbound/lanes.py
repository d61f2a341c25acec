"""The order of attempts: a lane per connection with a cap, lanes of a tenant in turn, tenants in turn. Pure bookkeeping."""

from __future__ import annotations

from collections import deque
from typing import Final
from uuid import UUID

from customhouse.outbound.work import Work
from customhouse.types import TenantId

_MOST_NARROWED: Final = 100_000


class _Queue:
    """A tenant's lanes that have something to send and a free slot."""

    __slots__ = ("lanes", "listed", "ready")

    def __init__(self) -> None:
        self.ready: deque[_Lane] = deque()
        self.listed = False
        self.lanes = 0


class _Lane:
    """What one connection has waiting and on the wire; `held` counts both, and places that are reserved.

    A connection with a rate limit has `most`, the places that its rate needs. One delivery at a time is `asking` for a token then;
    meanwhile, and while there is none, the lane is `shut`.
    """

    __slots__ = ("asking", "held", "in_flight", "listed", "most", "queue", "shut", "tenant_id", "waiting")

    def __init__(self, tenant_id: TenantId, queue: _Queue) -> None:
        self.tenant_id = tenant_id
        self.queue = queue
        self.waiting: deque[Work] = deque()
        self.in_flight = 0
        self.held = 0
        self.listed = False
        self.most: int | None = None
        self.asking: Work | None = None
        self.shut = False


class Lanes:
    """Who is next. A tenant with a hundred connections gets no more turns than one with one; a slow connection fills its lane alone.

    A connection that lets attempts time out loses half of its slots each time, down to one, and wins them back one by one as
    it answers: a hundred dead endpoints hold a hundred slots, not a hundred times the cap.
    """

    def __init__(self, *, most_held: int, held_per_slot: int, slots_per_lane: int) -> None:
        """Take the caps: deliveries held in all, those held per slot on the wire, and slots per connection (the bulkhead)."""
        self._most_held = most_held
        self._held_per_slot = held_per_slot
        self._slots_per_lane = slots_per_lane
        self._narrowed: dict[UUID, int] = {}
        self._lanes: dict[UUID, _Lane] = {}
        self._queues: dict[TenantId, _Queue] = {}
        self._turn: deque[_Queue] = deque()
        self._limited = 0
        self.held = 0

    @property
    def room(self) -> int:
        """How many more deliveries may be held."""
        return self._most_held - self.held

    @property
    def many_limited(self) -> bool:
        """Whether so many lanes wait for their rates that even one place each would be more than half of the room."""
        return self._limited > self._most_held // 2

    def crowded(self, count: int = 1) -> list[UUID]:
        """Return the connections that have no room for `count` more at the moment, or for half of what they may hold if that is less."""
        return [
            connection_id
            for connection_id, lane in self._lanes.items()
            if (most := lane.most or self._most_in(connection_id)) - lane.held < max(1, min(count, most // 2))
        ]

    @property
    def count(self) -> int:
        """How many connections have anything held."""
        return len(self._lanes)

    def depth(self, connection_id: UUID) -> int:
        """Return how many deliveries of a connection are held."""
        lane = self._lanes.get(connection_id)
        return 0 if lane is None else lane.held

    def slots(self, connection_id: UUID) -> int:
        """Return how many attempts a connection may have on the wire now."""
        return self._narrowed.get(connection_id, self._slots_per_lane)

    def _most_in(self, connection_id: UUID) -> int:
        slots = self.slots(connection_id)
        # While half of the room is free, one that answers may use it: what finds no place has to be fetched back from the database.
        if slots == self._slots_per_lane and self.held < self._most_held // 2:
            return max(slots * self._held_per_slot, self._most_held // 2)
        return slots * self._held_per_slot

    def reserve(self, tenant_id: TenantId, connection_id: UUID) -> bool:
        """Set a place aside for a delivery; False when the lane, or everything, is full."""
        if self.held >= self._most_held:
            return False
        lane = self._lanes.get(connection_id)
        if lane is None:
            queue = self._queues.get(tenant_id)
            if queue is None:
                queue = self._queues[tenant_id] = _Queue()
            queue.lanes += 1
            lane = self._lanes[connection_id] = _Lane(tenant_id, queue)
        elif lane.held >= (lane.most or self._most_in(connection_id)):
            return False
        lane.held += 1
        self.held += 1
        return True

    def unreserve(self, connection_id: UUID) -> None:
        """Give a place back: its delivery was not begun, or has ended and is written."""
        lane = self._lanes[connection_id]
        lane.held -= 1
        self.held -= 1
        if lane.held == 0:
            del self._lanes[connection_id]
            if lane.most is not None:
                self._limited -= 1
            lane.queue.lanes -= 1
            if lane.queue.lanes == 0:
                del self._queues[lane.tenant_id]

    def put(self, work: Work) -> None:
        """Let a delivery wait for its turn in its reserved place."""
        lane = self._lanes[work.connection_id]
        lane.waiting.append(work)
        self._list(lane)

    def take(self) -> Work | None:
        """Return the next delivery to attempt, and count it as on the wire; None when nobody is ready."""
        while self._turn:
            queue = self._turn.popleft()
            lane = queue.ready.popleft()
            lane.listed = False
            queue.listed = bool(queue.ready)
            if queue.listed:
                self._turn.append(queue)
            if lane.shut:
                continue
            work = lane.waiting.popleft()
            lane.in_flight += 1
            if lane.most is not None:
                lane.asking, lane.shut = work, True
            self._list(lane)
            return work
        return None

    def admitted(self, work: Work) -> None:
        """Take note that a delivery has its token: the next one of its lane may ask."""
        lane = self._lanes[work.connection_id]
        if lane.asking is work:
            lane.asking, lane.shut = None, False
            self._list(lane)

    def put_off(self, work: Work, most: int) -> tuple[int, list[Work]]:
        """Let a delivery that got no token wait in its place, in front of its lane, which stays shut until `reopen`.

        Args:
            work: what was taken; `landed` is told apart from this.
            most: how many places the lane can use at its rate. It gets no more than its part of half of the room, which is all
                that lanes with a limit have together, and at least 1.

        Returns:
            How many places it has, and what it holds beyond that: taken out, with places still reserved.
        """
        lane = self._lanes[work.connection_id]
        if lane.asking is work:
            lane.asking = None
        if lane.most is None:
            self._limited += 1
        lane.waiting.appendleft(work)
        most = max(1, min(most, self._most_held // 2 // self._limited, self._most_in(work.connection_id)))
        lane.most, lane.shut = most, True
        return most, [lane.waiting.pop() for _ in range(min(lane.held - most, len(lane.waiting) - 1))]

    def reopen(self, connection_id: UUID) -> None:
        """Let a lane ask again: there may be a token."""
        lane = self._lanes.get(connection_id)
        if lane is not None and lane.asking is None:
            lane.shut = False
            self._list(lane)

    def landed(self, work: Work, *, answered: bool | None) -> None:
        """Take note that an attempt has ended: its slot on the wire is free, its place is still held.

        Args:
            work: what was attempted.
            answered: whether the receiver gave a whole answer, good or bad; None when nothing was sent.
        """
        lane = self._lanes[work.connection_id]
        lane.in_flight -= 1
        if lane.asking is work:
            lane.asking, lane.shut = None, False
            if answered is not None:
                # Sent without asking: the limit was taken away.
                lane.most = None
                self._limited -= 1
        slots = self.slots(work.connection_id)
        if answered is False:
            if len(self._narrowed) >= _MOST_NARROWED:
                self._narrowed.clear()
            self._narrowed[work.connection_id] = max(1, slots // 2)
        elif answered and slots < self._slots_per_lane:
            self._narrowed[work.connection_id] = slots + 1
            if slots + 1 == self._slots_per_lane:
                del self._narrowed[work.connection_id]
        self._list(lane)

    def drain(self) -> list[Work]:
        """Take out everything that waits; the places stay reserved."""
        waiting = [work for lane in self._lanes.values() for work in lane.waiting]
        self._turn.clear()
        for lane in self._lanes.values():
            lane.waiting.clear()
            lane.listed = False
        for queue in self._queues.values():
            queue.ready.clear()
            queue.listed = False
        return waiting

    def _list(self, lane: _Lane) -> None:
        if lane.listed or lane.shut or not lane.waiting or lane.in_flight >= self.slots(lane.waiting[0].connection_id):
            return
        lane.listed = True
        lane.queue.ready.append(lane)
        if not lane.queue.listed:
            lane.queue.listed = True
            self._turn.append(lane.queue)
