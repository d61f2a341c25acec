"""The one thing that goes wrong: a webhook is rejected."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple, Optional


class Reason(str, Enum):
    """Why a webhook was rejected: the closed set. The values are stable and safe to log and to answer with."""

    BODY_NOT_BYTES = "body_not_bytes"
    BODY_TOO_LARGE = "body_too_large"
    MISSING_HEADER = "missing_header"
    REPEATED_HEADER = "repeated_header"
    MALFORMED_HEADER = "malformed_header"
    AMBIGUOUS_PROFILE = "ambiguous_profile"
    TIMESTAMP_OUTSIDE_TOLERANCE = "timestamp_outside_tolerance"
    SIGNATURE_MISMATCH = "signature_mismatch"
    ENVELOPE_MALFORMED = "envelope_malformed"
    SCHEMA_VERSION_UNKNOWN = "schema_version_unknown"
    REPLAYED = "replayed"
    IN_PROGRESS = "in_progress"
    REPLAY_UNAVAILABLE = "replay_unavailable"


class _Answer(NamedTuple):
    http_status: int
    detail: str


# 4xx for what a repetition of the same request cannot mend; 401 means "not from them, or not now", 422 "from them, but unreadable".
_ANSWERS: Final[dict[Reason, _Answer]] = {
    Reason.BODY_NOT_BYTES: _Answer(400, "pass the raw request body as bytes, before any decoding"),
    Reason.BODY_TOO_LARGE: _Answer(413, "the body is larger than this receiver accepts"),
    Reason.MISSING_HEADER: _Answer(401, "a signature header is missing"),
    Reason.REPEATED_HEADER: _Answer(401, "a signature header occurs more than once"),
    Reason.MALFORMED_HEADER: _Answer(401, "a signature header is not of the agreed form"),
    Reason.AMBIGUOUS_PROFILE: _Answer(401, "the headers of two signature profiles are mixed"),
    Reason.TIMESTAMP_OUTSIDE_TOLERANCE: _Answer(401, "the timestamp is too far from the present"),
    Reason.SIGNATURE_MISMATCH: _Answer(401, "no configured secret made this signature"),
    Reason.ENVELOPE_MALFORMED: _Answer(422, "the signature is genuine, but the body is not an envelope"),
    Reason.SCHEMA_VERSION_UNKNOWN: _Answer(422, "the signature is genuine, but the schema version is not accepted here"),
    Reason.REPLAYED: _Answer(401, "this very request was accepted before"),
    Reason.IN_PROGRESS: _Answer(409, "this event is being worked on at this moment"),
    Reason.REPLAY_UNAVAILABLE: _Answer(503, "the replay cache cannot answer"),
}

_RETRYABLE: Final = frozenset({Reason.IN_PROGRESS, Reason.REPLAY_UNAVAILABLE})
_RETRY_AFTER: Final = 5


class WebhookRejected(Exception):
    """A webhook was rejected; the only exception of `Receiver.verify`.

    Attributes:
        reason: which rule refused it.
        retryable: whether the sender should send it again.
        http_status: what to answer the sender.
        retry_after: seconds for the `Retry-After` header, where `retryable`; else None.
    """

    def __init__(self, reason: Reason, detail: Optional[str] = None, retry_after: Optional[int] = None) -> None:
        """Take the reason and, where it helps, a sentence that holds nothing of the request."""
        answer = _ANSWERS[reason]
        super().__init__(reason, detail, retry_after)
        self.reason = reason
        self.retryable = reason in _RETRYABLE
        self.http_status = answer.http_status
        self.retry_after = (retry_after or _RETRY_AFTER) if self.retryable else None
        self._detail = detail or answer.detail

    def __str__(self) -> str:
        return f"{self.reason.value}: {self._detail}"
