"""One process of the service, from its settings to its end: alone, or as a member of a group (`python -m customhouse.cli.process`)."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final

import uvloop

from customhouse import logs
from customhouse.app import App, migrate_store, open_store
from customhouse.cli.complaint import complain, explain, surprise
from customhouse.cli.platform_key import hand_over
from customhouse.config import DEV_DEFAULTS, Address, Settings, from_environment
from customhouse.errors import CustomhouseError
from customhouse.supervisor.group import READY
from customhouse.supervisor.member import Member, member_of
from customhouse.supervisor.tallies import remove
from customhouse.types import Secret

_log: Final = logs.get("customhouse.cli.process")
_COLLECT: Final = (10_000, 20, 50)
"""Objects that are new, and rounds of the younger generations, before the collector looks at a generation."""

OnKey = Callable[[Secret], None]
OnReady = Callable[[Address | None], None]


async def live(settings: Settings, member: Member, *, on_key: OnKey, on_ready: OnReady) -> None:
    """Run until SIGINT or SIGTERM: database, parts, listeners, in this order; and back in the other.

    Args:
        settings: all of them.
        member: what this process does.
        on_key: told the first platform key, if one was just made; at once, because it cannot be shown again if the rest fails.
        on_ready: told where the API listens; None where there is none.

    Raises:
        SettingsError, DatabaseUnavailable, KeyServiceUnavailable: it cannot start; the text says what to do.
    """
    loop = asyncio.get_running_loop()
    logs.watch(loop)
    has_api = member.command != "work"
    async with AsyncExitStack() as stack:
        # The last to be undone: a second SIGTERM, as a group gets from its parent and from whoever ends them all, must not cut off
        # what ends in order.
        stack.callback(loop.remove_signal_handler, signal.SIGTERM)
        store = await asyncio.to_thread(open_store, settings)
        stack.callback(store.close)
        if store.cluster is not None:
            await migrate_store(store, settings)
        app = await App.open(settings, store, member=member)
        stack.push_async_callback(app.stop)
        token = await app.start(first_key=has_api)
        if token is not None:
            on_key(token)
        address = await _listen(stack, app, member, has_api=has_api)
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
        stack.callback(loop.remove_signal_handler, signal.SIGINT)
        spare_the_collector()
        on_ready(address)
        await ended.wait()
        _log.info("ending")


async def _listen(stack: AsyncExitStack, app: App, member: Member, *, has_api: bool) -> Address | None:
    """Open the listeners for as long as the stack lasts."""
    settings = app.settings
    if not has_api and settings.metrics_listen is None:
        _log.info("working")
        return None
    # Half of the memory of a process that only delivers.
    from customhouse.web.exposition import exposition  # noqa: PLC0415
    from customhouse.web.server import listening  # noqa: PLC0415

    if settings.metrics_listen is not None:
        at = _inherited(member.metrics) or settings.metrics_listen
        place = await stack.enter_async_context(listening(exposition(app), at))
        if not has_api:
            _log.info("working", port=place.port)
    if not has_api:
        return None
    from customhouse.web.asgi import create  # noqa: PLC0415

    listener = listening(create(app), _inherited(member.api) or settings.listen, trusted_proxies=settings.trusted_proxies)
    address = await stack.enter_async_context(listener)
    _log.info("listening", port=address.port)
    return address


def _inherited(descriptor: int | None) -> socket.socket | None:
    return None if descriptor is None else socket.socket(fileno=descriptor)


def spare_the_collector() -> None:
    """Keep the garbage collector from what lives as long as the process, and from looking every few events.

    Nearly everything that an event leaves behind is freed by its reference count; looking for cycles took a tenth of the CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)


def hand_over_key(settings: Settings, token: Secret) -> None:
    """Show the first platform key, or write it and say where."""
    path = hand_over(token, settings.data_dir, sys.stdout)
    if path is not None:
        sys.stderr.write(f"customhouse: the first platform API key is in {path}\n")


def run(settings: Settings, member: Member, on_ready: OnReady) -> None:
    """Be the process, to its end; raises what `live` raises."""
    logs.configure(settings.log_level.value)
    uvloop.run(live(settings, member, on_key=lambda token: hand_over_key(settings, token), on_ready=on_ready))


class _Tie:
    """The tie to the parent: it hears that this process is ready, and when it is gone, however that came, this process ends in order."""

    def __init__(self, descriptor: int) -> None:
        self._channel = socket.socket(fileno=descriptor)
        self.torn = False
        threading.Thread(target=self._follow, name="tie", daemon=True).start()

    def ready(self) -> None:
        self._channel.send(READY)

    def _follow(self) -> None:
        # A parent that was killed may leave a reset instead of an end.
        with suppress(OSError):
            while self._channel.recv(64):
                pass
        self.torn = True
        os.kill(os.getpid(), signal.SIGTERM)


def main(argument: str) -> int:
    """Be a member of a group; return the exit code."""
    member = member_of(argument)
    tie = None if member.channel is None else _Tie(member.channel)
    try:
        settings = from_environment(DEV_DEFAULTS if member.command == "up" else None)
        run(settings, member, lambda _address: None if tie is None else tie.ready())
    except CustomhouseError as error:
        complain(explain(error))
        return 1
    except Exception as error:  # noqa: BLE001 - the last place where a surprise can become a line
        complain(surprise(error))
        return 1
    finally:
        if tie is not None and tie.torn and member.tallies is not None:
            remove(Path(member.tallies))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
