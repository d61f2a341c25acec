"""`/metrics`, `/healthz` and `/readyz` on a listener of its own, for networks that only the operator's machines reach.

The only listener of a process without an API.
"""

from __future__ import annotations

from typing import Any, Final

from customhouse import __version__
from customhouse.app import App
from customhouse.canonical import dump
from customhouse.metrics import CONTENT_TYPE
from customhouse.web.middleware import Asgi, send_problem
from customhouse.web.problems import problem_of_router

_JSON: Final = "application/json"


def exposition(app: App) -> Asgi:
    """Return an ASGI application that knows `GET` of these three and nothing else."""

    async def answer(path: str) -> tuple[int, str, bytes]:
        if path == "/metrics":
            return 200, CONTENT_TYPE, app.exposition()
        if path == "/healthz":
            return 200, _JSON, dump({"status": "ok", "version": __version__})
        report = await app.report()
        return 200 if report["ready"] else 503, _JSON, dump(report)

    async def serve(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] not in {"/metrics", "/healthz", "/readyz"}:
            await send_problem(send, problem_of_router(404))
            return
        if scope["method"] != "GET":
            await send_problem(send, problem_of_router(405))
            return
        status, content_type, body = await answer(scope["path"])
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return serve
