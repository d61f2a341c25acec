"""The glue for each framework keeps to the same behaviour: a real application of the framework behind a real server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Annotated, Any, NamedTuple, Optional

import pytest
import uvicorn
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.db import connection as django_database
from django.http import HttpRequest, HttpResponse
from django.urls import clear_url_caches, path
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi import Request as FastAPIRequest
from fastapi import Response as FastAPIResponse
from flask import Flask
from flask import Response as FlaskResponse
from flask import abort as flask_abort
from flask import request as flask_request
from receiver.tests.django_project import configured
from werkzeug.serving import WSGIRequestHandler, make_server

from customhouse_receiver import Claim, Event, MemoryReplayCache, Receiver, testing
from customhouse_receiver.django import webhook as django_webhook
from customhouse_receiver.fastapi import WebhookEvent, webhook_event, webhook_route
from customhouse_receiver.flask import webhook as flask_webhook
from customhouse_receiver.wsgi import ENVIRON_KEY, WebhookMiddleware, read

NOW = 1_795_339_800
FILLER = testing.body(data={"filler": "x" * 5_000})


class Work:
    """What the application does with an event, and what it saw."""

    def __init__(self) -> None:
        self.status: Optional[int] = 204
        self.events: list[Event] = []
        self.bodies: list[bytes] = []
        self.entered = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def __call__(self, event: Event, body: bytes) -> int:
        """Return the status to answer with; raises where none is set."""
        self.events.append(event)
        self.bodies.append(body)
        self.entered.set()
        assert self.go.wait(20)
        if self.status is None:
            raise ZeroDivisionError
        return self.status


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def reason(self) -> Any:
        return json.loads(self.body).get("reason")


class Service:
    """The application on a loopback port."""

    def __init__(self, port: int, work: Work) -> None:
        self.port = port
        self.work = work

    def post(self, *, at: int = NOW, headers: Any = None, body: Optional[bytes] = None) -> Answer:
        raw = testing.body() if body is None else body
        return self.ask("POST", testing.headers(raw, at) if headers is None else headers, raw)

    def ask(self, method: str, headers: Any, body: Any, *, chunked: bool = False, path: str = "/hooks") -> Answer:
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            conn.putrequest(method, path)
            for name, value in headers.items() if isinstance(headers, dict) else headers:
                conn.putheader(name, value)
            conn.putheader("Content-Type", "application/json")
            conn.putheader("Transfer-Encoding", "chunked") if chunked else conn.putheader("Content-Length", str(len(body)))
            conn.endheaders(body, encode_chunked=chunked)
            answer = conn.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            conn.close()


class Cache:
    """A memory that can be made to fail, by both doors."""

    def __init__(self, failing: str) -> None:
        self.inner = MemoryReplayCache()
        self.failing = failing

    def claim(self, key: str, *, token: str, fingerprint: str, lease: float) -> Claim:
        self._reach("claim")
        return self.inner.claim(key, token=token, fingerprint=fingerprint, lease=lease)

    def confirm(self, key: str, *, token: str, fingerprint: str, ttl: float, floor: float) -> None:
        self._reach("confirm")
        self.inner.confirm(key, token=token, fingerprint=fingerprint, ttl=ttl, floor=floor)

    def release(self, key: str, *, token: str) -> None:
        self._reach("release")
        self.inner.release(key, token=token)

    def _reach(self, name: str) -> None:
        if name == self.failing:
            raise ConnectionError(name)


def wsgi_app(work: Work, receiver: Receiver) -> Any:
    def endpoint(environ: Any, start_response: Any) -> list[bytes]:
        status = work(environ[ENVIRON_KEY], environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        start_response(f"{status} Whatever", [("Content-Length", "0")])
        return []

    return WebhookMiddleware(endpoint, receiver)


def flask_app(work: Work, receiver: Receiver) -> Any:
    app = Flask("receiving")

    @app.route("/hooks", methods=["GET", "POST"])
    @flask_webhook(receiver)
    def take(event: Event) -> tuple[str, int]:
        return "", work(event, flask_request.get_data())

    return app


def fastapi_app(work: Work, receiver: Receiver) -> Any:
    hooks = APIRouter(route_class=webhook_route(receiver))

    @hooks.api_route("/hooks", methods=["GET", "POST"])
    def take(event: WebhookEvent, payload: dict[str, Any], request: FastAPIRequest) -> FastAPIResponse:
        assert payload["event_id"] == event.event_id
        return FastAPIResponse(status_code=work(event, request._body))

    app = FastAPI()
    app.include_router(hooks)
    return app


@pytest.fixture
def django_project() -> Any:
    return configured()


def django_app(work: Work, receiver: Receiver) -> Any:
    @django_webhook(receiver)
    def take(request: HttpRequest, event: Event) -> HttpResponse:
        return HttpResponse(status=work(event, request.body))

    _route(take)
    return get_wsgi_application()


def django_async_app(work: Work, receiver: Receiver) -> Any:
    @django_webhook(receiver)
    async def take(request: HttpRequest, event: Event) -> HttpResponse:
        return HttpResponse(status=await asyncio.to_thread(work, event, request.body))

    _route(take)
    return get_asgi_application()


def _route(view: Callable[..., Any]) -> None:
    urls: Any = ModuleType("urls")
    urls.urlpatterns = [path("hooks", view)]
    configured().ROOT_URLCONF = urls
    clear_url_caches()


APPS = {"wsgi": wsgi_app, "flask": flask_app, "fastapi": fastapi_app, "django": django_app, "django-async": django_async_app}
ASGI = {"fastapi", "django-async"}


class _Silent(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def wsgi_server(app: Any) -> Iterator[int]:
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Silent)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def asgi_server(app: Any) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none", loop="asyncio"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]  # it listens already: who comes early waits
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


Start = Callable[..., Service]


@pytest.fixture(params=sorted(APPS))
def start(request: pytest.FixtureRequest, django_project: Any) -> Iterator[Start]:
    """Starts the framework's application behind a server."""
    with contextlib.ExitStack() as stack:

        def begin(cache: Any = None, **options: Any) -> Service:
            work = Work()
            receiver = Receiver({"key_1": testing.SECRET}, replay=cache or MemoryReplayCache(), clock=lambda: NOW, **options)
            serve = asgi_server if request.param in ASGI else wsgi_server
            return Service(stack.enter_context(serve(APPS[request.param](work, receiver))), work)

        yield begin


