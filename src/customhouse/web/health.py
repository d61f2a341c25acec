"""`/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

from typing import Final

from fastapi import Request, Response

from customhouse import __version__
from customhouse.metrics import CONTENT_TYPE
from customhouse.tenants.api_keys import Scope
from customhouse.web.auth import app_of, needs
from customhouse.web.routes import Shape, router

ROUTES: Final = router("health")
METRICS: Final = router("health")
"""Left out where `/metrics` has a listener of its own."""


class Alive(Shape):
    """The process answers."""

    status: str
    version: str


class CheckShape(Shape):
    """One thing that has to be in order."""

    name: str
    ok: bool
    advice: str | None = None


class Ready(Shape):
    """Whether the service can do its work."""

    ready: bool
    checks: list[CheckShape]
    notes: list[str]


@ROUTES.get("/healthz", summary="Is the process alive")
async def healthz() -> Alive:
    """Answer without asking anything of anybody."""
    return Alive(status="ok", version=__version__)


@ROUTES.get("/readyz", summary="Can the service do its work", responses={503: {"model": Ready, "description": "Something is not in order"}})
async def readyz(request: Request, response: Response) -> Ready:
    """Look at the database, its migrations and the key service."""
    report = Ready.model_validate(await app_of(request).report())
    if not report.ready:
        response.status_code = 503
    return report


@METRICS.get("/metrics", summary="Metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
@needs(Scope.ADMIN, platform=True)
async def metrics(request: Request) -> Response:
    """Render the metrics in Prometheus' text format. Needs a platform key with `admin`."""
    return Response(app_of(request).exposition(), media_type=CONTENT_TYPE)
