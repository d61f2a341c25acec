"""`customhouse …`: finds the command, and turns what goes wrong into one clear line and an exit code.

Exit codes: 0 done, 1 failed, 2 wrong usage; 130 after Ctrl-C, as the shell has it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, Final

import typer
import typer.core

from customhouse import __version__
from customhouse.cli.complaint import complain, explain, surprise
from customhouse.cli.table import entries
from customhouse.errors import CustomhouseError

_WIDTH: Final = 88


class _OnDemand(typer.core.TyperGroup):
    """A group that knows its commands by the table, and imports one only when it is called."""

    def list_commands(self, _ctx: Any) -> list[str]:
        return [entry.name for entry in entries()]

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:
        entry = next((entry for entry in entries() if entry.name == cmd_name), None)
        if entry is None:
            return None
        found = getattr(import_module(entry.path), entry.attribute)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(rich_markup_mode=None, add_completion=False)
            single.command(entry.name)(found)
            found = single
        command = typer.main.get_command(found)
        command.name = entry.name
        return command

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(entry.name, entry.summary) for entry in entries()])


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"customhouse {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=_OnDemand,
    # Plain help: no box characters in documents, and a third of the time.
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDTH},
)


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)] = False,
) -> None:
    """Customhouse: every integration of your product passes here, declared, inspected, sealed, stamped and written down.

    Settings come from the environment (CUSTOMHOUSE_…); docs/reference/settings.md lists them.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return its exit code. Whatever goes wrong is one line on standard error, never a traceback."""
    # Not `app()`: calling a Typer puts a hook into sys.excepthook that prints values (adr/0020).
    command = typer.main.get_command(app)
    try:
        command(list(arguments), prog_name="customhouse", standalone_mode=True)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except CustomhouseError as error:
        complain(explain(error))
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - the last place where a surprise can become a line
        complain(surprise(error))
        return 1
    return 0


def main() -> None:
    """Be the `customhouse` program."""
    sys.exit(run(sys.argv[1:]))
