"""Group commit: what arrives while one flush is under way goes together into the next. No added wait when idle."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from customhouse.errors import Overloaded

Item = TypeVar("Item")
Result = TypeVar("Result")


class GroupCommit(Generic[Item, Result]):
    """Collects items and hands them to `flush` in groups; each caller gets the result of its own item, or its error."""

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], Awaitable[Sequence[Result | BaseException]]],
        *,
        largest: int,
        at_once: int,
        most_waiting: int,
        observe: Callable[[int], None] = lambda _size: None,
        patience: float = math.inf,
        pace: float = 0.0,
    ) -> None:
        """Take the flush and the limits.

        Args:
            flush: writes a group and returns, in order, a result or an exception per item. What it raises goes to every item.
            largest: items in one group.
            at_once: flushes under way at the same time.
            most_waiting: items that may wait; more are refused at the door.
            observe: told the size of each group.
            patience: seconds that an item waits for its flush to begin, at most; then it is refused.
            pace: seconds from the begin of one flush to that of the next. Whoever comes after a quiet time goes at once; those that come
                faster share a flush, which costs each of them less. A full group does not wait.
        """
        self._flush = flush
        self._largest = largest
        self._at_once = at_once
        self._most_waiting = most_waiting
        self._observe = observe
        self._patience = patience
        self._impatient: asyncio.TimerHandle | None = None
        self._pace = pace
        self._last_begin = float("-inf")
        self._pacing: asyncio.TimerHandle | None = None
        self._waiting: deque[tuple[Item, asyncio.Future[Result], float]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        """Items that wait for a flush to begin."""
        return len(self._waiting)

    async def submit(self, item: Item) -> Result:
        """Wait until the item's group is written.

        Raises:
            Overloaded: too many wait already or for too long, or the door is closed; nothing was written.
        """
        if self._closed or len(self._waiting) >= self._most_waiting:
            raise Overloaded
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future, loop.time()))
        if self._impatient is None and self._patience < math.inf:
            self._impatient = loop.call_later(self._patience, self._refuse_late)
        self._start()
        return await future

    def _start(self) -> None:
        while self._waiting and len(self._under_way) < self._at_once and self._may_begin():
            task = asyncio.get_running_loop().create_task(self._run())
            self._under_way.add(task)
            task.add_done_callback(self._finished)

    def _refuse_late(self) -> None:
        """Refuse what has waited for too long: its place in the line goes to those that come later."""
        self._impatient = None
        loop = asyncio.get_running_loop()
        while self._waiting and (left := self._waiting[0][2] + self._patience - loop.time()) <= 0:
            _, future, _ = self._waiting.popleft()
            if not future.done():
                future.set_exception(Overloaded("The database is behind; nothing was written."))
        if self._waiting:
            self._impatient = loop.call_later(left, self._refuse_late)

    def _may_begin(self) -> bool:
        if not self._pace:
            return True
        loop = asyncio.get_running_loop()
        wait = self._last_begin + self._pace - loop.time()
        if wait > 0 and not self._closed and len(self._waiting) < self._largest:
            if self._pacing is None:
                self._pacing = loop.call_later(wait, self._paced)
            return False
        self._last_begin = loop.time()
        return True

    def _paced(self) -> None:
        self._pacing = None
        self._start()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()
        self._start()

    async def _run(self) -> None:
        # One turn of the loop lets the requests that are being read right now join.
        await asyncio.sleep(0)
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._largest))]
        if not group:
            return
        self._observe(len(group))
        try:
            results = await self._flush([item for item, _, _ in group])
        except BaseException as error:
            for _, future, _ in group:
                if not future.done():
                    future.set_exception(error)
            raise
        for (_, future, _), result in zip(group, results, strict=True):
            if future.done():
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)

    async def close(self) -> None:
        """Refuse what comes from now on, and wait until all that is in has been written."""
        self._closed = True
        if self._pacing is not None:
            self._pacing.cancel()
        if self._impatient is not None:
            self._impatient.cancel()
            self._impatient = None
        while self._under_way or self._waiting:
            self._start()
            await asyncio.wait(self._under_way)