def test_a_genuine_request_reaches_the_work_with_its_event_and_its_bytes(start: Start) -> None:
    service = start()
    assert service.post().status == 204
    assert [event.event_id for event in service.work.events] == ["evt_test"]
    assert service.work.bodies == [testing.body()]


def test_what_was_answered_2xx_is_done_so_a_replay_is_refused_and_a_retry_is_a_no_op(start: Start) -> None:
    service = start()
    service.post()
    replayed, retried = service.post(), service.post(at=NOW + 1)
    assert (replayed.status, json.loads(replayed.body)) == (401, {"reason": "replayed", "retryable": False})
    assert (retried.status, json.loads(retried.body)) == (200, {"duplicate": True})
    assert len(service.work.events) == 1


@pytest.mark.parametrize("status", [None, 302, 400, 500], ids=str)
def test_what_was_not_answered_2xx_is_released_for_the_retry(start: Start, status: Optional[int]) -> None:
    service = start()
    service.work.status = status
    first = service.post()
    service.work.status = 200
    second = service.post()
    assert (first.status, second.status) == (500 if status is None else status, 200)
    assert [event.duplicate for event in service.work.events] == [False, False]


def test_a_second_request_during_the_work_is_told_to_come_back(start: Start) -> None:
    service = start()
    service.work.go.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(service.post)
        assert service.work.entered.wait(20)
        second = service.post(at=NOW + 1)
        service.work.go.set()
        assert first.result().status == 204
    assert (second.status, json.loads(second.body)) == (409, {"reason": "in_progress", "retryable": True})
    assert 1 <= int(second.headers["retry-after"]) <= 60


