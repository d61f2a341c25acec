"""Calls whose answers are passed on: to providers, for the proxy. Bounded in time and size both ways; no redirect is followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_network
from typing import Final

from pyreqwest.exceptions import BuilderError, PyreqwestError
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response

from customhouse.clock import Clock
from customhouse.egress.addresses import Allow
from customhouse.egress.clients import ClientOptions, ClientPool
from customhouse.egress.outcomes import Failure, classify
from customhouse.egress.resolver import Lookup, ResolutionError, Resolver
from customhouse.egress.retry_after import parse_retry_after
from customhouse.egress.targets import Target, parse_target
from customhouse.errors import EgressRefused, Invalid

_EVERYWHERE: Final[Allow] = (ip_network("0.0.0.0/0"), ip_network("::/0"))
"""For origins that the operator named exactly. Metadata services stay closed: they need a network of one address."""
_LONGEST_VALUE: Final = 2048
PASSED_BACK: Final = frozenset(
    (
        *("accept-ranges", "content-disposition", "content-encoding", "content-language", "content-range", "content-type"),
        *("etag", "last-modified", "link", "retry-after"),
        *("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
    )
)
"""Headers of an answer that are passed on; no cookie, no redirect, nothing that speaks to a browser."""


class Broken(Exception):
    """An answer that had begun did not end well."""

    def __init__(self, failure: Failure) -> None:
        """Take why."""
        super().__init__(failure)
        self.failure = failure


@dataclass(slots=True)
class Answer:
    """What came of a call; `repr` shows nothing of its body.

    Attributes:
        status: None: no complete head arrived.
        error: why not.
        headers: those of `PASSED_BACK`, names in lower case.
        length: of the body, where the answer says so.
        retry_after: seconds that the provider asks to wait.
    """

    status: int | None
    error: Failure | None = None
    headers: tuple[tuple[str, str], ...] = ()
    length: int | None = None
    retry_after: int | None = None
    _response: Response | None = field(default=None, repr=False)
    _ahead: bytes = field(default=b"", repr=False)
    _cap: int = 0
    _https: bool = True
    _broken: Failure | None = None

    async def head(self, most: int) -> bytes | None:
        """Return the whole body where it has at most so many bytes; it is passed on all the same. None: it is longer.

        Raises:
            Broken: it ended too early.
        """
        while len(self._ahead) <= most:
            piece = await self._read()
            if piece is None:
                return self._ahead
            self._ahead += piece
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Return the body, piece by piece.

        Raises:
            Broken: it ended too early, or is longer than what passes.
        """
        size = len(self._ahead)
        if self._ahead:
            yield self._ahead
        while (piece := await self._read()) is not None:
            size += len(piece)
            if size > self._cap:
                raise Broken("response_too_large")
            yield piece

    async def _read(self) -> bytes | None:
        if self._broken is not None:
            # Read on, a body that broke off would look like one that ended.
            raise Broken(self._broken)
        if self._response is None:
            return None
        try:
            piece = await self._response.body_reader.read_chunk()
        except PyreqwestError as error:
            self._broken = classify(error, https=self._https)
            raise Broken(self._broken) from None
        return None if piece is None else bytes(piece)


class Relay:
    """The way through to providers. For one event loop; every guard is always on."""

    def __init__(
        self,
        *,
        https_required: bool,
        clock: Clock,
        connect_timeout: float = 5.0,
        total_timeout: float = 60.0,
        response_cap: int = 32 * 1024 * 1024,
        max_clients: int = 64,
        roots: tuple[bytes, ...] = (),
        lookup: Lookup | None = None,
    ) -> None:
        """Take the rules, as `Fetcher` does.

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

    @asynccontextmanager
    async def call(self, method: str, url: str, headers: Mapping[str, str], body: bytes, *, trusted: bool) -> AsyncIterator[Answer]:
        """Make one call, and give its answer for the length of a block; leaving it early cuts the connection.

        Args:
            method: as the manifest's rules know it.
            url: absolute, without a fragment; it is sent as it is, or not at all.
            headers: names in lower case, each once.
            body: the bytes.
            trusted: the operator named this exact origin: it may be private. Else only public addresses are dialled.

        Raises:
            Invalid: a header holds what HTTP does not allow.
        """
        resolver = self._named if trusted else self._public
        try:
            target = _target(url, https_required=self._https_required)
            async with asyncio.timeout(self._total_timeout):
                address = await resolver.resolve(target.host)
        except (EgressRefused, Invalid):
            yield Answer(None, "address_refused")
            return
        except TimeoutError:
            yield Answer(None, "timeout")
            return
        except ResolutionError:
            yield Answer(None, "closed" if self._closed else "dns_failed")
            return
        if self._closed:
            yield Answer(None, "closed")
            return
        request = self._request(target, address, method, headers, body)
        https = target.scheme == "https"
        begun = False
        try:
            async with request as response:
                begun = True
                yield self._answer(response, https=https)
        except PyreqwestError as error:
            if begun:
                raise Broken(classify(error, https=https)) from None
            failure = classify(error, https=https)
            if failure in {"connect_failed", "connect_timeout"}:
                resolver.turn(target.host, address)
            yield Answer(None, failure)

    async def aclose(self) -> None:
        """Close every connection. Calls under way and later ones end as `closed`."""
        self._closed = True
        await self._public.aclose()
        await self._named.aclose()
        await self._pool.aclose()

    def _answer(self, response: Response, *, https: bool) -> Answer:
        found = [(name, value) for name in sorted(PASSED_BACK) if (value := _header(response, name)) is not None]
        length = _header(response, "content-length")
        wait = _header(response, "retry-after")
        return Answer(
            response.status,
            None,
            tuple(found),
            int(length) if length is not None and length.isdecimal() and len(length) < 16 else None,  # noqa: PLR2004 - a petabyte
            None if wait is None else parse_retry_after(wait, self._clock.now()),
            response,
            _cap=self._response_cap,
            _https=https,
        )

    def _request(self, target: Target, address: str, method: str, headers: Mapping[str, str], body: bytes) -> StreamRequest:
        try:
            builder = self._pool.get(target, address).request(method, target.url)
            builder = builder.headers(dict(headers)).timeout(timedelta(seconds=self._total_timeout)).streamed_read_buffer_limit(0)
            if body:
                builder = builder.body_bytes(body)
            elif method not in {"GET", "HEAD", "DELETE"}:
                builder = builder.header("content-length", "0")  # RFC 9110 §8.6
            return builder.build_streamed()
        except (ValueError, BuilderError):
            # Not chained: the client's message repeats the header's value, which is a credential.
            raise Invalid("The call could not be made: a header holds characters that HTTP does not allow.") from None


def _target(url: str, *, https_required: bool) -> Target:
    target = parse_target(url, https_required=https_required)
    if target.url != url:
        # What was checked is what is sent, or nothing is.
        raise Invalid
    return target


def _header(response: Response, name: str) -> str | None:
    try:
        value = response.get_header(name)
    except ValueError:  # not ASCII
        return None
    return value if value is None or len(value) <= _LONGEST_VALUE else None
