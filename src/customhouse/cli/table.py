"""Which commands there are. Light on purpose: `customhouse --help` reads this table and imports no command."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final


@dataclass(frozen=True, slots=True)
class Entry:
    """One command, or one group of commands."""

    name: str
    module: str
    """Below `customhouse.cli`; imported when the command is called."""
    attribute: str
    """In it: a function, or a `typer.Typer` where there are commands below."""
    summary: str
    """One line for the list; the first line of the command's own help."""

    @property
    def path(self) -> str:
        """The module's full name."""
        return f"customhouse.cli.{self.module}"


_ALL: Final = (
    Entry("demo", "demo.command", "demo", "Tell the whole story on this machine, with real parts, in under a minute."),
    Entry("up", "serve", "up", "Run everything on this machine, with the settings of a developer."),
    Entry("serve", "serve", "serve_command", "Run the service: API, worker and, without DATABASE_URL, its own PostgreSQL."),
    Entry("work", "serve", "work", "Deliver and run jobs, without an API: more hands for the same database."),
    Entry("send", "send", "send", "Publish an event, and with --wait show what becomes of its deliveries."),
    Entry("doctor", "doctor", "doctor", "Look at every part and say what to do."),
    Entry("db", "schema", "app", "The database: bring its schema to this version, or tell what it lacks."),
    Entry("tenant", "admin", "tenant_app", "Tenants: the customer organisations of the host application."),
    Entry("api-key", "admin", "api_key_app", "API keys of a tenant, or of the operator."),
    Entry(
        "provider", "provider", "app", "Providers: what can be connected, what each one asks for, and whether a providers file is in order."
    ),
    Entry("keys", "keys", "app", "Keys: what there is under the root key, and its replacement while everything runs."),
    Entry("connection", "connection", "app", "Connections with outside systems: which there are, and ending many of them in an incident."),
    Entry("sandbox", "sandbox", "sandbox", "Run stand-ins for the providers on this machine, to connect to without an account anywhere."),
    Entry("webhook", "webhook.command", "app", "Webhooks from the receiving end: listen on this machine, sign a body, verify a request."),
    Entry("bench", "bench.command", "bench", "Measure deliveries per second on this machine, with every guard on."),
)


def entries() -> tuple[Entry, ...]:
    """Return the commands of this installation, in the order of the list."""
    return tuple(entry for entry in _ALL if _exists(entry))


def _exists(entry: Entry) -> bool:
    # Through the package first: asking for a module below a missing package raises.
    package, _, below = entry.module.partition(".")
    return find_spec(f"customhouse.cli.{package}") is not None and (not below or find_spec(entry.path) is not None)
