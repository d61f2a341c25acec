"""The OpenAPI description (3.1): FastAPI's, corrected where it does not say what we do, and the two hot routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from customhouse.outbound.envelope import SCHEMA_VERSION
from customhouse.tenants.api_keys import Scope
from customhouse.web import proxy
from customhouse.web.auth import needs_of
from customhouse.web.problems import MEDIA_TYPE
from customhouse.web.publish import BATCH_BYTES, BATCH_EVENTS
from customhouse.web.routes import StrictRoute

_DESCRIPTION: Final = (
    "Every call below `/v1` needs an API key (`Authorization: Bearer ck_…`) with the scope that it names. A key of one tenant is about "
    "that tenant; a platform key names it (`tenant_id`). Problems are `application/problem+json` (RFC 9457) with a stable `code`. "
    "Every answer carries `X-Request-Id`; an `X-Correlation-Id` travels into envelopes, logs and the ledger."
)
_NAME: Final = r"^[A-Za-z0-9_.:-]{1,128}$"
_SCOPE: Final = "\n\nScope: "
_PROBLEMS: Final = {
    "400": "The body is not JSON",
    "401": "No valid API key",
    "403": "The key lacks the scope",
    "404": "No such thing in this tenant",
    "409": "The state of things does not allow it",
    "413": "Too large",
    "415": "The body is not declared to be JSON",
    "422": "Not acceptable; `errors` names each place",
    "503": "Not now; repeat after `Retry-After` seconds",
}
_OF_BODIES: Final = frozenset({"400", "413", "415"})


def describe(api: FastAPI) -> dict[str, Any]:
    """Return the description of an application."""
    said = get_openapi(title=api.title, version=api.version, description=_DESCRIPTION, routes=api.routes)
    paths: dict[str, Any] = said["paths"]
    for route in api.routes:
        if isinstance(route, StrictRoute) and route.include_in_schema:
            for method in route.methods or ():
                _correct(paths[route.path_format][method.lower()], route)
    for path, operation in (("/v1/events", _publish()), ("/v1/events/batch", _batch())):
        paths.setdefault(path, {})["post"] = operation
    paths[proxy.TEMPLATE] = {method.lower(): _relayed(method) for method in proxy.METHODS}
    components = said.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas |= {"Problem": _PROBLEM, "EventRequest": _EVENT_REQUEST, "Accepted": _ACCEPTED, "Results": _RESULTS}
    components["responses"] = {
        f"Problem{status}": {"description": words, "content": {MEDIA_TYPE: {"schema": _ref("schemas/Problem")}}}
        for status, words in _PROBLEMS.items()
    }
    components["securitySchemes"] = {"api_key": {"type": "http", "scheme": "bearer", "description": "`ck_…`"}}
    said["paths"] = dict(sorted(paths.items()))
    return said


def scopes_of(operation: Mapping[str, Any]) -> str:
    """Return what an operation asks of a key, as its description says it; a dash where it asks for nothing."""
    _, found, words = str(operation.get("description", "")).rpartition(_SCOPE)
    return words.removesuffix(".") if found else "–"


def _correct(operation: dict[str, Any], route: StrictRoute) -> None:
    wanted = needs_of(route.endpoint)
    operation["operationId"] = route.name
    responses = operation["responses"]
    # FastAPI documents its own form of 422, which we never answer with.
    responses.pop("422", None)
    if wanted is not None:
        operation["security"] = [{"api_key": []}]
        scopes = " or ".join(f"`{scope.value}`" for scope in wanted.any_of)
        if wanted.also is not None:
            scopes += f" and `{wanted.also.value}`"
        operation["description"] = f"{operation.get('description', '')}{_SCOPE}{scopes}{', platform keys only' if wanted.platform else ''}."
    changes = not route.methods or not route.methods <= {"GET", "HEAD"}
    _add_problems(responses, private=wanted is not None, body="requestBody" in operation, changes=changes)


def _add_problems(responses: dict[str, Any], *, private: bool, body: bool, changes: bool) -> None:
    for status in _PROBLEMS:
        if status in responses or (status in _OF_BODIES and not body) or (status == "409" and not changes):
            continue
        if status in {"401", "403", "404"} and not private:
            continue
        responses[status] = _ref(f"responses/Problem{status}")


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{name}"}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _operation(name: str, summary: str, description: str, request: dict[str, Any], answer: str) -> dict[str, Any]:
    responses: dict[str, Any] = {"202": {"description": "Durable, with the intent to deliver", **_json(_ref(f"schemas/{answer}"))}}
    _add_problems(responses, private=True, body=True, changes=True)
    return {
        "tags": ["events"],
        "summary": summary,
        "description": f"{description}{_SCOPE}`{Scope.EVENTS_WRITE.value}`.",
        "operationId": name,
        "security": [{"api_key": []}],
        "requestBody": {"required": True, **_json(request)},
        "responses": responses,
    }


def _relayed(method: str) -> dict[str, Any]:
    texts = {"type": "string", "minLength": 1}
    responses: dict[str, Any] = {
        "default": {"description": f"The provider's answer; it carries `{proxy.RELAYED.decode().title()}`, ours do not"}
    }
    _add_problems(responses, private=True, body=False, changes=True)
    return {
        "tags": ["connections"],
        "summary": f"Call the provider by {method}",
        "description": "Make a call at the provider with the connection's token, which the caller never sees: where the manifest lets "
        "method and path through, and the grant holds the scope. The path is sent as it is, or refused. A platform key names the tenant in "
        f"the header `{proxy.TENANT.decode().title()}`.{_SCOPE}`{Scope.ACTIONS_WRITE.value}`.",
        "operationId": f"proxy_{method.lower()}",
        "security": [{"api_key": []}],
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": texts} for name in ("connection_id", "path")),
            {"name": proxy.TENANT.decode().title(), "in": "header", "required": False, "schema": {"type": "string", "maxLength": 128}},
        ],
        "responses": responses,
    }


def _publish() -> dict[str, Any]:
    operation = _operation(
        "publish_event",
        "Publish an event",
        "Accept one event and deliver it to every connection that wants its type. When this answers, the event and its deliveries are "
        "durable. The same idempotency key (header or body; by default the `event_id`) and the same body: the first answer again, with "
        "`duplicate: true`.",
        _ref("schemas/EventRequest"),
        "Accepted",
    )
    header = {"type": "string", "pattern": _NAME}
    operation["parameters"] = [{"name": "Idempotency-Key", "in": "header", "required": False, "schema": header}]
    return operation


def _batch() -> dict[str, Any]:
    return _operation(
        "publish_events",
        "Publish a batch of events",
        f"Accept up to {BATCH_EVENTS} events, {BATCH_BYTES} bytes in all, each for itself: one result per event, in their order.",
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["events"],
            "properties": {"events": {"type": "array", "minItems": 1, "maxItems": BATCH_EVENTS, "items": _MEMBER}},
        },
        "Results",
    )


# One that is not as it should be gets a result of its own, and does not make the batch unacceptable.
_MEMBER: Final = {"anyOf": [_ref("schemas/EventRequest"), {}]}
_FAULT: Final = {
    "type": "object",
    "required": ["pointer", "detail"],
    "properties": {"pointer": {"type": "string", "description": "JSON pointer, or the query parameter"}, "detail": {"type": "string"}},
}
_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "errors": {"type": "array", "items": _FAULT},
    },
}
_EVENT_REQUEST: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["event_type", "data"],
    "properties": {
        "tenant_id": {"type": ["string", "null"], "description": "Required with a platform key."},
        "event_type": {"type": "string", "pattern": _NAME, "examples": ["person.updated"]},
        "data": {"type": "object"},
        "event_id": {"type": ["string", "null"], "pattern": r"^[A-Za-z0-9_:-]{1,64}$"},
        "idempotency_key": {"type": ["string", "null"], "pattern": _NAME},
        "occurred_at": {"type": ["string", "null"], "format": "date-time"},
        "correlation_id": {"type": ["string", "null"], "pattern": _NAME},
        "ordering_key": {
            "type": ["string", "null"],
            "pattern": _NAME,
            "description": "Events with the same key are delivered to each connection one after the other, in the order of acceptance.",
        },
        "connection_ids": {
            "type": ["array", "null"],
            "minItems": 1,
            "maxItems": 1000,
            "items": {"type": "string", "pattern": "^con_[0-7][0-9a-hjkmnp-tv-z]{25}$"},
            "description": "Narrows the event to some connections.",
        },
    },
}
_PRIVACY: Final = {
    "type": "object",
    "required": ["contains_pii", "pii_fields", "removed_fields", "policy"],
    "properties": {
        "contains_pii": {"type": "boolean"},
        "pii_fields": {"type": "array", "items": {"type": "string"}},
        "removed_fields": {"type": "array", "items": {"type": "string"}},
        "policy": {"type": "string"},
    },
}
_ACCEPTED: Final[dict[str, Any]] = {
    "type": "object",
    "description": f"Envelope version {SCHEMA_VERSION}",
    "required": ["event_id", "duplicate", "deliveries"],
    "properties": {
        "event_id": {"type": "string"},
        "duplicate": {"type": "boolean"},
        "deliveries": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["delivery_id", "connection_id", "privacy"],
                "properties": {"delivery_id": {"type": "string"}, "connection_id": {"type": "string"}, "privacy": _PRIVACY},
            },
        },
    },
}
_RESULTS: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["results"],
    "properties": {
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["status"],
                "properties": {"status": {"type": "integer"}},
                "anyOf": [_ref("schemas/Accepted"), _ref("schemas/Problem")],
            },
        }
    },
}
