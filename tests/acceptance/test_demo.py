"""`customhouse demo`: the story holds, shows no secret, and leaves nothing behind, whatever way it ends."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from customhouse.canonical import parse_object
from customhouse.cli.demo.scene import PERSONAL_EMAIL, PHONE, WORK_EMAIL
from tests.commands import PROGRAM, call, processes_of, surroundings

SECRET = re.compile(r"(?:ck_|whsec_|whsk_)[A-Za-z0-9+/_=-]{8}")
LINK = re.compile(r"http://127\.0\.0\.1:[0-9]+/connect/\S+")
ENDING = ("claims held", "Try next", "customhouse up", "docs/tutorial/first-event.md")


def connect_as_ada(link: str) -> None:
    """Do what the story asks of whoever watches it: press the button of our page, and that of Zoom's."""
    with httpx.Client(trust_env=False, timeout=30) as browser:
        page = browser.get(link)
        csrf = page.text.split('name="csrf" value="')[1].split('"')[0]
        origin = f"http://{page.url.netloc.decode()}"
        sent = browser.post(link, data={"csrf": csrf, "decision": "consent"}, headers={"Origin": origin})
        decided = browser.post(sent.headers["location"], data={"decision": "allow", "account": "ada"})
        assert "Code for support: <code>granted</code>" in browser.get(decided.headers["location"]).text


def test_the_story_holds_in_plain_lines_without_a_secret_and_leaves_nothing(tmp_path: Path) -> None:
    environment = surroundings({}) | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [*PROGRAM, "demo", "--by-hand"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    told = ""
    for line in process.stdout:
        told += line
        if "press the buttons" in line:
            connect_as_ada(LINK.findall(told)[0])
    _, complaints = process.communicate(timeout=110)
    assert process.returncode == 0, told + complaints
    assert complaints == ""
    assert "\x1b" not in told
    for claim in (
        "accepted: 20 of 20",
        "sealed: in a pg_dump of everything",
        "signed: each request names the key",
        "delivered: the service recorded 20 of 20",
        "verified: the receiver checked and took 20 of 20, each once",
        "the same request again: refused (replayed)",
        "one byte of the body changed: refused (signature_mismatch)",
        "genuinely signed, but five minutes ago: refused (timestamp_outside_tolerance)",
        "`retrying`, with the time of the next attempt",
        "it arrived, verified, at attempt 2",
        "there is no `phone` and no `personal_email`",
        "`duplicate: true`, the same id",
        "acme's connection: 404",
        "until acme says who came back, the connection is `pending` and good for nothing",
        "acme confirms that it was Ada: the connection is active",
        "requested and granted are the same 8 permissions, none of them on the list of 12",
        "client secrets) a pg_dump holds none",
        "a grant that carries `meeting:write` is refused, on a page that says why",
        "and handed back: at Zoom its tokens are dead, those of Ada's connection live",
        "all of them are answered, and Zoom was asked for a new token once",
        "the page marks exactly what is added, and until she has agreed nothing changes",
        "disconnected: revoked at Zoom and seen to be refused, tokens and key destroyed",
        "the receipt is signed, and checks out with the public keys of this installation",
        "Zoom refuses the old token (401)",
        "it holds no personal value and no secret",
        "the service ends in order, and its PostgreSQL with it",
    ):
        assert re.search(rf"^ +ok  .*{re.escape(claim)}", told, re.MULTILINE), claim
    assert " NOT " not in told
    for text in ENDING:
        assert text in told
    assert SECRET.findall(told) == []
    for value in (PHONE, PERSONAL_EMAIL, WORK_EMAIL):
        assert value not in told
    assert processes_of(tmp_path) == []
    assert list(tmp_path.glob("customhouse-demo-*")) == []


def test_kept_data_holds_no_secret_outside_of_its_files_and_the_summary_is_json(tmp_path: Path) -> None:
    folder = tmp_path / "kept here"
    done = call("demo", "--json", "--keep", str(folder), within=110)
    said: dict[str, Any] = parse_object(done.stdout.encode())
    assert (done.returncode, said["held"]) == (0, True), done.stdout
    assert len(said["claims"]) > 55
    assert {claim["held"] for claim in said["claims"]} == {True}
    log = (folder / "service.log").read_text()
    assert SECRET.findall(log) == []
    assert [value for value in (PHONE, PERSONAL_EMAIL, WORK_EMAIL) if value in log] == []
    assert (folder / "data" / "postgres").is_dir()
    again = call("demo", "--keep", str(folder))
    assert (again.returncode, again.stdout) == (1, "")
    assert "is not empty" in again.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_demo_that_is_ended_early_takes_its_processes_with_it(number: signal.Signals) -> None:
    with tempfile.TemporaryDirectory(prefix="customhouse-test-") as folder:
        kept = Path(folder) / "kept"
        process = subprocess.Popen(
            [*PROGRAM, "demo", "--keep", str(kept)],
            env=surroundings({}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        # Both processes run by now, and so does PostgreSQL.
        assert any("Twenty events" in line for line in process.stdout)
        below = psutil.Process(process.pid).children(recursive=True)
        servers = processes_of(kept)
        assert len(below) >= 2
        assert servers
        os.kill(process.pid, number)
        process.wait(60)
        assert process.returncode != 0
        _, alive = psutil.wait_procs([*below, *servers], timeout=60)
        assert alive == []
        process.stdout.close()
        assert processes_of(kept) == []


def test_a_story_that_cannot_be_told_has_not_held_and_says_why(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "demo"],
        env=surroundings({}) | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        # PostgreSQL's log segments are larger: its cluster cannot be made.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )
    assert done.returncode == 1
    assert re.search(r"^ +NOT the chapter comes to its end: The service ended before it was ready", done.stdout, re.MULTILINE)
    assert "0 of 1 claims held" in done.stdout
    assert "Did not hold:" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert processes_of(tmp_path) == []
    assert list(tmp_path.glob("customhouse-demo-*")) == []
