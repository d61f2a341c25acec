"""Microsoft's authorization server (§6.1): tenants, administrators who must consent, refresh tokens that outlive their use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from customhouse_sandbox import oauth
from customhouse_sandbox.facts import Fact
from customhouse_sandbox.faults import FaultKind
from customhouse_sandbox.http import Reply, as_html, redirect
from customhouse_sandbox.microsoft import directory, identity
from customhouse_sandbox.microsoft.errors import numbered, refuse, words_of
from customhouse_sandbox.oauth import Asked, Dialect, Trouble
from customhouse_sandbox.pages import Choice, consent, refusal
from customhouse_sandbox.routing import Ask
from customhouse_sandbox.state import Application, Code, End, Grant, Kind, Person, Realm, Token

GRAPH: Final = "https://graph.microsoft.com/"
_DAY: Final = 86_400.0
_SHORTEST, _LONGEST = 3600, 5400
OPENID: Final = frozenset({"openid", "profile", "email", "offline_access"})

WORDS: Final[dict[str, str]] = {
    "openid": "Sign you in",
    "profile": "View your basic profile",
    "email": "View your email address",
    "offline_access": "Maintain access to data you have given it access to",
    "User.Read": "Sign you in and read your profile",
    "OnlineMeetings.Read": "Read your online meetings",
    "OnlineMeetingRecording.Read.All": "Read all recordings of online meetings",
    "OnlineMeetingTranscript.Read.All": "Read all transcripts of online meetings",
    "Chat.ReadBasic": "Read names and members of your chat threads",
    "ChatMessage.Send": "Send chat messages",
    "Chat.Read": "Read your chat messages",
    "Chat.ReadWrite": "Read and write your chat messages",
    "Calendars.Read": "Read your calendars",
    "Mail.ReadWrite": "Read and write access to your mail",
    "Files.ReadWrite": "Have full access to your files",
    "User.ReadWrite": "Read and update your profile",
    "User.RevokeSessions.All": "Revoke all sign in sessions for a user",
}
"""The permissions that there are here (§6.2); any of them may be asked for, registered or not."""
REGISTERED: Final = tuple(WORDS)[:10]
_BY_ADMINISTRATORS: Final = frozenset({"OnlineMeetingRecording.Read.All", "OnlineMeetingTranscript.Read.All"})

FACTS: Final = (
    Fact("code_reuse_ends_grant", ("no", "yes"), "Whether a code that is shown twice ends what it was exchanged for.", "RFC 6749 §4.1.2"),
    Fact("artifacts_need_admin", ("yes", "no"), "Whether recordings and transcripts need an administrator's consent.", "§6.2, §12"),
    Fact("admin_needed_answer", ("page", "redirect"), "Where a person ends who may not consent.", "§6.1"),
    Fact("earlier_consents", ("left_out", "included"), "Whether a token opens what was consented to before as well.", "§6.1"),
    Fact("scope_spelling", ("short", "full"), "Whether the reply names permissions with Graph's address.", "§6.1"),
    Fact("openid_scopes_said", ("yes", "no"), "Whether the reply names `openid`, `profile` and `email`.", "§6.1"),
    Fact("access_outlives_grant", ("yes", "no"), "Whether an access token opens Graph until it expires, whatever happened.", "§6.1"),
    Fact("removal_error", ("700016", "65001"), "The error after an administrator removed the application.", "§6.1, §12"),
    Fact("transcripts", ("open", "blocked"), "Whether the tenant's administrator lets applications read transcripts.", "§6.2"),
    Fact("content", ("redirect", "bytes"), "Whether a recording's bytes are elsewhere.", "§6.3"),
    Fact("throttled_with", ("429", "503"), "Which status says that there were too many calls.", "§6.3"),
    Fact("subscription_minutes", ("4320", "60"), "How many minutes a subscription may live.", "§6.4, §12"),
    Fact("subscriptions_end_with_grant", ("yes", "no"), "Whether changes are told no more once the consent is gone.", "§6.4"),
    Fact(
        "withdrawal_told",
        ("reauthorizationRequired", "subscriptionRemoved", "nothing"),
        "How an application hears that the consent behind a subscription is gone.",
        "§6.4",
    ),
    Fact("item_ids", ("absent", "present"), "Whether each change that is told has an id of its own.", "§6.4"),
    Fact("validation_tokens", ("v1", "v2"), "Which form the tokens have that come with encrypted content.", "§6.4"),
)


def short(scope: str) -> str:
    """Return a permission's name without Graph's address."""
    return scope.removeprefix(GRAPH)


def consented(realm: Realm, application: str, person: str) -> tuple[str, ...]:
    """Return everything that a person consented to and nobody took back: what a refresh token is good for (§6.1)."""
    held: list[str] = []
    for grant in realm.grants:
        if (grant.application, grant.person) != (application, person):
            continue
        if grant.ended in {End.DEAUTHORIZED, End.ADMIN, End.OWNER_GONE}:
            held.clear()
        else:
            held += grant.scopes
    return tuple(dict.fromkeys(held))


def _scopes(ask: Ask, application: Application) -> tuple[str, ...] | str:
    if ask.query("response_mode", "query") != "query" or not ask.query("scope").split():
        return "invalid_request"
    if ask.query("prompt") == "none":
        return "login_required"
    found = _named(ask.query("scope").split(), application.scopes)
    return "invalid_scope" if found is None else found


def _named(asked: list[str], everything: Iterable[str]) -> tuple[str, ...] | None:
    """Return the permissions of a list, `.default` being all that were registered; None where there is no such permission."""
    names = [short(scope) for scope in asked]
    if ".default" in names:
        names = [*(name for name in names if name in OPENID), *everything] if {*names} <= {".default", *OPENID} else [".default"]
    return tuple(dict.fromkeys(names)) if {*names} <= {*WORDS, *everything} else None


def _admitted(ask: Ask, asked: Asked, person: Person) -> Reply | None:
    tenant, name = directory.tenant_of(person), ask.parts["tenant"]
    at_home = name in directory.SHARED or directory.found(name) is tenant
    if tenant is None or not at_home:
        return _page(50020, "The user account does not exist in the tenant and cannot access the application.")
    shut = ask.realm.facts["artifacts_need_admin"] == "yes" and bool(_BY_ADMINISTRATORS & set(asked.scopes))
    if not shut or directory.administers(person) or asked.application.key in directory.consents(ask.realm, tenant.id):
        return None
    why = "An administrator of your organisation must consent to this application first."
    if ask.realm.facts["admin_needed_answer"] == "page":
        return _page(90094, why)
    return oauth.send_back(ask, DIALECT, asked, error="access_denied", why=words_of(90094, why))


def _page(code: int, words: str) -> Reply:
    return as_html(400, refusal("Microsoft", words_of(code, words)))


def _narrowed(ask: Ask, held: Token, wanted: list[str]) -> tuple[str, ...] | Trouble:
    """Return what a renewal opens: anything that was ever consented to, and only what it names (§6.1)."""
    everything = consented(ask.realm, held.grant.application, held.grant.person)
    names = _named(wanted, everything)
    if names is None:
        return Trouble.SCOPE
    return names if set(names) <= {*everything, *OPENID} else Trouble.WITHDRAWN


def _complete(ask: Ask, body: dict[str, Any], access: Token, code: Code | None) -> dict[str, Any]:
    realm, grant = ask.realm, access.grant
    application, person = realm.applications[grant.application], realm.people[grant.person]
    if code is not None and realm.facts["earlier_consents"] == "included":
        grant.scopes = access.scopes = tuple(dict.fromkeys([*access.scopes, *consented(realm, application.key, person.login)]))
    said = {"token_type": "Bearer", **body, "ext_expires_in": body["expires_in"]}
    if "scope" in said:
        said["scope"] = " ".join(_spelled(realm, access.scopes))
    if "openid" in access.scopes and FaultKind.ACCOUNT_MISSING not in ask.faults:
        said["id_token"] = identity.id_token(realm, person, application.id, access.scopes, "" if code is None else code.nonce)
    return said


def _spelled(realm: Realm, scopes: Iterable[str]) -> list[str]:
    told = [scope for scope in scopes if scope != "offline_access"]
    if realm.facts["openid_scopes_said"] == "no":
        told = [scope for scope in told if scope not in OPENID]
    if realm.facts["scope_spelling"] == "full":
        told = [scope if scope in OPENID else f"{GRAPH}{scope}" for scope in told]
    return told


def _value(realm: Realm, kind: Kind, _opens: tuple[str, ...]) -> str:
    """Return a token as long as Microsoft's; what an access token holds is nobody's business but Graph's (§6.1)."""
    if kind is Kind.REFRESH:
        return f"1.{realm.mint.next('refresh', 1100)}"
    return f"eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.{realm.mint.next('access', 1400)}.{realm.mint.next('access-signature', 342)}"


