"""The settings: read once, checked wholly, frozen. The only place that reads the environment.

Every problem is reported at once, with the setting's name and what to do, and without the value.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from customhouse.config.table import PREFIX, SETTINGS, Setting
from customhouse.config.values import Address, AwsKey, Environment, KeyFile, KmsKey, LogLevel, MailRelay, Networks
from customhouse.errors import SettingsError
from customhouse.types import Secret

__all__ = [
    "DEV_DEFAULTS",
    "PREFIX",
    "SETTINGS",
    "Address",
    "AwsKey",
    "Environment",
    "KeyFile",
    "KmsKey",
    "LogLevel",
    "MailRelay",
    "Networks",
    "Problem",
    "Setting",
    "Settings",
    "from_environment",
    "load",
    "problems",
    "problems_of_environment",
    "reference",
    "secret_at",
]

DEV_DEFAULTS: Final = {"ENVIRONMENT": "dev"}
"""What `up` and commands beside it take where a setting is unset."""
_LARGEST_FILE: Final = 65536
_FILE: Final = "_FILE"
_THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# What Kubernetes sets in each container for a Service that is called `customhouse`.
_SERVICE_LINK: Final = re.compile(r"SERVICE_(HOST|PORT(_.*)?)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator has decided; `config.table` says what each one means."""

    environment: Environment
    database_url: Secret | None
    """None: embedded PostgreSQL in `data_dir`."""
    migrate_database_url: Secret | None
    database_pool_size: int
    data_dir: Path
    kms_key: KmsKey
    kms_previous_keys: tuple[KmsKey, ...]
    kms_cache_ttl: int
    """Seconds."""
    allow_local_key: bool
    allow_test_keys: bool
    dormant_after: timedelta
    """0: connections that nobody uses are left as they are."""
    key_max_age: timedelta
    """0: keys may become as old as they like."""
    platform_key: Secret | None
    public_url: str
    """Without a trailing slash."""
    listen: Address
    metrics_listen: Address | None
    trusted_proxies: Networks
    egress_allow: Networks
    providers_file: Path | None
    return_urls: tuple[str, ...]
    """Origins."""
    smtp_url: MailRelay | None
    smtp_from: str | None
    token_export: bool
    bulk_read_window: timedelta
    bulk_read_cap: int
    """0: none."""
    bulk_read_stop: timedelta
    payload_retention: timedelta
    signature_header_prefix: str
    max_body_bytes: int
    delivery_timeout: float
    """Seconds."""
    retry_schedule: tuple[float, ...]
    disable_after: timedelta
    """Seconds."""
    worker_concurrency: int
    connection_concurrency: int
    processes: int | None
    """None: as many as suit the machine."""
    accept_wait: float
    """Seconds."""
    log_level: LogLevel
    failpoints: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one setting, and what to do."""

    name: str
    """As it stands in the environment, or as it should."""
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}"


def from_environment(defaults: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of this process; `defaults` (without the prefix, such as `{"ENVIRONMENT": "dev"}`) stand in for unset ones.

    Raises: see `load`.
    """
    return load(_environment(defaults))


