"""An authorization server, as RFC 6749, 7636 and 7009 have it; what one provider does otherwise stands in its `Dialect`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final
from urllib.parse import unquote, urlencode, urlsplit

from customhouse_sandbox.faults import FaultKind
from customhouse_sandbox.http import Reply, Request, as_html, as_json, redirect
from customhouse_sandbox.pages import Choice, consent, refusal
from customhouse_sandbox.routing import Ask, bearer_text
from customhouse_sandbox.state import Application, Code, End, Grant, Kind, Person, Realm, Token

_CHALLENGE: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636 §4.2; the same form for `plain`
_NO_STORE: Final = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))  # RFC 6749 §5.1


class Trouble(Enum):
    """Why a token or revocation call is refused."""

    CLIENT = auto()
    SECRET = auto()
    APPLICATION_DISABLED = auto()
    METHOD_OF_AUTH = auto()
    PARAMETER = auto()
    GRANT_TYPE = auto()
    REDIRECT = auto()
    CODE = auto()
    CODE_SPENT = auto()
    CODE_EXPIRED = auto()
    VERIFIER = auto()
    REFRESH_UNKNOWN = auto()
    REFRESH_EXPIRED = auto()
    REFRESH_SPENT = auto()
    REVOKED = auto()
    WITHDRAWN = auto()
    ADMIN = auto()
    OWNER_GONE = auto()
    TOKEN = auto()
    SCOPE = auto()


@dataclass(frozen=True, slots=True)
class Asked:
    """An authorization request that is in order."""

    application: Application
    redirect: str
    state: str
    scopes: tuple[str, ...]
    challenge: str
    method: str
    offline: bool
    force: bool
    """Whether the person is asked again although they consented before."""
    nonce: str


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one provider speaks the protocol."""

    name: str
    ways: Callable[[Realm], frozenset[str]]
    """How an application may show who it is: `basic`, `body`."""
    default_method: str
    """Of a challenge without a method; empty: refused."""
    code_seconds: float
    access_seconds: float | Callable[[Realm], float | None]
    """None: an access token does not end by itself."""
    refresh_seconds: Callable[[Realm], float]
    """How long a refresh token lives that is not used."""
    scopes: Callable[[Ask, Application], tuple[str, ...] | str]
    """What a request asks for; a text is the error that it gets."""
    granted: Callable[[Asked, tuple[str, ...]], tuple[str, ...]]
    """What of it is granted, when these were ticked."""
    words: Callable[[str], Choice]
    """A scope on the page."""
    refuse: Callable[[Realm, Trouble], Reply]
    complete: Callable[[Ask, dict[str, Any], Token, Code | None], dict[str, Any]]
    """A token reply in the provider's own form."""
    rotates: bool
    replaces: bool
    """Whether a new authorization ends the person's earlier ones."""
    gives_refresh: Callable[[Realm, Code], bool]
    back: Callable[[Realm], dict[str, str]]
    """What else is said in the browser."""
    wants_response_type: bool = True
    grant_type: str = ""
    """What a token call means that names no grant type; empty: such a call is refused."""
    pkce: bool = True
    """Whether a challenge is kept; where not, it is passed over, as is a verifier."""
    spends: bool = True
    """Whether a refresh token is spent by its use, where a new one is given."""
    narrowed: Callable[[Ask, Token, list[str]], tuple[str, ...] | Trouble] = field(default=lambda _ask, held, wanted: within(held, wanted))
    """What a renewal gets that names scopes."""
    value: Callable[[Realm, Kind, tuple[str, ...]], str | None] = field(default=lambda _realm, _kind, _scopes: None)
    """A token in the provider's own form."""
    outlives: Callable[[Realm], bool] = field(default=lambda _realm: False)
    """Whether an access token opens what it opens until it expires, whatever becomes of its grant."""
    admitted: Callable[[Ask, Asked, Person], Reply | None] = field(default=lambda _ask, _asked, _person: None)
    """The answer to a person who may not consent here."""
    stays: Callable[[Realm, str], bool] = field(default=lambda _realm, _error: False)
    """Whether the browser is not sent back with an error, but shown a page."""
    explained: Mapping[str, str] = field(default_factory=dict)
    """The description that goes with an error in the browser."""

    def lifetime(self, realm: Realm) -> float | None:
        """Return how long an access token lives that is made now, in seconds; None: it does not end by itself."""
        return self.access_seconds(realm) if callable(self.access_seconds) else self.access_seconds


def within(held: Token, wanted: list[str]) -> tuple[str, ...] | Trouble:
    """Return the scopes that a renewal names, which may be fewer than were granted and never more (RFC 6749 §6)."""
    return tuple(wanted) if set(wanted) <= set(held.scopes) else Trouble.PARAMETER


