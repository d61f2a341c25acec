"""The doctor finds what is broken, says what to do, and changes nothing."""

from __future__ import annotations

import os
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from customhouse.canonical import parse_object
from customhouse.cli import checkup
from customhouse.cli.checkup import Finding, Verdict
from customhouse.clock import SystemClock
from customhouse.config import Address, Settings, load
from customhouse.crypto.kms_local import load_local_key
from tests.commands import PROGRAM, call, surroundings
from tests.conftest import Server
from tests.receivers import recorder, status

pytestmark = pytest.mark.anyio
CLOCK = SystemClock()


class HeldClock(SystemClock):
    """A clock that stands."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment

    def now(self) -> datetime:
        return self._moment


def embedded(tmp_path: Path, **changes: str) -> Settings:
    given = {"ENVIRONMENT": "dev", "DATA_DIR": str(tmp_path / "data"), "LISTEN": "127.0.0.1:0", **changes}
    return load({f"CUSTOMHOUSE_{name}": value for name, value in given.items()})


def one(findings: list[Finding], part: str) -> Finding:
    (found,) = [finding for finding in findings if finding.part == part]
    return found


async def test_a_database_in_order_is_said_to_be(settings: Settings) -> None:
    findings = await checkup.check_database(settings, CLOCK)
    assert [(finding.part, finding.verdict) for finding in findings] == [
        ("postgresql", Verdict.OK),
        ("clocks", Verdict.OK),
        ("migrations", Verdict.OK),
    ]


async def test_a_login_that_is_too_powerful_is_wrong(environ: dict[str, str], database_server: Server) -> None:
    (finding,) = await checkup.check_database(load(environ | {"CUSTOMHOUSE_DATABASE_URL": database_server.owner}), CLOCK)
    assert finding.verdict is Verdict.WRONG
    assert "row-level security would not hold" in finding.advice


async def test_a_database_without_the_schema_is_wrong(environ: dict[str, str], database_server: Server, owner: asyncpg.Connection) -> None:
    await owner.execute("drop schema customhouse cascade")
    findings = await checkup.check_database(load(environ), CLOCK)
    assert one(findings, "migrations").verdict is Verdict.WRONG
    assert "customhouse db migrate" in one(findings, "migrations").advice


async def test_a_pending_migration_is_wrong(environ: dict[str, str], owner: asyncpg.Connection) -> None:
    await owner.execute("delete from schema_migrations where version = (select max(version) from schema_migrations)")
    finding = one(await checkup.check_database(load(environ), CLOCK), "migrations")
    assert (finding.verdict, finding.detail) == (Verdict.WRONG, "1 pending")


async def test_a_newer_schema_is_wrong(environ: dict[str, str], owner: asyncpg.Connection) -> None:
    await owner.execute("insert into schema_migrations (version, name, checksum) values (9999, 'later', 'x')")
    finding = one(await checkup.check_database(load(environ), CLOCK), "migrations")
    assert finding.verdict is Verdict.WRONG
    assert "newer Customhouse" in finding.advice


async def test_a_server_that_is_not_there_is_wrong_and_its_password_is_not_shown(environ: dict[str, str]) -> None:
    parts = urlsplit(environ["CUSTOMHOUSE_DATABASE_URL"])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        elsewhere = urlunsplit(parts._replace(netloc=f"app:pass-canary@127.0.0.1:{taken.getsockname()[1]}"))
        (finding,) = await checkup.check_database(load(environ | {"CUSTOMHOUSE_DATABASE_URL": elsewhere}), CLOCK)
    assert finding.verdict is Verdict.WRONG
    assert "pass-canary" not in repr(finding)


@pytest.mark.parametrize(("seconds", "verdict"), [(0, Verdict.OK), (10, Verdict.NOTE), (600, Verdict.WRONG)])
async def test_clocks_that_differ_are_told(settings: Settings, seconds: int, verdict: Verdict) -> None:
    clock = HeldClock(CLOCK.now() + timedelta(seconds=seconds))
    assert one(await checkup.check_database(settings, clock), "clocks").verdict is verdict


def test_a_clock_that_was_never_set_is_wrong() -> None:
    assert checkup.check_clock(HeldClock(datetime(1970, 1, 1, tzinfo=UTC))).verdict is Verdict.WRONG
    assert checkup.check_clock(CLOCK).verdict is Verdict.OK


def test_an_old_python_is_wrong() -> None:
    assert checkup.check_python((3, 10)).verdict is Verdict.WRONG
    assert checkup.check_python().verdict is Verdict.OK


async def test_an_embedded_database_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    settings = embedded(tmp_path)
    findings = await checkup.check_all(settings, CLOCK)
    assert {finding.verdict for finding in findings} == {Verdict.OK}
    assert "made at the first start" in one(findings, "postgresql").detail
    assert not settings.data_dir.exists()


async def test_a_data_folder_that_cannot_be_one_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    finding = checkup.check_data_dir(embedded(tmp_path))
    assert finding.verdict is Verdict.WRONG
    assert "CUSTOMHOUSE_DATA_DIR" in finding.advice


async def test_a_data_folder_that_others_may_write_is_wrong(tmp_path: Path) -> None:
    settings = embedded(tmp_path)
    settings.data_dir.mkdir()
    settings.data_dir.chmod(0o777)
    assert checkup.check_data_dir(settings).verdict is Verdict.WRONG


async def test_a_key_file_that_others_may_read_is_wrong(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "local.key"
    path.write_text("not a key")
    path.chmod(0o644)
    finding = await checkup.check_key_service(embedded(tmp_path, KMS_KEY=f"file:{path}"))
    assert finding.verdict is Verdict.WRONG
    assert "chmod 600" in finding.detail
    assert "not a key" not in repr(finding)


async def test_a_missing_key_file_beside_a_database_is_told(tmp_path: Path) -> None:
    settings = embedded(tmp_path)
    (settings.data_dir / "postgres" / "pgdata").mkdir(parents=True)
    finding = await checkup.check_key_service(settings)
    assert finding.verdict is Verdict.NOTE
    assert "bring back its key file" in finding.advice
    assert not (settings.data_dir / "keys").exists()


async def test_a_local_key_in_prod_is_told_each_time(tmp_path: Path) -> None:
    made = await checkup.check_key_service(embedded(tmp_path))
    assert made.verdict is Verdict.OK
    path = tmp_path / "local.key"
    path.write_text("customhouse local key")
    given = {"ENVIRONMENT": "prod", "PUBLIC_URL": "https://ch.example", "KMS_KEY": f"file:{path}", "ALLOW_LOCAL_KEY": "true"}
    assert (await checkup.check_key_service(embedded(tmp_path, **given))).verdict is Verdict.WRONG
    path.unlink()
    load_local_key(path, create=True)
    finding = await checkup.check_key_service(embedded(tmp_path, **given))
    assert finding.verdict is Verdict.NOTE
    assert "AWS KMS" in finding.advice


async def test_a_port_is_free_taken_or_ours() -> None:
    async with recorder() as stranger:
        address = Address("127.0.0.1", stranger.port)
        assert (await checkup.check_port("listen", address)).verdict is Verdict.WRONG
        stranger.answer = status(200, body=b'{"status":"ok","version":"0.1.0"}')
        ours = await checkup.check_port("listen", address)
        assert (ours.verdict, ours.detail) == (Verdict.OK, f"Customhouse answers on {address}")
    assert (await checkup.check_port("listen", Address("127.0.0.1", 0))).verdict is Verdict.OK
    assert (await checkup.check_port("listen", Address("192.0.2.1", 80))).verdict is Verdict.WRONG


async def test_what_an_operator_should_have_meant_is_told(tmp_path: Path) -> None:
    settings = embedded(
        tmp_path,
        ENVIRONMENT="prod",
        PUBLIC_URL="https://ch.example",
        KMS_KEY=f"file:{tmp_path / 'local.key'}",
        ALLOW_LOCAL_KEY="true",
        EGRESS_ALLOW="10.0.0.0/8",
        MIGRATE_DATABASE_URL="postgresql://owner:pass-canary@db.example/customhouse",
    )
    told = {finding.part for finding in checkup.check_exposure(settings) if finding.verdict is Verdict.NOTE}
    assert told == {"owner's login", "egress"}


def test_the_command_names_each_broken_setting_and_ends_with_1() -> None:
    done = call("doctor", settings={"KMS_KEY": "nonsense", "EGRES_ALLOW": "10.0.0.0/8"})
    assert done.returncode == 1
    for said in (
        "CUSTOMHOUSE_KMS_KEY",
        "CUSTOMHOUSE_PUBLIC_URL",
        "do you mean CUSTOMHOUSE_EGRESS_ALLOW?",
        "doctor --dev",
        "are not in order",
    ):
        assert said in done.stdout
    assert "nonsense" not in done.stdout + done.stderr


def test_the_command_prints_json_and_ends_with_0_where_all_is_well(tmp_path: Path) -> None:
    done = call("doctor", "--dev", "--json", settings={"DATA_DIR": str(tmp_path / "data"), "LISTEN": "127.0.0.1:0"})
    assert done.returncode == 0, done.stdout
    said = parse_object(done.stdout.encode())
    assert said["in_order"] is True
    assert not (tmp_path / "data").exists()


def test_a_terminal_gets_a_table(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    given = surroundings({"DATA_DIR": str(tmp_path / "data"), "LISTEN": "127.0.0.1:0", "FAILPOINTS": ""}) | {"TERM": "xterm-256color"}
    done = subprocess.run([*PROGRAM, "doctor", "--dev"], env=given, stdin=subprocess.DEVNULL, stdout=theirs, timeout=60, check=False)
    os.close(theirs)
    shown = b""
    while b"in order." not in shown:
        shown += os.read(ours, 65536)
    os.close(ours)
    assert done.returncode == 0
    assert b"\x1b[32mok" in shown
    assert b"what was found" in shown
    assert b"Everything is in order." in shown


def test_a_providers_file_in_order_says_how_many_are_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST_SECRET", "test")
    file = tmp_path / "providers.toml"
    (default,) = checkup.check_providers(embedded(tmp_path))
    assert (default.verdict, default.detail) == (Verdict.OK, "0 set up of 10")
    file.write_text('[zoom]\nclient_id = "test"\nclient_secret = {env = "FIRST_SECRET"}\n', encoding="utf-8")
    (finding,) = checkup.check_providers(embedded(tmp_path, PROVIDERS_FILE=str(file)))
    assert (finding.verdict, finding.detail) == (Verdict.OK, "1 set up of 10")


def test_a_providers_file_that_is_not_in_order_is_wrong_and_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "providers.toml"
    (missing,) = checkup.check_providers(embedded(tmp_path, PROVIDERS_FILE=str(file)))
    assert missing.verdict is Verdict.WRONG
    file.write_text('[zoom]\nclient_idd = "x"\n', encoding="utf-8")
    (wrong,) = checkup.check_providers(embedded(tmp_path, PROVIDERS_FILE=str(file)))
    assert (wrong.verdict, "/zoom/client_idd" in wrong.detail) == (Verdict.WRONG, True)
    monkeypatch.setenv("FIRST_SECRET", "test")
    line = '[{}]\nclient_id = "1-{}.apps.googleusercontent.com"\nclient_secret = {{env = "FIRST_SECRET"}}\n'
    file.write_text(line.format("gmail", "a") + line.format("google-meet", "b"), encoding="utf-8")
    (shared,) = checkup.check_providers(embedded(tmp_path, PROVIDERS_FILE=str(file)))
    assert (shared.verdict, shared.detail) == (Verdict.WRONG, "google-meet and gmail share a project")
