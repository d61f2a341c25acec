"""The ASGI application: routers, errors, the hot routes, and the door in front of it all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache, partial
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from customhouse import __version__
from customhouse.app import App
from customhouse.errors import CustomhouseError
from customhouse.logs import get
from customhouse.web import (
    api_keys,
    audit,
    connect,
    connections,
    consent,
    documents,
    event_types,
    events,
    health,
    notices,
    operations,
    policies,
    providers,
    proxy,
    receipts,
    replacing,
    tenants,
    tokens,
    withdrawals,
)
from customhouse.web.calls import call_of
from customhouse.web.middleware import Door
from customhouse.web.openapi import describe, scopes_of
from customhouse.web.problems import Problem, problem_of, problem_of_router
from customhouse.web.publish import Publish
from customhouse.web.routes import invalid_of

_log: Final = get("customhouse.web")
EVENTS: Final = "/v1/events"
BATCH: Final = "/v1/events/batch"
_ROUTERS: Final = (
    tenants.ROUTES,
    api_keys.ROUTES,
    connections.ROUTES,
    replacing.ROUTES,
    receipts.ROUTES,
    connect.ROUTES,
    providers.ROUTES,
    events.ROUTES,
    operations.ROUTES,
    event_types.ROUTES,
    policies.ROUTES,
    notices.ROUTES,
    audit.ROUTES,
    health.ROUTES,
    documents.ROUTES,
    consent.ROUTES,
    withdrawals.ROUTES,
    tokens.ROUTES,
)


def create(app: App) -> Door:
    """Return the ASGI application; its lifespan does not start or stop `app`: who opened it closes it."""
    publish = Publish(app)
    https = app.settings.public_url.lower().startswith("https:")

    api = FastAPI(
        title="Customhouse",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=_nothing,
    )
    api.state.customhouse = app
    # The door takes the POSTs; here they only make other methods a 405, so they come before `/v1/events/{event_id}`.
    routes = api.router.routes
    routes += [Route(path, _taken_by_the_door, methods=["POST"], include_in_schema=False) for path in (EVENTS, BATCH)]
    # Taken over as they are: an included router would wrap each of them in a second matching.
    for router in _ROUTERS:
        routes += router.routes
    routes.append(proxy.route(app))
    if app.settings.metrics_listen is None:
        routes += health.METRICS.routes
    description = cache(partial(describe, api))
    api.openapi = description  # type: ignore[method-assign]  # FastAPI's documented way to change the description
    api.add_exception_handler(CustomhouseError, _on_error)
    api.add_exception_handler(RequestValidationError, _on_invalid)
    api.add_exception_handler(HTTPException, _on_router)
    api.add_exception_handler(Exception, _on_error)
    return Door(app, api, {EVENTS: publish.one, BATCH: publish.batch}, https=https, finds=(tokens.Tokens(app).find,))


def reference() -> str:
    """Return the table of all routes as Markdown, for `docs/reference/api.md`."""
    api = FastAPI(title="Customhouse", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    for router in (*_ROUTERS, health.METRICS):
        api.router.routes += router.routes
    rows = [
        f"| `{method.upper()} {path}` | {operation['summary']} | {scopes_of(operation)} |"
        for path, operations in describe(api)["paths"].items()
        for method, operation in operations.items()
    ]
    return "\n".join(["| call | what it does | scope |", "| --- | --- | --- |", *rows, ""])


def _taken_by_the_door(_request: Request) -> Response:
    raise AssertionError("the door takes these")


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


async def _on_router(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # registered for it
    response = _respond(problem_of_router(error.status_code))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = ", ".join(sorted(_methods(request)))
    return response


def _methods(request: Request) -> set[str]:
    """Return the methods of a path, over all its routes (RFC 9110 §15.5.6); the router itself names the first route's."""
    routes = [route for route in request.app.router.routes if isinstance(route, Route)]
    template = next(route.path for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in routes if route.path == template for method in route.methods or ()}
