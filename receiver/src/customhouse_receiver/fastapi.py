"""FastAPI glue (extra `fastapi`): a route class that guards each route of a router, and a dependency that hands over the event.

A dependency alone cannot do it: what stands after its `yield` runs when the answer has left, too late to settle the event by it.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Annotated, Any, Callable

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute

from customhouse_receiver.answers import EVENT_KEY
from customhouse_receiver.asgi import Receive, Scope, Send, WebhookMiddleware
from customhouse_receiver.event import Event
from customhouse_receiver.receiver import Receiver

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def webhook_route(receiver: Receiver) -> type[APIRoute]:
    """Return a route class: `APIRouter(route_class=webhook_route(receiver))`.

    Every route of that router is reached by verified, claimed events only, and settled by its answer as `asgi.WebhookMiddleware` does.
    """

    class WebhookRoute(APIRoute):
        """A route behind the receiver."""

        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            """Let through what is verified."""
            await WebhookMiddleware(super().handle, receiver)(scope, receive, send)

        def get_route_handler(self) -> Handler:
            """Return the endpoint's handler, which refuses to run for a request that came past `handle`."""
            handler = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                webhook_event(request)
                return await handler(request)

            return guarded

    return WebhookRoute


def webhook_event(request: Request) -> Event:
    """Return the event of this request: `event: Annotated[Event, Depends(webhook_event)]`, or `event: WebhookEvent` for short.

    Raises:
        RuntimeError: the route is not guarded: its router lacks the route class.
    """
    event = request.scope.get(EVENT_KEY)
    if not isinstance(event, Event):
        raise RuntimeError("no verified event: make the router with APIRouter(route_class=webhook_route(receiver))")  # noqa: TRY004 - a setup fault
    return event


WebhookEvent = Annotated[Event, Depends(webhook_event)]
"""The annotation of a parameter that takes the event."""