def _lifetime(realm: Realm) -> float:
    """Return 60 to 90 minutes, other ones each time (§6.1)."""
    spread = int.from_bytes(realm.mint.next("lifetime", 8).encode()) % (_LONGEST - _SHORTEST)
    return float(_SHORTEST + spread)


DIALECT: Final = Dialect(
    name="Microsoft",
    ways=lambda _realm: frozenset({"body", "basic"}),
    default_method="plain",
    code_seconds=600,
    access_seconds=_lifetime,
    refresh_seconds=lambda _realm: 90 * _DAY,
    scopes=_scopes,
    granted=lambda asked, _ticked: asked.scopes,
    words=lambda scope: Choice(scope, WORDS.get(scope, scope), fixed=True),
    refuse=refuse,
    complete=_complete,
    rotates=True,
    replaces=False,
    gives_refresh=lambda _realm, code: "offline_access" in code.scopes,
    back=lambda realm: {"session_state": directory.guid(realm.mint.next("session"))},
    spends=False,
    narrowed=_narrowed,
    value=_value,
    outlives=lambda realm: realm.facts["access_outlives_grant"] == "yes",
    admitted=_admitted,
    explained={
        "access_denied": words_of(65004, "User declined to consent to access the app."),
        "invalid_request": words_of(900144, "The request lacks a required parameter, or has one that is not supported."),
        "invalid_scope": words_of(650053, "The application asked for a scope that does not exist on the resource."),
        "login_required": words_of(50058, "A silent sign-in request was sent but no user is signed in."),
        "unsupported_response_type": words_of(700054, "The response_type is not enabled for the application."),
    },
)


