"""`python -m customhouse.supervisor up|serve|work N`: what `customhouse up|serve|work` becomes when it runs several processes.

A fresh interpreter, since the command line's libraries would stay in memory for as long as the service runs.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from typing import Final, cast

from customhouse import __version__
from customhouse.clock import SystemClock
from customhouse.config import DEV_DEFAULTS, Settings, from_environment
from customhouse.embedded.cluster import open_cluster
from customhouse.embedded.options import Options
from customhouse.errors import CustomhouseError
from customhouse.supervisor.group import Group, Plan, default_program
from customhouse.supervisor.journal import Journal
from customhouse.supervisor.member import Command
from customhouse.supervisor.sockets import Sockets
from customhouse.supervisor.tallies import Tallies

MODULE: Final = "customhouse.supervisor"
_PROCESS: Final = "customhouse.cli.process"
_LEAST_CONNECTIONS: Final = 100
_OWN_CONNECTIONS: Final = 2
"""Of a process outside its pool: it listens for changes, and fetches jobs."""
_SPARE_CONNECTIONS: Final = 40
_DRAIN_MARGIN: Final = 60.0
"""Seconds to end beyond the longest attempt: requests under way, results, connections."""


def run(command: Command, processes: int) -> int:
    """Run a group until it ends; return the exit code.

    Raises:
        SettingsError, DatabaseUnavailable: it cannot start; the text says what to do.
    """
    settings = from_environment(DEV_DEFAULTS if command == "up" else None)
    terminal = os.isatty(0) or os.isatty(1)
    with ExitStack() as stack:
        # Until the group listens to signals, they are an end in order: what was begun is taken back.
        signal.signal(signal.SIGTERM, _leave)
        if settings.database_url is None:
            needed = processes * (settings.database_pool_size + _OWN_CONNECTIONS) + _SPARE_CONNECTIONS
            cluster = open_cluster(settings.data_dir / "postgres", Options(max_connections=max(_LEAST_CONNECTIONS, needed)))
            stack.callback(cluster.stop)
        api = Sockets(settings.listen, processes) if command != "work" else None
        if api is not None:
            stack.callback(api.close)
        metrics = Sockets(settings.metrics_listen, processes) if settings.metrics_listen is not None else None
        if metrics is not None:
            stack.callback(metrics.close)
        tallies = Tallies()
        stack.callback(tallies.remove)
        clock = SystemClock()
        plan = Plan(
            command=command,
            program=default_program(sys.executable, _PROCESS),
            processes=processes,
            drain_seconds=settings.delivery_timeout + _DRAIN_MARGIN,
            reload_on_hangup=not terminal,
        )
        group = Group(plan, clock, Journal(clock, settings.log_level.value), tallies, api, metrics)
        return group.run(lambda: _greet(settings, api, processes))


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)


def _greet(settings: Settings, api: Sockets | None, processes: int) -> None:
    if sys.stdout.isatty():
        sys.stdout.write(greeting(settings, None if api is None else str(api.address), processes))
        sys.stdout.flush()


def greeting(settings: Settings, address: str | None, processes: int) -> str:
    """Return what a terminal is told when the service is up; `address` is the API's, None where there is none."""
    place = "PostgreSQL of DATABASE_URL" if settings.database_url is not None else f"embedded PostgreSQL in {settings.data_dir}"
    many = f", {processes} processes" if processes > 1 else ""
    where = f"API   http://{address}   docs: http://{address}/docs" if address is not None else "It delivers, and has no API."
    return f"\nCustomhouse {__version__} is up ({settings.environment}, {place}{many})\n{where}\n\n"


def main(arguments: list[str]) -> int:
    """Be the program; whatever goes wrong is one line on standard error."""
    command, count = arguments
    try:
        return run(cast("Command", command), int(count))
    except CustomhouseError as error:
        sys.stderr.write(f"customhouse: {error.detail}\n")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
