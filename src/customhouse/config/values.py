"""How each kind of setting is read: pure functions from text to a value.

They raise `ValueError` with a sentence that says what is expected and never repeats the text, which may be a secret in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast
from urllib.parse import unquote, urlsplit

from customhouse.errors import SettingsError
from customhouse.failpoints import Failpoints
from customhouse.types import Secret

Networks: TypeAlias = tuple[IPv4Network | IPv6Network, ...]

_LARGEST_PORT: Final = 65535
_DURATION: Final = re.compile(r"([1-9][0-9]{0,8})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# RFC 9110 §5.6.2, and short enough that the longest header name made from it stays far below what proxies allow.
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_ARN: Final = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+")
_PLATFORM_KEY: Final = re.compile(r"ck_[A-Za-z0-9_-]{32,200}")
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_MAIL: Final = re.compile(rf"(?=.{{1,64}}@)[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@{_LABEL}(?:\.{_LABEL})*")
_LONGEST_MAIL: Final = 254
_RELAY: Final = "expected `smtps://`, `starttls://` or `smtp://`, perhaps USER:PASSWORD@, and host:port"
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


class Environment(StrEnum):
    """What kind of place this is."""

    PROD = "prod"
    DEV = "dev"


class LogLevel(StrEnum):
    """The least important lines that are still written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    """A name or an IP address, without brackets."""
    port: int
    """0: any free port."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class AwsKey:
    """A key of AWS KMS."""

    arn: str


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A local key file."""

    path: Path


@dataclass(frozen=True, slots=True)
class MailRelay:
    """Who takes our e-mails."""

    security: Literal["smtp", "starttls", "smtps"]
    host: str
    """A name or an IP address, without brackets."""
    port: int
    user: str | None
    password: Secret | None
    """There where there is a user."""


KmsKey: TypeAlias = AwsKey | KeyFile


def one_of(choices: type[StrEnum]) -> Callable[[str], StrEnum]:
    """Return a reader of one of an enumeration's values."""

    def read(text: str) -> StrEnum:
        if text not in set(choices):
            raise ValueError("expected " + " or ".join(f"`{choice}`" for choice in choices))
        return choices(text)

    return read


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return a reader of a whole number within bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text) or not least <= int(text) <= most:
            raise ValueError(f"expected a whole number from {least} to {most}")
        return int(text)

    return read


