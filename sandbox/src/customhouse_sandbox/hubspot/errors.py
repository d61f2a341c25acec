"""HubSpot's errors: a category and a correlation id at the API, a status beside RFC 6749's error at the token endpoint (§8.1, §8.2)."""

from __future__ import annotations

from typing import Any, Final

from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.oauth import Trouble
from customhouse_sandbox.state import Realm, fixed

_ENDED: Final = ("invalid_grant", "BAD_REFRESH_TOKEN", "missing or invalid refresh token")
_CODE: Final = ("invalid_grant", "BAD_AUTH_CODE", "missing or unknown auth code")
_CLIENT: Final = ("invalid_client", "BAD_CLIENT_ID", "missing or unknown client id")
_ERRORS: Final[dict[Trouble, tuple[str, str, str]]] = {
    Trouble.CLIENT: _CLIENT,
    Trouble.SECRET: ("invalid_client", "BAD_CLIENT_SECRET", "missing or invalid client secret"),
    Trouble.METHOD_OF_AUTH: _CLIENT,
    Trouble.APPLICATION_DISABLED: _CLIENT,
    Trouble.GRANT_TYPE: ("unsupported_grant_type", "BAD_GRANT_TYPE", "missing or unknown grant type"),
    Trouble.PARAMETER: ("invalid_request", "BAD_REQUEST", "a parameter is missing"),
    Trouble.REDIRECT: ("invalid_grant", "MISMATCH_REDIRECT_URI_AUTH_CODE", "redirect URI and code do not match"),
    Trouble.CODE: _CODE,
    Trouble.CODE_SPENT: _CODE,
    Trouble.CODE_EXPIRED: ("invalid_grant", "EXPIRED_AUTH_CODE", "the code has expired"),
    Trouble.VERIFIER: ("invalid_grant", "BAD_CODE_VERIFIER", "missing or invalid code verifier"),
    Trouble.REFRESH_UNKNOWN: _ENDED,
    Trouble.REFRESH_EXPIRED: _ENDED,
    Trouble.REFRESH_SPENT: _ENDED,
    Trouble.REVOKED: _ENDED,
    Trouble.WITHDRAWN: _ENDED,
    Trouble.ADMIN: _ENDED,
    Trouble.OWNER_GONE: _ENDED,
    Trouble.TOKEN: ("invalid_request", "BAD_TOKEN", "missing or unknown token"),
}
_CONFIRMED: Final = "BAD_REFRESH_TOKEN"
_AT_CLIENT: Final = "invalid_client"
_BAD: Final = 400
_SLOW_DOWN: Final = 429
_MOVING: Final = 477
_BROKEN: Final = 500


def refuse(realm: Realm, trouble: Trouble) -> Reply:
    """Return an error of the token endpoint (§8.1, errors): one of the names is confirmed, the others are switched together."""
    error, status, message = _ERRORS[trouble]
    said: dict[str, Any] = {"error": error, "error_description": message, "message": message}
    if status == _CONFIRMED or realm.facts["error_names"] == "assumed":
        said["status"] = status
    return as_json(int(realm.facts["client_error_status"]) if error == _AT_CLIENT else _BAD, said)


def failed(realm: Realm, status: int, category: str, message: str, *headers: tuple[str, str], **more: Any) -> Reply:
    """Return an error of the API (§8.1, §8.2)."""
    said: dict[str, Any] = {"status": "error", "message": message, "correlationId": _correlation(message)}
    if realm.facts["error_categories"] == "yes":
        said["category"] = category
    return as_json(status, {**said, **more}, *headers)


def missing_scopes(realm: Realm, scope: str) -> Reply:
    """Answer a token whose scopes do not open a call, with the scope that would."""
    words = "This app hasn't been granted all required scopes to make this call."
    why = {"message": "One or more of the following scopes are required.", "context": {"requiredGranularScopes": [scope]}}
    return failed(realm, 403, "MISSING_SCOPES", words, errors=[why])


def limited(realm: Realm, retry_after: int | None) -> Reply:
    """Answer too many calls (§8.2)."""
    wait = () if retry_after is None else (("Retry-After", str(retry_after)),)
    words = "You have reached your ten_secondly_rolling limit."
    return failed(realm, _SLOW_DOWN, "RATE_LIMITS", words, *wait, errorType="RATE_LIMIT", policyName="TEN_SECONDLY_ROLLING")


def failing(status: int) -> Reply:
    """Return the answer of a call that was ordered to fail."""
    if status < _BAD:
        return Reply(status)
    words = "The account is being moved." if status == _MOVING else "internal error" if status >= _BROKEN else "The call was refused."
    return as_json(status, {"status": "error", "message": words, "correlationId": _correlation(words)})


def _correlation(text: str) -> str:
    """Return something that looks like the id of a call, and is none."""
    digits = "".join(format(ord(char) % 16, "x") for char in fixed(text, 32))
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:32]}"
