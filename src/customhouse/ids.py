"""TypeIDs: a prefix and a UUIDv7 in Crockford base32 (TypeID specification 0.3.0).

Stored as `uuid` (16 bytes, ordered by time), shown as `con_01k…`. Made here, because `uuidv7()` exists in PostgreSQL 18 only.
"""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from customhouse.errors import NotFound

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_VALUES: Final = {char: value for value, char in enumerate(_ALPHABET)}
_SUFFIX_LENGTH: Final = 26


_RANDOM_BYTES: Final = 10
_DRAWN_AT_ONCE: Final = 400 * _RANDOM_BYTES
"""Asking the kernel costs as much as all the rest of an id, so it is asked once for many. No id is a secret."""


class _Sequence:
    """UUIDv7 generator, RFC 9562 §5.7 and §6.2 method 1: ids of one process never go back."""

    __slots__ = ("_counter", "_drawn", "_lock", "_millis", "_used")

    def __init__(self) -> None:
        self._millis = 0
        self._counter = 0
        self._lock = threading.Lock()
        self._drawn = b""
        self._used = 0

    def next(self) -> UUID:
        with self._lock:
            return self._next()

    def forked(self) -> None:
        """Forget what the parent process has drawn, and its lock, which somebody there may hold."""
        self._lock = threading.Lock()
        self._drawn = b""
        self._used = 0

    def _next(self) -> UUID:
        millis = time.time_ns() // 1_000_000
        used = self._used
        if used == len(self._drawn):
            self._drawn = os.urandom(_DRAWN_AT_ONCE)
            used = 0
        self._used = end = used + _RANDOM_BYTES
        random = int.from_bytes(self._drawn[used:end])
        if millis > self._millis:
            self._millis = millis
            # The counter (rand_a and 30 bits of rand_b) starts in its lower half, so that it has room to count.
            self._counter = (random >> 38) & ((1 << 41) - 1)
        else:
            self._counter += 1 + ((random >> 38) & 0xFF)
            if self._counter >= 1 << 42:
                self._millis += 1
                self._counter = (random >> 38) & ((1 << 41) - 1)
        high = (self._millis << 16) | 0x7000 | (self._counter >> 30)
        low = (1 << 63) | ((self._counter & ((1 << 30) - 1)) << 32) | (random & 0xFFFFFFFF)
        return UUID(int=(high << 64) | low)


_sequence = _Sequence()
os.register_at_fork(after_in_child=_sequence.forked)


def new() -> UUID:
    """Return a fresh UUIDv7, greater than every one that this process made before."""
    return _sequence.next()


def show(prefix: str, value: UUID) -> str:
    """Return the TypeID of a UUID."""
    number = value.int
    pairs = _PAIRS
    return f"{prefix}_{''.join([pairs[(number >> shift) & 1023] for shift in range(120, -1, -10)])}"


def parse(prefix: str, text: str) -> UUID:
    """Return the UUID of a TypeID with this prefix.

    Raises:
        NotFound: the text is no such id; what has no id that could exist is answered like what does not exist.
    """
    head, _, suffix = text.rpartition("_")
    if head != prefix or len(suffix) != _SUFFIX_LENGTH or suffix[0] > "7":
        raise NotFound
    number = 0
    for char in suffix:
        value = _VALUES.get(char)
        if value is None:
            raise NotFound
        number = (number << 5) | value
    return UUID(int=number)


def made_at(value: UUID) -> datetime:
    """Return the moment in a UUIDv7, to the millisecond."""
    return datetime.fromtimestamp((value.int >> 80) / 1000, UTC)


def floor_at(moment: datetime) -> UUID:
    """Return the smallest UUIDv7 of a moment: the bound of a time partition."""
    millis = int(moment.timestamp() * 1000)
    return UUID(int=(millis << 80) | (0x7 << 76) | (1 << 63))
