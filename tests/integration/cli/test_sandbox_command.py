"""`customhouse sandbox` as a user runs it."""

from __future__ import annotations

import signal
import socket
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from customhouse.canonical import parse_object
from tests.commands import PROGRAM, call, surroundings


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run it for the length of a block; yields the process and its first line."""
    process = subprocess.Popen(
        [*PROGRAM, "sandbox", "--port", "0", *arguments],
        env=surroundings({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline()
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_with_json_a_program_learns_where_it_is_and_how_to_connect() -> None:
    with started("--json") as (_, line):
        said = parse_object(line.encode())
        file = Path(str(said["providers_file"]))
        listed = call("provider", "list", "--dev", "--json", settings={"PROVIDERS_FILE": str(file)})
        rows = parse_object(listed.stdout.encode())["data"]
        assert isinstance(rows, list)
        set_up = {row["provider"] for row in rows if isinstance(row, dict) and row["set_up"]}
        assert set_up >= {"zoom", "google-meet", "google-calendar", "gmail", "google-drive", "slack", "microsoft-teams"}
        assert file.read_text() == said["providers"]
        sections = tomllib.loads(file.read_text())
        assert all(url.startswith(str(said["base"])) for one in sections.values() for name, url in one.items() if name.endswith("_url"))
    assert not file.exists(), "what it wrote goes with it"


def test_a_folder_of_ones_own_stays_and_holds_nothing_that_others_can_read(tmp_path: Path) -> None:
    with started("--folder", str(tmp_path / "sandbox"), "--public-url", "https://customhouse.example.com") as (_, line):
        assert line.startswith("The sandbox listens on http://127.0.0.1:")
    assert (tmp_path / "sandbox" / "providers.toml").exists()
    assert {file.stat().st_mode & 0o077 for file in (tmp_path / "sandbox").iterdir()} == {0}


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = call("sandbox", "--port", str(port))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"port {port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_cannot_be_is_wrong_usage() -> None:
    assert call("sandbox", "--port", "70000").returncode == 2
