"""Reading request bodies: bounded, in time, JSON and nothing else, and the same strict JSON on every route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request

from customhouse.canonical import parse_object
from customhouse.errors import MalformedJson, TooLarge, UnsupportedMediaType
from customhouse.types import JsonObject
from customhouse.web.calls import Call, call_of

Receive = Callable[[], Awaitable[Any]]
MANAGEMENT_CAP: Final = 256 * 1024
"""Bytes of a body on every route but the publishing ones."""
_JSON: Final = b"application/json"
_LONGEST_LENGTH: Final = 19


async def read_body(call: Call, receive: Receive, cap: int) -> bytes:
    """Read the whole body.

    Args:
        call: the request.
        receive: ASGI.
        cap: bytes, at most; neither a wrong Content-Length nor chunks get around it.

    Raises:
        UnsupportedMediaType: it is not declared to be plain JSON.
        TooLarge: it is longer than the cap.
        ClientDisconnect: nobody is there to be answered, or it took too long (`web.protocol`).
    """
    content_type = call.header(b"content-type")
    if content_type != _JSON:
        _check_type(content_type)
    if b"content-encoding" in call.headers:
        raise UnsupportedMediaType
    declared = call.headers.get(b"content-length")
    if declared is not None and (len(declared) > _LONGEST_LENGTH or not declared.isdigit() or int(declared) > cap):
        raise _too_large(cap)
    body = await _collect(receive, cap)
    call.request_bytes = len(body)
    return body


async def _collect(receive: Receive, cap: int) -> bytes:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    body: bytes = message.get("body", b"")
    if len(body) > cap:
        raise _too_large(cap)
    if not message.get("more_body", False):
        return body
    parts = [body]
    size = len(body)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > cap:
            raise _too_large(cap)
        parts.append(part)
    return b"".join(parts)


def _too_large(cap: int) -> TooLarge:
    return TooLarge(f"The body is larger than {cap} bytes.")


def _check_type(value: bytes | None) -> None:
    """Accept `application/json`, with `charset=utf-8` at most (RFC 8259 §8.1 knows no other)."""
    media_type, *parameters = (value or b"").lower().split(b";")
    if media_type.strip() != _JSON or any(parameter.strip() not in {b"", b"charset=utf-8", b'charset="utf-8"'} for parameter in parameters):
        raise UnsupportedMediaType


class StrictRequest(Request):
    """A request whose body was read by `load`: FastAPI gets the strictly parsed value, whatever it asks for."""

    async def load(self, cap: int = MANAGEMENT_CAP) -> None:
        """Read and parse the body.

        Raises:
            MalformedJson, Invalid: it is not strict JSON, or no object.
            UnsupportedMediaType, TooLarge, ClientDisconnect: as `read_body` does.
        """
        raw = await read_body(call_of(self.scope), self.receive, cap)
        if not raw:
            raise MalformedJson("The request has no body.")
        self._parsed: JsonObject = parse_object(raw)
        self._body = raw

    async def json(self) -> Any:
        """Return the parsed value."""
        return self._parsed
