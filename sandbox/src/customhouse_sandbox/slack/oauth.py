"""Slack's authorization (§4.1): 200 whatever happens, comma lists, a bot per workspace, tokens that rotate on request."""

from __future__ import annotations

from typing import Any, Final

from customhouse_sandbox import oauth
from customhouse_sandbox.facts import Fact
from customhouse_sandbox.faults import FaultKind
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.oauth import Dialect, Trouble
from customhouse_sandbox.pages import Choice
from customhouse_sandbox.routing import Ask
from customhouse_sandbox.slack.workspaces import USER, app_id, bot, installed, is_enterprise, title
from customhouse_sandbox.state import Application, Code, End, Grant, Kind, Person, Realm, Token

_ROTATED_SECONDS: Final = 43_200
_NEVER: Final = float("inf")

SCOPES: Final[dict[str, str]] = {
    "chat:write": "Send messages as the application",
    "users:read": "View people in a workspace",
}
"""What the bot was registered for (§4.2)."""

FACTS: Final = (
    Fact(
        "token_rotation",
        ("on", "off"),
        "Whether the application's manifest asks for tokens that rotate; it is asked once and for all.",
        "§4.1",
    ),
    Fact("spent_refresh_error", ("invalid_refresh_token", "internal_error"), "The error of a refresh token that was used before.", "§4.1"),
    Fact("code_reuse_ends_grant", ("no", "yes"), "Whether a code that is shown twice ends what it was exchanged for.", "RFC 6749 §4.1.2"),
    Fact("code_errors", ("specific", "general"), "Whether a used or old code has an error of its own.", "§4.1"),
    Fact("challenge", ("ignored", "refused"), "What becomes of a PKCE challenge for an application that is no public client.", "§4.1"),
    Fact("authorize_errors", ("page", "redirect"), "Where a request that is out of order ends.", "§4.1"),
    Fact("earlier_scopes", ("kept", "dropped"), "Whether installing again keeps the scopes of before.", "§4.1"),
    Fact("reinstall_ends_tokens", ("no", "yes"), "Whether installing again ends the tokens of before.", "§4.1"),
    Fact("access_after_refresh", ("lives", "ends"), "What becomes of the access token when the next one is made.", "§4.1"),
    Fact("bot_revocation", ("workspace", "installation", "token"), "What ends with a bot token that is revoked.", "§4.1"),
    Fact("revocation_told", ("no", "yes"), "Whether an application is told of a revocation that it asked for itself.", "§4.4"),
    Fact("ended_error", ("token_revoked", "account_inactive", "invalid_auth"), "The error of a token that was revoked.", "§4.1"),
    Fact("scopes_header", ("yes", "no"), "Whether each answer has `X-OAuth-Scopes`.", "§4.1, §12"),
    Fact("rate_limit_error", ("ratelimited", "rate_limited"), "The error beside 429.", "§4.5"),
    Fact("uninstall_order", ("uninstalled_first", "revoked_first"), "Which of the two events of an uninstallation comes first.", "§4.4"),
)

_ERRORS: Final[dict[Trouble, str]] = {
    Trouble.CLIENT: "invalid_client_id",
    Trouble.SECRET: "bad_client_secret",
    Trouble.APPLICATION_DISABLED: "invalid_client_id",
    Trouble.METHOD_OF_AUTH: "invalid_client_id",
    Trouble.PARAMETER: "invalid_arguments",
    Trouble.GRANT_TYPE: "invalid_grant_type",
    Trouble.REDIRECT: "bad_redirect_uri",
    Trouble.CODE: "invalid_code",
    Trouble.CODE_SPENT: "code_already_used",
    Trouble.CODE_EXPIRED: "code_expired",
    Trouble.VERIFIER: "invalid_code",
    Trouble.REFRESH_UNKNOWN: "invalid_refresh_token",
    Trouble.REFRESH_EXPIRED: "invalid_refresh_token",
    Trouble.REFRESH_SPENT: "invalid_refresh_token",
    Trouble.REVOKED: "invalid_refresh_token",
    Trouble.WITHDRAWN: "invalid_refresh_token",
    Trouble.ADMIN: "team_access_not_granted",
    Trouble.OWNER_GONE: "account_inactive",
    Trouble.TOKEN: "invalid_auth",
}