def parameters(request: Request) -> dict[str, str]:
    """Return what a call says in its form and in its query; the form wins."""
    return dict([*request.query, *request.form()])


def authorize(ask: Ask, dialect: Dialect) -> Reply:
    """Show the consent page (RFC 6749 §4.1.1), or say why not."""
    asked = _asked(ask, dialect, dict(ask.request.query))
    if isinstance(asked, Reply):
        return asked
    people = [(person.login, f"{person.name} ({person.email})") for person in ask.realm.people.values()]
    return as_html(200, consent(dialect.name, asked.application.key, people, [dialect.words(scope) for scope in asked.scopes]))


def decide(ask: Ask, dialect: Dialect) -> Reply:
    """Take the person's decision, and send the browser back (RFC 6749 §4.1.2).

    The form has `decision` (`allow` or `deny`), `account` (a login), and the ticked scopes as `scope`, which count where `ticks=yes`
    says that there were boxes; without it everything is granted.
    """
    asked = _asked(ask, dialect, dict(ask.request.query))
    if isinstance(asked, Reply):
        return asked
    form = ask.request.form()
    said = dict(form)
    person = ask.realm.people.get(said.get("account", next(iter(ask.realm.people), "")))
    if said.get("decision") == "deny":
        return send_back(ask, dialect, asked, error="access_denied")
    if said.get("decision") != "allow" or person is None:
        return as_html(400, refusal(dialect.name, "Say who decides, and how: account, and decision=allow or decision=deny."))
    ticked = tuple(value for key, value in form if key == "scope") if said.get("ticks") == "yes" else asked.scopes
    if not set(ticked) <= set(asked.scopes):
        return as_html(400, refusal(dialect.name, "A scope was ticked that nobody asked for."))
    shut = dialect.admitted(ask, asked, person)
    if shut is not None:
        return shut
    return _granted(ask, dialect, asked, person, ticked)


def _granted(ask: Ask, dialect: Dialect, asked: Asked, person: Person, ticked: tuple[str, ...]) -> Reply:
    realm = ask.realm
    scopes = dialect.granted(asked, ticked)
    known = any(realm.live(asked.application.key, person.login))
    code = Code(
        f"sandbox-{realm.name}-code-{realm.mint.next('code')}",
        asked.application.key,
        person.login,
        asked.redirect,
        scopes,
        realm.now() + dialect.code_seconds,
        asked.challenge,
        asked.method,
        # A refresh token is not given again to somebody who was not asked again (§3.1).
        asked.offline and (asked.force or not known),
        asked.nonce,
    )
    realm.codes[code.value] = code
    return send_back(ask, dialect, asked, code=code.value)


def _asked(ask: Ask, dialect: Dialect, said: dict[str, str]) -> Asked | Reply:
    application = ask.realm.application(said.get("client_id", ""))
    if application is None or application.disabled:
        return as_html(400, refusal(dialect.name, "invalid_client: there is no such application."))
    target = said.get("redirect_uri", "")
    if target not in application.redirects:
        # RFC 6749 §4.1.2.1: never sent to an address that is not registered.
        return as_html(400, refusal(dialect.name, "redirect_uri_mismatch: the redirect URI is not registered, character by character."))
    plain = Asked(application, target, said.get("state", ""), (), "", "", offline=False, force=False, nonce=said.get("nonce", ""))
    if len(said) != len(ask.request.query):
        return send_back(ask, dialect, plain, error="invalid_request", why="A parameter stands there twice.")
    if said.get("response_type", "" if dialect.wants_response_type else "code") != "code":
        return send_back(ask, dialect, plain, error="unsupported_response_type")
    challenge, method = "", ""
    if dialect.pkce:
        challenge, method = said.get("code_challenge", ""), said.get("code_challenge_method", "")
    if method and not challenge:
        return send_back(ask, dialect, plain, error="invalid_request", why="There is a code_challenge_method and no code_challenge.")
    if challenge:
        method = method or dialect.default_method
        if method not in {"S256", "plain"} or _CHALLENGE.fullmatch(challenge) is None:
            return send_back(ask, dialect, plain, error="invalid_request", why="The code_challenge is not one of RFC 7636.")
    scopes = dialect.scopes(ask, application)
    if isinstance(scopes, str):
        return send_back(ask, dialect, plain, error=scopes)
    force = "consent" in said.get("prompt", "").split()
    offline = said.get("access_type") == "offline"
    return Asked(application, target, plain.state, scopes, challenge, method, offline, force, plain.nonce)


