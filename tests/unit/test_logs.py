"""The allow-list of log fields: whatever is put in, only what `FIELDS` names and recognises comes out."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from customhouse import logs
from customhouse.errors import NotFound
from customhouse.types import Secret

CANARIES = (
    "canary-77.lovelace@example.org",
    "+49 30 901820 77",
    "whsec_Y2FuYXJ5NzdjYW5hcnk3N2NhbmFyeTc3",
    "ck_canary77canary77canary77canary77",
    "eyJhbGciOiJIUzI1NiJ9.eyJjYW5hcnkiOjc3fQ.c2ln",
    "postgresql://app:canary77@127.0.0.1/x",
    'canary77"}\n{"event":"forged"}',
    "Bearer canary77",
    "xoxb-canary77-canary77",
)
ID = "con_01k9zq3c8efm5v8c8r4v9c8w1a"
MOMENT = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


class StoppedClock:
    def now(self) -> datetime:
        return MOMENT

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    """The tests of this file set the log up by themselves, for all of them together."""


@pytest.fixture(scope="module")
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Configure the real pipeline on a buffer; calling the fixture empties it."""
    root = logging.getLogger()
    kept = (root.handlers, root.level, logging.raiseExceptions, sys.excepthook, sys.unraisablehook, threading.excepthook)
    buffer = io.StringIO()
    logs.configure("debug", pretty=False, stream=buffer, clock=StoppedClock())

    def take() -> list[dict[str, Any]]:
        text = buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        return [json.loads(line) for line in text.splitlines()]

    yield take
    logging.captureWarnings(capture=False)
    logs.configure()
    root.handlers, level, logging.raiseExceptions, sys.excepthook, sys.unraisablehook, threading.excepthook = kept
    logging.captureWarnings(capture=False)
    root.setLevel(level)


def in_a_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False)


def test_every_safe_field_is_shown(lines: Callable[[], list[dict[str, Any]]]) -> None:
    fields: dict[str, Any] = {
        "request_id": "req_1",
        "correlation_id": "c:1.2-3",
        "event_id": "evt_4711",
        "delivery_id": ID.replace("con_", "dlv_"),
        "tenant_id": "acme",
        "connection_id": ID,
        "event_type": "person.updated",
        "provider": "google-calendar",
        "route": "/v1/events/{event_id}",
        "method": "POST",
        "request_bytes": 1024,
        "response_bytes": 12,
        "status_code": 202,
        "latency_ms": 1.23456,
        "attempt": 3,
        "error": "key_service_unavailable",
        "process_id": 4711,
        "exit_status": -9,
        "count": 9,
        "component": "outbound",
        "version": "0.1.0",
        "port": 8300,
    }
    logs.get("customhouse.web").info("request_answered", **fields)
    assert lines() == [
        fields
        | {
            "timestamp": "2026-11-22T09:30:00Z",
            "level": "info",
            "event": "request_answered",
            "logger": "customhouse.web",
            "latency_ms": 1.235,
        }
    ]
    assert set(fields) | {"timestamp", "level", "event", "logger"} == {field.name for field in logs.FIELDS}


def test_an_unknown_field_is_named_but_not_shown(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logs.get("customhouse").info("delivery_recorded", body="canary77", phone="+1", **{"ada@example.org": 1})
    (line,) = lines()
    assert line["dropped_fields"] == ["*", "body", "phone"]
    assert "canary77" not in str(line)
    assert "ada@" not in str(line)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("connection_id", "acme"),
        ("status_code", 99),
        ("status_code", True),
        ("count", 491_512_345_678),
        ("latency_ms", float("nan")),
        ("method", "post"),
        ("route", "/v1/connections/con_01k9zq3c8efm5v8c8r4v9c8w1a"),
        ("route", "/v1/events?token=abc"),
        ("error", "duplicate key value (ada)"),
        ("tenant_id", "ada@example.org"),
        ("tenant_id", "x" * 129),
        ("event_id", "whsec_abc"),
        ("correlation_id", "ck_0123456789"),
        ("request_id", "retry:eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOjF9.c2ln"),
        ("event_type", "key.AKIAIOSFODNN7EXAMPLE"),
        ("version", "latest"),
        ("port", 65_536),
        ("tenant_id", Secret(b"acme")),
        ("count", "9"),
    ],
)
def test_a_value_that_is_not_what_its_field_is_for_is_left_out(name: str, value: object) -> None:
    line = logs.safe({"event": "x_y", name: value})
    assert name not in line
    assert line["dropped_fields"] == [name]


