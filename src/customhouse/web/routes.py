"""Management routes: authenticated before anything is read, strict in body and query, typed by pydantic."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ClassVar, Final

from fastapi import APIRouter, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict

from customhouse.errors import Fault, Invalid
from customhouse.web.auth import app_of, authenticate, needs_of
from customhouse.web.bodies import StrictRequest
from customhouse.web.calls import call_of

_PRIVATE: Final = "/v1"
_PLACES: Final = {"body", "query", "path", "header", "cookie"}


class Body(BaseModel):
    """What a caller sends: no unknown members, no conversions between JSON types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    members: ClassVar[set[str]] = set()
    """The members of all bodies: the only names that a fault may repeat."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Take note of the members."""
        super().__pydantic_init_subclass__(**kwargs)
        Body.members.update(field.alias or name for name, field in cls.model_fields.items())


class Shape(BaseModel):
    """What we answer."""

    model_config = ConfigDict(frozen=True)


class StrictRoute(APIRoute):
    """A route that checks the key, the query's names and the body's form before FastAPI sees the request."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **kwargs: Any) -> None:
        """Refuse a private route that does not say what it needs: that is a mistake of ours, found at the first start."""
        if path.startswith(_PRIVATE) and needs_of(endpoint) is None:
            raise TypeError(f"{path} does not declare what it needs of a key")
        super().__init__(path, endpoint, **kwargs)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler behind our checks."""
        handler = super().get_route_handler()
        wanted = needs_of(self.endpoint)
        names = frozenset(_query_names(self.dependant))
        has_body = self.body_field is not None

        async def checked(request: Request) -> Response:
            if wanted is not None:
                key = await authenticate(app_of(request).api_keys, call_of(request.scope))
                wanted.check(key)
                request.scope["customhouse.key"] = key
            _check_query(request, names)
            if has_body:
                request = StrictRequest(request.scope, request.receive)
                await request.load()
            return await handler(request)

        return checked


def router(tag: str) -> APIRouter:
    """Return an empty router of strict routes."""
    return APIRouter(route_class=StrictRoute, tags=[tag])


def _query_names(dependant: Dependant) -> Iterator[str]:
    yield from (param.alias for param in dependant.query_params)
    for below in dependant.dependencies:
        yield from _query_names(below)


def _check_query(request: Request, names: frozenset[str]) -> None:
    """Refuse an unknown or repeated parameter: a misspelt filter must not mean "everything"."""
    given = [name for name, _ in request.query_params.multi_items()]
    faults = [Fault(f"/{name}", "is given more than once") for name in sorted(names) if given.count(name) > 1]
    if not names.issuperset(given):
        known = f"known are {', '.join(sorted(names))}" if names else "this call takes none"
        faults.append(Fault("", f"has an unknown query parameter; {known}"))
    if faults:
        raise Invalid("The query is not acceptable.", tuple(faults))


_SENTENCES: Final = {
    "missing": "is required",
    "extra_forbidden": "has an unknown member",
    "string_type": "is not a string",
    "string_too_short": "is too short",
    "string_too_long": "is too long",
    "string_pattern_mismatch": "is not of the form that is needed",
    "bool_type": "is not true or false",
    "int_type": "is not an integer",
    "int_parsing": "is not an integer",
    "list_type": "is not a list",
    "dict_type": "is not an object",
    "model_type": "is not an object",
    "model_attributes_type": "is not an object",
    "too_long": "has too many items",
    "too_short": "has too few items",
    "greater_than_equal": "is too small",
    "less_than_equal": "is too large",
    "datetime_type": "is not an RFC 3339 time with an offset",
    "moment": "is not an RFC 3339 time with an offset",
}
_CHOICES: Final = "literal_error"
_SEGMENT: Final = re.compile(r"[a-z_]{1,40}")


def invalid_of(error: RequestValidationError) -> Invalid:
    """Return a validation error of FastAPI as ours: places and reasons, nothing of what was sent."""
    return Invalid("The request is not acceptable.", tuple(_fault(one) for one in error.errors()))


def _fault(one: Any) -> Fault:
    place = list(one["loc"])
    in_body = place.pop(0) == "body" if place and place[0] in _PLACES else True
    kind = one["type"]
    if kind == "extra_forbidden":
        # The last segment is the caller's invention.
        place.pop()
    segments = [_shown(segment, in_body=in_body) for segment in place]
    if kind == _CHOICES:
        return Fault("".join(segments), f"is not {one['ctx']['expected']}")
    return Fault("".join(segments), _SENTENCES.get(kind, "is not acceptable"))


def _shown(segment: object, *, in_body: bool) -> str:
    if isinstance(segment, int):
        return f"/{segment}"
    known = segment in Body.members if in_body else isinstance(segment, str) and _SEGMENT.fullmatch(segment) is not None
    return f"/{segment}" if known else "/*"
