"""Stripe's errors (§7.1): one object with a type, sometimes a code and the parameter that is wrong."""

from __future__ import annotations

from typing import Any, Final

from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.state import Realm

_TYPES: Final = {402: "card_error", 500: "api_error", 502: "api_error", 503: "api_error", 504: "api_error"}
_UNAVAILABLE: Final = 500
_LOCKED: Final = 409
_SLOW_DOWN: Final = 429


def failed(
    status: int, message: str, *headers: tuple[str, str], kind: str = "invalid_request_error", code: str = "", param: str = ""
) -> Reply:
    """Return an error of the API."""
    said: dict[str, Any] = {"message": message, "type": kind}
    if code:
        said |= {"code": code, "doc_url": f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"}
    if param:
        said["param"] = param
    return as_json(status, {"error": said}, *headers)


def unknown_parameter(name: str) -> Reply:
    """Answer a parameter that the call does not have."""
    return failed(400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name)


def missing_parameter(name: str) -> Reply:
    """Answer a call without a parameter that it needs."""
    return failed(400, f"Missing required param: {name}.", code="parameter_missing", param=name)


def not_there(status: int, what: str, name: str, param: str = "id") -> Reply:
    """Answer an id of nothing: 404 where the path names it."""
    return failed(status, f"No such {what}: '{name}'", code="resource_missing", param=param)


def limited(realm: Realm, retry_after: int | None) -> Reply:
    """Answer too many calls (§7.1): 429, or 400 with the same code; `Retry-After` is not promised (§7.2)."""
    wait = () if retry_after is None else (("Retry-After", str(retry_after)),)
    return failed(int(realm.facts["rate_limit"]), "Too many requests hit the API too quickly.", *wait, code="rate_limit")


def failing(status: int) -> Reply:
    """Return the answer of a call that was ordered to fail (§7.1, errors)."""
    if status < 400:  # noqa: PLR2004 - not an error at all
        return Reply(status)
    if status == _SLOW_DOWN:
        return failed(status, "Too many requests hit the API too quickly.", code="rate_limit")
    if status == _LOCKED:
        # Stripe's own statement that the same call is safe to send again (§7.1).
        return failed(status, "This object cannot be accessed right now.", ("Stripe-Should-Retry", "true"), code="lock_timeout")
    words = "An error occurred on our side." if status >= _UNAVAILABLE else "The request was refused."
    return failed(status, words, kind=_TYPES.get(status, "api_error" if status >= _UNAVAILABLE else "invalid_request_error"))
