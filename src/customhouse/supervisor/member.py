"""What one process of a group is told when it is started."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from customhouse.canonical import dump, parse_object

Command = Literal["up", "serve", "work"]
"""What the operator called: `up` takes unset settings as a developer has them, `work` has no API."""


@dataclass(frozen=True, slots=True)
class Member:
    """One process: its part of the work, and the file descriptors that it inherits."""

    command: Command
    jobs: bool = True
    """It runs the periodic jobs. Several may without harm; one is enough on a machine, and saves the others the memory."""
    replaces: bool = False
    """It stands in for one that died."""
    channel: int | None = None
    """A socket to the parent: it is told when this process is ready, and its end says that the parent is gone. None: there is none."""
    api: int | None = None
    """A bound socket for the API; None: it binds itself."""
    metrics: int | None = None
    """A bound socket for `/metrics`."""
    tallies: str | None = None
    """The folder through which the processes add up what they count; None: it counts alone."""

    def argument(self) -> str:
        """Return all of it as one argument of a command line."""
        return dump(asdict(self)).decode()


def member_of(argument: str) -> Member:
    """Read `Member.argument` back: from our own parent alone."""
    told: dict[str, Any] = parse_object(argument.encode())
    return Member(**told)
