"""HTTP clients, each pinned to one vetted address, and a bounded number of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import BuilderError

from customhouse import __version__
from customhouse.egress.identities import Identity
from customhouse.egress.targets import Target
from customhouse.errors import Fault, Invalid, SettingsError

_Key: TypeAlias = tuple[str, str, int, str, Identity | None]
IDLE_CONNECTION: Final = timedelta(seconds=30)
IDLE_CONNECTIONS_PER_CLIENT: Final = 256
"""As many as attempts go to one host at a time: with fewer, a busy host's connections are opened and closed for every other request."""


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """What clients have in common.

    Attributes:
        https_required: The client itself refuses plain http too.
        connect_timeout: Seconds for TCP and TLS.
        total_timeout: Seconds from connecting to the end of the response's body.
        roots: Certificate authorities (PEM) trusted besides the system's own.
    """

    https_required: bool
    connect_timeout: float = 5.0
    total_timeout: float = 15.0
    roots: tuple[bytes, ...] = ()


_UNUSABLE: Final = Fault("/client_certificate", "is none that the HTTP client can use")
IDENTITY_LIFE: Final = 300.0
"""Seconds after which a client with a certificate is let go and made anew when needed: a private key does not outlive its connection
in memory for longer."""


def build_client(options: ClientOptions, host: str, address: str, port: int, identity: Identity | None = None) -> Client:
    """Build a client that reaches `host` at `address` and `port`, by itself follows nothing and adds nothing.

    Building reads the system's certificate store (about 4 ms, 140 kB); hence one client for many requests.

    Args:
        options: What clients have in common.
        host: As in the URL. The pin compares names exactly, so both must come from one `Target`.
        address: Vetted, without brackets.
        port: Where the address listens.
        identity: What a receiver that asks for a client certificate is shown.

    Raises:
        SettingsError: The machine has no certificate authorities, or a root is not PEM.
        Invalid: The identity is none that the client can use.
    """
    builder = (
        ClientBuilder()
        .resolve(host.strip("[]"), address, port)
        .no_proxy()
        .follow_redirects(enable=False)
        .referer(enable=False)
        .default_cookie_store(enable=False)
        .gzip(enable=False)
        .brotli(enable=False)
        .zstd(enable=False)
        .deflate(enable=False)
        .http1_only()
        .https_only(enable=options.https_required)
        .user_agent(f"Customhouse/{__version__}")
        .connect_timeout(timedelta(seconds=options.connect_timeout))
        .timeout(timedelta(seconds=options.total_timeout))
        .pool_idle_timeout(IDLE_CONNECTION)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_CLIENT)
    )
    if identity is not None:
        try:
            return _with_roots(builder.identity_pem(identity.pem.reveal()), options).build()
        except (ValueError, BuilderError):
            # Without an identity the same options were good at the start. Not chained: what is said about a key stays here.
            raise Invalid("The client certificate cannot be used.", (_UNUSABLE,)) from None
    try:
        return _with_roots(builder, options).build()
    except BuilderError as error:
        raise SettingsError(
            "No HTTP client could be made: install the system's certificate authorities (package ca-certificates) "
            "and check the additional roots."
        ) from error


def _with_roots(builder: ClientBuilder, options: ClientOptions) -> ClientBuilder:
    for root in options.roots:
        builder = builder.add_root_certificate_pem(root)
    return builder


def check_identity(identity: Identity) -> None:
    """Let the HTTP client itself judge an identity.

    Raises:
        Invalid: it is none that it can use.
    """
    build_client(ClientOptions(https_required=True), "start.invalid", "192.0.2.1", 443, identity)


class ClientPool:
    """The clients in use, at most `capacity`; the one unused for longest makes room."""

    def __init__(self, options: ClientOptions, capacity: int) -> None:
        """Take the options of all clients and their number.

        Raises:
            SettingsError: As `build_client`: better at the start than at the first delivery.
        """
        self._options = options
        self._capacity = capacity
        self._clients: OrderedDict[_Key, Client] = OrderedDict()
        self._ends: dict[_Key, asyncio.TimerHandle] = {}
        build_client(options, "start.invalid", "192.0.2.1", 1)

    def get(self, target: Target, address: str) -> Client:
        """Return the client for a target at its vetted address, made on first use.

        Raises:
            Invalid: The target's identity is none that the client can use.
        """
        identity = target.identity
        key = (target.scheme, target.host, target.port, address, identity)
        client = self._clients.get(key)
        if client is not None:
            self._clients.move_to_end(key)
            return client
        client = build_client(self._options, target.host, address, target.port, identity)
        self._clients[key] = client
        if identity is not None:
            self._ends[key] = asyncio.get_running_loop().call_later(IDENTITY_LIFE, self._drop, key)
        if len(self._clients) > self._capacity:
            self._drop(next(iter(self._clients)))
        return client

    def _drop(self, key: _Key) -> None:
        # Not closed but let go: its requests under way end as they would, then its connections are dropped with it.
        del self._clients[key]
        end = self._ends.pop(key, None)
        if end is not None:
            end.cancel()

    def __len__(self) -> int:
        return len(self._clients)

    async def aclose(self) -> None:
        """Close every client; requests under way end as `closed`."""
        clients = list(self._clients.values())
        self._clients.clear()
        for end in self._ends.values():
            end.cancel()
        self._ends.clear()
        await asyncio.gather(*(client.close() for client in clients))