def send_back(ask: Ask, dialect: Dialect, asked: Asked, *, code: str = "", error: str = "", why: str = "") -> Reply:
    """Send the browser back with a code or an error (RFC 6749 §4.1.2), or show why not."""
    why = why or dialect.explained.get(error, "")
    if error and dialect.stays(ask.realm, error):
        return as_html(400, refusal(dialect.name, f"{error}: {why}"))
    said = {"code": code} if code else {"error": error, **({"error_description": why} if why else {})}
    if asked.state:
        said["state"] = asked.state
    said |= dialect.back(ask.realm)
    return redirect(f"{asked.redirect}{'&' if urlsplit(asked.redirect).query else '?'}{urlencode(said)}")


def known(ask: Ask, dialect: Dialect) -> Application | Reply:
    """Return the application that a call comes from (RFC 6749 §2.3.1), or the refusal."""
    ways = dialect.ways(ask.realm)
    shown = basic(ask.request)
    said = parameters(ask.request)
    if shown is None:
        if "body" not in ways:
            return dialect.refuse(ask.realm, Trouble.METHOD_OF_AUTH)
        shown = (said.get("client_id", ""), said.get("client_secret", ""))
    elif "basic" not in ways:
        return dialect.refuse(ask.realm, Trouble.METHOD_OF_AUTH)
    application = ask.realm.application(shown[0])
    if application is None:
        return dialect.refuse(ask.realm, Trouble.CLIENT)
    if not hmac.compare_digest(application.secret.encode(), shown[1].encode()):
        return dialect.refuse(ask.realm, Trouble.SECRET)
    if application.disabled:
        return dialect.refuse(ask.realm, Trouble.APPLICATION_DISABLED)
    return application


