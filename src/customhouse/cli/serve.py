"""`up`, `serve` and `work`: in this process, or in several under a parent, until SIGINT or SIGTERM."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from customhouse.config import DEV_DEFAULTS, Address, Settings, from_environment
from customhouse.errors import SettingsError
from customhouse.supervisor.__main__ import MODULE, greeting
from customhouse.supervisor.cores import default_processes
from customhouse.supervisor.group import default_program
from customhouse.supervisor.member import Command, Member

Processes = Annotated[
    int | None,
    typer.Option(
        "--processes",
        min=1,
        max=64,
        show_default=False,
        help="How many processes (CUSTOMHOUSE_PROCESSES). Unset: one per core, at most 4; `up`: 1.",
    ),
]


def up(processes: Processes = None) -> None:
    """Run everything on this machine, with the settings of a developer.

    API, worker and PostgreSQL (embedded, unless DATABASE_URL is set); the root key is a file in DATA_DIR. Ctrl-C ends it.
    """
    settings = from_environment(DEV_DEFAULTS)
    _run("up", settings, processes or settings.processes or 1)


def serve_command(processes: Processes = None) -> None:
    """Run the service: API, worker and, without DATABASE_URL, its own PostgreSQL.

    Settings come from the environment; `customhouse doctor` tells whether they are in order. SIGTERM ends it, after requests and
    deliveries under way. Of several processes, one that dies is replaced; SIGHUP replaces them one after the other.
    """
    settings = _settings()
    _run("serve", settings, processes or settings.processes or default_processes())


def work(processes: Processes = None) -> None:
    """Deliver and run jobs, without an API: more hands for the same database.

    Where METRICS_LISTEN is set, /metrics, /healthz and /readyz answer there. SIGTERM ends it, after deliveries under way.
    """
    settings = _settings()
    _run("work", settings, processes or settings.processes or default_processes())


def _settings() -> Settings:
    try:
        return from_environment()
    except SettingsError as error:
        raise SettingsError(f"{error.detail}\nOn a developer's machine, `customhouse up` needs none of them.") from None


def _run(command: Command, settings: Settings, processes: int) -> None:
    if processes > 1:
        sys.stdout.flush()
        # The parent of several has no use for what this program has loaded.
        arguments = [*default_program(sys.executable, MODULE), command, str(processes)]
        os.execv(sys.executable, arguments)  # noqa: S606 - ourselves
    # A service is heavy to load, which the parent of several need not.
    from customhouse.cli.process import run  # noqa: PLC0415

    def on_ready(address: Address | None) -> None:
        if sys.stdout.isatty():
            sys.stdout.write(greeting(settings, None if address is None else str(address), processes))
            sys.stdout.flush()

    run(settings, Member(command), on_ready)
