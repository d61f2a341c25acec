"""Why a provider refused, and whom that concerns. Pure: status and bytes in, a failure out; whatever the bytes are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from customhouse.canonical import parse
from customhouse.errors import Invalid, MalformedJson
from customhouse.providers.manifest import ErrorRule, OAuth2, Provider
from customhouse.providers.members import pick
from customhouse.providers.vocabulary import Kind, Reason, Step
from customhouse.types import Json

LARGEST_REPLY: Final = 65_536
"""Bytes of a token, identity, revocation or error reply that are read; a longer one is unreadable."""

MEANING: Final[dict[Reason, str]] = {
    Reason.RATE_LIMITED: "The provider asks us to slow down.",
    Reason.UNAVAILABLE: "The provider did not do its part just now.",
    Reason.UNREADABLE: "The provider answered something that cannot be understood.",
    Reason.CLIENT_REFUSED: "The provider does not accept the client id or secret of this installation.",
    Reason.REQUEST_REFUSED: "The provider does not accept the request as this installation makes it.",
    Reason.APPLICATION_DISABLED: "The provider has disabled the application of this installation.",
    Reason.GRANT_ENDED: "The provider says that the permission was withdrawn or has run out.",
    Reason.CODE_REFUSED: "The provider's code was used before or has run out: begin again.",
    Reason.TOKEN_REFUSED: "The provider does not accept the access token any more.",
    Reason.SCOPE_MISSING: "The permission does not cover this call.",
    Reason.ADMIN_BLOCKED: "An administrator of the account does not allow the application.",
    Reason.USER_NEEDED: "The provider wants the person to sign in again.",
    Reason.ACCOUNT_GONE: "The account does not exist any more, or is disabled.",
    Reason.NOT_ALLOWED: "The account may not do this.",
    Reason.NOT_THERE: "The provider knows no such thing.",
    Reason.DENIED: "The person did not consent.",
}
"""One sentence per reason, without a value of anybody: for pages, health and logs."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A provider did not do what it was asked."""

    kind: Kind
    reason: Reason

    @property
    def meaning(self) -> str:
        """One sentence, safe to show."""
        return MEANING[self.reason]


_UNREADABLE: Final = Failure(Kind.TRANSIENT, Reason.UNREADABLE)
_TOKEN_STEPS: Final = (Step.EXCHANGE, Step.REFRESH)

GENERAL: Final = (
    # Whatever such an answer says besides: it is no statement about a grant.
    ErrorRule(Kind.TRANSIENT, Reason.RATE_LIMITED, statuses=(429,)),
    ErrorRule(Kind.TRANSIENT, Reason.UNAVAILABLE, statuses=(408, 425, *range(500, 600))),
    # RFC 6749 §4.1.2.1
    ErrorRule(Kind.PERMANENT, Reason.DENIED, ("access_denied",), steps=(Step.AUTHORIZE,)),
    ErrorRule(Kind.TRANSIENT, Reason.UNAVAILABLE, ("server_error", "temporarily_unavailable")),
    # OpenID Connect Core §3.1.2.6
    ErrorRule(Kind.PERMANENT, Reason.USER_NEEDED, ("interaction_required", "login_required", "consent_required")),
    # RFC 6749 §5.2
    ErrorRule(Kind.PERMANENT, Reason.CODE_REFUSED, ("invalid_grant",), steps=(Step.EXCHANGE,)),
    ErrorRule(Kind.PERMANENT, Reason.GRANT_ENDED, ("invalid_grant",), steps=(Step.REFRESH, Step.REVOKE)),
    ErrorRule(Kind.APPLICATION, Reason.CLIENT_REFUSED, ("invalid_client", "unauthorized_client")),
    ErrorRule(
        Kind.APPLICATION,
        Reason.REQUEST_REFUSED,
        ("invalid_request", "invalid_scope", "unsupported_grant_type", "unsupported_response_type", "unsupported_token_type"),
        steps=(Step.AUTHORIZE, Step.EXCHANGE, Step.REFRESH, Step.REVOKE),
    ),
    # RFC 6750 §3.1
    ErrorRule(Kind.PERMANENT, Reason.TOKEN_REFUSED, ("invalid_token",), steps=(Step.API, Step.REVOKE)),
    ErrorRule(Kind.PERMANENT, Reason.SCOPE_MISSING, ("insufficient_scope",), steps=(Step.API,)),
    # HTTP, where the body says nothing that we know
    ErrorRule(Kind.PERMANENT, Reason.TOKEN_REFUSED, statuses=(401,), steps=(Step.API,)),
    ErrorRule(Kind.PERMANENT, Reason.NOT_ALLOWED, statuses=(403,), steps=(Step.API,)),
    ErrorRule(Kind.PERMANENT, Reason.NOT_THERE, statuses=(404, 410), steps=(Step.API,)),
    ErrorRule(Kind.PERMANENT, Reason.REQUEST_REFUSED, statuses=tuple(range(400, 500)), steps=(Step.API,)),
)
"""The rules for every provider, after its own. What none of them knows at the token endpoint is transient: an answer that we do not
understand must not cost a person the connection."""


def classify(provider: Provider, step: Step, status: int, raw: bytes) -> Failure:
    """Say what a refusal means.

    Args:
        provider: its own rules come first.
        step: during what it happened.
        status: of the answer; for `Step.AUTHORIZE` 400.
        raw: the body, or for `Step.AUTHORIZE` `{"error": …}` made from the query; any bytes.
    """
    body = read(raw)
    for rule in (*provider.errors, *GENERAL):
        if fits(rule, step, status, body):
            return Failure(rule.kind, rule.reason)
    return _UNREADABLE


def fits(rule: ErrorRule, step: Step, status: int, body: Json) -> bool:
    """Tell whether a rule speaks of this answer."""
    if step not in rule.steps or (rule.statuses and status not in rule.statuses):
        return False
    if not rule.values:
        return bool(rule.statuses)
    return any(one in rule.values for one in _texts([found for pointer in rule.pointers for found in pick(body, pointer)]))


def read(raw: bytes) -> Json:
    """Return the JSON of a reply; None where it is none, or too long."""
    if len(raw) > LARGEST_REPLY:
        return None
    try:
        return parse(raw)
    except (Invalid, MalformedJson):
        return None


def refused(auth: OAuth2, body: Json) -> bool:
    """Tell whether a reply with a good status is a refusal all the same, by the provider's own flag."""
    return bool(auth.success_flag) and not any(one is True for one in pick(body, auth.success_flag))


def _texts(found: list[Json]) -> list[str]:
    texts: list[str] = []
    for one in found:
        for value in one if isinstance(one, list) else [one]:
            if isinstance(value, str):
                texts.append(value)
            elif isinstance(value, int) and not isinstance(value, bool):
                texts.append(str(value))
    return texts
