"""One claim in a replay cache, and how it is taken and settled, with either kind of cache."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn, Union

from customhouse_receiver.errors import Reason, WebhookRejected
from customhouse_receiver.replay import AsyncReplayCache, Claim, ClaimState, ReplayCache


class Memory(NamedTuple):
    """A cache by both its doors, and how long it shall remember.

    Attributes:
        sync: for `verify`.
        aio: for `averify`.
        lease: seconds that a claim lasts.
        ttl: seconds that a confirmed event is remembered.
        floor: seconds in which it must not be forgotten.
    """

    sync: ReplayCache
    aio: AsyncReplayCache
    lease: float
    ttl: float
    floor: float


def doors(cache: Union[ReplayCache, AsyncReplayCache]) -> tuple[ReplayCache, AsyncReplayCache]:
    """Return the cache for `verify` and for `averify`: a synchronous one is called in a thread there, so that no loop ever waits for it.

    Raises:
        TypeError: it is a cache of neither kind.
    """
    given: Any = cache
    sync = all(callable(getattr(given, name, None)) for name in ("claim", "confirm", "release"))
    aio = all(callable(getattr(given, name, None)) for name in ("aclaim", "aconfirm", "arelease"))
    if not sync and not aio:
        raise TypeError("replay is neither a ReplayCache nor an AsyncReplayCache")
    return (given if sync else _AsyncOnly()), (given if aio else _Threaded(given))


class Hold:
    """The claim on one event."""

    __slots__ = ("_fingerprint", "_key", "_memory", "_token", "settled")

    def __init__(self, memory: Memory, key: str, fingerprint: str) -> None:
        """Prepare a claim; `take` or `atake` makes it."""
        self._memory = memory
        self._key = key
        self._fingerprint = fingerprint
        self._token = os.urandom(16).hex()
        self.settled = False

    def take(self) -> bool:
        """Claim the event. Returns False where it was done before and this is the sender's retry.

        Raises:
            WebhookRejected: `replayed`, `in_progress` or `replay_unavailable`.
        """
        try:
            claim = self._memory.sync.claim(self._key, token=self._token, fingerprint=self._fingerprint, lease=self._memory.lease)
        except Exception as error:
            raise _unavailable() from error
        return _judged(claim)

    async def atake(self) -> bool:
        """As `take`."""
        try:
            claim = await self._memory.aio.aclaim(self._key, token=self._token, fingerprint=self._fingerprint, lease=self._memory.lease)
        except Exception as error:
            raise _unavailable() from error
        return _judged(claim)

    def confirm(self) -> None:
        """Remember the event as done, once; also after `release`, because then the work happened after all.

        Raises:
            WebhookRejected: `replay_unavailable`.
        """
        memory = self._memory
        try:
            memory.sync.confirm(self._key, token=self._token, fingerprint=self._fingerprint, ttl=memory.ttl, floor=memory.floor)
        except Exception as error:
            raise _unavailable() from error
        self.settled = True

    async def aconfirm(self) -> None:
        """As `confirm`."""
        memory = self._memory
        try:
            await memory.aio.aconfirm(self._key, token=self._token, fingerprint=self._fingerprint, ttl=memory.ttl, floor=memory.floor)
        except Exception as error:
            raise _unavailable() from error
        self.settled = True

    def release(self) -> None:
        """Free the event, unless it is settled."""
        if not self.settled:
            self.settled = True
            with suppress(Exception):  # the lease runs out by itself
                self._memory.sync.release(self._key, token=self._token)

    async def arelease(self) -> None:
        """As `release`."""
        if not self.settled:
            self.settled = True
            with suppress(Exception):
                await self._memory.aio.arelease(self._key, token=self._token)


def _judged(claim: Claim) -> bool:
    # A cache is foreign code: what is none of the four answers is refused like no answer.
    state = getattr(claim, "state", None)
    if state == ClaimState.CLAIMED:
        return True
    if state == ClaimState.DUPLICATE:
        return False
    if state == ClaimState.REPLAYED:
        raise WebhookRejected(Reason.REPLAYED)
    if state == ClaimState.IN_PROGRESS:
        raise WebhookRejected(Reason.IN_PROGRESS, retry_after=claim.retry_after)
    raise _unavailable()


def _unavailable() -> WebhookRejected:
    return WebhookRejected(Reason.REPLAY_UNAVAILABLE)


class _Threaded:
    """The asynchronous door of a synchronous cache."""

    def __init__(self, cache: ReplayCache) -> None:
        self._cache = cache

    async def aclaim(self, key: str, *, token: str, fingerprint: str, lease: float) -> Claim:
        return await asyncio.to_thread(self._cache.claim, key, token=token, fingerprint=fingerprint, lease=lease)

    async def aconfirm(self, key: str, *, token: str, fingerprint: str, ttl: float, floor: float) -> None:
        await asyncio.to_thread(self._cache.confirm, key, token=token, fingerprint=fingerprint, ttl=ttl, floor=floor)

    async def arelease(self, key: str, *, token: str) -> None:
        await asyncio.to_thread(self._cache.release, key, token=token)


class _AsyncOnly:
    """The synchronous door of an asynchronous cache: shut."""

    def _shut(self, *_: object, **__: object) -> NoReturn:
        raise RuntimeError("this replay cache is asynchronous: call averify, adone and arelease")

    claim = confirm = release = _shut
