"""Where the commands get secrets, bodies and headers from. Never from an argument: the list of processes shows those to everybody."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from customhouse.canonical import parse
from customhouse.errors import CustomhouseError, Invalid
from customhouse.types import Secret

_LARGEST_SECRET: Final = 4096
_LARGEST_BODY: Final = 16 * 1024 * 1024
_STDIN: Final = "-"

SecretFiles = Annotated[list[Path], typer.Option("--secret-file", metavar="FILE", help="A file that holds a secret; may be repeated.")]
SecretVariables = Annotated[
    list[str], typer.Option("--secret-env", metavar="NAME", help="An environment variable that holds a secret; may be repeated.")
]


def secrets(files: Sequence[Path], variables: Sequence[str]) -> dict[str, Secret]:
    """Return the secrets, each under the name of the place where it was found; asks for one on a terminal where none is named.

    Raises:
        typer.BadParameter: nothing is named, and there is nobody to ask.
        Invalid: a place holds no secret.
    """
    found = {str(path): _of_file(path) for path in files} | {name: _of_variable(name) for name in variables}
    if found:
        return found
    if not sys.stdin.isatty():
        raise typer.BadParameter("say where the secret is: --secret-file FILE or --secret-env NAME")
    text = getpass.getpass("Signing secret (not shown): ")
    return {"what you typed": _secret(text.encode(), "What you typed")}


def body(source: str) -> bytes:
    """Return the bytes of a file, or of standard input for `-`, exactly as they are.

    Raises:
        Invalid: it cannot be read, or it is larger than 16 MiB.
    """
    try:
        if source == _STDIN:
            raw = sys.stdin.buffer.read(_LARGEST_BODY + 1)
        else:
            with Path(source).open("rb") as file:
                raw = file.read(_LARGEST_BODY + 1)
    except OSError as error:
        raise Invalid(f"The body cannot be read from {source} ({error.strerror}).") from None
    if len(raw) > _LARGEST_BODY:
        raise Invalid("The body is larger than 16 MiB.")
    return raw


def headers(path: Path) -> list[tuple[str, str]]:
    """Return the headers in a file: `Name: value` lines, as `curl -v` and most tools show them, or JSON (an object, or a list of pairs).

    Raises:
        Invalid: it cannot be read, or it is neither.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Invalid(f"The headers cannot be read from {path} ({error.strerror}).") from None
    return headers_of(raw)


def headers_of(raw: bytes) -> list[tuple[str, str]]:
    """As `headers`, from bytes."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid("The headers are not UTF-8 text.") from None
    if text.lstrip()[:1] in {"{", "["}:
        return _of_json(raw)
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        plain = line.removeprefix("> ").strip()
        name, colon, value = plain.partition(":")
        if not plain or plain == ">" or (number == 1 and " HTTP/" in plain):
            continue
        if not colon or not name.strip() or " " in name.strip():
            raise Invalid(f"Line {number} of the headers is not of the form `Name: value`.")
        found.append((name.strip(), value.strip()))
    return found


def _of_json(raw: bytes) -> list[tuple[str, str]]:
    try:
        value = parse(raw)
    except CustomhouseError:
        raise Invalid("The headers begin like JSON, but are not strict JSON.") from None
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    found = []
    for pair in pairs if isinstance(pairs, list) else []:
        match pair:
            case (str(name), str(text)) | [str(name), str(text)]:
                found.append((name, text))
            case _:
                raise Invalid("The headers are JSON, but neither an object of texts nor a list of [name, value].")
    return found


def _of_file(path: Path) -> Secret:
    try:
        with path.open("rb") as file:
            return _secret(file.read(_LARGEST_SECRET + 1), f"The file {path}")
    except OSError as error:
        raise Invalid(f"The secret cannot be read from {path} ({error.strerror}).") from None


def _of_variable(name: str) -> Secret:
    text = os.environ.get(name)  # noqa: TID251 - no setting of ours: the caller says which variable holds it
    if text is None:
        raise Invalid(f"The environment variable {name} is not set.")
    return _secret(text.encode("utf-8", "surrogateescape"), f"The environment variable {name}")


def _secret(raw: bytes, place: str) -> Secret:
    # Editors and `echo` end a file with a newline, which is no part of the secret.
    value = raw.rstrip(b"\r\n")
    if not 0 < len(value) <= _LARGEST_SECRET:
        raise Invalid(f"{place} holds no secret.")
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid(f"{place} holds no text.") from None
    return Secret(value)
