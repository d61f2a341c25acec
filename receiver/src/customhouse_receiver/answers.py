"""What the glue answers by itself, the same for every framework: JSON that holds a reason and nothing of the request."""

from __future__ import annotations

from typing import Final, NamedTuple

from customhouse_receiver.errors import WebhookRejected

EVENT_KEY: Final = "customhouse.event"
"""Where an ASGI scope and a WSGI environ hold the event."""


class Answer(NamedTuple):
    """An answer to send as it is.

    Attributes:
        status: the HTTP status.
        headers: names in the usual spelling, `Content-Length` included.
        body: JSON.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def _json(status: int, body: bytes, *headers: tuple[str, str]) -> Answer:
    return Answer(status, (("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers), body)


DUPLICATE: Final = _json(200, b'{"duplicate":true}')
"""For the sender's retry of what was done before: it need not come again."""
NOT_A_POST: Final = _json(405, b'{"reason":"method_not_allowed","retryable":false}', ("Allow", "POST"))


def refusal(rejected: WebhookRejected) -> Answer:
    """Return the answer to what was rejected."""
    body = f'{{"reason":"{rejected.reason.value}","retryable":{str(rejected.retryable).lower()}}}'.encode()
    after = () if rejected.retry_after is None else (("Retry-After", str(rejected.retry_after)),)
    return _json(rejected.http_status, body, *after)


def settles(status: int) -> bool:
    """Return whether an application that answers so has done its work: every 2xx."""
    return 200 <= status < 300  # noqa: PLR2004 - the class of statuses
