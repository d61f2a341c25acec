"""Listening: uvicorn in this process, on sockets that we open or inherit, until the caller ends it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final, cast

import uvicorn

from customhouse.config import Address, Networks
from customhouse.errors import SettingsError
from customhouse.supervisor.sockets import bind
from customhouse.web.middleware import Asgi, Door
from customhouse.web.protocol import BoundedProtocol

_BACKLOG: Final = 2048
_IDLE_SECONDS: Final = 30
_FINISH_SECONDS: Final = 20
"""Requests under way get this long when the service ends."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: `serve` has its own, for all listeners together."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def listening(application: Asgi, at: Address | socket.socket, *, trusted_proxies: Networks = ()) -> AsyncIterator[Address]:
    """Listen for the length of a block; yields the address with its real port. At the end, requests under way may finish.

    Args:
        application: what answers.
        at: an address, or a socket that is bound to one; it is closed at the end.
        trusted_proxies: networks whose `X-Forwarded-…` headers are believed.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    bound = bind(at) if isinstance(at, Address) else at
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
                raise SettingsError(f"Cannot listen on {Address(host, port)}.")
            await asyncio.sleep(0.005)
        yield Address(host, port)
    finally:
        server.should_exit = True
        await task
