"""How Google says no: the token endpoint's errors, and those of the REST APIs (§3.1)."""

from __future__ import annotations

from typing import Any, Final

from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.oauth import Trouble
from customhouse_sandbox.routing import Ask
from customhouse_sandbox.state import Realm

_ENDED: Final = (400, "invalid_grant", "Token has been expired or revoked.")
_ERRORS: Final[dict[Trouble, tuple[int, str, str]]] = {
    Trouble.CLIENT: (401, "invalid_client", "The OAuth client was not found."),
    Trouble.SECRET: (401, "invalid_client", "The OAuth client was not found."),
    Trouble.METHOD_OF_AUTH: (401, "invalid_client", "Could not determine client ID from request."),
    Trouble.APPLICATION_DISABLED: (401, "disabled_client", "The OAuth client was disabled."),
    Trouble.GRANT_TYPE: (400, "unsupported_grant_type", "Invalid grant_type."),
    Trouble.PARAMETER: (400, "invalid_request", "Missing required parameter."),
    Trouble.REDIRECT: (400, "redirect_uri_mismatch", "Bad Request"),
    Trouble.CODE: (400, "invalid_grant", "Malformed auth code."),
    Trouble.CODE_SPENT: (400, "invalid_grant", "Malformed auth code."),
    Trouble.CODE_EXPIRED: (400, "invalid_grant", "Malformed auth code."),
    Trouble.VERIFIER: (400, "invalid_grant", "Invalid code verifier."),
    Trouble.REFRESH_UNKNOWN: _ENDED,
    Trouble.REFRESH_EXPIRED: _ENDED,
    Trouble.REFRESH_SPENT: _ENDED,
    Trouble.REVOKED: _ENDED,
    Trouble.WITHDRAWN: _ENDED,
    Trouble.OWNER_GONE: (400, "invalid_grant", "Account has been deleted"),
    Trouble.ADMIN: (400, "admin_policy_enforced", "Access was blocked by the administrator."),
    Trouble.TOKEN: (400, "invalid_token", "Token expired or revoked"),
}


def refuse(_realm: Realm, trouble: Trouble) -> Reply:
    """Return an error of the token endpoint, or of the revocation."""
    status, error, why = _ERRORS[trouble]
    return as_json(status, {"error": error, "error_description": why})


def failed(status: int, message: str, *, state: str = "", domain: str = "global", reason: str = "", info: str = "") -> Reply:
    """Return an error of a REST API."""
    said: dict[str, Any] = {"code": status, "message": message}
    if reason:
        said["errors"] = [{"message": message, "domain": domain, "reason": reason}]
    if state:
        said["status"] = state
    if info:
        said["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": info, "domain": "googleapis.com"}]
    return as_json(status, {"error": said})


def unknown(_ask: Ask) -> Reply:
    """Answer a path that there is not."""
    return failed(404, "Requested entity was not found.", state="NOT_FOUND", reason="notFound")


def unauthenticated() -> Reply:
    """Answer a token that opens nothing."""
    return failed(401, "Request had invalid authentication credentials.", state="UNAUTHENTICATED", reason="authError")


def insufficient() -> Reply:
    """Answer a token that lacks a scope."""
    message = "Request had insufficient authentication scopes."
    return failed(403, message, state="PERMISSION_DENIED", reason="insufficientPermissions", info="ACCESS_TOKEN_SCOPE_INSUFFICIENT")


def limited(realm: Realm, retry_after: int | None) -> Reply:
    """Answer too many calls: 429 of the newer APIs, or the older 403 (§3.1)."""
    if realm.facts["rate_limit"] == "403":
        return failed(403, "Rate Limit Exceeded", domain="usageLimits", reason="userRateLimitExceeded")
    reply = failed(429, "Quota exceeded.", state="RESOURCE_EXHAUSTED", reason="rateLimitExceeded")
    wait = () if retry_after is None else (("Retry-After", str(retry_after)),)
    return Reply(reply.status, reply.body, (*reply.headers, *wait))