def seconds(least: float, most: float) -> Callable[[str], float]:
    """Return a reader of seconds, with up to three decimals, within bounds."""

    def read(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", text) or not least <= float(text) <= most:
            raise ValueError(f"expected seconds from {least:g} to {most:g}")
        return float(text)

    return read


def flag(text: str) -> bool:
    """Read `true` or `false`."""
    if text not in {"true", "false"}:
        raise ValueError("expected `true` or `false`")
    return text == "true"


def switch(text: str) -> bool:
    """Read `on` or `off`."""
    if text not in {"on", "off"}:
        raise ValueError("expected `on` or `off`")
    return text == "on"


def duration(most: timedelta) -> Callable[[str], timedelta]:
    """Return a reader of a duration such as `72h`, or `0`."""

    def read(text: str) -> timedelta:
        match = _DURATION.fullmatch(text)
        if text != "0" and match is None:
            raise ValueError("expected a duration such as `90s`, `30m`, `72h` or `7d`, or `0`")
        length = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match is not None else timedelta()
        if length > most:
            raise ValueError(f"expected at most `{most // timedelta(days=1)}d`")
        return length

    return read


def span(least: timedelta, most: timedelta) -> Callable[[str], timedelta]:
    """Return a reader of a duration that is not too short either."""
    duration_of = duration(most)

    def read(text: str) -> timedelta:
        length = duration_of(text)
        if length < least:
            raise ValueError(f"expected at least `{int(least.total_seconds())}s`")
        return length

    return read


def schedule(most: timedelta, longest: int) -> Callable[[str], tuple[float, ...]]:
    """Return a reader of 1 to `longest` durations, separated by commas; the result is in seconds."""
    one = duration(most)

    def read(text: str) -> tuple[float, ...]:
        parts = text.split(",")
        if len(parts) > longest:
            raise ValueError(f"expected at most {longest} durations")
        waits = tuple(one(part.strip()).total_seconds() for part in parts)
        if not all(waits):
            raise ValueError("expected waits above 0: a failing receiver must not be asked again at once")
        return waits

    return read


def folder(text: str) -> Path:
    """Read an absolute path."""
    path = Path(text)
    if not path.is_absolute() or "\0" in text:
        raise ValueError("expected an absolute path, for example /var/lib/customhouse")
    return path


def file(text: str) -> Path:
    """Read the absolute path of a file; whether it is there is asked when it is read."""
    path = Path(text)
    if not path.is_absolute():
        raise ValueError("expected an absolute path")
    return path


def address(text: str) -> Address:
    """Read `host:port`; an IPv6 address stands in brackets."""
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > _LARGEST_PORT:
        raise ValueError("expected host:port, for example 127.0.0.1:8300 or [::1]:8300")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            return Address(str(IPv6Address(host)), int(port))
        except ValueError:
            raise ValueError("expected an IPv6 address in the brackets") from None
    if not _HOST.fullmatch(host):
        raise ValueError("expected host:port, for example 127.0.0.1:8300 or [::1]:8300")
    return Address(host, int(port))


def networks(text: str) -> Networks:
    """Read networks and addresses, separated by commas; nothing is an empty list. The whole address space is refused."""
    found = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        try:
            network = ip_network(part)
        except ValueError:
            raise ValueError("expected networks such as 10.0.0.0/8, separated by commas, without bits beyond the prefix") from None
        if network.prefixlen == 0:
            raise ValueError("/0 would name every address there is: list the networks that you mean")
        found.append(network)
    return tuple(found)


def url(text: str) -> str:
    """Read the address under which people and providers reach us, without a trailing slash."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("expected a URL, for example https://customhouse.example.com") from None
    plain = text.isascii() and text.isprintable() and not set(text) & set(" \\@?#")
    if parts.scheme not in {"http", "https"} or not plain or not parts.hostname or port == 0:
        raise ValueError("expected a URL without credentials, query or fragment, for example https://customhouse.example.com")
    return text.rstrip("/")


def origins(text: str) -> tuple[str, ...]:
    """Read origins (RFC 6454 §6.2), separated by commas."""
    found = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        scheme, _, place = url(item).partition("://")
        if "/" in place or place != place.lower():
            raise ValueError("expected origins such as https://app.example.com: lower case, and no path")
        found.append(f"{scheme}://{place}")
    return tuple(dict.fromkeys(found))


def database_url(text: str) -> Secret:
    """Read a PostgreSQL connection URL."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"postgresql", "postgres"} and bool(parts.hostname or "host=" in parts.query) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isprintable():
        raise ValueError("expected a PostgreSQL URL, for example postgresql://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full")
    return Secret(text.encode())


def mail_relay(text: str) -> MailRelay:
    """Read where e-mails are handed over; credentials are percent-encoded (RFC 3986 §3.2.1)."""
    try:
        parts = urlsplit(text)
        port = parts.port
        user, password = (None if part is None else unquote(part, errors="strict") for part in (parts.username, parts.password))
    except ValueError:
        raise ValueError(_RELAY) from None
    plain = text.isascii() and not set(text) & set(" \\") and not parts.path and not parts.query and not parts.fragment
    if parts.scheme not in {"smtp", "starttls", "smtps"} or not plain or not parts.hostname or not port:
        raise ValueError(_RELAY)
    if bool(user) != bool(password) or not (user or "").isprintable() or not (password or "").isprintable():
        raise ValueError("expected a user with a password, or neither; percent-encode what a URL cannot hold")
    security = cast("Literal['smtp', 'starttls', 'smtps']", parts.scheme)
    return MailRelay(security, parts.hostname, port, user or None, Secret(password.encode()) if password else None)


def mail_address(text: str) -> str:
    """Read an address of ours: plain ASCII, without a name (RFC 5321 §4.1.2)."""
    if len(text) > _LONGEST_MAIL or not _MAIL.fullmatch(text):
        raise ValueError("expected an e-mail address, for example customhouse@example.com")
    return text


def kms_key(text: str) -> KmsKey:
    """Read `aws:` and a key's ARN, or `file:` and a path."""
    kind, _, rest = text.partition(":")
    if kind == "aws" and _ARN.fullmatch(rest):
        return AwsKey(rest)
    if kind == "file" and Path(rest).is_absolute() and "\0" not in rest:
        return KeyFile(Path(rest))
    raise ValueError("expected `aws:` and the ARN of a key (not of an alias), or `file:` and an absolute path")


def kms_keys(text: str) -> tuple[KmsKey, ...]:
    """Read several of them, separated by commas; nothing is an empty list."""
    found = tuple(kms_key(item.strip()) for item in text.split(",") if item.strip())
    if len(set(found)) != len(found):
        raise ValueError("names a key twice")
    return found


def platform_key(text: str) -> Secret:
    """Read an API key of our form."""
    if not _PLATFORM_KEY.fullmatch(text):
        raise ValueError("expected `ck_` and at least 32 characters of A-Z a-z 0-9 _ - from a random generator")
    return Secret(text.encode())


def header_prefix(text: str) -> str:
    """Read a field-name prefix (RFC 9110 §5.6.2)."""
    if not _TOKEN.fullmatch(text):
        raise ValueError("expected the beginning of a header name, for example X-Acme")
    return text


def failpoints(text: str) -> str:
    """Read failpoints; `customhouse.failpoints` knows their form."""
    try:
        Failpoints(text)
    except SettingsError:
        raise ValueError("expected NAME=kill:N with names of docs/reference/failpoints.md, separated by commas") from None
    return text
