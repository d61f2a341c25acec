"""What `doctor` looks at: one function per part, each answering with findings that say what to do."""

from __future__ import annotations

import asyncio
import errno
import os
import platform
import resource
import shutil
import socket
import stat
import struct
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from customhouse.app import catalogue_of, key_service, open_store
from customhouse.cli.loopback import send
from customhouse.clock import Clock
from customhouse.config import Address, AwsKey, Environment, Settings
from customhouse.db import Database, Row
from customhouse.embedded.binaries import binaries, major_version
from customhouse.errors import CustomhouseError, DatabaseRefused, Invalid
from customhouse.sql.migrate import compare, migrations

_OLDEST_PYTHON: Final = (3, 11)
_OLDEST_POSTGRESQL: Final = 15
_NEEDED_BYTES: Final = 200_000_000
_WISHED_BYTES: Final = 2_000_000_000
_WISHED_FILES: Final = 4096
_SKEW_WARNED: Final = 2.0
_SKEW_REFUSED: Final = 60.0
"""Seconds. Receivers tolerate 300 either way, and their clocks are wrong, too."""
_NOT_BEFORE: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""This release is younger: an earlier time is a clock that was never set."""
_LOOK: Final = "select current_setting('server_version_num')::integer as version, extract(epoch from clock_timestamp())::float8 as at"
_RECORDED: Final = "select version, checksum from schema_migrations"


class Verdict(StrEnum):
    """How a part is."""

    OK = "ok"
    NOTE = "note"
    """It works, and somebody should know."""
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one part."""

    part: str
    verdict: Verdict
    detail: str
    advice: str = ""
    """What to do; empty where nothing is to be done."""


def _ok(part: str, detail: str) -> Finding:
    return Finding(part, Verdict.OK, detail)


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> Finding:
    """Judge the interpreter."""
    shown = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if version < _OLDEST_PYTHON or struct.calcsize("P") * 8 < 64:  # noqa: PLR2004 - bits
        return Finding("python", Verdict.WRONG, shown, "Use a 64-bit Python 3.11 or later.")
    return _ok("python", shown)


