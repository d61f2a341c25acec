"""`up`, `serve` and `work` with several processes, as commands: what is said, when they refuse, and that nothing is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.commands import PROGRAM, call, processes_of, running, surroundings
from tests.services import free_port

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """The settings of an embedded service."""
    return {"DATA_DIR": str(tmp_path / "data"), "LISTEN": "127.0.0.1:0", "ENVIRONMENT": "dev", "PROCESSES": "2"}


def test_what_is_wrong_is_said_once_and_nothing_is_left(tmp_path: Path, settings: dict[str, str]) -> None:
    providers = tmp_path / "providers.toml"
    providers.write_text("[nonsense")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        cases = {
            f"Cannot listen on {address}": call("serve", settings=settings | {"LISTEN": address}),
            "PROVIDERS_FILE": call("serve", settings=settings | {"PROVIDERS_FILE": str(tmp_path / "missing.toml")}),
            "CUSTOMHOUSE_PROCESSES: expected": call("work", settings=settings | {"PROCESSES": "0"}),
        }
    for expected, done in cases.items():
        assert done.returncode == 1, done.stdout
        assert done.stderr.count("customhouse: ") == 1, done.stderr
        assert expected in done.stderr
        assert "Traceback" not in done.stderr + done.stdout
    assert processes_of(Path(settings["DATA_DIR"])) == []


async def test_metrics_and_health_have_one_listener_for_all(tmp_path: Path, settings: dict[str, str]) -> None:
    port = free_port()
    with running("serve", tmp_path / "log", settings | {"METRICS_LISTEN": f"127.0.0.1:{port}"}):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            assert (await client.get("/healthz")).json()["status"] == "ok"
            assert (await client.get("/readyz")).json()["ready"] is True
            assert "customhouse_processes_replaced_total 0.0" in (await client.get("/metrics")).text
            assert (await client.post("/metrics")).status_code == 405
            assert (await client.get("/v1/tenants/acme")).status_code == 404
    assert processes_of(Path(settings["DATA_DIR"])) == []


def test_a_terminal_is_greeted_once_by_all(settings: dict[str, str]) -> None:
    ours, theirs = os.openpty()
    arguments = [*PROGRAM, "up", "--processes", "2"]
    process = subprocess.Popen(arguments, env=surroundings(settings), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = b""
    try:
        while b"docs: http://" not in shown:
            shown += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        # What it says while it ends has to be read, or it would wait for somebody who does.
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:
                break
            if not piece:
                break
            shown += piece
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert shown.count(b"shown this once") == 1
    assert shown.count(b"is up (dev, embedded PostgreSQL") == 1
    assert b", 2 processes)" in shown
    assert b"Traceback" not in shown
