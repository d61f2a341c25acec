"""Calls whose answers are read: to providers. Bounded in time and size, no redirect followed, only to vetted or named addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_network
from typing import Final, Literal

from pyreqwest.client import Client
from pyreqwest.exceptions import BuilderError, PyreqwestError
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response

from customhouse.clock import Clock
from customhouse.egress.addresses import Allow
from customhouse.egress.clients import ClientOptions, ClientPool
from customhouse.egress.outcomes import Failure, classify
from customhouse.egress.resolver import Lookup, ResolutionError, Resolver
from customhouse.egress.retry_after import parse_retry_after
from customhouse.egress.targets import parse_target
from customhouse.errors import EgressRefused, Invalid

_EVERYWHERE: Final[Allow] = (ip_network("0.0.0.0/0"), ip_network("::/0"))
"""For origins that the operator named exactly. Metadata services stay closed: they need a network of one address."""
_LONGEST_TYPE: Final = 200


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a call; `repr` shows nothing of the body, which may hold a token."""

    status: int | None
    """None: no complete head arrived."""
    error: Failure | None
    """With a status: the head arrived, and the body did not end well."""
    body: bytes = field(default=b"", repr=False)
    content_type: str | None = None
    retry_after: int | None = None


class Fetcher:
    """The way out to providers. For one event loop; every guard is always on."""

    def __init__(
        self,
        *,
        https_required: bool,
        clock: Clock,
        connect_timeout: float = 5.0,
        total_timeout: float = 15.0,
        response_cap: int = 64 * 1024,
        max_clients: int = 64,
        roots: tuple[bytes, ...] = (),
        lookup: Lookup | None = None,
    ) -> None:
        """Take the rules.

        Args:
            https_required: plain http is refused, whoever named the address.
            clock: tells the time for cache ends and `Retry-After` dates.
            connect_timeout: seconds for TCP and TLS.
            total_timeout: seconds for the whole call: resolution, connection, request, response and its body.
            response_cap: bytes of a response's body; one that is longer is an error.
            max_clients: HTTP clients that are kept.
            roots: certificate authorities (PEM) trusted besides the system's.
            lookup: how names are looked up. Default: the system's resolver.

        Raises:
            SettingsError: the machine has no certificate authorities, or a root is not PEM.
        """
        self._https_required = https_required
        self._clock = clock
        self._total_timeout = total_timeout
        self._response_cap = response_cap
        self._public = Resolver(allow=(), clock=clock, lookup=lookup, timeout=connect_timeout)
        self._named = Resolver(allow=_EVERYWHERE, clock=clock, lookup=lookup, timeout=connect_timeout)
        self._pool = ClientPool(ClientOptions(https_required, connect_timeout, total_timeout, roots), max_clients)
        self._closed = False

    async def fetch(self, method: Literal["GET", "POST"], url: str, headers: Mapping[str, str], body: bytes, *, trusted: bool) -> Reply:
        """Make one call and read its answer. A redirect is an answer like any other.

        Args:
            method: `GET` has no body.
            url: absolute, without a fragment.
            headers: names in lower case, each once.
            body: the bytes.
            trusted: the operator named this exact origin: it may be private. Else only public addresses are dialled.
        """
        try:
            async with asyncio.timeout(self._total_timeout):
                return await self._fetch(method, url, headers, body, self._named if trusted else self._public)
        except TimeoutError:
            return Reply(None, "timeout")

    async def aclose(self) -> None:
        """Close every connection. Calls under way and later ones end as `closed`."""
        self._closed = True
        await self._public.aclose()
        await self._named.aclose()
        await self._pool.aclose()

    async def _fetch(self, method: str, url: str, headers: Mapping[str, str], body: bytes, resolver: Resolver) -> Reply:
        try:
            target = parse_target(url, https_required=self._https_required)
            address = await resolver.resolve(target.host)
        except (EgressRefused, Invalid):
            return Reply(None, "address_refused")
        except ResolutionError:
            return Reply(None, "closed" if self._closed else "dns_failed")
        if self._closed:
            return Reply(None, "closed")
        request = self._request(self._pool.get(target, address), method, target.url, headers, body)
        status: int | None = None
        try:
            async with request as response:
                status = response.status
                content_type, retry_after = _header(response, "content-type"), _header(response, "retry-after")
                read = bytearray()
                while (chunk := await response.body_reader.read_chunk()) is not None:
                    read += bytes(chunk)
                    if len(read) > self._response_cap:
                        return Reply(status, "response_too_large")
        except PyreqwestError as error:
            failure = classify(error, https=target.scheme == "https")
            if failure in {"connect_failed", "connect_timeout"}:
                resolver.turn(target.host, address)
            return Reply(status, failure)
        wait = None if retry_after is None else parse_retry_after(retry_after, self._clock.now())
        return Reply(status, None, bytes(read), content_type, wait)

    def _request(self, client: Client, method: str, url: str, headers: Mapping[str, str], body: bytes) -> StreamRequest:
        builder = client.get(url) if method == "GET" else client.post(url)
        try:
            builder = builder.headers(dict(headers)).timeout(timedelta(seconds=self._total_timeout)).streamed_read_buffer_limit(0)
            if method == "POST":
                builder = builder.body_bytes(body) if body else builder.header("content-length", "0")
            return builder.build_streamed()
        except (ValueError, BuilderError):
            # Not chained: the client's message repeats the header's value, which is a credential.
            raise Invalid("A call to a provider could not be made: a header holds characters that HTTP does not allow.") from None


def _header(response: Response, name: str) -> str | None:
    try:
        value = response.get_header(name)
    except ValueError:  # not ASCII
        return None
    return value if value is None or len(value) <= _LONGEST_TYPE else None