def test_an_event_with_values_in_it_is_not_shown(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logs.get("customhouse").warning("mail to %s", "ada@example.org")
    (line,) = lines()
    assert (line["event"], line["level"], line["dropped_fields"]) == ("unnamed", "warning", ["event"])


def test_level_time_and_logger_cannot_be_forged(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logs.get("customhouse").error("x_y", level="debug", timestamp="1999-01-01T00:00:00Z", logger="root")
    (line,) = lines()
    assert (line["level"], line["timestamp"], line["logger"]) == ("error", "2026-11-22T09:30:00Z", "customhouse")


def fail_with(message: str) -> None:
    raise ValueError(message)


def test_an_exception_shows_its_class_and_our_places_never_its_message() -> None:
    from customhouse import ids

    def answer() -> None:
        try:
            fail_with("canary77")
        except ValueError:
            ids.parse("con", "canary77")

    with pytest.raises(NotFound) as caught:
        answer()
    said = logs.describe(caught.value)
    assert (said["error"], said["causes"], len(said["frames"])) == ("not_found", ["ValueError"], 1)
    assert re.fullmatch(r"ids\.py:\d+:parse", said["frames"][0])


def test_a_group_of_exceptions_names_its_members() -> None:
    group = ExceptionGroup("canary77", [ValueError("canary77"), KeyError("canary77"), NotFound("canary77")])
    assert logs.describe(group) == {"error": "ExceptionGroup", "causes": ["ValueError", "KeyError", "not_found"]}


def test_a_chain_of_exceptions_that_bites_its_tail_ends() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert logs.describe(first) == {"error": "ValueError", "causes": ["KeyError"]}


def test_a_class_named_by_a_stranger_is_not_repeated() -> None:
    hostile = type("canary77 @", (Exception,), {})
    assert logs.describe(hostile()) == {"error": "Exception"}


def test_our_own_code_wins_over_the_class_and_the_exception_is_still_placed(lines: Callable[[], list[dict[str, Any]]]) -> None:
    try:
        fail_with("canary77")
    except ValueError as error:
        logs.get("customhouse").exception("unseal_failed", error="unsealable")
        logs.get("customhouse").info("x_y", error=error)
    own, given = lines()
    assert (own["error"], own["level"], given["error"]) == ("unsealable", "error", "ValueError")


def test_foreign_words_are_replaced(lines: Callable[[], list[dict[str, Any]]]) -> None:
    foreign = logging.getLogger("asyncpg.pool")
    try:
        fail_with("Key (email)=(canary77) already exists")
    except ValueError:
        foreign.exception("insert of %s failed", "canary77", extra={"tenant_id": "canary77"}, stack_info=True)
    foreign.warning("bad %d", "canary77")
    first, second = lines()
    assert first == {
        "timestamp": "2026-11-22T09:30:00Z",
        "level": "error",
        "event": "foreign_log",
        "logger": "asyncpg.pool",
        "error": "ValueError",
    }
    assert (second["level"], second["event"]) == ("warning", "foreign_log")


def test_bound_fields_reach_every_line_until_they_are_unbound(lines: Callable[[], list[dict[str, Any]]]) -> None:
    log = logs.get("customhouse")
    with logs.bound(request_id="r1", body="canary77"):
        log.info("x_y")
    log.info("x_y")
    inside, outside = lines()
    assert (inside["request_id"], inside["dropped_fields"]) == ("r1", ["body"])
    assert "request_id" not in outside


def test_a_closed_stream_does_not_fail_the_work(lines: Callable[[], list[dict[str, Any]]]) -> None:
    closed = io.StringIO()
    buffer = logs._door.stream
    closed.close()
    logs._door.stream = closed
    logs.get("customhouse").info("x_y")
    logs._door.stream = buffer
    logs.get("customhouse").info("after_it")
    assert [line["event"] for line in lines()] == ["after_it"]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="log level must be one of debug, info"):
        logs.configure("loud")


class Loose:
    """An object of a caller that shows its value in each way in which it can be asked."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return self.value

    __str__ = __repr__


def wrapped(canary: str) -> st.SearchStrategy[object]:
    leaf = st.sampled_from(
        [canary, canary.encode(), Loose(canary), ValueError(canary), NotFound(canary), Secret(canary.encode()), f"x:{canary}", canary * 9]
    )
    return st.recursive(leaf, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just(canary), inner, max_size=2), max_leaves=3)


NAMES = st.sampled_from([field.name for field in logs.FIELDS] + ["exc_info", "stack_info", "body", "causes", "frames", "dropped_fields"])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data(), canary=st.sampled_from(CANARIES))
def test_no_value_of_a_stranger_shows_under_any_name(lines: Callable[[], list[dict[str, Any]]], data: st.DataObject, canary: str) -> None:
    fields = data.draw(st.dictionaries(NAMES | st.just(canary), wrapped(canary), min_size=1, max_size=8))
    fields.pop("event", None)
    log = logs.get("customhouse.tests")
    log.info("x_y", **fields)
    log.error(canary, **fields)
    with logs.bound(**fields):
        log.warning("x_y")
    logging.getLogger(canary).error(canary, exc_info=ValueError(canary))
    written = lines()
    assert len(written) == 4
    for line in written:
        shown = json.dumps(line)
        assert canary not in shown
        assert json.dumps(canary)[1:-1] not in shown
        assert "canary77" not in shown
        assert set(line) <= {field.name for field in logs.FIELDS} | {"causes", "frames", "dropped_fields"}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.dictionaries(st.text() | NAMES, ANYTHING, max_size=12))
def test_reducing_never_fails_and_reducing_again_changes_nothing(fields: dict[str, Any]) -> None:
    line = logs.safe(fields)
    shown = {name: value for name, value in line.items() if name in {field.name for field in logs.FIELDS}}
    assert logs.safe(shown) == shown


def test_before_it_is_configured_the_law_is_already_in_force() -> None:
    done = in_a_process("""
        from customhouse import logs
        logs.get("customhouse").info("x_y", body="canary77")
    """)
    assert json.loads(done.stdout)["dropped_fields"] == ["body"]
    assert "canary77" not in done.stdout + done.stderr


LOST_TASK = """
import asyncio
async def fail(): raise ValueError('canary77')
async def main():
    pass
    task = asyncio.create_task(fail())
    await asyncio.wait([task])
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("secret = 'canary77'; raise ValueError(secret)", "uncaught"),
        ("import threading; t = threading.Thread(target=int, args=('canary77',)); t.start(); t.join()", "uncaught_in_thread"),
        ("class A:\n  def __del__(self): raise ValueError('canary77')\nA()", "uncaught_in_finalizer"),
        (LOST_TASK.replace("pass", "logs.watch(asyncio.get_running_loop())"), "uncaught_in_loop"),
        (LOST_TASK, "foreign_log"),
        ("import logging\nlogging.getLogger('x').error('%d %d', 'canary77')", "foreign_log"),
        ("import warnings\nwarnings.warn('canary77')", "foreign_log"),
    ],
)
def test_nothing_that_python_prints_by_itself_holds_a_value(code: str, event: str) -> None:
    done = in_a_process(f"from customhouse import logs\nlogs.configure()\n{code}")
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == [event]
    assert "canary77" not in done.stdout + done.stderr
    assert done.stderr == ""


