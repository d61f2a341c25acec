"""`up` and `serve` as processes: they start, hand over the first key, work beside other commands, and leave nothing running."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from customhouse.canonical import parse_object
from customhouse.cli.loopback import Api, send
from customhouse.types import Secret
from tests.commands import PROGRAM, call, processes_of, running, surroundings
from tests.conftest import Server
from tests.integration.web.wire import post, read_reply

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """The settings of an embedded service, in a folder whose name has a space."""
    return {"DATA_DIR": str(tmp_path / "a folder"), "LISTEN": "127.0.0.1:0"}


async def test_a_first_start_hands_the_key_over_once_and_commands_work_beside_it(tmp_path: Path, settings: dict[str, str]) -> None:
    data, log = Path(settings["DATA_DIR"]), tmp_path / "log"
    with running("up", log, settings) as (process, port):
        key_file = data / "platform_key"
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
        platform = Secret(key_file.read_bytes().strip())
        assert platform.reveal() not in log.read_bytes()
        assert (await send(port, "GET", "/readyz", [])).status == 200
        assert (await Api(port, platform).get("/v1/tenants/acme")).status == 404

        made = call("tenant", "create", "acme", "--name", "Acme", "--dev", "--json", settings=settings)
        assert (made.returncode, parse_object(made.stdout.encode())["tenant_id"]) == (0, "acme"), made.stderr
        assert (await Api(port, platform).get("/v1/tenants/acme")).json()["name"] == "Acme"
        again = call("tenant", "create", "acme", "--dev", settings=settings)
        assert (again.returncode, again.stdout, again.stderr) == (1, "", "customhouse: This tenant exists already.\n")

        shown = call(
            "api-key",
            "create",
            "--dev",
            "--tenant",
            "acme",
            "--name",
            "n",
            "--scope",
            "audit:read",
            "--expires-in",
            "1h",
            settings=settings,
        )
        assert shown.returncode == 0, shown.stderr
        token = shown.stdout.strip()
        key_id = shown.stderr.split("key ")[1].split(",")[0]
        acme = Api(port, Secret(token.encode()))
        ledger = (await acme.get("/v1/audit")).json()["data"]
        assert ("operator", "cli") in {(entry["actor"]["type"], entry["actor"]["id"]) for entry in ledger}
        assert (await acme.get("/v1/connections")).status == 403

        ended = call("api-key", "revoke", key_id, "--dev", "--tenant", "acme", settings=settings)
        assert ended.returncode == 0, ended.stderr
        assert (await acme.get("/v1/audit")).status == 401
        more = call(*("api-key", "create", "--dev", "--platform", "--name", "n", "--scope", "admin", "--json"), settings=settings)
        said = parse_object(more.stdout.encode())
        assert (said["tenant_id"], said["scopes"], said["expires_at"]) == ("_platform", ["admin"], None)
        second = Api(port, Secret(str(said["api_key"]).encode()))
        assert (await second.get("/v1/tenants/acme")).status == 200
        json_ended = call("api-key", "revoke", str(said["key_id"]), "--dev", "--platform", "--json", settings=settings)
        assert parse_object(json_ended.stdout.encode())["revoked"] is True
        assert (await second.get("/v1/tenants/acme")).status == 401
        missing = call("api-key", "revoke", key_id, "--dev", "--platform", settings=settings)
        assert (missing.returncode, missing.stderr) == (1, "customhouse: _platform has no such key.\n")

        key_file.unlink()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert processes_of(data) == []
    assert b"Traceback" not in log.read_bytes()

    with running("up", log, settings) as (process, _):
        # There is a key already: none is made, none is shown.
        assert not key_file.exists()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert processes_of(data) == []


async def test_a_service_that_is_killed_leaves_no_database_behind(tmp_path: Path, settings: dict[str, str]) -> None:
    data = Path(settings["DATA_DIR"])
    with running("serve", tmp_path / "log", settings | {"ENVIRONMENT": "dev"}) as (process, _):
        servers = processes_of(data)
        assert servers
        process.kill()
        process.wait(30)
        for server in servers:
            server.wait(30)
    assert processes_of(data) == []


async def test_a_second_sigterm_cuts_off_nothing(tmp_path: Path, settings: dict[str, str]) -> None:
    log = tmp_path / "log"
    with running("up", log, settings) as (process, port):
        key = (Path(settings["DATA_DIR"]) / "platform_key").read_text().strip()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post("/v1/events", key, b"{}", "expect: 100-continue")[:-2])
        async with asyncio.timeout(60):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            while b'"ending"' not in log.read_bytes():
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        writer.write(b"{}")
        assert (await read_reply(reader)).code == "invalid_request"
        writer.close()
        assert process.wait(60) == 0


async def test_a_taken_port_is_one_line_and_the_first_key_is_not_lost(tmp_path: Path, settings: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = call("up", settings=settings | {"LISTEN": address})
    data = Path(settings["DATA_DIR"])
    assert done.returncode == 1
    assert f"customhouse: Cannot listen on {address}" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert processes_of(data) == []
    platform = Secret((data / "platform_key").read_bytes().strip())
    with running("up", tmp_path / "log", settings) as (_, port):
        assert (await Api(port, platform).get("/v1/tenants/acme")).status == 404


def test_the_schema_is_migrated_and_told_without_any_other_setting(settings: dict[str, str]) -> None:
    only = {"DATA_DIR": settings["DATA_DIR"]}
    before: Any = parse_object(call("db", "status", "--json", settings=only).stdout.encode())
    assert before["applied"] == []
    assert call("db", "status", settings=only).returncode == 1
    done = call("db", "migrate", settings=only)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["applied", f"{one['version']:04}"] for one in before["pending"]]
    assert call("db", "migrate", "--json", settings=only).stdout == '{"applied":[]}\n'
    assert call("db", "status", settings=only).returncode == 0
    assert processes_of(Path(only["DATA_DIR"])) == []


async def test_somebody_elses_database_is_migrated_by_its_owner_alone(database_server: Server) -> None:
    refused = call("db", "migrate", settings={"DATABASE_URL": database_server.app})
    assert refused.returncode == 1
    assert "CUSTOMHOUSE_MIGRATE_DATABASE_URL" in refused.stderr
    assert call("db", "migrate", settings={"MIGRATE_DATABASE_URL": database_server.owner}).stdout == "Nothing is pending.\n"
    unseen = call("db", "status", settings={"DATABASE_URL": database_server.app})
    assert (unseen.returncode, "CUSTOMHOUSE_MIGRATE_DATABASE_URL" in unseen.stderr) == (1, True)
    assert call("db", "status", settings={"MIGRATE_DATABASE_URL": database_server.owner}).returncode == 0


def test_a_terminal_is_greeted_and_shown_the_key(tmp_path: Path, settings: dict[str, str]) -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "up"], env=surroundings(settings), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    shown = b""
    try:
        # Reading fails when the other end closes, which it must not do before it has greeted.
        while b"docs: http://" not in shown:
            shown += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"shown this once" in shown
    assert b"    ck_" in shown
    assert not (Path(settings["DATA_DIR"]) / "platform_key").exists()
