"""Google's authorization server (§3.1): refresh tokens on request only and never rotated, consent counted per project."""

from __future__ import annotations

from typing import Any, Final

from customhouse_sandbox import oauth
from customhouse_sandbox.facts import Fact
from customhouse_sandbox.faults import FaultKind
from customhouse_sandbox.google import identity
from customhouse_sandbox.google.errors import refuse
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.oauth import Asked, Dialect, Trouble
from customhouse_sandbox.pages import Choice
from customhouse_sandbox.routing import Ask
from customhouse_sandbox.state import Application, Code, End, Kind, Realm, Token

AUTH: Final = "https://www.googleapis.com/auth/"
_DAY: Final = 86_400.0
_MOST_REFRESH_TOKENS: Final = 100

IDENTITY: Final = frozenset({"openid", "email", "profile", f"{AUTH}userinfo.email", f"{AUTH}userinfo.profile"})
"""They cannot be unticked one by one (§3.1)."""

WORDS: Final[dict[str, str]] = {
    "openid": "Associate you with your personal info on Google",
    "email": "See your primary Google Account email address",
    "profile": "See your personal info",
    f"{AUTH}meetings.space.readonly": "Read information about any of your Google Meet conferences",
    f"{AUTH}drive.meet.readonly": "See and download your Google Drive files that were created or edited by Google Meet",
    f"{AUTH}calendar.events.readonly": "View events on all your calendars",
    f"{AUTH}calendar.events": "View and edit events on all your calendars",
    f"{AUTH}calendar.events.owned.readonly": "See the events on Google calendars you own",
    f"{AUTH}calendar.events.owned": "See, create, change, and delete events on Google calendars you own",
    f"{AUTH}gmail.readonly": "View your email messages and settings",
    f"{AUTH}gmail.send": "Send email on your behalf",
    f"{AUTH}drive.file": "See, edit, create, and delete only the specific Google Drive files you use with this app",
}
"""In the words of the discovery documents (§3.2)."""

FACTS: Final = (
    Fact("revoke_extent", ("project", "grant"), "Whether revoking one token ends all of a person's consents to the project.", "§3.1, §12"),
    Fact("revoked_again", ("refused", "success"), "The answer to revoking what is over already: 400 `invalid_token`, or 200.", "§3.1, §12"),
    Fact("scope_spelling", ("normalised", "as_asked"), "Whether `email` comes back as `…/auth/userinfo.email`.", "§3.1"),
    Fact("code_reuse_ends_grant", ("no", "yes"), "Whether a code that is shown twice ends what it was exchanged for.", "RFC 6749 §4.1.2"),
    Fact("basic_auth", ("refused", "accepted"), "Whether an application may authenticate by Basic.", "§1.1"),
    Fact("rate_limit", ("429", "403"), "Which of the two forms says that there were too many calls.", "§3.1"),
    Fact("owned_scope_stops_channels", ("yes", "no"), "Whether a channel can be stopped with an `.owned` scope.", "§3.2"),
    Fact("channels_end_with_grant", ("yes", "no"), "Whether notification channels end with the consent that made them.", "§3.7"),
    Fact("iss_in_redirect", ("no", "yes"), "Whether the answer in the browser names the issuer.", "RFC 9207 §2"),
)


def _ways(realm: Realm) -> frozenset[str]:
    return frozenset({"body", "basic"} if realm.facts["basic_auth"] == "accepted" else {"body"})


def _scopes(ask: Ask, application: Application) -> tuple[str, ...] | str:
    asked = tuple(dict.fromkeys(ask.query("scope").split()))
    if not asked:
        return "invalid_request"
    return asked if set(asked) <= set(application.scopes) else "invalid_scope"


def _granted(asked: Asked, ticked: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(scope for scope in asked.scopes if scope in ticked or scope in IDENTITY)


def _spelled(realm: Realm, scope: str) -> str:
    if realm.facts["scope_spelling"] == "normalised" and scope in {"email", "profile"}:
        return f"{AUTH}userinfo.{scope}"
    return scope


def _complete(ask: Ask, body: dict[str, Any], access: Token, code: Code | None) -> dict[str, Any]:
    if "scope" in body:
        body["scope"] = " ".join(_spelled(ask.realm, scope) for scope in access.scopes)
    if code is not None:
        body |= _consented(ask, access, code)
    return {**body, "token_type": "Bearer"}


def _consented(ask: Ask, access: Token, code: Code) -> dict[str, Any]:
    realm = ask.realm
    refresh = [token for token in realm.tokens.values() if token.kind is Kind.REFRESH]
    mine = [
        token
        for token in refresh
        if (token.grant.application, token.grant.person) == (code.application, code.person) and token.is_live(realm.now())
    ]
    for token in mine[:-_MOST_REFRESH_TOKENS]:
        token.revoked = True  # The oldest one ends silently (§3.1).
    if realm.applications[code.application].testing and not set(access.scopes) <= IDENTITY:
        for token in mine:
            if token.grant is access.grant:
                token.ends_at = token.expires_at = realm.now() + 7 * _DAY
    person = realm.held(access)
    if "openid" not in access.scopes or person is None or FaultKind.ACCOUNT_MISSING in ask.faults:
        return {}
    return {"id_token": identity.id_token(realm, person, realm.applications[code.application].id, access, code.nonce)}


DIALECT: Final = Dialect(
    name="Google",
    ways=_ways,
    default_method="plain",
    code_seconds=600,
    access_seconds=3600,
    refresh_seconds=lambda _realm: 180 * _DAY,
    scopes=_scopes,
    granted=_granted,
    words=lambda scope: Choice(scope, WORDS.get(scope, scope), fixed=scope in IDENTITY),
    refuse=refuse,
    complete=_complete,
    rotates=False,
    replaces=False,
    gives_refresh=lambda _realm, code: code.offline,
    back=lambda realm: {"iss": identity.ISSUER} if realm.facts["iss_in_redirect"] == "yes" else {},
)


def authorize(ask: Ask) -> Reply:
    """`GET /o/oauth2/v2/auth`."""
    return oauth.authorize(ask, DIALECT)


def decide(ask: Ask) -> Reply:
    """The consent page's form."""
    return oauth.decide(ask, DIALECT)


def token(ask: Ask) -> Reply:
    """`POST /token`."""
    return oauth.token(ask, DIALECT)


def revoke(ask: Ask) -> Reply:
    """`POST /revoke`: either token, without authentication, ends what the person gave to the whole project."""
    if not ask.request.is_form:
        return refuse(ask.realm, Trouble.PARAMETER)
    held = ask.realm.tokens.get(dict(ask.request.form()).get("token", ""))
    done = as_json(200, {})
    if held is None:
        return refuse(ask.realm, Trouble.TOKEN)
    if not held.is_live(ask.realm.now()):
        return done if ask.realm.facts["revoked_again"] == "success" else refuse(ask.realm, Trouble.TOKEN)
    if oauth.lies(ask):
        return done
    grant = held.grant
    shared = ask.realm.facts["revoke_extent"] == "project"
    oauth.end(ask.realm.of_project(grant.project, grant.person) if shared else [grant], End.REVOKED)
    return done
