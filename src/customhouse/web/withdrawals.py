"""`DELETE /oauth/callback/{provider}`: a provider says that our application was removed from an account."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response

from customhouse.errors import TooLarge, Unauthenticated
from customhouse.providers.calls import CALLBACK
from customhouse.web.auth import app_of

ROUTES: Final = APIRouter(include_in_schema=False)
_LARGEST: Final = 16_384


@ROUTES.delete(CALLBACK + "{provider}", status_code=204)
async def take_withdrawal(provider: str, request: Request) -> Response:
    """Take it. Whoever does not show our client id and secret gets one answer, whatever the provider."""
    shown = request.headers.getlist("authorization")
    if len(shown) != 1:
        raise Unauthenticated
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST:
            raise TooLarge
    await app_of(request).withdrawals.uninstalled(provider, shown[0], body)
    return Response(status_code=204)
