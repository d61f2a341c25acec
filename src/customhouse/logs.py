"""Logs that are safe to read: one JSON object per line, and nothing in it but the fields of the table below.

The law (integration-layer security §2.5) is an allow-list, not a filter for known secrets: a field that `FIELDS` does not name, or
whose value does not look like what the field is for, is left out, and only its *name* is shown, in `dropped_fields`. Exceptions
appear as class names and as places in our own code, never as messages, because drivers and validators quote the offending value.
What other libraries say through `logging` or `warnings` is reduced to who said it, how loud, and the class of its exception.

Importing this module already puts the law in force; `configure` chooses level and form, and takes over the hooks through which
Python prints tracebacks.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, TextIO

from customhouse.clock import Clock, SystemClock, rfc3339
from customhouse.errors import CustomhouseError

# structlog loads rich where it finds it, for tracebacks that are never shown here: 4 MB and 0.1 s for each process.
_rich_is_new: Final = "rich" not in sys.modules
if _rich_is_new:
    sys.modules["rich"] = None  # type: ignore[assignment]  # Python's own way to say that there is none
try:
    import structlog
finally:
    if _rich_is_new:
        del sys.modules["rich"]

_Check = Callable[[object], "str | int | float | None"]

_PACKAGE: Final = Path(__file__).resolve().parent
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
# What holds a credential is not an id, whatever field it is put into.
_CREDENTIAL: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:ck_[A-Za-z0-9_-]{8}|wh(?:sec|sk)_|[spr]k_(?:live|test)_|xox[a-z]-|gh[a-z]_[A-Za-z0-9]{16}|github_pat_|glpat-"
    r"|shp[a-z]{2}_|ya29\.|A[KS]IA[0-9A-Z]{12}|eyJ[A-Za-z0-9_-]{10})"
)
# A class name or a parameter name is code; this bounds what a hostile one could show.
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}")
_SHOWN_NAME: Final = re.compile(r"[a-z][a-z_]{0,39}")
_MOST_FRAMES: Final = 12
_MOST_CAUSES: Final = 8
_MOST_NAMES: Final = 20
# A telephone or card number has ten digits or more, so no number of ours may.
_MOST: Final = 999_999_999


def _text(pattern: str, longest: int) -> _Check:
    compiled = re.compile(pattern)

    def check(value: object) -> str | None:
        if type(value) is not str or len(value) > longest or not compiled.fullmatch(value) or _CREDENTIAL.search(value):
            return None
        return value

    return check


def _number(least: int = 0, most: int = _MOST, *, whole: bool = True) -> _Check:
    def check(value: object) -> int | float | None:
        if type(value) is int:
            return value if least <= value <= most else None
        if type(value) is float and not whole and math.isfinite(value):
            return round(value, 3) if least <= value <= most else None
        return None

    return check


def _error(value: object) -> str | None:
    if isinstance(value, BaseException):
        return _name_of(value)
    return _CODE(value)  # type: ignore[return-value]  # a text check returns text


def _method(value: object) -> str | None:
    return value if type(value) is str and value in _METHODS else None


def _process(value: object) -> str | int | float | None:
    return _number()(value) if type(value) is int else _TYPE_ID(value)


# Codes and constant names hold no digit: what is random or personal nearly always does.
_CODE: Final = _text(r"[A-Za-z][A-Za-z_]*", 64)
_TYPE_ID: Final = _text(r"[a-z]{2,8}_[0-9a-hjkmnp-tv-z]{26}", 40)
_ID: Final = _text(r"[A-Za-z0-9_.:-]{1,128}", 128)


@dataclass(frozen=True, slots=True)
class Field:
    """One field that a line may have."""

    name: str
    meaning: str
    """One phrase for `docs/reference/logs.md`."""
    check: _Check
    """Returns the value as it may be shown, or None to leave it out."""


FIELDS: Final = (
    Field("timestamp", "RFC 3339, UTC", _text(r"[0-9TZ:.-]+", 40)),
    Field("level", "`debug`, `info`, `warning`, `error` or `critical`", _text("|".join(_LEVELS), 8)),
    Field("event", "what happened: a constant name such as `delivery_recorded`, letters, `_` and `.` only", _text(r"[a-z][a-z_.]*", 64)),
    Field("logger", "the module of ours that speaks, or the foreign library", _text(r"[A-Za-z_][A-Za-z0-9_.]*", 80)),
    Field("request_id", "the `X-Request-Id` of the answer", _ID),
    Field("correlation_id", "the caller's `X-Correlation-Id`", _ID),
    Field("event_id", "the published event", _ID),
    Field("delivery_id", "`dlv_…`", _TYPE_ID),
    Field("tenant_id", "the tenant", _ID),
    Field("connection_id", "`con_…`", _TYPE_ID),
    Field("event_type", "the registered type of the event", _ID),
    Field("provider", "the catalogue's name of the outside system", _text(r"[a-z][a-z_-]*", 64)),
    # A template has no digit but in `v1`, so a path with values in it is left out.
    Field("route", "the route's template, never the path", _text(r"/|(?:/(?:v[0-9]{1,2}|[a-z_.-]{1,40}|\{[a-z_:]{1,40}\}))+", 200)),
    Field("method", "the HTTP method", _method),
    Field("request_bytes", "size of what was sent to or by us", _number()),
    Field("response_bytes", "size of the answer", _number()),
    Field("status_code", "HTTP status", _number(100, 599)),
    Field("latency_ms", "milliseconds", _number(whole=False)),
    Field("attempt", "which try of a delivery", _number(most=10_000)),
    Field("error", "a code of ours, or the class of an exception", _error),
    Field("process_id", "the process: its number, or its id in the queue", _process),
    Field("exit_status", "with what status a process ended; negative: the signal", _number(-64, 255)),
    Field("count", "how many", _number()),
    Field("component", "the part of the service", _text(r"[a-z][a-z_.-]*", 40)),
    Field("version", "a version of ours", _text(r"[0-9]+(?:\.[0-9A-Za-z+-]+){0,5}", 32)),
    Field("port", "a TCP port", _number(most=65_535)),
)
"""The closed table: a line holds these, and `causes`, `frames` (from an exception) and `dropped_fields` (names), nothing else."""

_CHECKS: Final = MappingProxyType({field.name: field.check for field in FIELDS})


def _name_of(error: BaseException) -> str:
    name = error.code if isinstance(error, CustomhouseError) else type(error).__name__
    return name if _IDENTIFIER.fullmatch(name) else "Exception"


def _relatives(error: BaseException) -> Iterator[BaseException]:
    """Walk an exception, the members of groups and what led to it, each once."""
    seen: set[int] = set()
    waiting = [error]
    while waiting and len(seen) < _MOST_CAUSES:
        present = waiting.pop(0)
        if id(present) in seen:
            continue
        seen.add(id(present))
        yield present
        if isinstance(present, BaseExceptionGroup):
            waiting.extend(present.exceptions)
        before = present.__cause__ or (None if present.__suppress_context__ else present.__context__)
        if before is not None:
            waiting.append(before)


def _places(error: BaseException) -> list[str]:
    """Return the places in our own code that the traceback passes, innermost last: file, line and function."""
    places: list[str] = []
    step: TracebackType | None = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        path = Path(code.co_filename)
        if path.is_relative_to(_PACKAGE):
            places.append(f"{path.relative_to(_PACKAGE).as_posix()}:{step.tb_lineno}:{code.co_name}")
        step = step.tb_next
    return places[-_MOST_FRAMES:]


def describe(error: BaseException) -> dict[str, str | list[str]]:
    """Return what may be said of an exception: `error`, `causes` (class names or codes) and `frames` (places in our code)."""
    relatives = list(_relatives(error))
    said: dict[str, str | list[str]] = {"error": _name_of(error)}
    if causes := [_name_of(one) for one in relatives[1:]]:
        said["causes"] = causes
    # The group or wrapper often has no frame of ours: then the first relative that has one shows the place.
    if frames := next(filter(None, map(_places, relatives)), None):
        said["frames"] = frames
    return said


def safe(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the part of a log entry that may be shown.

    Pure: the allow-list of `FIELDS` with each value checked, an exception under `exc_info` reduced by `describe`, and the names of
    all that was left out under `dropped_fields`. A name that does not look like a parameter of ours is shown as `*`.
    """
    line: dict[str, object] = {}
    dropped: list[str] = []
    for name, check in _CHECKS.items():
        value = fields.get(name)
        if value is None:
            continue
        shown = check(value)
        if shown is None:
            dropped.append(name)
        else:
            line[name] = shown
    line.setdefault("event", "unnamed")
    unknown = [name for name in fields if name not in _CHECKS and name != "exc_info"]
    dropped += [name if type(name) is str and _SHOWN_NAME.fullmatch(name) else "*" for name in unknown]
    error = _exception(fields.get("exc_info"))
    if error is not None:
        said = describe(error)
        code = line.get("error", said["error"])
        line.update(said, error=code)
    if dropped:
        line["dropped_fields"] = sorted(set(dropped))[:_MOST_NAMES]
    return line


