"""Listening: uvicorn in this process, on sockets that we open, until a signal or the caller ends it."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Final, cast

import uvicorn

from customhouse.app import App, migrate_store, open_store
from customhouse.config import Address, Networks, Settings
from customhouse.errors import SettingsError
from customhouse.logs import get, watch
from customhouse.types import Secret
from customhouse.web.asgi import create
from customhouse.web.exposition import exposition
from customhouse.web.middleware import Asgi, Door
from customhouse.web.protocol import BoundedProtocol

_log: Final = get("customhouse.web.server")
_BACKLOG: Final = 2048
_IDLE_SECONDS: Final = 30
_FINISH_SECONDS: Final = 20
"""Requests under way get this long when the service ends."""

OnKey = Callable[[Secret], None]
OnReady = Callable[[Address], None]


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: `serve` has its own, for all listeners together."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def listening(application: Asgi, address: Address, *, trusted_proxies: Networks = ()) -> AsyncIterator[Address]:
    """Listen for the length of a block; yields the address with its real port. At the end, requests under way may finish.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    bound = _bind(address)
    host, port = bound.getsockname()[:2]
    protocol = partial(BoundedProtocol, express=application.express) if isinstance(application, Door) else BoundedProtocol
    server = _Server(
        uvicorn.Config(
            application,
            loop="none",
            http=cast("type[asyncio.Protocol]", protocol),
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=True,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=[str(network) for network in trusted_proxies],
            backlog=_BACKLOG,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_FINISH_SECONDS,
        )
    )
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[bound]), name="listener")
    try:
        while not server.started:
            if task.done():
                await task
                raise SettingsError(f"Cannot listen on {address}.")
            await asyncio.sleep(0.005)
        yield Address(host, port)
    finally:
        server.should_exit = True
        await task


async def serve(settings: Settings, *, on_key: OnKey, on_ready: OnReady | None = None) -> None:
    """Run the whole service until SIGINT or SIGTERM: database, parts, listeners, in this order; and back in the other.

    Args:
        settings: all of them.
        on_key: told the first platform key, if one was just made; at once, because it cannot be shown again if the rest fails.
        on_ready: told where the API listens.

    Raises:
        SettingsError, DatabaseUnavailable, KeyServiceUnavailable: it cannot start; the text says what to do.
    """
    loop = asyncio.get_running_loop()
    watch(loop)
    async with AsyncExitStack() as stack:
        store = await asyncio.to_thread(open_store, settings)
        stack.callback(store.close)
        if store.cluster is not None:
            await migrate_store(store, settings)
        app = await App.open(settings, store)
        stack.push_async_callback(app.stop)
        token = await app.start()
        if token is not None:
            on_key(token)
        if settings.metrics_listen is not None:
            await stack.enter_async_context(listening(exposition(app), settings.metrics_listen))
        address = await stack.enter_async_context(listening(create(app), settings.listen, trusted_proxies=settings.trusted_proxies))
        _log.info("listening", port=address.port)
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
            stack.callback(loop.remove_signal_handler, number)
        if on_ready is not None:
            on_ready(address)
        await ended.wait()
        _log.info("ending")


def _bind(address: Address) -> socket.socket:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SettingsError(f"Cannot listen on {address}: {error.strerror}.") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
        bound.setblocking(False)  # noqa: FBT003 - as the socket module has it
    except OSError as error:
        bound.close()
        raise SettingsError(f"Cannot listen on {address}: {error.strerror}.") from error
    return bound