def test_forged_requests_never_reach_the_work(start: Start) -> None:
    service = start()
    genuine = testing.headers(testing.body(), NOW)
    twice = [*genuine.items(), list(genuine.items())[1]]
    answers = [
        service.post(headers={}),
        service.post(headers=genuine, body=testing.body(tenant_id="globex")),
        service.post(at=NOW - 301),
        service.post(body=b"[]"),
        service.ask("GET", genuine, b""),
        service.post(headers=twice),
    ]
    assert [(answer.status, answer.reason) for answer in answers[:5]] == [
        (401, "missing_header"),
        (401, "signature_mismatch"),
        (401, "timestamp_outside_tolerance"),
        (422, "envelope_malformed"),
        (405, "method_not_allowed"),
    ]
    # Some servers hand repeated headers over as one with a comma in it.
    assert (answers[5].status, answers[5].reason in {"repeated_header", "malformed_header"}) == (401, True)
    assert {answer.headers["content-type"] for answer in answers} == {"application/json"}
    assert service.work.events == []


def test_a_body_that_is_declared_too_large_is_refused_before_it_is_read(start: Start) -> None:
    service = start(max_body=2_000)
    answer = service.ask("POST", testing.headers(FILLER, NOW), FILLER)
    assert (answer.status, answer.reason) == (413, "body_too_large")
    assert service.work.events == []


# Django on WSGI gives no body to a request without a declared length, which is refused for its signature then.
streamed = pytest.mark.parametrize("start", sorted(set(APPS) - {"django"}), indirect=True)
CHUNKS = [FILLER[at : at + 700] for at in range(0, len(FILLER), 700)]


@streamed
def test_a_body_that_grows_over_the_limit_is_refused(start: Start) -> None:
    service = start(max_body=2_000)
    answer = service.ask("POST", testing.headers(FILLER, NOW), iter(CHUNKS), chunked=True)
    assert (answer.status, answer.reason) == (413, "body_too_large")
    assert service.work.events == []


@streamed
def test_a_streamed_body_within_the_limit_is_taken(start: Start) -> None:
    service = start(max_body=len(FILLER))
    assert service.ask("POST", testing.headers(FILLER, NOW), iter(CHUNKS), chunked=True).status == 204
    assert service.work.bodies == [FILLER]


def test_while_the_cache_is_away_nothing_is_accepted(start: Start) -> None:
    service = start(Cache("claim"))
    answer = service.post()
    assert (answer.status, json.loads(answer.body)) == (503, {"reason": "replay_unavailable", "retryable": True})
    assert int(answer.headers["retry-after"]) > 0
    assert service.work.events == []


def test_an_answer_that_could_not_be_remembered_is_not_given(start: Start) -> None:
    service = start(Cache("confirm"))
    answer, again = service.post(), service.post(at=NOW + 1)
    assert (answer.status, answer.reason) == (503, "replay_unavailable")
    assert (again.status, len(service.work.events)) == (503, 2)


def test_work_that_fails_while_the_cache_is_away_shows_its_own_failure(start: Start) -> None:
    service = start(Cache("release"))
    service.work.status = None
    assert (service.post().status, len(service.work.events)) == (500, 1)


def receiver(**options: Any) -> Receiver:
    return Receiver({"key_1": testing.SECRET}, replay=MemoryReplayCache(), clock=lambda: NOW, **options)