def test_ctrl_c_is_not_reported_as_a_fault() -> None:
    done = in_a_process("from customhouse import logs\nlogs.configure()\nraise KeyboardInterrupt")
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode != 0


def test_a_thread_that_ends_itself_is_not_reported_as_a_fault() -> None:
    done = in_a_process("""
        import sys, threading
        from customhouse import logs
        logs.configure()
        thread = threading.Thread(target=sys.exit)
        thread.start()
        thread.join()
    """)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_a_terminal_gets_a_line_for_people_with_the_same_fields_only() -> None:
    done = in_a_process("""
        from customhouse import logs
        logs.configure(pretty=True)
        logs.get("customhouse").info("delivery_recorded", tenant_id="acme", body="canary77")
    """)
    assert "delivery_recorded" in done.stdout
    assert "acme" in done.stdout
    assert "canary77" not in done.stdout
    assert not done.stdout.startswith("{")


def test_libraries_are_heard_from_warning_on_and_lose_handlers_of_their_own() -> None:
    done = in_a_process("""
        import logging
        loud = logging.getLogger("botocore")
        loud.addHandler(logging.StreamHandler()); loud.propagate = False
        from customhouse import logs
        logs.configure()
        loud.info("canary77"); loud.warning("canary77")
    """)
    assert [json.loads(line)["level"] for line in done.stdout.splitlines()] == ["warning"]
    assert done.stderr == ""


def test_the_reference_page_holds_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "logs.md"
    assert logs.reference() in page.read_text(encoding="utf-8")


def test_a_web_server_that_meets_an_exception_prints_no_value() -> None:
    done = in_a_process("""
        import asyncio, uvicorn
        from customhouse import logs
        logs.configure()

        async def app(scope, receive, send):
            raise ValueError("canary77")

        async def main():
            server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None, access_log=False))
            server.config.load()
            server.lifespan = server.config.lifespan_class(server.config)
            await server.startup()
            port = server.servers[0].sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /canary77?token=canary77 HTTP/1.0\\r\\n\\r\\n")
            await reader.read()
            writer.close()
            await server.shutdown()

        asyncio.run(main())
    """)
    (line,) = [json.loads(text) for text in done.stdout.splitlines()]
    assert (line["event"], line["logger"], line["level"], line["error"]) == ("foreign_log", "uvicorn.error", "error", "ValueError")
    assert "canary77" not in done.stdout + done.stderr
