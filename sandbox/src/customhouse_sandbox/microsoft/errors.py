"""How Microsoft says no: the numbered errors of the token endpoint (§6.1), and those of Graph (§6.3)."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any, Final

from customhouse_sandbox.clock import rfc3339
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.microsoft.directory import guid
from customhouse_sandbox.oauth import Trouble
from customhouse_sandbox.routing import Ask
from customhouse_sandbox.state import Realm

_GRAPH: Final = "00000003-0000-0000-c000-000000000000"
_NOT_CONSENTED: Final = "The user or administrator has not consented to use the application."
_UNKNOWN: Final = (400, "unauthorized_client", 700016, "The application was not found in the directory of the tenant.")
_ERRORS: Final[dict[Trouble, tuple[int, str, int, str]]] = {
    # Status and number are assumed where §6.1 has neither.
    Trouble.CLIENT: _UNKNOWN,
    Trouble.SECRET: (401, "invalid_client", 7000215, "Invalid client secret provided."),
    Trouble.APPLICATION_DISABLED: (400, "unauthorized_client", 7000112, "The application is disabled."),
    Trouble.METHOD_OF_AUTH: (401, "invalid_client", 7000218, "The request must contain client_assertion or client_secret."),
    Trouble.PARAMETER: (400, "invalid_request", 900144, "The request body lacks a required parameter."),
    Trouble.GRANT_TYPE: (400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type."),
    Trouble.REDIRECT: (400, "invalid_client", 500112, "The reply address does not match the one of the authorization request."),
    Trouble.CODE: (400, "invalid_grant", 70000, "The provided authorization code is invalid."),
    Trouble.CODE_SPENT: (400, "invalid_grant", 54005, "The authorization code was already redeemed."),
    Trouble.CODE_EXPIRED: (400, "invalid_grant", 70008, "The provided authorization code is expired."),
    Trouble.VERIFIER: (400, "invalid_grant", 501481, "The code_verifier does not match the code_challenge."),
    Trouble.REFRESH_UNKNOWN: (400, "invalid_grant", 70000, "The provided refresh token is invalid."),
    Trouble.REFRESH_EXPIRED: (400, "invalid_grant", 700082, "The refresh token has expired due to inactivity."),
    Trouble.REFRESH_SPENT: (400, "invalid_grant", 70000, "The provided refresh token is invalid."),
    Trouble.REVOKED: (400, "invalid_grant", 50173, "The provided grant has expired due to it being revoked."),
    Trouble.WITHDRAWN: (400, "invalid_grant", 65001, _NOT_CONSENTED),
    Trouble.ADMIN: _UNKNOWN,
    Trouble.OWNER_GONE: (400, "invalid_grant", 50034, "The user account does not exist in the directory."),
    Trouble.TOKEN: (400, "invalid_request", 900144, "The request body lacks a required parameter."),
    Trouble.SCOPE: (400, "invalid_scope", 70011, "The provided value for the input parameter 'scope' is not valid."),
}


def refuse(realm: Realm, trouble: Trouble) -> Reply:
    """Return an error of the token endpoint: what is meant stands in `error_codes` (§6.1)."""
    if trouble is Trouble.ADMIN and realm.facts["removal_error"] == "65001":
        trouble = Trouble.WITHDRAWN
    return numbered(realm, *_ERRORS[trouble], suberror="consent_required" if trouble is Trouble.WITHDRAWN else "")


def numbered(realm: Realm, status: int, error: str, code: int, words: str, suberror: str = "") -> Reply:
    """Return an error of the token endpoint by its number."""
    stamp = datetime.fromtimestamp(realm.now(), UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    trace, correlation = guid(realm.mint.next("trace")), guid(realm.mint.next("correlation"))
    told: dict[str, Any] = {
        "error": error,
        "error_description": f"{words_of(code, words)}\r\nTrace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {stamp}",
        "error_codes": [code],
        "timestamp": stamp,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": f"https://login.microsoftonline.com/error?code={code}",
    }
    if suberror:
        told["suberror"] = suberror
    return as_json(status, told)


def words_of(code: int, words: str) -> str:
    """Return a description as it begins everywhere."""
    return f"AADSTS{code}: {words}"


def failed(realm: Realm, status: int, code: str, message: str, *headers: tuple[str, str], inner: str = "") -> Reply:
    """Return an error of Graph."""
    request = guid(realm.mint.next("request"))
    told = {"date": rfc3339(realm.now())[:19], "request-id": request, "client-request-id": request}
    if inner:
        told = {"code": inner, **told}
    return as_json(status, {"error": {"code": code, "message": message, "innerError": told}}, ("request-id", request), *headers)


def unknown(ask: Ask) -> Reply:
    """Answer a path that there is not."""
    return failed(ask.realm, 400, "BadRequest", "Resource not found for the segment.")


def invalid(realm: Realm, message: str, code: str = "BadRequest") -> Reply:
    """Answer a request that is out of order."""
    return failed(realm, 400, code, message)


def missing(realm: Realm, message: str = "Not Found") -> Reply:
    """Answer a name that there is not."""
    return failed(realm, 404, "NotFound", message)


def unauthenticated(realm: Realm, *, challenged: bool = False) -> Reply:
    """Answer a token that opens nothing; `challenged`: because its grant is over, which Graph was told at once (§6.1, CAE)."""
    said = f'Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", client_id="{_GRAPH}"'
    if challenged:
        wanted = {"access_token": {"nbf": {"essential": True, "value": str(int(realm.now()))}}}
        claims = base64.b64encode(json.dumps(wanted).encode()).decode()
        said += f', error="insufficient_claims", claims="{claims}"'
    message = "Continuous access evaluation resulted in a challenge." if challenged else "Access token is empty, expired or not known."
    return failed(realm, 401, "InvalidAuthenticationToken", message, ("WWW-Authenticate", said))


def insufficient(realm: Realm, wanted: tuple[str, ...], held: tuple[str, ...]) -> Reply:
    """Answer a token that lacks a permission."""
    message = f"Missing scope permissions on the request. API requires one of '{', '.join(wanted)}'."
    return failed(realm, 403, "Forbidden", f"{message} Scopes on the request '{', '.join(held)}'.")


def limited(realm: Realm, retry_after: int | None) -> Reply:
    """Answer too many calls: 429, or now and then 503 (§6.3)."""
    wait = () if retry_after is None else (("Retry-After", str(retry_after)),)
    if realm.facts["throttled_with"] == "503":
        return failed(realm, 503, "serviceNotAvailable", "The service is temporarily unavailable.", *wait)
    return failed(realm, 429, "TooManyRequests", "Too many requests.", *wait)
