"""The ASGI application: routers, errors, the hot routes, and the door in front of it all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route

from customhouse import __version__
from customhouse.app import App
from customhouse.errors import CustomhouseError
from customhouse.logs import get
from customhouse.web import api_keys, connections, health, tenants
from customhouse.web.calls import call_of
from customhouse.web.middleware import Asgi, Door
from customhouse.web.problems import Problem, problem_of, problem_of_router
from customhouse.web.publish import Publish
from customhouse.web.routes import invalid_of

_log: Final = get("customhouse.web")
EVENTS: Final = "/v1/events"
BATCH: Final = "/v1/events/batch"
_ROUTERS: Final = (tenants.ROUTES, api_keys.ROUTES, connections.ROUTES, health.ROUTES)


def create(app: App) -> Asgi:
    """Return the ASGI application; its lifespan does not start or stop `app`: who opened it closes it."""
    publish = Publish(app)

    api = FastAPI(
        title="Customhouse",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_nothing,
    )
    api.state.customhouse = app
    for router in _ROUTERS:
        api.include_router(router)
    if app.settings.metrics_listen is None:
        api.include_router(health.METRICS)
    # The door takes the POSTs; here they only make other methods a 405.
    api.router.routes.append(Route(EVENTS, publish.one, methods=["POST"], include_in_schema=False))
    api.router.routes.append(Route(BATCH, publish.batch, methods=["POST"], include_in_schema=False))
    api.add_exception_handler(CustomhouseError, _on_error)
    api.add_exception_handler(RequestValidationError, _on_invalid)
    api.add_exception_handler(HTTPException, _on_router)
    api.add_exception_handler(Exception, _on_error)
    return Door(
        app,
        api,
        {("POST", EVENTS): publish.one, ("POST", BATCH): publish.batch},
        https=app.settings.public_url.lower().startswith("https:"),
    )


@asynccontextmanager
async def _nothing(_api: FastAPI) -> AsyncIterator[None]:
    yield


def _respond(problem: Problem) -> Response:
    return Response(problem.body(), problem.status, problem.headers())


async def _on_error(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if isinstance(error, CustomhouseError) and problem.status == 500:  # noqa: PLR2004 - what is not of our family reaches the door
        _log.error("unexpected", request_id=call_of(request.scope).request_id, exc_info=error)
    return _respond(problem)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # registered for it
    return _respond(problem_of(invalid_of(error)))


async def _on_router(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # registered for it
    response = _respond(problem_of_router(error.status_code))
    if error.headers and "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response