def _exception(given: object) -> BaseException | None:
    """Return the exception that an `exc_info` argument means: the exception, the triple of `sys.exc_info`, or the one at hand."""
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        return next((part for part in given if isinstance(part, BaseException)), None)
    return sys.exc_info()[1] if given else None


class _Door:
    """The one way out: stamps, reduces, renders and writes a line. It never raises: a log line must not fail the work."""

    __slots__ = ("_json", "_lock", "_pretty", "clock", "pretty", "stream")

    def __init__(self) -> None:
        self.clock: Clock = SystemClock()
        self.stream: TextIO | None = None
        self.pretty = False
        self._json = structlog.processors.JSONRenderer()
        self._pretty = structlog.dev.ConsoleRenderer(colors=True, pad_event_to=24, sort_keys=False)
        self._lock = threading.Lock()

    def write(self, fields: Mapping[str, object]) -> None:
        with suppress(Exception):
            line: MutableMapping[str, Any] = safe({**fields, "timestamp": rfc3339(self.clock.now())})
            renderer = self._pretty if self.pretty else self._json
            text = renderer(None, "", line)
            # Looked up now: the stream may have been replaced since (a test, a daemon that reopens its files).
            stream = self.stream if self.stream is not None else sys.stdout
            with self._lock:
                stream.write(f"{text}\n")  # type: ignore[str-bytes-safe]  # both renderers are set to return text
                stream.flush()