def problems_of_environment(defaults: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
    """Return everything that is wrong with the settings of this process; `defaults` as for `from_environment`."""
    return problems(_environment(defaults))


def _environment(defaults: Mapping[str, str] | None) -> dict[str, str]:
    below = {PREFIX + name: text for name, text in (defaults or {}).items()}
    return {**below, **os.environ}  # noqa: TID251 - this is the place


def load(environ: Mapping[str, str]) -> Settings:
    """Return the settings in `environ`.

    Raises:
        SettingsError: at least one is missing, unknown or wrong; the text names them all.
    """
    settings, found = _read(environ)
    if settings is None:
        heading = "1 setting is" if len(found) == 1 else f"{len(found)} settings are"
        raise SettingsError("\n- ".join([f"{heading} not in order:", *map(str, found)]))
    return settings


def problems(environ: Mapping[str, str]) -> tuple[Problem, ...]:
    """Return everything that is wrong with the settings in `environ`, for `customhouse doctor`."""
    return _read(environ)[1]


def secret_at(*, variable: str = "", file: str = "", prod: bool) -> Secret:
    """Return the secret that an environment variable or a file holds, for files that name one instead of holding it.

    Raises:
        ValueError: it is not there, empty, not text, or in a file that cannot be used; the text names neither value nor place.
    """
    if file:
        text = _from_file(file, prod=prod)
    elif variable in os.environ:  # noqa: TID251 - this is the place
        text = os.environ[variable]  # noqa: TID251
    else:
        raise ValueError("its environment variable is not set")
    if not text.strip() or not text.isprintable():
        raise ValueError("is empty, or holds characters that cannot be printed")
    return Secret(text.encode())


def reference() -> str:
    """Return the table of all settings in Markdown."""
    lines = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for setting in SETTINGS:
        default = setting.otherwise if setting.default is None else f"`{setting.default}`" if setting.default else "empty"
        secret = f" Secret: also as `{PREFIX}{setting.name}{_FILE}`, the path of a file that holds it." if setting.secret else ""
        lines.append(f"| `{PREFIX}{setting.name}` | {default} | {setting.doc}{secret} |")
    return "\n".join(lines) + "\n"


def _read(environ: Mapping[str, str]) -> tuple[Settings | None, tuple[Problem, ...]]:
    found = list(_unknown(environ))
    # Until it is known, the strict one is assumed.
    prod = environ.get(PREFIX + "ENVIRONMENT") != Environment.DEV
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        try:
            text = _text(setting, environ, prod=prod)
            values[setting.name.lower()] = None if text is None else setting.parse(text)
        except ValueError as error:
            found.append(Problem(PREFIX + setting.name, str(error)))
    found += _complete(values, environ, prod=prod)
    if found:
        return None, tuple(found)
    return Settings(**values), ()


def _unknown(environ: Mapping[str, str]) -> Iterator[Problem]:
    known = [setting.name for setting in SETTINGS] + [setting.name + _FILE for setting in SETTINGS if setting.secret]
    for full in sorted(environ):
        name = full[len(PREFIX) :]
        if full[: len(PREFIX)].upper() != PREFIX or (full.startswith(PREFIX) and name in known):
            continue
        shown = ascii(full)[1:-1]
        near = difflib.get_close_matches(name.upper(), known, n=1)
        if _SERVICE_LINK.fullmatch(name):
            yield Problem(shown, "there is no such setting; Kubernetes sets it: put `enableServiceLinks: false` into the pod's spec")
        elif near:
            yield Problem(shown, f"there is no such setting; do you mean {PREFIX}{near[0]}?")
        else:
            yield Problem(shown, "there is no such setting; docs/reference/settings.md lists them all")


def _text(setting: Setting, environ: Mapping[str, str], *, prod: bool) -> str | None:
    """Return the setting's text, or its default's.

    Raises:
        ValueError: it is given twice, empty, not text, or in a file that cannot be used.
    """
    text = environ.get(PREFIX + setting.name)
    path = environ.get(PREFIX + setting.name + _FILE) if setting.secret else None
    if path is not None:
        if text is not None:
            raise ValueError(f"given twice: unset it or {PREFIX}{setting.name}{_FILE}")
        text = _from_file(path, prod=prod)
    if text is None:
        return setting.default
    if not text.strip() and not setting.blank:
        raise ValueError("is empty: give a value, or unset it")
    if not text.isprintable():
        # Lone surrogates too: what was not UTF-8 in the environment.
        raise ValueError("holds characters that cannot be printed")
    return text


def _from_file(path: str, *, prod: bool) -> str:
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            if prod and status.st_mode & stat.S_IROTH:
                raise ValueError("its file may be read by every user of this machine: chmod o-r")
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"its file cannot be read ({error.strerror})") from None
    if len(data) > _LARGEST_FILE:
        raise ValueError("its file is too large")
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError("its file is not UTF-8 text") from None