def basic(request: Request) -> tuple[str, str] | None:
    """Return client id and secret of a Basic header; empty ones where it is broken, None where there is none."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return ("", "")
    return unquote(name), unquote(secret)


def token(ask: Ask, dialect: Dialect) -> Reply:
    """Exchange a code, or renew an access token (RFC 6749 §4.1.3, §6)."""
    application = known(ask, dialect)
    if isinstance(application, Reply):
        return application
    said = parameters(ask.request)
    kind = said.get("grant_type", dialect.grant_type)
    if kind == "authorization_code":
        return _exchange(ask, dialect, application, said)
    if kind == "refresh_token":
        return _refresh(ask, dialect, application, said)
    return dialect.refuse(ask.realm, Trouble.GRANT_TYPE if kind else Trouble.PARAMETER)


def _exchange(ask: Ask, dialect: Dialect, application: Application, said: dict[str, str]) -> Reply:
    realm = ask.realm
    if not said.get("code") or not said.get("redirect_uri"):
        return dialect.refuse(realm, Trouble.PARAMETER)
    code = realm.codes.get(said["code"])
    if code is None or code.application != application.key:
        return dialect.refuse(realm, Trouble.CODE)
    if code.grant is not None:
        if realm.facts["code_reuse_ends_grant"] == "yes":
            _end(code.grant, End.CODE_REUSED)
        return dialect.refuse(realm, Trouble.CODE_SPENT)
    if realm.now() >= code.expires_at:
        return dialect.refuse(realm, Trouble.CODE_EXPIRED)
    if said["redirect_uri"] != code.redirect:
        return dialect.refuse(realm, Trouble.REDIRECT)
    if dialect.pkce and not _verified(code, said.get("code_verifier", "")):
        return dialect.refuse(realm, Trouble.VERIFIER)
    if code.person not in realm.people:
        return dialect.refuse(realm, Trouble.OWNER_GONE)
    if dialect.replaces:
        for earlier in list(realm.live(application.key, code.person)):
            _end(earlier, End.REPLACED)
    scopes = tuple(dict.fromkeys([*code.scopes, *(ask.ordered(FaultKind.SCOPE_MORE, "scopes") or ())]))
    withheld = ask.ordered(FaultKind.SCOPE_FEWER, "scopes") or ()
    grant = realm.grant(application, code.person, [scope for scope in scopes if scope not in withheld])
    code.grant = grant
    refresh = None
    if dialect.gives_refresh(realm, code) and FaultKind.REFRESH_TOKEN_MISSING not in ask.faults:
        refresh = refreshing(ask, dialect, grant, grant.scopes)
    return tokens(ask, dialect, grant, grant.scopes, refresh, code)


def refreshing(ask: Ask, dialect: Dialect, grant: Grant, scopes: tuple[str, ...]) -> Token:
    """Make a refresh token."""
    realm = ask.realm
    return realm.issue(grant, Kind.REFRESH, scopes, dialect.refresh_seconds(realm), dialect.value(realm, Kind.REFRESH, scopes))


def _verified(code: Code, verifier: str) -> bool:
    if verifier:
        code.verifiers.append(verifier)
    if not code.challenge:
        # RFC 9700 §2.1.1: a verifier for a code that was asked for without a challenge is somebody's attempt to downgrade.
        return not verifier
    if _CHALLENGE.fullmatch(verifier) is None:
        return False
    if code.method == "S256":
        digest = hashlib.sha256(verifier.encode()).digest()
        verifier = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return hmac.compare_digest(verifier, code.challenge)


def _refresh(ask: Ask, dialect: Dialect, application: Application, said: dict[str, str]) -> Reply:
    realm = ask.realm
    if not said.get("refresh_token"):
        return dialect.refuse(realm, Trouble.PARAMETER)
    held = realm.tokens.get(said["refresh_token"])
    if held is None or held.kind is not Kind.REFRESH or held.grant.application != application.key:
        return dialect.refuse(realm, Trouble.REFRESH_UNKNOWN)
    trouble = _trouble(realm, held)
    if trouble is Trouble.REFRESH_SPENT and _tolerated(realm, held):
        trouble = None
    if trouble is not None:
        if trouble is Trouble.REFRESH_SPENT and realm.facts.get("spent_refresh_token") == "ends_grant":
            _end(held.grant, End.REUSED)
        return dialect.refuse(realm, trouble)
    scopes = held.scopes
    if wanted := said.get("scope", "").split():
        narrowed = dialect.narrowed(ask, held, wanted)
        if isinstance(narrowed, Trouble):
            return dialect.refuse(realm, narrowed)
        scopes = narrowed
    held.used_at = realm.now()
    held.expires_at = min(held.ends_at, held.used_at + dialect.refresh_seconds(realm))
    refresh = None
    if dialect.rotates:
        held.spent = dialect.spends
        refresh = refreshing(ask, dialect, held.grant, held.scopes)
    if FaultKind.REFRESH_TOKEN_MISSING in ask.faults:
        refresh = None
    return tokens(ask, dialect, held.grant, scopes, refresh, None)


def _trouble(realm: Realm, held: Token) -> Trouble | None:
    if realm.held(held) is None:
        return Trouble.OWNER_GONE
    match held.grant.ended:
        case None:
            pass
        case End.ADMIN:
            return Trouble.ADMIN
        case End.OWNER_GONE:
            return Trouble.OWNER_GONE
        case End.DEAUTHORIZED:
            return Trouble.WITHDRAWN
        case _:
            return Trouble.REVOKED
    if held.revoked:
        return Trouble.REVOKED
    if held.spent:
        return Trouble.REFRESH_SPENT
    return None if realm.now() < held.expires_at else Trouble.REFRESH_EXPIRED


def _tolerated(realm: Realm, held: Token) -> bool:
    """Tell whether a spent token still counts: the one before the present one, where the provider has such a range."""
    newest = max(token.number for token in realm.tokens.values() if token.grant is held.grant and token.kind is Kind.REFRESH)
    return realm.facts.get("spent_refresh_token") == "tolerated" and held.number == newest - 1


def tokens(ask: Ask, dialect: Dialect, grant: Grant, scopes: tuple[str, ...], refresh: Token | None, code: Code | None) -> Reply:
    """Return a token reply with a new access token (RFC 6749 §5.1)."""
    realm = ask.realm
    lifetime = dialect.lifetime(realm)
    access = realm.issue(grant, Kind.ACCESS, scopes, lifetime, dialect.value(realm, Kind.ACCESS, scopes))
    access.outlives = dialect.outlives(realm)
    body: dict[str, Any] = {"access_token": access.value}
    if lifetime is not None:
        body["expires_in"] = int(lifetime) - 1
    if refresh is not None:
        body["refresh_token"] = refresh.value
    if FaultKind.SCOPE_MISSING not in ask.faults:
        body["scope"] = " ".join(scopes)
    return as_json(200, dialect.complete(ask, body, access, code), *_NO_STORE)


def _end(grant: Grant, why: End) -> None:
    if grant.ended is None:
        grant.ended = why


def end(grants: Iterable[Grant], why: End) -> int:
    """End grants; return how many there were."""
    ending = list(grants)
    for grant in ending:
        _end(grant, why)
    return len(ending)


def bearer(ask: Ask) -> tuple[Token, Person] | None:
    """Return the live access token that a call shows (RFC 6750 §2.1), and whose it is; None where there is none."""
    return opened_by(ask.realm, bearer_text(ask.request))


def opened_by(realm: Realm, value: str) -> tuple[Token, Person] | None:
    """Return the live access token of this text, and whose it is; None where there is none."""
    held = realm.tokens.get(value)
    if held is None or held.kind is not Kind.ACCESS or not held.is_live(realm.now()):
        return None
    person = realm.held(held)
    return None if person is None else (held, person)


def lies(ask: Ask) -> bool:
    """Tell whether this revocation was ordered to change nothing."""
    return FaultKind.REVOCATION_LIES in ask.faults