_door: Final = _Door()


@dataclass(frozen=True, slots=True)
class _Speaker:
    """What structlog calls the wrapped logger: here only a name, which no field of a caller can replace."""

    name: str = ""


def _out(speaker: object, method: str, fields: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """End structlog's chain: the line is written here, in the same way as a foreign one."""
    name = speaker.name if isinstance(speaker, _Speaker) else ""
    _door.write({**fields, "level": "error" if method == "exception" else method, "logger": name})
    raise structlog.DropEvent


class _Foreign(logging.Handler):
    """Takes what libraries log, and keeps who, how loud, and the class of the exception: their words can hold values."""

    def emit(self, record: logging.LogRecord) -> None:
        level = next((name for name, number in reversed(_LEVELS.items()) if record.levelno >= number), "debug")
        # `exc_info` may be True in a record that someone else built; only a real one counts.
        error = _exception(record.exc_info) if isinstance(record.exc_info, tuple) else None
        _door.write({"event": "foreign_log", "level": level, "logger": record.name, "exc_info": error})


def _install(level: str) -> None:
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _out],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=_Speaker,
        cache_logger_on_first_use=False,
    )


_install("info")


def configure(level: str = "info", *, pretty: bool | None = None, stream: TextIO | None = None, clock: Clock | None = None) -> None:
    """Choose level and form, and take over every way in which Python prints what went wrong. May be called again.

    Args:
        level: `debug`, `info`, `warning`, `error` or `critical`. Libraries are heard from `warning` on, at `debug` from `info` on.
        pretty: one coloured line for people instead of JSON; None: when the stream is a terminal.
        stream: where lines go; None: whatever `sys.stdout` is at the time.
        clock: stamps the lines; None: the machine's.

    Raises:
        ValueError: there is no such level.
    """
    if level not in _LEVELS:
        msg = f"log level must be one of {', '.join(_LEVELS)}"
        raise ValueError(msg)
    _door.stream = stream
    _door.clock = clock or SystemClock()
    target = stream if stream is not None else sys.stdout
    _door.pretty = target.isatty() if pretty is None else pretty
    _install(level)
    root = logging.getLogger()
    root.handlers = [_Foreign()]
    root.setLevel(max(_LEVELS[level], logging.INFO if level == "debug" else logging.WARNING))
    for other in list(logging.root.manager.loggerDict.values()):
        if isinstance(other, logging.Logger):
            other.handlers.clear()
            other.propagate = True
    # A handler that fails would print the record with its arguments to stderr.
    logging.raiseExceptions = False
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _uncaught_in_thread


def get(name: str) -> structlog.typing.FilteringBoundLogger:
    """Return the logger of a module: `log = logs.get(__name__)`, then `log.info("delivery_recorded", delivery_id=…)`."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger


bound = structlog.contextvars.bound_contextvars
"""`with logs.bound(request_id=…):` adds fields to every line of this task and of those that it starts."""


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """Have a loop report exceptions that nobody awaited through this module."""
    loop.set_exception_handler(_unawaited)


def _unawaited(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    _door.write({"event": "uncaught_in_loop", "level": "error", "logger": __name__, "exc_info": context.get("exception")})


def _uncaught(kind: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
    # Ctrl-C is an order, not a fault.
    if not issubclass(kind, KeyboardInterrupt):
        _door.write({"event": "uncaught", "level": "critical", "logger": __name__, "exc_info": error})


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    _door.write({"event": "uncaught_in_finalizer", "level": "error", "logger": __name__, "exc_info": unraisable.exc_value})


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        _door.write({"event": "uncaught_in_thread", "level": "error", "logger": __name__, "exc_info": args.exc_value})


def reference() -> str:
    """Return the table of fields as Markdown, for `docs/reference/logs.md`."""
    rows = "\n".join(f"| `{field.name}` | {field.meaning} |" for field in FIELDS)
    return f"| field | meaning |\n| --- | --- |\n{rows}\n"
