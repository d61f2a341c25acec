"""The pages of the connect flow: the consent, its form, and the way back from the provider."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from customhouse import ids
from customhouse.clock import rfc3339
from customhouse.connections.declining import DECLINED
from customhouse.connections.returning import Granted, answer_of
from customhouse.connections.sessions import Session
from customhouse.connections.tokens import new_token, proof_against_forgery
from customhouse.errors import ConnectRefused, ConnectSessionOver, CustomhouseError, NotFound
from customhouse.logs import get
from customhouse.providers.calls import CALLBACK
from customhouse.web.auth import app_of
from customhouse.web.rendering import page
from customhouse.web.sentences import said_of

ROUTES: Final = APIRouter(include_in_schema=False)
_log: Final = get("customhouse.web")
_COOKIE: Final = "customhouse-connect"
_MARK: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_COOKIE_SECONDS: Final = 3600
_FORM: Final = b"application/x-www-form-urlencoded"
_LONGEST_FORM: Final = 1024
_LONGEST_QUERY: Final = 8192
_MOST_PARAMETERS: Final = 50


@dataclass(frozen=True, slots=True)
class _Place:
    """Under what address browsers know us."""

    origin: str
    https: bool

    @property
    def cookie(self) -> str:
        """The cookie's name: with its prefix no other host, and no page by http, can set it (RFC 6265bis §4.1.3.2)."""
        return f"__Host-{_COOKIE}" if self.https else _COOKIE


@ROUTES.get("/connect/{link}")
async def show_consent(link: str, request: Request) -> Response:
    """Show who asks for what; nothing is used up."""
    app, place = app_of(request), _place(request)
    browser = _browser(request, place)
    try:
        session = await app.sessions.look(link, browser)
    except CustomhouseError as error:
        return _failed(error)
    mark = browser or new_token()
    response = _consent_page(session, proof_against_forgery(mark, link))
    if browser is None:
        response.set_cookie(place.cookie, mark, max_age=_COOKIE_SECONDS, path="/", secure=place.https, httponly=True, samesite="lax")
    return response


@ROUTES.post("/connect/{link}")
async def take_consent(link: str, request: Request) -> Response:
    """Take the consent: the browser goes on to the provider. Or the no: it may go back to where it came from."""
    app, place = app_of(request), _place(request)
    browser = _browser(request, place)
    form = await _form(request)
    given, decision = form.get("csrf", ""), form.get("decision", "consent")
    if (
        browser is None
        or decision not in {"consent", "decline"}
        or not _from_our_page(request, place)
        or not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), proof_against_forgery(browser, link).encode())
    ):
        return _outcome("form_forged")
    try:
        if decision == "decline":
            return _declined(await app.declining.decline(link, browser))
        url = await app.sessions.consent(link, browser)
    except CustomhouseError as error:
        return _failed(error)
    return _go(url)


@ROUTES.get(CALLBACK + "{provider}")
async def come_back(provider: str, request: Request) -> Response:
    """Take the browser back from the provider."""
    app = app_of(request)
    try:
        granted = await app.returning.take_back(provider, answer_of(_query(request)), _browser(request, _place(request)))
    except CustomhouseError as error:
        return _failed(error)
    return _granted(granted)


def _granted(granted: Granted) -> Response:
    session = granted.session
    if session.return_url is not None:
        return _go(_with(session.return_url, ids.show("cns", session.session_id), "granted", None))
    missing = [scope.words for scope in session.scopes if scope.name in granted.comparison.missing]
    return _outcome("granted", provider=session.provider.name, missing=missing)


def _declined(session: Session) -> Response:
    back = None if session.return_url is None else _with(session.return_url, ids.show("cns", session.session_id), "refused", DECLINED)
    return _outcome(DECLINED, provider=session.provider.name, back=back)


def _failed(error: CustomhouseError) -> Response:
    if isinstance(error, ConnectRefused):
        back = None if error.back is None else _with(*error.back, "refused", error.reason)
        return _outcome(error.reason, provider=error.provider, back=back)
    if isinstance(error, NotFound):
        return _outcome("link_unknown")
    if isinstance(error, ConnectSessionOver):
        return _outcome("link_over")
    _log.error("connect_page_failed", error=error.code)
    response = _outcome("not_now")
    response.headers["retry-after"] = "5"
    return response


def _outcome(code: str, *, provider: str | None = None, back: str | None = None, missing: list[str] | None = None) -> Response:
    said = said_of(code)
    return page(
        "outcome.html",
        said.status,
        title=said.title,
        words=said.words,
        advice=said.advice,
        code=code,
        mark=said.mark,
        provider=provider,
        back=back,
        missing=missing or [],
    )


def _consent_page(session: Session, csrf: str) -> Response:
    # A provider that asks nothing sends the browser on at once: browsers hold each redirect after a form to its targets.
    onward = [session.provider.endpoints.authorize_url, *([] if session.return_url is None else [session.return_url])]
    origins = [f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, onward)]
    return page(
        "consent.html",
        forms_to=("'self'", *dict.fromkeys(origins)),
        provider=session.provider,
        user=session.user.shown,
        tenant=session.tenant_name,
        mode=session.mode.value,
        renews=session.renews,
        scopes=session.scopes,
        added=session.added,
        never=list(dict.fromkeys(one.why for one in session.provider.not_requested)),
        ends=rfc3339(session.expires_at),
        csrf=csrf,
    )


def _go(url: str) -> Response:
    return RedirectResponse(url, 303, {"cache-control": "no-store"})


def _with(url: str, session_id: str, status: str, reason: str | None) -> str:
    query = {"connect_session_id": session_id, "connect_status": status} | ({} if reason is None else {"connect_reason": reason})
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(query)}"


def _place(request: Request) -> _Place:
    parts = urlsplit(app_of(request).settings.public_url)
    return _Place(f"{parts.scheme}://{parts.netloc}".lower(), parts.scheme.lower() == "https")


def _browser(request: Request, place: _Place) -> str | None:
    mark = request.cookies.get(place.cookie)
    return mark if mark is not None and _MARK.fullmatch(mark) else None


def _from_our_page(request: Request, place: _Place) -> bool:
    """Tell whether a form was sent by a page of ours.

    With `Referrer-Policy: no-referrer`, browsers send `Origin: null` (Fetch §3.1); then `Sec-Fetch-Site` has to say it.
    """
    origins = request.headers.getlist("origin")
    if len(origins) > 1:
        return False
    if origins and origins[0] != "null":
        return origins[0].lower() == place.origin
    return request.headers.get("sec-fetch-site") == "same-origin"


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a small form; empty where it is none."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower().encode()
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _LONGEST_FORM:
            return {}
    if kind != _FORM:
        return {}
    try:
        return dict(parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_PARAMETERS))
    except ValueError:
        return {}


def _query(request: Request) -> list[tuple[str, str]]:
    raw: bytes = request.scope["query_string"]
    if len(raw) > _LONGEST_QUERY:
        return []
    try:
        return parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        return []
