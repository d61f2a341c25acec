"""Options and ways to speak that commands share. Light: a command that only calls a running service loads nothing of it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from customhouse.canonical import dump
from customhouse.types import Json

Dev = Annotated[bool, typer.Option("--dev", help="Take unset settings as `customhouse up` does (ENVIRONMENT=dev).")]
"""The option of commands that look at what `up` runs."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
"""The option of commands that print data."""


def say_json(value: Json) -> None:
    """Print a value as JSON on standard output."""
    sys.stdout.write(f"{dump(value).decode()}\n")


def aside(text: str) -> None:
    """Tell a person something on standard error, so that standard output stays what was asked for."""
    sys.stderr.write(f"{text}\n")
