"""`/metrics` on a listener of its own, for networks that only the operator's Prometheus reaches."""

from __future__ import annotations

from typing import Any

from customhouse.app import App
from customhouse.metrics import CONTENT_TYPE
from customhouse.web.middleware import Asgi, send_problem
from customhouse.web.problems import problem_of_router


def exposition(app: App) -> Asgi:
    """Return an ASGI application that knows `GET /metrics` and nothing else."""

    async def serve(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] != "/metrics":
            await send_problem(send, problem_of_router(404))
            return
        if scope["method"] != "GET":
            await send_problem(send, problem_of_router(405))
            return
        body = app.metrics.render()
        headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return serve
