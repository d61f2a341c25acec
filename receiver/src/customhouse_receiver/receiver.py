"""The receiver: everything that a webhook has to pass, behind one call."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from typing import Any, Callable, Final, Optional, Union

from customhouse_receiver.envelope import parse
from customhouse_receiver.event import Event
from customhouse_receiver.headers import HeaderNames, Headers
from customhouse_receiver.hold import Hold, Memory, doors
from customhouse_receiver.keys import Keyring
from customhouse_receiver.replay import AsyncReplayCache, ReplayCache
from customhouse_receiver.verify import Genuine, Rules, check

DEFAULT_MAX_BODY: Final = 1024 * 1024
_SENDER_GIVES_UP: Final = 72 * 3600.0
"""Seconds for which the sender retries a delivery; a retry that comes after we forgot would be worked on twice."""
_MARGIN: Final = 3600.0


class Receiver:
    """Verifies webhooks of one sender. Build it once; it may be shared among threads and tasks.

    Either signature profile is accepted, told apart by the headers.
    """

    def __init__(
        self,
        secrets: Mapping[str, str],
        *,
        replay: Union[ReplayCache, AsyncReplayCache],
        header_prefix: str = "X-Queast",
        tolerance: float = 300,
        accepted_versions: Collection[str] = frozenset({"1.0"}),
        clock: Callable[[], float] = time.time,
        max_body: int = DEFAULT_MAX_BODY,
        replay_ttl: Optional[float] = None,
        lease: float = 60,
    ) -> None:
        """Take what the sender's control panel shows, and where to remember.

        Args:
            secrets: key id to secret, `whsec_…` or `whpk_…` (the latter needs the extra `ed25519`). During a rotation: both.
            replay: where seen events are remembered.
            header_prefix: of the sender's signature headers.
            tolerance: seconds that a timestamp may lie before or after the present.
            accepted_versions: the envelope's `schema_version`s that your code understands.
            clock: unix seconds.
            max_body: bytes.
            replay_ttl: seconds to remember a done event, at least twice the tolerance; None: as long as the sender retries (73 h).
            lease: seconds that your work may take before the sender's retry is let through.

        Raises:
            ValueError: a value with which nothing, or too much, would be accepted.
            TypeError: `replay` is no cache, or `accepted_versions` is a bare string.
        """
        if not 0 < tolerance < math.inf:
            raise ValueError("tolerance is a positive number of seconds")
        if isinstance(accepted_versions, str):
            raise TypeError("accepted_versions is a set of versions, not one text")
        versions = frozenset(accepted_versions)
        if not versions:
            raise ValueError("accepted_versions is empty: nothing would be accepted")
        if max_body < 1:
            raise ValueError("max_body is a positive number of bytes")
        # A request stays fresh from `tolerance` before its timestamp until `tolerance` after it.
        floor = 2 * tolerance
        ttl = max(floor, _SENDER_GIVES_UP + _MARGIN) if replay_ttl is None else replay_ttl
        if not floor <= ttl < math.inf:
            raise ValueError("replay_ttl is shorter than twice the tolerance: a captured request would be forgotten while it is fresh")
        if not 0 < lease <= ttl:
            raise ValueError("lease is a positive number of seconds, at most replay_ttl")
        self._keyring = Keyring(secrets)
        self._rules = Rules(HeaderNames(header_prefix), tolerance, max_body)
        self._accepted_versions = versions
        self._memory = Memory(*doors(replay), lease=lease, ttl=ttl, floor=floor)
        self._clock = clock

    @property
    def max_body(self) -> int:
        """Bytes of the largest body that is accepted, for glue that reads it."""
        return self._rules.max_body

    def verify(self, headers: Headers, raw_body: bytes) -> Event:
        """Return the event, claimed; see `Event.done`.

        Args:
            headers: the request's, as a mapping or pairs, text or bytes.
            raw_body: the bytes as they came, before any decoding.

        Raises:
            WebhookRejected: and nothing else, whatever arrives.
        """
        genuine, envelope, hold = self._examine(headers, raw_body)
        return Event(genuine, envelope, hold if hold.take() else None)

    async def averify(self, headers: Headers, raw_body: bytes) -> Event:
        """As `verify`, without blocking; a cache that is only synchronous is called in a thread.

        Raises:
            WebhookRejected: and nothing else, whatever arrives.
        """
        genuine, envelope, hold = self._examine(headers, raw_body)
        return Event(genuine, envelope, hold if await hold.atake() else None)

    def _examine(self, headers: Headers, raw_body: bytes) -> tuple[Genuine, dict[str, Any], Hold]:
        genuine = check(headers, raw_body, self._keyring, self._rules, now=self._clock())
        envelope = parse(raw_body, self._accepted_versions, genuine.message_id)
        key = f"seen:{envelope['integration']['connection_id']}:{envelope['event_id']}"
        return genuine, envelope, Hold(self._memory, key, genuine.fingerprint)