def test_a_wsgi_app_may_replace_its_answer_until_the_body_begins() -> None:
    """PEP 3333: start_response again, with exc_info."""
    work, healthy = Work(), threading.Event()

    def endpoint(environ: Any, start_response: Any) -> Iterator[bytes]:
        work(environ[ENVIRON_KEY], b"")
        start_response("200 OK", [("Content-Length", "4")])
        yield b""
        if not healthy.is_set():
            start_response("500 Failed", [("Content-Length", "4")], (ZeroDivisionError, ZeroDivisionError(), None))
        yield b"said"

    with wsgi_server(WebhookMiddleware(endpoint, receiver())) as port:
        service = Service(port, work)
        first = service.post()
        healthy.set()
        second = service.post()
    assert [(answer.status, answer.body) for answer in (first, second)] == [(500, b"said"), (200, b"said")]
    assert len(work.events) == 2


def test_a_wsgi_app_that_writes_and_closes_is_settled_by_the_first_piece() -> None:
    work, closed = Work(), threading.Event()

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            yield b"two"

        def close(self) -> None:
            closed.set()

    def endpoint(environ: Any, start_response: Any) -> Body:
        work(environ[ENVIRON_KEY], b"")
        write = start_response("200 OK", [("Content-Length", "6")])
        write(b"one")
        with pytest.raises(ZeroDivisionError):
            start_response("500 Failed", [], (ZeroDivisionError, ZeroDivisionError(), None))
        return Body()

    with wsgi_server(WebhookMiddleware(endpoint, receiver())) as port:
        service = Service(port, work)
        assert (service.post().body, service.post().reason) == (b"onetwo", "replayed")
    assert closed.is_set()


@pytest.mark.parametrize("fault", ["before", "silent", "twice"])
def test_a_wsgi_app_that_breaks_its_contract_has_done_nothing(fault: str) -> None:
    closed: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            if fault == "before":
                raise ZeroDivisionError
            yield b"said"

        def close(self) -> None:
            closed.append(fault)

    def endpoint(environ: Any, start_response: Any) -> Body:
        for _ in range({"before": 1, "silent": 0, "twice": 2}[fault]):
            start_response("200 OK", [])
        return Body()

    body, using = testing.body(), receiver()
    sent = testing.headers(body, NOW)
    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in sent.items()}
    environ |= {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(body))}
    with pytest.raises((ZeroDivisionError, AssertionError)):
        WebhookMiddleware(endpoint, using)({**environ, "wsgi.input": io.BytesIO(body)}, lambda *_: lambda data: None)
    assert closed == ([] if fault == "twice" else [fault])
    assert not using.verify(sent, body).duplicate


def test_a_body_without_a_length_and_without_an_end_is_not_waited_for() -> None:
    """PEP 3333: a server without `wsgi.input_terminated` gives no end; reading would hang."""
    assert read({"wsgi.input": io.BytesIO(b"never read")}, 100) == b""
    assert read({"wsgi.input": io.BytesIO(b"cut"), "CONTENT_LENGTH": "10"}, 100) == b"cut"


def test_a_flask_view_may_be_asynchronous_and_may_abort() -> None:
    work, using = Work(), receiver()
    app = Flask("receiving")

    @app.post("/hooks")
    @flask_webhook(using)
    async def take(event: Event) -> FlaskResponse:
        if await asyncio.to_thread(work, event, b"") == 503:
            flask_abort(503)
        return FlaskResponse(status=204)

    with wsgi_server(app) as port:
        service = Service(port, work)
        work.status = 503
        assert service.post().status == 503
        work.status = 204
        assert (service.post().status, service.post().reason) == (204, "replayed")


def test_a_flask_view_that_was_read_before_is_verified_over_the_same_bytes() -> None:
    work, using = Work(), receiver(max_body=2_000)
    app = Flask("receiving")
    app.before_request(lambda: flask_request.get_data() and None)

    @app.post("/hooks")
    @flask_webhook(using)
    def take(event: Event) -> tuple[str, int]:
        return "", work(event, flask_request.get_data())

    with wsgi_server(app) as port:
        service = Service(port, work)
        assert (service.post().status, service.post(body=FILLER).status) == (204, 413)
    assert work.bodies == [testing.body()]


