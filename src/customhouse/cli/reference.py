"""The help of every command as one page, for `docs/reference/cli.md`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import typer

from customhouse.cli.main import app

_WIDTH: Final = 100


def commands() -> Iterator[tuple[str, str]]:
    """Yield each command line and its help, groups before what is below them."""
    root = typer.main.get_command(app)
    yield from _below(root, root.make_context("customhouse", [], resilient_parsing=True, terminal_width=_WIDTH, max_content_width=_WIDTH))


def _below(command: Any, context: Any) -> Iterator[tuple[str, str]]:
    yield context.command_path, command.get_help(context)
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        found = command.get_command(context, name)
        inner = found.make_context(name, [], parent=context, resilient_parsing=True, terminal_width=_WIDTH, max_content_width=_WIDTH)
        yield from _below(found, inner)


def reference() -> str:
    """Return all of it in Markdown, a heading and a block per command."""
    return "\n".join(f"## {path}\n\n```text\n{text.strip()}\n```\n" for path, text in commands())
