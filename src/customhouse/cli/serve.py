"""`up` and `serve`: the whole service in this process, until SIGINT or SIGTERM."""

from __future__ import annotations

import sys

import uvloop

from customhouse import __version__, logs
from customhouse.cli.platform_key import hand_over
from customhouse.cli.surroundings import aside, settings
from customhouse.config import Address, Settings
from customhouse.errors import SettingsError
from customhouse.types import Secret
from customhouse.web.server import serve


def up() -> None:
    """Run everything on this machine, with the settings of a developer.

    API, worker and PostgreSQL (embedded, unless DATABASE_URL is set); the root key is a file in DATA_DIR. Ctrl-C ends it.
    """
    _run(settings(dev=True))


def serve_command() -> None:
    """Run the service: API, worker and, without DATABASE_URL, its own PostgreSQL.

    Settings come from the environment; `customhouse doctor` tells whether they are in order. SIGTERM ends it, after requests and
    deliveries under way.
    """
    try:
        chosen = settings(dev=False)
    except SettingsError as error:
        raise SettingsError(f"{error.detail}\nOn a developer's machine, `customhouse up` needs none of them.") from None
    _run(chosen)


def _run(chosen: Settings) -> None:
    logs.configure(chosen.log_level.value)

    def on_key(token: Secret) -> None:
        path = hand_over(token, chosen.data_dir, sys.stdout)
        if path is not None:
            aside(f"customhouse: the first platform API key is in {path}")

    def on_ready(address: Address) -> None:
        if sys.stdout.isatty():
            sys.stdout.write(_greeting(chosen, address))
            sys.stdout.flush()

    uvloop.run(serve(chosen, on_key=on_key, on_ready=on_ready))


def _greeting(chosen: Settings, address: Address) -> str:
    place = "PostgreSQL of DATABASE_URL" if chosen.database_url is not None else f"embedded PostgreSQL in {chosen.data_dir}"
    return f"\nCustomhouse {__version__} is up ({chosen.environment}, {place})\nAPI   http://{address}   docs: http://{address}/docs\n\n"
