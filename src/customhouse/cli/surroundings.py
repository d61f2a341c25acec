"""What commands have in common: settings, logs out of the way of the data, and an app that is opened but does no work."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from customhouse import config, logs
from customhouse.app import App, migrate_store, open_store
from customhouse.cli.options import AsJson, Dev, aside, say_json
from customhouse.types import PLATFORM

__all__ = ["AsJson", "Dev", "aside", "opened", "quiet_logs", "say_json", "settings"]


def settings(*, dev: bool) -> config.Settings:
    """Read the settings of this process.

    Raises:
        SettingsError: at least one is not in order; the text names them all.
    """
    return config.from_environment(config.DEV_DEFAULTS if dev else None)


def quiet_logs() -> None:
    """Leave standard output to the command's data; only warnings are logged, to standard error."""
    logs.configure("warning", stream=sys.stderr)


@asynccontextmanager
async def opened(chosen: config.Settings) -> AsyncIterator[App]:
    """Open the service's parts without their background work, beside a running service or alone.

    Raises:
        SettingsError, DatabaseUnavailable, KeyServiceUnavailable: it cannot be done; the text says what to do.
    """
    logs.watch(asyncio.get_running_loop())
    store = await asyncio.to_thread(open_store, chosen)
    try:
        if store.cluster is not None:
            await migrate_store(store, chosen)
        app = await App.open(chosen, store)
        try:
            # API keys are hashed under the operator's key; on a new database it is not there yet.
            await app.vault.create_tenant_key(PLATFORM)
            yield app
        finally:
            await app.stop()
    finally:
        await asyncio.to_thread(store.close)