def failed(error: str, **more: Any) -> Reply:
    """Return an error: 200 like everything else (§4.1)."""
    return as_json(200, {"ok": False, "error": error, **more})


def refuse(realm: Realm, trouble: Trouble) -> Reply:
    """Return an error of the token endpoint."""
    if trouble is Trouble.REFRESH_SPENT:
        return failed(realm.facts["spent_refresh_error"])
    if trouble in {Trouble.CODE_SPENT, Trouble.CODE_EXPIRED} and realm.facts["code_errors"] == "general":
        trouble = Trouble.CODE
    return failed(_ERRORS[trouble])


def rotates(realm: Realm) -> bool:
    """Tell whether tokens are made that expire."""
    return realm.facts["token_rotation"] != "off"  # noqa: S105 - a name


def _listed(text: str) -> list[str]:
    return [scope for scope in text.split(",") if scope]


def _scopes(ask: Ask, application: Application) -> tuple[str, ...] | str:
    if ask.realm.facts["challenge"] == "refused" and ask.query("code_challenge"):
        return "invalid_request"
    asked = tuple(dict.fromkeys([*_listed(ask.query("scope")), *(f"{USER}{scope}" for scope in _listed(ask.query("user_scope")))]))
    return asked if asked and set(asked) <= set(application.scopes) else "invalid_scope"


def _value(realm: Realm, kind: Kind, scopes: tuple[str, ...]) -> str:
    if kind is Kind.REFRESH:
        return f"xoxe-1-{realm.mint.next('refresh', 140)}"
    kept = "xoxp" if scopes and all(scope.startswith(USER) for scope in scopes) else "xoxb"
    return f"xoxe.{kept}-1-{realm.mint.next('access', 160)}" if rotates(realm) else f"{kept}-{realm.mint.next('access', 56)}"


def _complete(ask: Ask, body: dict[str, Any], access: Token, code: Code | None) -> dict[str, Any]:
    realm, grant = ask.realm, access.grant
    application, person = realm.applications[grant.application], realm.people[grant.person]
    refresh = realm.tokens[body["refresh_token"]] if "refresh_token" in body else None
    if code is None and realm.facts["access_after_refresh"] == "ends":
        for token in realm.tokens.values():
            if token.grant is grant and token.kind is Kind.ACCESS and token.scopes == access.scopes and token is not access:
                token.revoked = True
    said: dict[str, Any] = {"ok": True, "app_id": app_id(application), **_place(realm, person)}
    if code is not None:
        said["authed_user"] = {"id": person.id}
        _settle(realm, grant, person)
    ours = tuple(scope for scope in (access.scopes if code is None else grant.scopes) if not scope.startswith(USER))
    theirs = tuple(scope for scope in access.scopes if scope.startswith(USER))
    if ours or not theirs:
        access.scopes = ours
        if refresh is not None:
            refresh.scopes = ours
        said |= {**_told(ask, access, refresh, "bot"), "bot_user_id": bot(application, person.organisation)[0]}
    if theirs:
        if ours:
            access, refresh = _second(ask, grant, theirs, refresh)
        told = _told(ask, access, refresh, "user")
        if code is None:
            said |= told
        else:
            said["authed_user"] |= told
    if FaultKind.ACCOUNT_MISSING in ask.faults:
        for name in ("team", "enterprise", "authed_user"):
            said.pop(name, None)
    return said


def _place(realm: Realm, person: Person) -> dict[str, Any]:
    told = {"id": person.organisation, "name": title(realm, person.organisation)}
    wide = is_enterprise(person.organisation)
    return {"team": None if wide else told, "enterprise": told if wide else None, "is_enterprise_install": wide}


