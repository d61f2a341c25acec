"""`customhouse sandbox`: strict stand-ins for the providers, on one port of this machine, until it is stopped."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Final

import typer

from customhouse.cli.options import AsJson, say_json
from customhouse.errors import Invalid
from customhouse_sandbox import PUBLIC_URL, Sandbox, random_seed, running

_PORT: Final = 8400
_PORTS: Final = 65_535


def sandbox(
    port: Annotated[int, typer.Option("--port", min=0, max=_PORTS, help="Where it listens on 127.0.0.1; 0 takes any free one.")] = _PORT,
    public_url: Annotated[
        str, typer.Option("--public-url", help="Where the service is: its callbacks are registered below it.")
    ] = PUBLIC_URL,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where providers.toml and its secrets are written; unset: a folder that goes with it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run stand-ins for the providers on this machine, to connect to without an account anywhere.

    It writes a providers file for the service, with the endpoints, client ids and secrets of the sandbox, and runs until Ctrl-C.
    With --json the first line tells the same to a program.
    """
    if folder is not None:
        asyncio.run(_run(port, public_url, folder, as_json=as_json))
        return
    with tempfile.TemporaryDirectory(prefix="customhouse-sandbox-") as made:
        asyncio.run(_run(port, public_url, Path(made), as_json=as_json))


async def _run(port: int, public_url: str, folder: Path, *, as_json: bool) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        try:
            # Tokens of an earlier run must not be good in this one.
            providers = await stack.enter_async_context(running(port=port, public_url=public_url, seed=random_seed()))
            file = providers.write(folder)
        except OSError as error:
            raise Invalid(f"The sandbox cannot run on port {port} with its files in {folder} ({error.strerror}).") from error
        _tell(providers, file, as_json=as_json)
        await stopped.wait()


def _tell(providers: Sandbox, file: Path, *, as_json: bool) -> None:
    if as_json:
        say_json(
            {
                "base": providers.base,
                "providers_file": str(file),
                "providers": providers.providers_file(file.parent),
                "environ": dict(providers.environ()),
            }
        )
        return
    typer.echo(f"The sandbox listens on {providers.base}. To connect to it:")
    typer.echo(f"  CUSTOMHOUSE_PROVIDERS_FILE={file} customhouse up")
    typer.echo(f"What it was asked, what goes wrong next, and what time it is: {providers.base}/_sandbox/")
    typer.echo("Ctrl-C ends it, and everything in it.")