def test_a_fastapi_route_releases_what_it_refuses_to_take() -> None:
    work, using = Work(), receiver()
    hooks = APIRouter(route_class=webhook_route(using), prefix="/v1")

    @hooks.post("/hooks")
    async def take(event: WebhookEvent) -> None:
        if await asyncio.to_thread(work, event, b"") == 503:
            raise HTTPException(503)

    @hooks.post("/strict")
    async def refuse(event: WebhookEvent, payload: list[int]) -> None:
        work(event, b"")

    app = FastAPI()
    app.include_router(hooks, prefix="/api")
    with asgi_server(app) as port:
        service = Service(port, work)
        work.status = 503
        assert service.ask("POST", testing.headers(testing.body(), NOW), testing.body(), path="/api/v1/hooks").status == 503
        work.status = 200
        assert service.ask("POST", testing.headers(testing.body(), NOW), testing.body(), path="/api/v1/strict").status == 422
        assert service.ask("POST", testing.headers(testing.body(), NOW), testing.body(), path="/api/v1/hooks").status == 200
        assert service.ask("POST", testing.headers(testing.body(), NOW), testing.body(), path="/api/v1/hooks").reason == "replayed"
        assert service.ask("POST", {}, b"", path="/api/v1/strict").reason == "missing_header"
    assert len(work.events) == 2


def test_a_fastapi_route_that_nobody_guards_hands_out_no_event() -> None:
    work, app = Work(), FastAPI()

    @app.post("/hooks")
    def take(event: Annotated[Event, Depends(webhook_event)]) -> None:
        work(event, b"")

    with asgi_server(app) as port:
        assert Service(port, work).post().status == 500
    assert work.events == []


def test_a_guarded_fastapi_route_does_not_run_past_its_guard() -> None:
    route: Any = webhook_route(receiver())("/hooks", lambda: None, methods=["POST"])

    async def call() -> None:
        await route.get_route_handler()(FastAPIRequest({"type": "http", "method": "POST", "headers": []}))

    with pytest.raises(RuntimeError, match="route_class"):
        asyncio.run(call())


def test_django_commits_the_transaction_of_the_request_before_the_event_is_done(django_project: Any) -> None:
    """With ATOMIC_REQUESTS Django would commit after the view: a failure there must free the event, not lose it."""
    work, using = Work(), receiver()

    @django_webhook(using)
    def take(request: HttpRequest, event: Event) -> HttpResponse:
        with django_database.cursor() as cursor:
            cursor.execute("insert into child values (%s)", [work.status])
        return HttpResponse(status=work(event, b"") and 204)

    with sqlite3.connect(django_project.DATABASES["default"]["NAME"]) as database:
        database.execute("create table if not exists parent (id integer primary key)")
        database.execute("create table if not exists child (id integer references parent deferrable initially deferred)")
        database.execute("insert into parent values (1)")
    database.close()
    _route(take)
    with wsgi_server(get_wsgi_application()) as port:
        service = Service(port, work)
        work.status = 2  # has no parent, which shows at the commit
        assert service.post().status == 500
        work.status = 1
        assert (service.post().status, service.post().reason) == (204, "replayed")
    with sqlite3.connect(django_project.DATABASES["default"]["NAME"]) as database:
        assert database.execute("select id from child").fetchall() == [(1,)]
    database.close()
    assert len(work.events) == 2


def test_django_refuses_what_is_larger_than_the_project_allows(django_project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work()
    monkeypatch.setattr(django_project, "DATA_UPLOAD_MAX_MEMORY_SIZE", 1_000)
    with wsgi_server(django_app(work, receiver())) as port:
        answer = Service(port, work).post(body=FILLER)
    assert (answer.status, answer.reason, work.events) == (413, "body_too_large", [])
