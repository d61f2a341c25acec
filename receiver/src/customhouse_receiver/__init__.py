"""Verifies the webhooks of Customhouse: signature, time, replay and contract. No dependencies.

Everything needed every day is here; `customhouse_receiver.asgi` holds the glue for ASGI applications.
"""

from customhouse_receiver.errors import Reason, WebhookRejected
from customhouse_receiver.event import Event
from customhouse_receiver.receiver import Receiver
from customhouse_receiver.replay import AsyncReplayCache, Claim, ClaimState, MemoryReplayCache, ReplayCache, ReplayCacheFull

__all__ = [
    "AsyncReplayCache",
    "Claim",
    "ClaimState",
    "Event",
    "MemoryReplayCache",
    "Reason",
    "Receiver",
    "ReplayCache",
    "ReplayCacheFull",
    "WebhookRejected",
]
