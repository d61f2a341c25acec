"""Name resolution that vets every answer before anything is dialled.

One bad address among good ones refuses the name: a receiver has no business in a private network, and a resolver that mixes the two
is being used to get there. Answers are kept for a short time only, and vetted anew after it (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, TypeAlias

from customhouse.clock import Clock
from customhouse.egress.addresses import Allow, vet
from customhouse.errors import CustomhouseError, EgressRefused

Lookup: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
"""A host name in, its addresses as text out, in order of preference. OSError: there are none."""

ANSWER_TTL: Final = 30.0
"""Seconds for which vetted answers are dialled without asking again."""
FAILURE_TTL: Final = 5.0
"""Seconds for which a refusal or failure is repeated without asking again."""


class ResolutionError(CustomhouseError):
    """The host name did not resolve to an address; check its DNS records."""

    code = "dns_failed"


class SystemLookup:
    """The system's resolver (`getaddrinfo`) in threads of its own.

    Not `loop.getaddrinfo`: the loop's few threads are shared by everything, and a handful of names with dead name servers would stop
    every other resolution (and, at exit, the process: hence daemon threads).
    """

    __slots__ = ("_slots",)

    def __init__(self, threads: int = 64) -> None:
        """Take the number of resolutions that may run at once."""
        self._slots = asyncio.Semaphore(threads)

    async def __call__(self, host: str) -> Sequence[str]:
        """Return the addresses of a host in the order of RFC 6724.

        Raises:
            OSError: The name has none, or no name server answered.
        """
        loop = asyncio.get_running_loop()
        async with self._slots:
            answer: asyncio.Future[Sequence[str]] = loop.create_future()

            def ask() -> None:
                result: Sequence[str] | OSError
                try:
                    # Bytes keep Python's IDNA codec out: the name is ASCII, and is asked for as it is.
                    rows = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
                    result = list(dict.fromkeys(str(row[4][0]) for row in rows))
                except OSError as error:
                    result = error
                try:
                    loop.call_soon_threadsafe(settle, answer, result)
                except RuntimeError:
                    return  # the loop was closed while the name server was silent; nobody waits any more

            threading.Thread(target=ask, name="customhouse-dns", daemon=True).start()
            return await answer


def settle(answer: asyncio.Future[Sequence[str]], result: Sequence[str] | OSError) -> None:
    """Hand a thread's result to the one who waits, if it still does."""
    if answer.done():
        return
    if isinstance(result, OSError):
        answer.set_exception(result)
    else:
        answer.set_result(result)


@dataclass(frozen=True, slots=True)
class _Entry:
    """Vetted addresses, the dialled one first; or none, and why."""

    addresses: tuple[str, ...]
    expires: float
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class _Asking:
    task: asyncio.Task[_Entry]
    since: float


class Resolver:
    """Resolves host names to one vetted address each. For one event loop."""

    def __init__(
        self,
        *,
        allow: Allow,
        clock: Clock,
        lookup: Lookup | None = None,
        timeout: float = 5.0,
        ttl: float = ANSWER_TTL,
        capacity: int = 4096,
    ) -> None:
        """Take the networks allowed, the clock, how to look names up (default: the system), and bounds in seconds and entries."""
        self._allow = allow
        self._clock = clock
        self._lookup: Lookup = SystemLookup() if lookup is None else lookup
        self._timeout = timeout
        self._ttl = ttl
        self._capacity = capacity
        self._entries: dict[str, _Entry] = {}
        self._asking: dict[str, _Asking] = {}

    def known(self, host: str) -> str | None:
        """Return the vetted address of a host without waiting, or None where `resolve` must be asked."""
        entry = self._entries.get(host)
        if entry is None or not entry.addresses or entry.expires <= self._clock.monotonic():
            return None
        return entry.addresses[0]

    async def resolve(self, host: str) -> str:
        """Return the vetted address to dial for a host (a `Target.host`: a name or a literal address).

        Concurrent calls for one name share one lookup, and one that hangs holds nobody for longer than the time-out.

        Raises:
            EgressRefused: At least one of its addresses may not be dialled.
            ResolutionError: It has no address, or no name server answered in time.
        """
        entry = self._entries.get(host)
        if entry is None or entry.expires <= self._clock.monotonic():
            entry = await self._ask(host)
        if entry.refusal is not None:
            raise EgressRefused(entry.refusal)
        if not entry.addresses:
            raise ResolutionError
        return entry.addresses[0]

    def turn(self, host: str, address: str) -> None:
        """Put another of a host's vetted addresses first, because this one could not be reached."""
        entry = self._entries.get(host)
        if entry is not None and len(entry.addresses) > 1 and entry.addresses[0] == address:
            self._entries[host] = _Entry((*entry.addresses[1:], address), entry.expires, entry.refusal)

    async def aclose(self) -> None:
        """End the lookups that still run."""
        tasks = [asking.task for asking in self._asking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, host: str) -> _Entry:
        now = self._clock.monotonic()
        asking = self._asking.get(host)
        if asking is None:
            asking = _Asking(asyncio.ensure_future(self._look_up(host)), now)
            self._asking[host] = asking
            asking.task.add_done_callback(lambda _: self._asking.pop(host, None))
        patience = asking.since + self._timeout - now
        if not asking.task.done():
            await asyncio.wait((asking.task,), timeout=max(patience, 0.0))
        if not asking.task.done() or asking.task.cancelled():
            raise ResolutionError
        return asking.task.result()

    async def _look_up(self, host: str) -> _Entry:
        try:
            literal = str(ip_address(host.strip("[]")))
        except ValueError:
            literal = None
        try:
            answers = (literal,) if literal is not None else await self._lookup(host)
        except (OSError, UnicodeError):
            answers = ()
        entry = self._vetted(host, answers)
        self._entries.pop(host, None)
        self._entries[host] = entry
        while len(self._entries) > self._capacity:
            del self._entries[next(iter(self._entries))]
        return entry

    def _vetted(self, host: str, answers: Sequence[str]) -> _Entry:
        now = self._clock.monotonic()
        try:
            for answer in answers:
                vet(ip_address(answer), self._allow)
        except EgressRefused as refusal:
            return _Entry((), now + FAILURE_TTL, refusal.detail)
        except ValueError:
            return _Entry((), now + FAILURE_TTL, "The name resolves to something that is not an address.")
        before = self._entries.get(host)
        addresses = tuple(dict.fromkeys(answers))
        if before is not None and before.addresses and before.addresses[0] in addresses:
            # Name servers shuffle their answers; staying with the address keeps its open connections.
            first = before.addresses[0]
            addresses = (first, *(address for address in addresses if address != first))
        return _Entry(addresses, now + (self._ttl if addresses else FAILURE_TTL))
