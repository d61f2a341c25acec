"""What an embedded server is told: initdb's arguments and the server's parameters. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from customhouse.errors import SettingsError

OWNER: Final = "customhouse_owner"
APP: Final = "customhouse_app"
DATABASE: Final = "customhouse"

HBA: Final = f"""\
# Written by Customhouse. Loopback TCP and scram-sha-256 only; there is no socket and no trust.
host all         {OWNER},{APP} 127.0.0.1/32 scram-sha-256
host replication {OWNER} 127.0.0.1/32 scram-sha-256
"""

# What a small service on a shared machine needs; `Options.settings` may replace these.
_DEFAULTS: Final[Mapping[str, str]] = {
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "10min",
    # `replica` costs a few bytes per record more than `minimal` and is what pg_basebackup and WAL archives need.
    "wal_level": "replica",
    "max_wal_senders": "2",
    # The wheel has pglz only, which costs more CPU than the WAL bytes that it saves are worth here.
    "wal_compression": "off",
    # Short statements: compiling them never pays.
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "idle_in_transaction_session_timeout": "60s",
}

# What the promises of the embedded server rest on: applied last, not to be replaced.
_FIXED: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "cluster_name": "customhouse",
    "TimeZone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    # The guard reads standard error and bounds the file.
    "logging_collector": "off",
    "log_destination": "stderr",
    # No statement, parameter or row value reaches the log: errors go to the client alone (`log` ranks above `error` there), and
    # `terse` drops DETAIL, in which a crash report would print the running statement.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_duration": "off",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "log_autovacuum_min_duration": "-1",
    "log_lock_waits": "off",
    "log_checkpoints": "off",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "debug_print_plan": "off",
    "debug_print_parse": "off",
    "debug_print_rewritten": "off",
}

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?", re.IGNORECASE)
# Not synchronous_commit, which would lose commits when a process is killed, as tests do.
_FSYNC_OFF: Final = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True)
class Options:
    """How to run an embedded server."""

    fsync: bool = True
    """False for tests alone: a crash of the machine then loses data."""
    disposable: bool = False
    """True for tests: the guard removes the folder after the last user, even one that was killed."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Server parameters by name, over our defaults."""
    max_connections: int = 100
    start_timeout: float = 120.0
    """Seconds until a start, crash recovery included, is given up."""
    binaries: Path | None = None
    """Another installation's `bin` folder (PostgreSQL 16 or later); None: the wheel's."""


def server_parameters(options: Options, major: int) -> list[str]:
    """Return the `-c name=value` arguments for a server of this major version.

    Raises:
        SettingsError: a parameter that is malformed or not to be replaced.
    """
    for name, value in options.settings.items():
        if not _NAME.fullmatch(name) or "\0" in value:
            raise SettingsError(f"{name!r} is no PostgreSQL parameter that can be set")
        if name.lower() in {key.lower() for key in _FIXED} | {"port", "data_directory", "hba_file", "config_file", "ident_file"}:
            raise SettingsError(
                f"the PostgreSQL parameter {name} belongs to the embedded server; set DATABASE_URL to use a server of your own"
            )
    chosen = {
        **_DEFAULTS,
        # No input/output workers: three processes fewer, and the working set is in memory.
        **({"io_method": "sync"} if major >= 18 else {}),  # noqa: PLR2004 - the major version that has it
        "max_connections": str(options.max_connections),
        **({} if options.fsync else _FSYNC_OFF),
        **options.settings,
        **_FIXED,
    }
    return [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]


def initdb_arguments(options: Options, major: int) -> list[str]:
    """Return initdb's arguments: UTF-8, byte order, checksums, and nobody let in until our own `pg_hba.conf` is there."""
    # The builtin provider (17 and later) sorts alike on every operating system, so a copied cluster keeps sound indexes.
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"] if major >= 17 else ["--locale=C"]  # noqa: PLR2004
    sync = [] if options.fsync else ["--no-sync"]
    return ["-U", OWNER, "--encoding=UTF8", *locale, "--data-checksums", "--auth=reject", "--no-instructions", *sync]