def _settle(realm: Realm, grant: Grant, person: Person) -> None:
    """Let an installation find what an earlier one of the same workspace left."""
    earlier = [one for one in installed(realm, grant.application, person.organisation) if one is not grant]
    if realm.facts["earlier_scopes"] == "kept":
        scopes = [scope for one in [grant, *earlier] for scope in one.scopes if not scope.startswith(USER) or one is grant]
        grant.scopes = tuple(dict.fromkeys(scopes))
    if realm.facts["reinstall_ends_tokens"] == "yes":
        oauth.end(earlier, End.REPLACED)


def _second(ask: Ask, grant: Grant, scopes: tuple[str, ...], beside: Token | None) -> tuple[Token, Token | None]:
    """Make the person's own tokens, beside the bot's (§4.1)."""
    realm = ask.realm
    access = realm.issue(grant, Kind.ACCESS, scopes, DIALECT.lifetime(realm), _value(realm, Kind.ACCESS, scopes))
    return access, None if beside is None else oauth.refreshing(ask, DIALECT, grant, scopes)


def _told(ask: Ask, access: Token, refresh: Token | None, kind: str) -> dict[str, Any]:
    told: dict[str, Any] = {"access_token": access.value, "token_type": kind}
    if FaultKind.SCOPE_MISSING not in ask.faults:
        told["scope"] = ",".join(scope.removeprefix(USER) for scope in access.scopes)
    if access.expires_at != _NEVER:
        told["expires_in"] = _ROTATED_SECONDS
    if refresh is not None:
        told["refresh_token"] = refresh.value
    return told


DIALECT: Final = Dialect(
    name="Slack",
    ways=lambda _realm: frozenset({"basic", "body"}),
    default_method="",
    code_seconds=600,
    access_seconds=lambda realm: float(_ROTATED_SECONDS) if rotates(realm) else None,
    refresh_seconds=lambda _realm: _NEVER,
    scopes=_scopes,
    granted=lambda asked, _ticked: asked.scopes,
    words=lambda scope: Choice(scope, SCOPES.get(scope, scope), fixed=True),
    refuse=refuse,
    complete=_complete,
    rotates=True,
    replaces=False,
    gives_refresh=lambda realm, _code: rotates(realm),
    back=lambda _realm: {},
    wants_response_type=False,
    grant_type="authorization_code",
    pkce=False,
    value=_value,
    stays=lambda realm, error: realm.facts["authorize_errors"] == "page" and error != "access_denied",
)


def authorize(ask: Ask) -> Reply:
    """`GET /oauth/v2/authorize`."""
    return oauth.authorize(ask, DIALECT)


def decide(ask: Ask) -> Reply:
    """The installation page's form."""
    return oauth.decide(ask, DIALECT)


def token(ask: Ask) -> Reply:
    """`POST /api/oauth.v2.access`."""
    said = oauth.parameters(ask.request)
    code = ask.realm.codes.get(said.get("code", ""))
    if code is not None and said.get("grant_type", DIALECT.grant_type) == DIALECT.grant_type and not said.get("redirect_uri"):
        # It was sent at the beginning, so it is wanted again (§4.1).
        application = oauth.known(ask, DIALECT)
        return application if isinstance(application, Reply) else refuse(ask.realm, Trouble.REDIRECT)
    return oauth.token(ask, DIALECT)


def exchange(ask: Ask) -> Reply:
    """`POST /api/oauth.v2.exchange`: a token that lives for ever becomes one that rotates, once."""
    application = oauth.known(ask, DIALECT)
    if isinstance(application, Reply):
        return application
    realm = ask.realm
    held = realm.tokens.get(oauth.parameters(ask.request).get("token", ""))
    if not rotates(realm):
        return failed("token_rotation_not_enabled")
    if held is None or held.kind is not Kind.ACCESS or held.grant.application != application.key or held.expires_at != _NEVER:
        return failed("invalid_token")
    if held.spent:
        return failed("token_already_exchanged")
    if not held.is_live(realm.now()) or realm.held(held) is None:
        return failed("authorization_not_found")
    held.spent = True
    return oauth.tokens(ask, DIALECT, held.grant, held.scopes, oauth.refreshing(ask, DIALECT, held.grant, held.scopes), None)
