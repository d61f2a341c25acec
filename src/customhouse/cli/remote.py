"""A running service, called over HTTP as its users call it: where it is, with which key, and what to do when it says no."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httptools

from customhouse import __version__
from customhouse.canonical import dump, parse_object
from customhouse.cli.loopback import Answer, exchange, request_bytes
from customhouse.cli.platform_key import FILE_NAME
from customhouse.config import Address, Settings
from customhouse.errors import CustomhouseError, Invalid, SettingsError
from customhouse.types import JsonObject, Secret

_SECONDS: Final = 30.0
_LARGEST_KEY: Final = 4096
_ERRORS: Final = 400
_LONGEST_NUMBER: Final = 6
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is listened on, and where that is reached


class NotReached(CustomhouseError):
    """Nobody answered; whether the request was carried out is not known."""

    code = "not_reached"


class Refused(CustomhouseError):
    """The service answered, and said no."""

    code = "refused"

    def __init__(self, detail: str, status: int, retry_after: int | None = None) -> None:
        """Take what to tell, the status, and after how many seconds to come again."""
        super().__init__(detail)
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Base:
    """The address of a service."""

    secure: bool
    host: str
    port: int
    path: str = ""

    @property
    def authority(self) -> str:
        """Host and port, as the `Host` header has them."""
        return str(Address(self.host, self.port))

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.authority}{self.path}"


def base_of(url: str) -> Base:
    """Read the address of a service.

    Raises:
        ValueError: it is none, or the key would travel over a network in clear.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("expected a URL, for example https://customhouse.example.com") from None
    host = parts.hostname or ""
    plain = url.isascii() and url.isprintable() and not set(url) & set(" \\@?#")
    if parts.scheme not in {"http", "https"} or not host or not plain or port == 0:
        raise ValueError("expected a URL without credentials, query or fragment, for example https://customhouse.example.com")
    secure = parts.scheme == "https"
    if not secure and not _is_here(host):
        raise ValueError("use https: over http, everybody on the way could read the key")
    return Base(secure, host, port or (443 if secure else 80), parts.path.rstrip("/"))


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def base_of_settings(settings: Settings) -> Base:
    """Return where a service with these settings is reached on this machine.

    Raises:
        SettingsError: it takes any free port, which only it knows.
    """
    listen = settings.listen
    if not listen.port:
        raise SettingsError("CUSTOMHOUSE_LISTEN names no port: say where the service is with --url.")
    return Base(secure=False, host=_EVERYWHERE.get(listen.host, listen.host), port=listen.port)


def key_of_settings(settings: Settings) -> Secret:
    """Return the platform key that the settings name, or the one that the service wrote at its first start.

    Raises:
        SettingsError: there is neither.
    """
    return settings.platform_key or key_of_file(settings.data_dir / FILE_NAME)


def key_of_file(path: Path) -> Secret:
    """Return the API key in a file.

    Raises:
        SettingsError: there is none.
    """
    try:
        with path.open("rb") as file:
            return key_of(file.read(_LARGEST_KEY + 1), str(path))
    except OSError as error:
        raise SettingsError(
            f"There is no API key in {path} ({error.strerror}). Give one with --key-file or --key-env, or set CUSTOMHOUSE_PLATFORM_KEY; "
            "`customhouse api-key create` makes one."
        ) from None


def key_of(raw: bytes, place: str) -> Secret:
    """Return the API key in what was found at a place.

    Raises:
        SettingsError: it is none; the text does not hold it.
    """
    key = raw.strip()
    if not key.startswith(b"ck_") or len(key) > _LARGEST_KEY or not key.isascii() or not key.decode("ascii").isprintable():
        raise SettingsError(f"{place} holds no API key: it begins with ck_.")
    return Secret(key)


class Remote:
    """A service, as one API key sees it."""

    def __init__(self, base: Base, key: Secret) -> None:
        """Take where it is, and the key."""
        self.base = base
        self._key = key

    def get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Ask; raises as `post` does."""
        return self._call("GET", f"{path}?{urlencode(query)}" if query else path, None)

    def post(self, path: str, body: JsonObject, headers: Mapping[str, str]) -> dict[str, Any]:
        """Ask to do.

        Raises:
            NotReached: nobody answered, or not as Customhouse does.
            Refused: the answer is an error; the text says what to do.
        """
        return self._call("POST", path, dump(body), headers)

    def _call(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        base = self.base
        sent = {
            "Authorization": f"Bearer {self._key.reveal().decode('ascii')}",
            "User-Agent": f"customhouse/{__version__}",
            **(headers or {}),
        }
        if body is not None:
            sent["Content-Type"] = "application/json"
        try:
            answer = asyncio.run(_exchange(base, request_bytes(base.authority, method, base.path + path, sent.items(), body or b"")))
        except (OSError, EOFError, httptools.HttpParserError) as error:
            raise NotReached(
                f"{base} does not answer ({type(error).__name__}). Is the service running there? `customhouse up` starts one; --url says "
                "where another is."
            ) from error
        try:
            said = answer.json()
        except CustomhouseError:
            raise NotReached(f"What answers at {base} is not Customhouse (status {answer.status}): say where it is with --url.") from None
        if answer.status >= _ERRORS:
            raise Refused(_advice(answer.status, said), answer.status, _seconds(answer.headers.get("retry-after")))
        return said


async def _exchange(base: Base, request: bytes) -> Answer:
    # The operator's own address and no proxy of the environment: the key is for this service alone.
    tls = ssl.create_default_context() if base.secure else None
    async with asyncio.timeout(_SECONDS):
        reader, writer = await asyncio.open_connection(base.host, base.port, ssl=tls)
        try:
            return await exchange(reader, writer, request)
        finally:
            writer.close()


def _seconds(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) <= _LONGEST_NUMBER else None


def _advice(status: int, problem: Mapping[str, Any]) -> str:
    """Return what a person should do; a problem of ours never repeats a value."""
    lines = [str(problem.get("detail") or problem.get("title") or f"The answer is {status}.")]
    errors = problem.get("errors")
    lines += [f"{one.get('pointer')}: {one.get('detail')}" for one in (errors if isinstance(errors, list) else []) if isinstance(one, dict)]
    match status:
        case 401:
            lines.append(
                "The service does not know this key, or it has ended: is it another service's? `customhouse api-key create` makes one."
            )
        case 403:
            lines.append("The key lacks the scope events:write: `customhouse api-key create --scope events:write …` makes one that has it.")
        case 404:
            lines.append("Is there such a tenant? `customhouse tenant create` makes one. A tenant's own key knows no other.")
        case _:
            pass
    return "\n- ".join(lines)


def read_object(raw: bytes) -> JsonObject:
    """Read the data of an event.

    Raises:
        ValueError: it is not a JSON object as the service accepts it; the text says what is wrong and repeats nothing.
    """
    try:
        return parse_object(raw)
    except Invalid as error:
        raise ValueError("; ".join(fault.detail for fault in error.faults) or error.detail) from None
    except CustomhouseError:
        raise ValueError('expected a JSON object, for example {"order_id": "o_1"}') from None
