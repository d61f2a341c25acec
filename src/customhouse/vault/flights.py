"""Loads that many wait for at once, each under way only once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from customhouse.errors import KeyServiceUnavailable
from customhouse.types import TenantId

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class Flight:
    """One load. A stale one still answers those who wait for it, but may leave nothing behind in a cache."""

    stale: bool = False


class Flights:
    """Runs loads once per tenant and thing. Whoever stops waiting does not end a load for the others."""

    __slots__ = ("_patience", "_under_way")

    def __init__(self, patience: float) -> None:
        """Take the seconds for which anybody waits."""
        self._patience = patience
        self._under_way: dict[tuple[TenantId, object], tuple[Flight, asyncio.Task[Any]]] = {}

    async def once(self, tenant_id: TenantId, what: object, load: Callable[[Flight], Awaitable[_T]]) -> _T:
        """Return what `load` returns, or what the same load, already under way, returns.

        Args:
            tenant_id: whose load it is.
            what: hashable; stands for one `load` and its type.
            load: is told its flight, and asks it whether it became stale.

        Raises:
            KeyServiceUnavailable: it took longer than the patience, or the vault was closed; besides what `load` raises.
        """
        at = (tenant_id, what)
        found = self._under_way.get(at)
        if found is None:
            flight = Flight()
            found = flight, asyncio.ensure_future(load(flight))
            self._under_way[at] = found
            found[1].add_done_callback(lambda task: self._landed(at, task))
        task = found[1]
        try:
            async with asyncio.timeout(self._patience):
                return cast("_T", await asyncio.shield(task))
        except TimeoutError:
            raise KeyServiceUnavailable from None
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if task.cancelled() and me is not None and not me.cancelling():
                raise KeyServiceUnavailable from None
            raise

    def recall(self, tenant_id: TenantId, which: Callable[[object], bool]) -> None:
        """Make a tenant's loads stale; who asks from now on gets a new one."""
        for at, (flight, _) in list(self._under_way.items()):
            if at[0] == tenant_id and which(at[1]):
                flight.stale = True
                del self._under_way[at]

    def tenants(self) -> set[TenantId]:
        """Return the tenants for which something is under way."""
        return {tenant_id for tenant_id, _ in self._under_way}

    async def close(self) -> None:
        """End what is under way; those who wait get `KeyServiceUnavailable`."""
        tasks = [task for _, task in self._under_way.values()]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError, Exception):
                await task

    def _landed(self, at: tuple[TenantId, object], task: asyncio.Task[Any]) -> None:
        found = self._under_way.get(at)
        if found is not None and found[1] is task:
            del self._under_way[at]
        if not task.cancelled():
            task.exception()  # retrieved, also where nobody waits any more