def _known_tenant(ask: Ask) -> Reply | None:
    name = ask.parts["tenant"]
    if name == "consumers":
        return _page(9002346, "The application is configured for use by work and school accounts only.")
    if name in directory.SHARED or directory.found(name) is not None:
        return None
    return _page(90002, f"Tenant '{name}' not found.")


def authorize(ask: Ask) -> Reply:
    """`GET /{tenant}/oauth2/v2.0/authorize`."""
    return _known_tenant(ask) or oauth.authorize(ask, DIALECT)


def decide(ask: Ask) -> Reply:
    """The consent page's form."""
    return _known_tenant(ask) or oauth.decide(ask, DIALECT)


def token(ask: Ask) -> Reply:
    """`POST /{tenant}/oauth2/v2.0/token`."""
    if _known_tenant(ask) is not None:
        return numbered(ask.realm, 400, "invalid_request", 90002, "Tenant not found.")
    return oauth.token(ask, DIALECT)


def together(realm: Realm, application: Application, person: Person, why: End) -> list[Grant]:
    """Return what ends when a person removes an application, or an administrator removes it for the whole tenant."""
    if why is not End.ADMIN:
        return list(realm.live(application.key, person.login))
    directory.consents(realm, person.organisation).discard(application.key)
    return directory.of_tenant(realm, application.key, person.organisation)


def _asked_for_tenant(ask: Ask) -> tuple[Application, str] | Reply:
    """Return the application that asks for an administrator's consent, and where its answer goes."""
    shut = _known_tenant(ask)
    if shut is not None:
        return shut
    application = ask.realm.application(ask.query("client_id"))
    if application is None or application.disabled:
        return _page(700016, "The application was not found in the directory of the tenant.")
    target = ask.query("redirect_uri")
    if target not in application.redirects:
        return _page(50011, "The redirect URI is not one of those that are configured for the application.")
    return application, target


def ask_administrator(ask: Ask) -> Reply:
    """`GET /{tenant}/adminconsent`."""
    asked = _asked_for_tenant(ask)
    if isinstance(asked, Reply):
        return asked
    people = [(person.login, f"{person.name} ({person.email})") for person in ask.realm.people.values()]
    return as_html(200, consent("Microsoft", asked[0].key, people, [DIALECT.words(scope) for scope in asked[0].scopes]))


def decide_for_tenant(ask: Ask) -> Reply:
    """The form of that page: an administrator's decision, for everybody in the tenant."""
    asked = _asked_for_tenant(ask)
    if isinstance(asked, Reply):
        return asked
    application, target = asked
    said = dict(ask.request.form())
    person = ask.realm.people.get(said.get("account", ""))
    tenant = None if person is None else directory.tenant_of(person)
    if person is None or tenant is None or said.get("decision") not in {"allow", "deny"}:
        return as_html(400, refusal("Microsoft", "Say who decides, and how: account, and decision=allow or decision=deny."))
    if ask.parts["tenant"] not in directory.SHARED and directory.found(ask.parts["tenant"]) is not tenant:
        return _page(50020, "The user account does not exist in the tenant and cannot access the application.")
    if not directory.administers(person):
        return _page(90094, "An administrator of your organisation must consent to this application first.")
    told = {"tenant": tenant.id, "state": ask.query("state"), "admin_consent": "True"}
    if said["decision"] == "deny":
        told |= {"error": "access_denied", "error_description": DIALECT.explained["access_denied"]}
    else:
        directory.consents(ask.realm, tenant.id).add(application.key)
    said_back = urlencode({name: value for name, value in told.items() if value})
    return redirect(f"{target}{'&' if urlsplit(target).query else '?'}{said_back}")