def _complete(values: dict[str, Any], environ: Mapping[str, str], *, prod: bool) -> Iterator[Problem]:
    """Fill in what depends on other settings and on the surroundings; tell what does not go together."""
    if "data_dir" in values and values["data_dir"] is None:
        values["data_dir"] = _default_data_dir(environ)
        if values["data_dir"] is None:
            yield Problem(PREFIX + "DATA_DIR", "there is no HOME to derive it from: set it to an absolute path")
    yield from _complete_key(values, prod=prod)
    yield from _complete_url(values, prod=prod)
    yield from _complete_mail(values, prod=prod)
    if prod and values.get("failpoints"):
        yield Problem(PREFIX + "FAILPOINTS", f"kills the process on purpose: unset it, or set {PREFIX}ENVIRONMENT=dev")
    service, owner = _user(values.get("database_url")), _user(values.get("migrate_database_url"))
    if service is not None and service == owner:
        yield Problem(PREFIX + "DATABASE_URL", "has the user of MIGRATE_DATABASE_URL: the service must not own its tables")


def _complete_key(values: dict[str, Any], *, prod: bool) -> Iterator[Problem]:
    if "kms_key" in values and values["kms_key"] is None:
        if prod:
            yield Problem(
                PREFIX + "KMS_KEY", "is required: `aws:` and a key's ARN (docs/how-to/aws-kms.md); there is no mode without a key"
            )
        elif values.get("data_dir") is not None:
            values["kms_key"] = KeyFile(values["data_dir"] / "keys" / "local.key")
    if prod and isinstance(values.get("kms_key"), KeyFile) and not values.get("allow_local_key"):
        yield Problem(
            PREFIX + "KMS_KEY", "a local key does not suit `prod`: use `aws:`, or accept the risk with CUSTOMHOUSE_ALLOW_LOCAL_KEY=true"
        )
    if "kms_key" in values and values["kms_key"] in (values.get("kms_previous_keys") or ()):
        yield Problem(PREFIX + "KMS_PREVIOUS_KEYS", "names the key of CUSTOMHOUSE_KMS_KEY: a root key is of now or of before")


def _complete_url(values: dict[str, Any], *, prod: bool) -> Iterator[Problem]:
    if "public_url" not in values:
        return
    if values["public_url"] is None and prod:
        yield Problem(PREFIX + "PUBLIC_URL", "is required: under what https address this service is reached")
    elif values["public_url"] is None and "listen" in values:
        values["public_url"] = f"http://{values['listen']}"
    elif prod and not values["public_url"].lower().startswith("https:"):
        yield Problem(PREFIX + "PUBLIC_URL", "must begin with https:// in `prod`")
    if prod and any(not origin.startswith("https:") for origin in values.get("return_urls", ())):
        yield Problem(PREFIX + "RETURN_URLS", "must all begin with https:// in `prod`")


def _complete_mail(values: dict[str, Any], *, prod: bool) -> Iterator[Problem]:
    if "smtp_url" not in values or "smtp_from" not in values:
        return
    relay, sender = values["smtp_url"], values["smtp_from"]
    if relay is not None and sender is None:
        yield Problem(PREFIX + "SMTP_FROM", "is required with SMTP_URL: the address that e-mails come from")
    if relay is None and sender is not None:
        yield Problem(PREFIX + "SMTP_URL", "is required with SMTP_FROM: the relay that takes the e-mails")
    if relay is not None and prod and relay.security == "smtp" and relay.host not in _THIS_MACHINE:
        yield Problem(PREFIX + "SMTP_URL", "must begin with smtps:// or starttls:// in `prod`, unless the relay is on this machine")


def _user(url: Secret | None) -> str | None:
    return None if url is None else urlsplit(url.reveal().decode()).username


def _default_data_dir(environ: Mapping[str, str]) -> Path | None:
    if os.geteuid() == 0:
        return Path("/var/lib/customhouse")
    # A relative XDG_DATA_HOME is to be ignored (XDG Base Directory Specification).
    for name, below in (("XDG_DATA_HOME", ""), ("HOME", ".local/share")):
        base = Path(environ.get(name, ""))
        if base.is_absolute():
            return base / below / "customhouse"
    return None
