"""Pipedrive's errors (§8.4): `success` is false, and a sentence says why."""

from __future__ import annotations

from typing import Final

from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.oauth import Trouble
from customhouse_sandbox.state import Realm

_HINT: Final = "Please check developers.pipedrive.com"
_CLIENT: Final = (401, "invalid_client", "Client authentication failed")
_ENDED: Final = (400, "invalid_grant", "Invalid grant: refresh token is invalid")
_CODE: Final = (400, "invalid_grant", "Invalid grant: authorization code is invalid")
_ERRORS: Final[dict[Trouble, tuple[int, str, str]]] = {
    Trouble.CLIENT: _CLIENT,
    Trouble.SECRET: _CLIENT,
    Trouble.METHOD_OF_AUTH: _CLIENT,
    Trouble.APPLICATION_DISABLED: _CLIENT,
    Trouble.GRANT_TYPE: (400, "unsupported_grant_type", "Unsupported grant type"),
    Trouble.PARAMETER: (400, "invalid_request", "A parameter is missing"),
    Trouble.REDIRECT: (400, "invalid_grant", "Invalid grant: redirect_uri does not match"),
    Trouble.CODE: _CODE,
    Trouble.CODE_SPENT: _CODE,
    Trouble.CODE_EXPIRED: (400, "invalid_grant", "Invalid grant: authorization code has expired"),
    Trouble.VERIFIER: _CODE,
    Trouble.REFRESH_UNKNOWN: _ENDED,
    Trouble.REFRESH_EXPIRED: _ENDED,
    Trouble.REFRESH_SPENT: _ENDED,
    Trouble.REVOKED: _ENDED,
    Trouble.WITHDRAWN: _ENDED,
    Trouble.ADMIN: _ENDED,
    Trouble.OWNER_GONE: _ENDED,
    Trouble.TOKEN: (400, "invalid_request", "The token is missing or unknown"),
}
_BAD: Final = 400
_BROKEN: Final = 500


def refuse(_realm: Realm, trouble: Trouble) -> Reply:
    """Return an error of the token endpoint."""
    status, error, message = _ERRORS[trouble]
    return as_json(status, {"success": False, "error": error, "message": message})


def failed(status: int, error: str, *headers: tuple[str, str], info: str = _HINT) -> Reply:
    """Return an error of the API."""
    return as_json(status, {"success": False, "error": error, "errorCode": status, "error_info": info, "data": None}, *headers)


def limited(_realm: Realm, retry_after: int | None) -> Reply:
    """Answer too many calls."""
    wait = () if retry_after is None else (("Retry-After", str(retry_after)), ("x-ratelimit-reset", str(retry_after)))
    return failed(429, "Rate limit exceeded", *wait)


def failing(status: int) -> Reply:
    """Return the answer of a call that was ordered to fail."""
    if status < _BAD:
        return Reply(status)
    return failed(status, "Internal server error" if status >= _BROKEN else "The call was refused")
