"""`provider list|show|check`: the catalogue of this installation, and the judgement over a providers file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from customhouse import config
from customhouse.app import catalogue_of
from customhouse.cli.surroundings import AsJson, Dev, quiet_logs, say_json
from customhouse.errors import Invalid, NotFound
from customhouse.providers.catalogue import BUILT_IN, Catalogue
from customhouse.providers.contract.judge import judge
from customhouse.providers.contract.recordings import Recording, recording, standard
from customhouse.providers.contract.subject import Subject
from customhouse.providers.declared import LARGEST_FILE, read
from customhouse.providers.description import brief, whole
from customhouse.providers.manifest import OAuth2, Provider
from customhouse.providers.scopes import requested
from customhouse.types import Json, JsonObject, Secret

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

# The catalogue knows neither the root key nor the public address.
_NOT_NEEDED: Final = {"KMS_KEY": "aws:arn:aws:kms:none:000000000000:key/none", "PUBLIC_URL": "https://unused.invalid"}
_LARGEST_RECORDING: Final = 1_048_576


@app.callback()
def _provider() -> None:
    """Providers: what can be connected, what each one asks for, and whether a providers file is in order."""


@app.command("list")
def list_providers(dev: Dev = False, as_json: AsJson = False) -> None:
    """List the providers of this installation."""
    found = _catalogue(dev=dev)
    if as_json:
        say_json({"data": [brief(provider, set_up=found.is_set_up(provider)) for provider in found.providers]})
        return
    table = Table("provider", "name", "risk", "connected by", "modes", "set up")
    for provider in found.providers:
        ready = "yes" if found.is_set_up(provider) else "no"
        table.add_row(provider.id, Text(provider.name), provider.risk, _auth(provider), ", ".join(provider.modes), ready)
    Console().print(table)


@app.command("show")
def show_provider(
    provider_id: Annotated[str, typer.Argument(metavar="PROVIDER", help="Its id, as `provider list` shows it.")],
    dev: Dev = False,
    as_json: AsJson = False,
) -> None:
    """Show what a provider asks for and why, what it never asks for, and what crosses."""
    found = _catalogue(dev=dev)
    try:
        provider = found.get(provider_id)
    except NotFound:
        raise typer.BadParameter("there is no such provider; `customhouse provider list` shows them all") from None
    if as_json:
        say_json(whole(provider, set_up=found.is_set_up(provider)))
        return
    lines = [f"{provider.name}: {provider.purpose}. Risk: {provider.risk} ({provider.risk_why}).", ""]
    for mode in provider.modes:
        lines.append(f"In {mode} it asks for:")
        lines += [f"  {scope.name}\n      can {scope.words}. {scope.why}" for scope in requested(provider, mode)]
        lines.append("")
    lines.append("Never asked for:")
    lines += [f"  {never.pattern}\n      {never.why}" for never in provider.not_requested]
    lines += ["", "What crosses:"]
    lines += [f"  {'in ' if flow.direction == 'in' else 'out'}  {flow.what}" for flow in provider.flows]
    sys.stdout.write("\n".join(lines) + "\n")


@app.command("check")
def check_file(
    file: Annotated[Path, typer.Argument(help="A providers file, in TOML.")],
    replies: Annotated[
        Path | None,
        typer.Option(
            "--recordings", metavar="FOLDER", help="Recorded replies: FOLDER/<provider>/*.json. Unset: those that RFC 6749 foresees."
        ),
    ] = None,
    dev: Annotated[bool, typer.Option("--dev", help="Accept plain http, as in development.")] = False,
    as_json: AsJson = False,
) -> None:
    """Judge a providers file by the contract that the built-in providers keep.

    Secrets are not fetched. Exit code 1 if anything is wrong.
    """
    quiet_logs()
    # Whether the secrets are where the file says is the installation's matter, not the file's: `doctor` looks.
    found = read(_bytes(file, LARGEST_FILE), lambda _: Secret(b"not fetched"), https_required=not dev)
    built_in = {provider.id for provider in BUILT_IN}
    verdicts = [_judged(provider, replies) for provider in found.providers if provider.id not in built_in]
    shared = found.shared_projects()
    if as_json:
        listed: list[Json] = [{"provider": one.provider, "faults": [*one.faults]} for one in verdicts]
        say_json(
            {
                "in_order": not shared and not any(one.faults for one in verdicts),
                "providers": listed,
                "shared_projects": [[*one] for one in shared],
            }
        )
    else:
        for one in verdicts:
            sys.stdout.write(f"{one.provider}: {'in order' if not one.faults else 'not in order'}\n")
            sys.stdout.writelines(f"- {fault['detail']} (check {fault['check']})\n" for fault in one.faults)
        sys.stdout.writelines(f"- {first} and {second} share a project: give each one of its own\n" for first, second in shared)
        sys.stdout.write(f"{len(found.clients)} set up, {len(verdicts)} of this installation's own.\n")
    if shared or any(one.faults for one in verdicts):
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Judged:
    provider: str
    faults: tuple[JsonObject, ...]


def _judged(provider: Provider, replies: Path | None) -> _Judged:
    recordings = standard(provider) if replies is None else _recordings(replies / provider.id)
    faults = judge(Subject(provider, recordings))
    return _Judged(provider.id, tuple({"check": fault.number, "detail": fault.detail} for fault in faults))


def _recordings(folder: Path) -> tuple[Recording, ...]:
    return tuple(recording(path.stem, _bytes(path, _LARGEST_RECORDING)) for path in sorted(folder.glob("*.json")))


def _bytes(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
    except OSError as error:
        raise Invalid(f"{path} cannot be read ({error.strerror}).") from None
    if len(raw) > most:
        raise Invalid(f"{path} is larger than {most} bytes.")
    return raw


def _catalogue(*, dev: bool) -> Catalogue:
    quiet_logs()
    return catalogue_of(config.from_environment(_NOT_NEEDED | (config.DEV_DEFAULTS if dev else {})))


def _auth(provider: Provider) -> str:
    return "OAuth 2.0" if isinstance(provider.auth, OAuth2) else "restricted key"
