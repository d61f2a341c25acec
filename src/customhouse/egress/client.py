"""The egress: one bounded POST to a vetted address."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from pyreqwest.client import Client
from pyreqwest.exceptions import BuilderError, PyreqwestError
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response

from customhouse.clock import Clock
from customhouse.egress.addresses import Allow
from customhouse.egress.clients import ClientOptions, ClientPool
from customhouse.egress.outcomes import Failure, Outcome, classify
from customhouse.egress.resolver import Lookup, ResolutionError, Resolver
from customhouse.egress.retry_after import parse_retry_after
from customhouse.egress.targets import Target
from customhouse.errors import EgressRefused, Invalid

FORBIDDEN_HEADERS: Final = frozenset(
    (
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "referer",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "via",
    )
)
"""Headers (lower case) that nobody may set: hop-by-hop ones (RFC 9110 §7.6.1), framing, routing, and what is ours to say."""

_MOST_NAMES: Final = 1_000


class Egress:
    """The only way out. For one event loop; every guard is always on."""

    def __init__(
        self,
        *,
        allow: Allow,
        https_required: bool,
        clock: Clock,
        connect_timeout: float = 5.0,
        total_timeout: float = 15.0,
        response_cap: int = 64 * 1024,
        max_clients: int = 512,
        roots: tuple[bytes, ...] = (),
        lookup: Lookup | None = None,
    ) -> None:
        """Take the rules.

        Args:
            allow: Networks that may be dialled although private. Empty: none.
            https_required: Plain http is an outcome (`https_required`), nothing is dialled.
            clock: Tells the time for durations, cache ends and `Retry-After` dates.
            connect_timeout: Seconds for TCP and TLS; name resolution has as many of its own.
            total_timeout: Seconds for the whole POST: resolution, connection, request, response and its body.
            response_cap: Bytes of a response's body that are read before the connection is cut.
            max_clients: HTTP clients (one per scheme, host, port, address and identity) that are kept; each holds about 140 kB.
            roots: Certificate authorities (PEM) trusted besides the system's.
            lookup: How names are looked up. Default: the system's resolver.

        Raises:
            SettingsError: The machine has no certificate authorities, or a root is not PEM.
        """
        options = ClientOptions(https_required, connect_timeout, total_timeout, roots)
        self._https_required = https_required
        self._clock = clock
        self._total_timeout = total_timeout
        self._response_cap = response_cap
        self._resolver = Resolver(allow=allow, clock=clock, lookup=lookup, timeout=connect_timeout)
        self._pool = ClientPool(options, max_clients)
        self._closed = False
        self._known_names: set[tuple[str, ...]] = set()

    async def post(self, target: Target, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Send one POST and say what came of it. Redirects are not followed: a 3xx is an outcome like any other.

        The body goes to the socket as it is given. Of the response only what `Outcome` lists is kept. A cancelled call returns at
        once; a request that was already on its way may still reach the receiver until the total time-out.

        Args:
            target: Where to, from `parse_target`.
            headers: Names and values; names differ in more than case, and none is in `FORBIDDEN_HEADERS`.
            body: The bytes, as signed.

        Raises:
            Invalid: A header may not be set or is malformed. Whatever the network does is an outcome and raises nothing.
        """
        started = self._clock.monotonic()
        _check(headers, self._known_names)
        if self._https_required and target.scheme != "https":
            return self._failed("https_required", started)
        address = self._resolver.known(target.host)
        remaining: float | None = None
        if address is None:
            try:
                address = await self._resolver.resolve(target.host)
            except EgressRefused:
                return self._failed("address_refused", started)
            except ResolutionError:
                return self._failed("closed" if self._closed else "dns_failed", started)
            remaining = self._total_timeout - (self._clock.monotonic() - started)
            if remaining <= 0:
                return self._failed("timeout", started)
        if self._closed:
            return self._failed("closed", started)
        try:
            client = self._pool.get(target, address)
        except Invalid:
            return self._failed("tls_failed", started)
        request = self._request(client, target, headers, body, remaining)
        return await self._send(request, target, address, started)

    async def aclose(self) -> None:
        """Close every connection. Posts under way and later ones end as `closed`."""
        self._closed = True
        await self._resolver.aclose()
        await self._pool.aclose()

    async def _send(self, request: StreamRequest, target: Target, address: str, started: float) -> Outcome:
        status: int | None = None
        failure: Failure | None = None
        retry_after: int | None = None
        size = 0
        try:
            async with request as response:
                status = response.status
                retry_after = self._retry_after(response)
                reader = response.body_reader
                while (chunk := await reader.read_chunk()) is not None:
                    size += len(chunk)
                    if size > self._response_cap:
                        failure = "response_too_large"
                        break
        except PyreqwestError as error:
            failure = classify(error, https=target.scheme == "https")
            if failure in {"connect_failed", "connect_timeout"}:
                self._resolver.turn(target.host, address)
        return Outcome(status, failure, self._since(started), size, retry_after)

    def _request(self, client: Client, target: Target, headers: Mapping[str, str], body: bytes, remaining: float | None) -> StreamRequest:
        try:
            # Nothing is buffered ahead: otherwise the client waits for the body, and a dripped one hides the status.
            builder = client.post(target.url).headers(headers).body_bytes(body).streamed_read_buffer_limit(0)
            if not body:
                builder = builder.header("content-length", "0")  # RFC 9110 §8.6; the client says nothing by itself
            if remaining is not None:
                builder = builder.timeout(timedelta(seconds=remaining))
            return builder.build_streamed()
        except (ValueError, BuilderError):
            # Not chained: the client's message repeats the header's value, which may be a secret.
            raise Invalid("A header's name or value holds characters that HTTP does not allow.") from None

    def _retry_after(self, response: Response) -> int | None:
        try:
            value = response.get_header("retry-after")
        except ValueError:  # not ASCII
            return None
        return None if value is None else parse_retry_after(value, self._clock.now())

    def _failed(self, failure: Failure, started: float) -> Outcome:
        return Outcome(None, failure, self._since(started), 0, None)

    def _since(self, started: float) -> int:
        return max(0, round((self._clock.monotonic() - started) * 1000))


def _check(headers: Mapping[str, str], known: set[tuple[str, ...]] | None = None) -> None:
    names = tuple(headers)
    # The headers of a connection have the same names each time.
    if known is None or names not in known:
        _check_names(names)
        if known is not None:
            if len(known) >= _MOST_NAMES:
                known.clear()
            known.add(names)
    if not "".join(headers.values()).isascii():
        raise Invalid("A header's value holds characters outside ASCII.")


def _check_names(names: tuple[str, ...]) -> None:
    lowered = {name.lower() for name in names}
    if len(lowered) != len(names):
        raise Invalid("A header is given twice.")
    if not lowered.isdisjoint(FORBIDDEN_HEADERS):
        raise Invalid(
            "A header is given that may not be set: Host, Content-Length, hop-by-hop and framing headers are not yours to choose."
        )
