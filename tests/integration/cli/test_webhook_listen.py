"""`webhook listen` as a user runs it: a process, a port, a line for each request."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from customhouse_receiver import testing
from tests.commands import PROGRAM, surroundings


class Listening:
    """A running `webhook listen`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stderr is not None
        said = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", said)
        assert found, said + process.stderr.read()
        self.port = int(found[1])

    def post(self, headers: dict[str, str] | None = None, body: bytes | None = None, *, method: str = "POST", ago: int = 0) -> int:
        raw = testing.body() if body is None else body
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            signed = testing.headers(raw, int(time.time()) - ago)
            conn.request(method, "/any/path", raw, signed if headers is None else headers)
            return conn.getresponse().status
        finally:
            conn.close()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> tuple[int, str]:
        """Return the exit code and what was said last."""
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said


@contextmanager
def listening(*options: str) -> Iterator[Listening]:
    process = subprocess.Popen(
        [*PROGRAM, "webhook", "listen", "--port", "0", "--secret-env", "HOOK_SECRET", *options],
        env=surroundings({}) | {"HOOK_SECRET": testing.SECRET},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Listening(process)
    finally:
        process.kill()
        process.communicate()


def test_each_request_is_told_as_it_arrives_and_why_it_was_refused() -> None:
    with listening("--json", "--data") as place:
        asked = [place.post(), place.post(ago=1), place.post({}), place.post(body=b"[]"), place.post(ago=400), place.post(method="PUT")]
        told: list[dict[str, Any]] = [json.loads(place.line()) for _ in asked]
        place.process.send_signal(signal.SIGINT)
        ended = place.end()
    assert asked == [204, 200, 401, 422, 401, 405] == [one["status"] for one in told]
    assert [one.get("reason", one["verdict"]) for one in told] == [
        "genuine",
        "duplicate",
        "missing_header",
        "envelope_malformed",
        "timestamp_outside_tolerance",
        "method_not_allowed",
    ]
    assert (told[0]["event_id"], told[0]["secret"], told[0]["data"]) == ("evt_test", "HOOK_SECRET", {"person": {"person_id": "p_1"}})
    assert "s old" in told[4]["detail"]
    assert ended == (130, "1 genuine, 1 duplicate, 4 refused\n")


def test_without_a_terminal_the_lines_are_plain_and_it_ends_after_so_many() -> None:
    with listening("--count", "2", "--status", "503") as place:
        assert [place.post(), place.post()] == [503, 503]  # not 2xx: released, so the same request is taken again
        lines = [place.line(), place.line()]
        ended = place.end()
    for line in lines:
        assert re.fullmatch(
            r"\d\d:\d\d:\d\d genuine   503  person\.updated  evt_test  queast-v1, secret HOOK_SECRET, signed \d\.\d s ago, \d+ bytes\n",
            line,
        ), line
    assert ended == (0, "2 genuine, 0 duplicate, 0 refused\n")


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(testing.SECRET)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [*PROGRAM, "webhook", "listen", "--secret-file", str(tmp_path / "secret"), "--port", str(port)]
        done = subprocess.run(command, env=surroundings({}), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"customhouse: 127\.0\.0\.1:{port} cannot be listened on \(.*\); choose another with --port\.\n", done.stderr)