def check_open_files() -> Finding:
    """Judge how many files and sockets a process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _WISHED_FILES:
        return Finding(
            "open files", Verdict.NOTE, f"at most {soft}", f"Raise it for many connections: ulimit -n {_WISHED_FILES}, LimitNOFILE=."
        )
    return _ok("open files", "enough")


def check_clock(clock: Clock) -> Finding:
    """Judge the machine's time by itself; `check_database` compares it with the server's."""
    now = clock.now()
    if now < _NOT_BEFORE:
        return Finding(
            "clock", Verdict.WRONG, f"says {now:%Y-%m-%d}", "Set the clock (timedatectl set-ntp true): signatures carry the time."
        )
    return _ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def check_data_dir(settings: Settings) -> Finding:
    """Judge the folder for the embedded database, the local key and the platform key. Creates nothing that stays."""
    folder = settings.data_dir
    there = folder if folder.exists() else next(parent for parent in folder.parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        advice = f"Let {_user()} write there, or set CUSTOMHOUSE_DATA_DIR to a folder of its own."
        return Finding("data folder", Verdict.WRONG, f"{folder} cannot be written ({error.strerror})", advice)
    if free < _NEEDED_BYTES:
        return Finding("data folder", Verdict.WRONG, f"{folder}: {free // 1_000_000} MB free", "Make room, or set CUSTOMHOUSE_DATA_DIR.")
    if folder.exists() and folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return Finding("data folder", Verdict.WRONG, f"other users may write into {folder}", f"chmod go-w {folder}")
    if free < _WISHED_BYTES:
        return Finding("data folder", Verdict.NOTE, f"{folder}: {free // 1_000_000} MB free", "PostgreSQL stops when the disk is full.")
    return _ok("data folder", f"{folder}{'' if folder.exists() else ' (made at the first start)'}, {free // 1_000_000_000} GB free")


def _user() -> str:
    return f"user {os.geteuid()}"


def check_exposure(settings: Settings) -> list[Finding]:
    """Judge settings that are lawful, and that an operator should have meant."""
    found = [_ok("public address", settings.public_url)]
    if settings.migrate_database_url is not None:
        advice = "Give CUSTOMHOUSE_MIGRATE_DATABASE_URL to `customhouse db migrate` alone."
        found.append(Finding("owner's login", Verdict.NOTE, "the owner of the schema stands in the service's settings", advice))
    if settings.environment is Environment.PROD and settings.egress_allow:
        networks = ", ".join(map(str, settings.egress_allow))
        found.append(
            Finding("egress", Verdict.NOTE, f"webhooks may be sent into {networks}", "Keep CUSTOMHOUSE_EGRESS_ALLOW as small as possible.")
        )
    if settings.failpoints:
        found.append(Finding("failpoints", Verdict.NOTE, "the process will be killed on purpose", "Unset CUSTOMHOUSE_FAILPOINTS."))
    return found


def check_providers(settings: Settings) -> list[Finding]:
    """Judge the providers file and fetch the secrets that it names."""
    try:
        found = catalogue_of(settings)
    except CustomhouseError as error:
        faults = [f"{fault.pointer}: {fault.detail}" for fault in error.faults] if isinstance(error, Invalid) else []
        detail = "; ".join([error.detail, *faults])
        return [Finding("providers", Verdict.WRONG, detail, "`customhouse provider check FILE` judges it in full.")]
    judged = [
        Finding(
            "providers",
            Verdict.WRONG,
            f"{first} and {second} share a project",
            "A project of its own for each, or one's token carries both.",
        )
        for first, second in found.shared_projects()
    ]
    return judged or [_ok("providers", f"{len(found.clients)} set up of {len(found.providers)}")]


async def check_port(part: str, address: Address) -> Finding:
    """Judge whether the service can listen there, or already does."""
    shown = str(address)
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and await _is_ours(address.port):
            return _ok(part, f"Customhouse answers on {shown}")
        advice = (
            "Choose another address, or end what uses this one."
            if error.errno == errno.EADDRINUSE
            else "Choose an address of this machine."
        )
        return Finding(part, Verdict.WRONG, f"{shown} cannot be listened on ({error.strerror})", advice)
    return _ok(part, f"{shown} is free")


async def _is_ours(port: int) -> bool:
    try:
        answer = await send(port, "GET", "/healthz", [])
        return answer.json().keys() >= {"status", "version"}
    except CustomhouseError:
        return False


async def check_key_service(settings: Settings) -> Finding:
    """Ask the key service to wrap and unwrap once. Creates no key file."""
    kms_key = settings.kms_key
    if isinstance(kms_key, AwsKey):
        shown, advice = f"AWS KMS, {kms_key.arn}", "See docs/how-to/aws-kms.md: the key's policy, the role's policy, credentials, region."
    else:
        shown, advice = f"key file {kms_key.path}", "Set CUSTOMHOUSE_KMS_KEY to a key file of this user alone, or to a key in AWS KMS."
        if settings.environment is Environment.DEV and not kms_key.path.exists():
            if settings.database_url is not None or not _has_database(settings):
                return _ok("key service", f"{shown} (made at the first start)")
            advice = "If this database was used before, bring back its key file: what was sealed opens with that one alone."
            return Finding("key service", Verdict.NOTE, f"{shown} is not there, a database is", advice)
    try:
        await key_service(settings).check()
    except CustomhouseError as error:
        return Finding("key service", Verdict.WRONG, f"{shown}: {error.detail}", advice)
    if settings.environment is Environment.PROD and not isinstance(kms_key, AwsKey):
        return Finding(
            "key service", Verdict.NOTE, f"{shown}, in prod (ALLOW_LOCAL_KEY)", "Whoever copies this file can open everything: use AWS KMS."
        )
    return _ok("key service", f"{shown} answers")


def _has_database(settings: Settings) -> bool:
    return (settings.data_dir / "postgres" / "pgdata").exists()


async def check_database(settings: Settings, clock: Clock) -> list[Finding]:
    """Look at the server, the login, the schema. An embedded database that does not exist yet is not made."""
    if settings.database_url is None:
        try:
            folder = await asyncio.to_thread(binaries)
            version = await asyncio.to_thread(major_version, folder)
        except CustomhouseError as error:
            return [Finding("postgresql", Verdict.WRONG, "embedded", error.detail)]
        if not _has_database(settings):
            return [_ok("postgresql", f"embedded, version {version} (made at the first start)")]
    try:
        async with _connected(settings) as database:
            return await _look(database, clock, embedded=settings.database_url is None)
    except CustomhouseError as error:
        place = "embedded" if settings.database_url is None else "CUSTOMHOUSE_DATABASE_URL"
        return [Finding("postgresql", Verdict.WRONG, place, error.detail)]


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[Database]:
    store = await asyncio.to_thread(open_store, settings)
    try:
        database = await Database.connect(store.dsn, size=2, application_name="customhouse doctor")
        try:
            yield database
        finally:
            await database.close()
    finally:
        await asyncio.to_thread(store.close)


async def _look(database: Database, clock: Clock, *, embedded: bool) -> list[Finding]:
    kind = "embedded, version" if embedded else "version"
    row = (await database.call(_LOOK))[0]
    version = row["version"] // 10_000
    if version < _OLDEST_POSTGRESQL:
        advice = f"Customhouse needs PostgreSQL {_OLDEST_POSTGRESQL} or later."
        return [Finding("postgresql", Verdict.WRONG, f"{kind} {version}", advice)]
    found = [_ok("postgresql", f"{kind} {version}, the login owns nothing"), _skew(row, clock)]
    try:
        recorded = await database.call(_RECORDED)
        pending = compare({one["version"]: one["checksum"] for one in recorded}, migrations()).pending
    except DatabaseRefused:
        advice = "Run `customhouse db migrate`, then as the owner: grant customhouse_service to the service's login."
        return [*found, Finding("migrations", Verdict.WRONG, "this login finds no schema", advice)]
    except CustomhouseError as error:
        return [*found, Finding("migrations", Verdict.WRONG, "not this version's", error.detail)]
    if pending and not embedded:
        return [*found, Finding("migrations", Verdict.WRONG, f"{len(pending)} pending", "Run `customhouse db migrate`.")]
    return [*found, _ok("migrations", "none is pending" if not pending else f"{len(pending)} pending, applied at the next start")]


def _skew(row: Row, clock: Clock) -> Finding:
    skew = abs(row["at"] - clock.now().timestamp())
    if skew < _SKEW_WARNED:
        return _ok("clocks", "this machine and PostgreSQL agree")
    verdict = Verdict.WRONG if skew > _SKEW_REFUSED else Verdict.NOTE
    return Finding(
        "clocks", verdict, f"PostgreSQL's differs by {skew:.0f} s", "Synchronise both machines (NTP): receivers refuse what is 300 s off."
    )


async def check_all(settings: Settings, clock: Clock) -> list[Finding]:
    """Look at every part of a service with these settings."""
    ports = [await check_port("listen", settings.listen)]
    if settings.metrics_listen is not None:
        ports.append(await check_port("metrics", settings.metrics_listen))
    return [
        check_data_dir(settings),
        *check_providers(settings),
        await check_key_service(settings),
        *await check_database(settings, clock),
        *ports,
        *check_exposure(settings),
    ]
