"""The README, the tutorial and the how-to are run as they stand, against a live service."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from customhouse_receiver.testing import body, headers
from tests.commands import processes_of, running, surroundings
from tests.receivers import recorder

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

pytestmark = pytest.mark.anyio


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the examples of a page: language and code."""
    return FENCE.findall((ROOT / page).read_text(encoding="utf-8"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings(folder: Path, **more: str) -> dict[str, str]:
    return {"DATA_DIR": str(folder / "data"), "EGRESS_ALLOW": "127.0.0.0/8", "LISTEN": "127.0.0.1:0", **more}


def link_environment(folder: Path) -> None:
    """Make `.venv/bin/…` mean this interpreter's environment."""
    (folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)


async def test_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    link_environment(tmp_path)
    shell = next(code for language, code in blocks("README.md") if language == "sh" and "curl" in code)
    python = next(code for language, code in blocks("README.md") if language == "python")
    assert len((shell + python).strip().splitlines()) <= 20
    async with recorder() as receiver:
        with running("up", tmp_path / "log", settings(tmp_path)) as (_, port):
            script = f"set -eu\n{shell}\n.venv/bin/python - <<'PYTHON'\n{python}\nPYTHON\n"
            script = script.replace("127.0.0.1:8300", f"127.0.0.1:{port}").replace("127.0.0.1:9000", f"127.0.0.1:{receiver.port}")
            done = await asyncio.to_thread(
                subprocess.run,
                ["bash", "-c", script],
                cwd=tmp_path,
                env=surroundings(settings(tmp_path)),
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert "['person.phone']" in done.stdout
            received = await receiver.wait_for(2)
    events = [json.loads(request.body) for request in received]
    assert {event["event_type"] for event in events} == {"order.paid", "person.updated"}
    person = next(event["data"]["person"] for event in events if event["event_type"] == "person.updated")
    assert person == {"person_id": "p_1", "work_email": "ada@acme.example"}
    assert processes_of(tmp_path) == []


def test_the_tutorial_runs_as_it_stands(tmp_path: Path) -> None:
    link_environment(tmp_path)
    port, receiver_port = free_port(), free_port()
    page = blocks("docs/tutorial/first-event.md")
    (receiver,) = [code for language, code in page if language == "python"]
    (tmp_path / "receiver.py").write_text(receiver)
    script = ["set -eu", "umask 022"]
    for code in (code for language, code in page if language == "sh"):
        if code.startswith("# terminal"):
            log = f"terminal-{code.split()[2]}.log"
            *before, last = code.rstrip().splitlines()
            lines = "\n".join([*before, f"exec {last}"])
            script += [f"(\n{lines}\n) > {log} 2>&1 &", 'PIDS="$! ${PIDS-}"']
            wanted = port if "customhouse up" in code else receiver_port
            script.append(_until(f"(: < /dev/tcp/127.0.0.1/{wanted}) 2> /dev/null"))
        elif "deliveries.json" in code and not code.startswith("# at the end"):
            # A reader takes a second to get here; the script looks until what the page says is there.
            script.append(_until(f"{code}\ngrep -q '\"delivered\"' deliveries.json && grep -q first-1 terminal-3.log"))
        elif code.startswith("# at the end"):
            script += ["cp ./*.json evidence", "kill $PIDS; wait $PIDS || true", code]
        else:
            script.append(code)
    (tmp_path / "evidence").mkdir()
    text = (
        "\n".join(script)
        .replace(":8300", f":{port}")
        .replace(":9000", f":{receiver_port}")
        .replace("--port 9000", f"--port {receiver_port}")
    )
    environment = surroundings({"LISTEN": f"127.0.0.1:{port}"})
    done = subprocess.run(["bash", "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = (tmp_path / "terminal-3.log").read_text()
    assert 'person.updated first-1 {"person": {"person_id": "p_1", "work_email": "ada@acme.example"}}' in shown
    assert shown.count("first-1") == 1

    def found(name: str) -> Any:
        return json.loads((tmp_path / "evidence" / f"{name}.json").read_text())

    assert found("accepted")["deliveries"][0]["privacy"] == {
        "contains_pii": True,
        "pii_fields": ["person.work_email"],
        "removed_fields": ["person.phone"],
        "policy": "tenant:0",
    }
    assert found("again") == found("accepted") | {"duplicate": True}
    assert [delivery["status"] for delivery in found("deliveries")["data"]] == ["delivered"]
    assert "connection.created" in {entry["type"] for entry in found("ledger")["data"]}
    left = {entry.name for entry in tmp_path.iterdir()} - {"__pycache__"}
    assert left == {".venv", "evidence", "terminal-1.log", "terminal-3.log"}
    assert processes_of(tmp_path) == []


CONSENT = """
import sys
import httpx
with httpx.Client(trust_env=False, timeout=30) as browser:
    page = browser.get(sys.argv[1])
    csrf = page.text.split('name="csrf" value="')[1].split('"')[0]
    origin = f"http://{page.url.netloc.decode()}"
    sent = browser.post(page.url, data={"csrf": csrf, "decision": "consent"}, headers={"Origin": origin})
    decided = browser.post(sent.headers["location"], data={"decision": "allow", "account": "ada"})
    assert "Almost done" in browser.get(decided.headers["location"]).text
"""
"""What a person does with two buttons."""


def test_the_tutorial_of_the_first_connection_runs_as_it_stands(tmp_path: Path) -> None:
    link_environment(tmp_path)
    port, sandbox_port = free_port(), free_port()
    (tmp_path / "consent.py").write_text(CONSENT)
    (tmp_path / "evidence").mkdir()
    script = ["set -eu"]
    for _, code in blocks("docs/tutorial/first-connection.md"):
        if code.startswith("# terminal"):
            *before, last = code.rstrip().splitlines()
            lines = "\n".join([*before, f"exec {last}"])
            script += [f"(\n{lines}\n) > terminal-{code.split()[2]}.log 2>&1 &", 'PIDS="$! ${PIDS-}"']
            wanted = port if "customhouse up" in code else sandbox_port
            script.append(_until(f"(: < /dev/tcp/127.0.0.1/{wanted}) 2> /dev/null"))
        elif code.startswith("# at the end"):
            script += ["cp ./*.json evidence", "kill $PIDS; wait $PIDS || true", code]
        else:
            script.append(code)
            if "connect_url" in code:
                script.append('.venv/bin/python consent.py "$(field session.json connect_url)"')
    address = f"http://127.0.0.1:{port}"
    text = "\n".join(script).replace("http://127.0.0.1:8300", address)
    text = text.replace("customhouse sandbox", f"customhouse sandbox --port {sandbox_port} --public-url {address}")
    environment = surroundings({"LISTEN": f"127.0.0.1:{port}", "PUBLIC_URL": address})
    done = subprocess.run(["bash", "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    def found(name: str) -> Any:
        return json.loads((tmp_path / "evidence" / f"{name}.json").read_text())

    connection, receipt = found("connection"), found("receipt")
    assert (connection["status"], connection["scopes"]["missing"]) == ("active", [])
    assert connection["scopes"]["requested"] == connection["scopes"]["granted"]
    assert connection["account"]["label"] == found("me")["email"] == "ada@example.com"
    assert (receipt["revocation"]["status"], receipt["revocation"]["verified"], receipt["tokens_destroyed"]) == ("revoked", True, True)
    assert {"connect_session.consented", "connection.created", "connection.disconnected"} <= {
        one["type"] for one in found("ledger")["data"]
    }
    left = {entry.name for entry in tmp_path.iterdir()} - {"__pycache__"}
    assert left == {".venv", "consent.py", "evidence", "terminal-1.log", "terminal-2.log"}
    assert processes_of(tmp_path) == []


def _until(command: str) -> str:
    """Return a loop that repeats a command until it succeeds; the test's own time-out ends it otherwise."""
    return f"until\n{command}\ndo sleep 0.1; done"


def test_the_how_to_for_plain_python_runs_as_it_stands() -> None:
    code = next(code for language, code in blocks("docs/how-to/verify-webhooks.md") if "def handle" in code)
    names: dict[str, Any] = {}
    exec(code, names)
    raw = body(event_id="evt_1")
    signed = headers(raw, int(time.time()), secret=SECRET)
    worked: list[str] = []
    assert names["handle"](signed, raw, lambda event: worked.append(event.event_id)) == 204
    assert names["handle"](signed, raw, lambda event: worked.append(event.event_id)) == 401
    assert names["handle"](signed, raw + b" ", lambda event: worked.append(event.event_id)) == 401
    assert worked == ["evt_1"]


@pytest.mark.parametrize(("mark", "path"), [("async def endpoint", "/"), ("FastAPI()", "/hooks/")], ids=["asgi", "fastapi"])
async def test_the_how_to_for_asgi_runs_as_it_stands(mark: str, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = next(code for _, code in blocks("docs/how-to/verify-webhooks.md") if mark in code)
    names: dict[str, Any] = {"__name__": "example"}
    exec(code, names)
    raw = body(event_id="evt_1")
    signed = headers(raw, int(time.time()), secret=SECRET)
    assert [await _post(names["app"], path, signed, raw), await _post(names["app"], path, signed, raw)] == [204, 401]
    assert await _post(names["app"], path, {}, raw) == 401
    assert capsys.readouterr().out == "person.updated evt_1\n"


async def _post(app: Any, path: str, signed: dict[str, str], raw: bytes) -> int:
    """Send one request through an ASGI application, as a server would."""
    statuses: list[int] = []
    waiting = [{"type": "http.request", "body": raw, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in signed.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    (found,) = statuses
    return found
