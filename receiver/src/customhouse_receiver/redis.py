"""A replay cache that all your processes share: Redis 5 or later, or Valkey (extra `redis`)."""

from __future__ import annotations

import asyncio
import threading
import weakref
from math import ceil
from typing import Any, Final, Optional
from urllib.parse import urlsplit

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.backoff
import redis.retry

from customhouse_receiver.replay import Claim, ClaimState

_SCHEMES: Final = frozenset({"redis", "rediss", "unix"})

_DONE: Final = "d:"

# One key, one step: whatever other processes do, they do it before or after. A claim that is ours already is ours again: the reply to
# the first try may have been lost on the way.
_CLAIM: Final = """
local found = redis.call('GET', KEYS[1])
if not found or found == 'c:' .. ARGV[1] then
  redis.call('SET', KEYS[1], 'c:' .. ARGV[1], 'PX', ARGV[3])
  return {'claimed', 0}
end
if found == 'd:' .. ARGV[2] then return {'replayed', 0} end
local kind = string.sub(found, 1, 2)
if kind == 'd:' then return {'duplicate', 0} end
if kind == 'c:' then return {'in_progress', redis.call('PTTL', KEYS[1])} end
return redis.error_reply('the key holds what no replay cache wrote')
"""
_RELEASE: Final = "if redis.call('GET', KEYS[1]) == 'c:' .. ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class ReplayCacheForgets(Exception):
    """The server may drop keys when its memory is full (`maxmemory-policy`), and with a key the protection against its replay.

    Set the policy to `noeviction`, or say `allow_eviction=True` where you accept it.
    """


class RedisReplayCache:
    """Remembers seen events in Redis, under the very key that the receiver names: `seen:{connection_id}:{event_id}`.

    Serves `verify` and `averify`, threads, tasks and several event loops. When the server is away or slow, the receiver answers 503 and
    the sender comes back: nothing is accepted unremembered. The server's clock counts, so the clocks of your machines do not matter.

    A server without persistence, or a replica that takes over with a second missing, forgets the last events: a captured request could
    then pass once more within its five minutes, and a late retry would be worked on again.
    """

    def __init__(self, url: str, *, timeout: float = 1.0, max_connections: int = 32, allow_eviction: bool = False) -> None:
        """Take the server; it is dialled at the first use.

        Args:
            url: `redis://`, `rediss://` (TLS) or `unix://`, with password and database number where there are any.
            timeout: seconds for connecting, for each answer, and for a free connection.
            max_connections: of one process, for each of the two doors.
            allow_eviction: accept a server that may drop keys before their time; also needed where `INFO` is forbidden to this user.

        Raises:
            ValueError: the URL or a number is none.
        """
        if urlsplit(url).scheme not in _SCHEMES:
            raise ValueError("the address of the replay cache begins with redis://, rediss:// or unix://")
        if not 0 < timeout < float("inf") or max_connections < 1:
            raise ValueError("timeout and max_connections are positive")
        self._url = url
        self._options: dict[str, Any] = {
            "max_connections": max_connections,
            "timeout": timeout,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "decode_responses": True,
        }
        # Once more, because a pooled connection may have died unnoticed; every command here may be repeated.
        pool = redis.BlockingConnectionPool.from_url(url, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1), **self._options)
        self._client: Any = redis.Redis(connection_pool=pool)
        self._claim = self._client.register_script(_CLAIM)
        self._release = self._client.register_script(_RELEASE)
        # A connection belongs to the loop that opened it.
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._trusted = allow_eviction

    def __repr__(self) -> str:
        return "RedisReplayCache()"  # the address may hold a password

    def ping(self) -> None:
        """Reach the server and look at its policy, so that a wrong setup shows at the start of your program.

        Raises:
            ReplayCacheForgets: it may drop keys.
            redis.RedisError: it does not answer.
        """
        self._client.ping()
        self._trust()

    async def aping(self) -> None:
        """As `ping`."""
        await self._loop().client.ping()
        await self._atrust()

    def claim(self, key: str, *, token: str, fingerprint: str, lease: float) -> Claim:
        """As `ReplayCache.claim`.

        Raises:
            ReplayCacheForgets: the server may drop keys.
            redis.RedisError: it does not answer.
        """
        self._trust()
        return _claim_of(self._claim(keys=[key], args=[token, fingerprint, _milliseconds(lease)]))

    def confirm(self, key: str, *, token: str, fingerprint: str, ttl: float, floor: float) -> None:  # noqa: ARG002 - see the protocol
        """As `ReplayCache.confirm`.

        Raises:
            redis.RedisError: the server does not answer.
        """
        self._client.set(key, _DONE + fingerprint, px=_milliseconds(ttl))

    def release(self, key: str, *, token: str) -> None:
        """As `ReplayCache.release`.

        Raises:
            redis.RedisError: the server does not answer.
        """
        self._release(keys=[key], args=[token])

    async def aclaim(self, key: str, *, token: str, fingerprint: str, lease: float) -> Claim:
        """As `claim`."""
        await self._atrust()
        return _claim_of(await self._loop().claim(keys=[key], args=[token, fingerprint, _milliseconds(lease)]))

    async def aconfirm(self, key: str, *, token: str, fingerprint: str, ttl: float, floor: float) -> None:  # noqa: ARG002 - see the protocol
        """As `confirm`."""
        await self._loop().client.set(key, _DONE + fingerprint, px=_milliseconds(ttl))

    async def arelease(self, key: str, *, token: str) -> None:
        """As `release`."""
        await self._loop().release(keys=[key], args=[token])

    def close(self) -> None:
        """Close the connections of `verify`. The next call opens new ones."""
        self._client.connection_pool.disconnect()

    async def aclose(self) -> None:
        """Close the connections of `averify` on this loop. The next call opens new ones."""
        with self._lock:
            found = self._loops.pop(asyncio.get_running_loop(), None)
        if found is not None:
            await found.client.aclose()
            await found.client.connection_pool.disconnect()

    def _loop(self) -> _Loop:
        loop = asyncio.get_running_loop()
        with self._lock:
            found = self._loops.get(loop)
            if found is None:
                found = self._loops[loop] = _Loop(self._url, self._options)
            return found

    def _trust(self) -> None:
        if not self._trusted:
            _examine(self._client.info("memory"))
            self._trusted = True

    async def _atrust(self) -> None:
        if not self._trusted:
            _examine(await self._loop().client.info("memory"))
            self._trusted = True


class _Loop:
    """The asynchronous client of one event loop."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        again = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 1)
        pool = redis.asyncio.BlockingConnectionPool.from_url(url, retry=again, **options)
        self.client: Any = redis.asyncio.Redis(connection_pool=pool)
        self.claim = self.client.register_script(_CLAIM)
        self.release = self.client.register_script(_RELEASE)


def _milliseconds(seconds: float) -> int:
    # One more: at the last moment a request is fresh, it is still known.
    return ceil(seconds * 1000) + 1


def _claim_of(answer: Any) -> Claim:
    state, left = answer
    return Claim(ClaimState(state), max(1, ceil(left / 1000)) if state == ClaimState.IN_PROGRESS.value else 0)


def _examine(memory: dict[str, Any]) -> None:
    """Refuse a server that forgets on its own; one without a limit (`maxmemory 0`) never does, whatever its policy."""
    policy: Optional[str] = memory.get("maxmemory_policy")
    if policy != "noeviction" and memory.get("maxmemory") != 0:
        raise ReplayCacheForgets("the server of the replay cache may drop keys: set maxmemory-policy to noeviction, or allow_eviction=True")
