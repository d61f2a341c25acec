"""A verified event and the claim on it."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Optional, final

from customhouse_receiver.hold import Hold
from customhouse_receiver.verify import Genuine


@final
class Event:
    """A genuine, fresh event, claimed for you until you say what became of it.

    Call `done()` when your work is safe, or `release()` when it failed and the sender should try again; or use it as a context
    manager (`with event:` or `async with event:`), which does both. An event with `duplicate` was done before: answer 2xx, do nothing.

    `repr` shows ids and the type only: the data may be personal.
    """

    __slots__ = ("_envelope", "_genuine", "_hold")

    def __init__(self, genuine: Genuine, envelope: dict[str, Any], hold: Optional[Hold]) -> None:
        """Take what was verified, and the claim; None for a duplicate."""
        self._envelope = envelope
        self._genuine = genuine
        self._hold = hold

    @property
    def duplicate(self) -> bool:
        """Whether this event was done before, and this is the sender's retry: nothing is left to do."""
        return self._hold is None

    @property
    def envelope(self) -> Mapping[str, Any]:
        """The whole envelope, fields that this library does not know included."""
        return self._envelope

    @property
    def data(self) -> Mapping[str, Any]:
        """What happened."""
        data: Mapping[str, Any] = self._envelope["data"]
        return data

    @property
    def event_id(self) -> str:
        """The id that stays the same over all retries: the key for idempotent work of your own."""
        return self._text("event_id")

    @property
    def event_type(self) -> str:
        """Such as `person.updated`."""
        return self._text("event_type")

    @property
    def occurred_at(self) -> str:
        """RFC 3339, UTC."""
        return self._text("occurred_at")

    @property
    def tenant_id(self) -> str:
        """The tenant whose event it is."""
        return self._text("tenant_id")

    @property
    def idempotency_key(self) -> str:
        """The publisher's own key for the fact."""
        return self._text("idempotency_key")

    @property
    def schema_version(self) -> str:
        """One of the accepted ones."""
        return self._text("schema_version")

    @property
    def connection_id(self) -> str:
        """The connection through which it came."""
        connection_id: str = self._envelope["integration"]["connection_id"]
        return connection_id

    @property
    def correlation_id(self) -> Optional[str]:
        """`trace.correlation_id`, for your logs; None where there is none."""
        trace = self._envelope.get("trace")
        value = trace.get("correlation_id") if isinstance(trace, dict) else None
        return value if isinstance(value, str) and value.isprintable() else None

    @property
    def profile(self) -> str:
        """`queast-v1` or `standard-webhooks`."""
        return self._genuine.profile

    @property
    def key_id(self) -> str:
        """The id of the secret that matched."""
        return self._genuine.key_id

    @property
    def timestamp(self) -> int:
        """When this attempt was signed, in unix seconds."""
        return self._genuine.timestamp

    def done(self) -> None:
        """Remember the event as done. Answer the sender 2xx only afterwards.

        Raises:
            WebhookRejected: `replay_unavailable`: answer 503, the sender will send it again.
        """
        if self._hold is not None:
            self._hold.confirm()

    def release(self) -> None:
        """Free the event for the sender's next try. Never raises: where the cache is away, the lease runs out by itself."""
        if self._hold is not None:
            self._hold.release()

    async def adone(self) -> None:
        """As `done`, for events of `averify`."""
        if self._hold is not None:
            await self._hold.aconfirm()

    async def arelease(self) -> None:
        """As `release`, for events of `averify`."""
        if self._hold is not None:
            await self._hold.arelease()

    def __enter__(self) -> Event:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        if self._hold is None or self._hold.settled:
            return
        if kind is None:
            self.done()
        else:
            self.release()

    async def __aenter__(self) -> Event:
        return self

    async def __aexit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        if self._hold is None or self._hold.settled:
            return
        if kind is None:
            await self.adone()
        else:
            await self.arelease()

    def __repr__(self) -> str:
        return (
            f"Event(event_id={self.event_id!r}, event_type={self.event_type!r}, connection_id={self.connection_id!r},"
            f" duplicate={self.duplicate})"
        )

    def _text(self, name: str) -> str:
        value: str = self._envelope[name]
        return value
