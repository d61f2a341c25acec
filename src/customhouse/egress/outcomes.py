"""What one POST came to, in a closed vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from pyreqwest.exceptions import (
    ClientClosedError,
    DetailedPyreqwestError,
    NetworkError,
    PyreqwestError,
    RequestTimeoutError,
)

Failure: TypeAlias = Literal[
    "dns_failed",
    "address_refused",
    "https_required",
    "connect_failed",
    "connect_timeout",
    "tls_failed",
    "timeout",
    "connection_lost",
    "response_too_large",
    "protocol_error",
    "closed",
]
FAILURES: Final[frozenset[str]] = frozenset(get_args(Failure))
"""Every value that `Outcome.error` can have."""
NOTHING_SENT: Final[frozenset[str]] = frozenset(
    ("dns_failed", "address_refused", "https_required", "connect_failed", "connect_timeout", "tls_failed")
)
"""Failures after which the receiver has certainly not seen the request."""


_ALERT: Final = "received fatal alert: "
_REFUSALS: Final = frozenset(
    (
        "AccessDenied",
        "BadCertificate",
        "CertificateExpired",
        "CertificateRequired",
        "CertificateRevoked",
        "CertificateUnknown",
        "UnknownCA",
        "UnsupportedCertificate",
    )
)
"""Alerts (RFC 8446 §6.2) about our certificate; in TLS 1.3 they come when we believe to be connected."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one POST came to. It holds nothing of the response's body or headers but what is listed.

    Attributes:
        status_code: The HTTP status, or None where no complete head arrived.
        error: What went wrong, or None. With a `status_code` too, the head arrived and the body did not end well.
        latency_ms: From the call to the end of the body or the failure, name resolution included.
        response_bytes: Bytes of the body that were read and dropped, not decompressed; at most the cap and one chunk.
        retry_after: Seconds (0 to 86,400) that the receiver asks to wait, or None.
    """

    status_code: int | None
    error: Failure | None
    latency_ms: int
    response_bytes: int
    retry_after: int | None


def classify(error: PyreqwestError, *, https: bool) -> Failure:
    """Name a failure of the HTTP client.

    The client's classes do not tell the phases apart (a silent receiver is a "connect time-out" too), its list of causes does.
    """
    causes = _causes(error)
    connecting = "client error (Connect)" in causes
    if isinstance(error, ClientClosedError):
        return "closed"
    if isinstance(error, RequestTimeoutError):
        return "connect_timeout" if connecting else "timeout"
    if "message head is too large" in causes:
        return "response_too_large"
    if connecting:
        return "tls_failed" if https and "tcp connect error" not in causes else "connect_failed"
    if https and any(cause.removeprefix(_ALERT) in _REFUSALS for cause in causes if cause.startswith(_ALERT)):
        return "tls_failed"
    if isinstance(error, NetworkError) or any(cause.startswith("end of file") for cause in causes):
        return "connection_lost"
    return "protocol_error"


def _causes(error: PyreqwestError) -> tuple[str, ...]:
    if not isinstance(error, DetailedPyreqwestError):
        return ()
    return tuple(cause["message"] for cause in error.details["causes"] or ())
