"""What the service asks of the guard. Standard library only, as all that the guard loads."""

from __future__ import annotations

from typing import NamedTuple


class Job(NamedTuple):
    """What the service asks for, as JSON on standard input."""

    directory: str
    binaries: str
    users: int
    """The FIFO's reading end."""
    initdb: list[str]
    sql: str
    """Statements for a fresh cluster, one a line; they hold SCRAM verifiers, no password."""
    hba: str
    parameters: list[str]
    owner: list[int] | None
    """uid and gid of the server, where the service is root."""
    maker: list[int] | None
    """uid and gid of initdb, which insists on a user with a name."""
    disposable: bool
    """Whether to remove the folder at the end."""
