"""Providers for tests: a sandbox on loopback, and a person with a browser who consents there."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from customhouse_sandbox import Sandbox, running
from customhouse_sandbox.stripe import keys

__all__ = ["CALLBACKS", "CHALLENGE", "VERIFIER", "Landing", "Peer", "Sandbox", "client", "consent", "running", "stripe_key"]


@dataclass(frozen=True)
class Landing:
    """Where the browser was sent after the decision."""

    url: str

    def __getitem__(self, name: str) -> str:
        """Return a parameter of it; empty where there is none."""
        return parse_qs(urlsplit(self.url).query).get(name, [""])[0]

    @property
    def place(self) -> str:
        """The address without its query."""
        return self.url.partition("?")[0]


def client() -> httpx.AsyncClient:
    """Return a client that trusts nothing of this machine's environment and follows nothing."""
    return httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=60)


async def consent(
    browser: httpx.AsyncClient, url: str, *, account: str = "ada", decision: str = "allow", ticked: Sequence[str] | None = None
) -> Landing:
    """Look at a provider's consent page and decide; `ticked`: exactly these scopes."""
    page = await browser.get(url)
    assert page.status_code == httpx.codes.OK, page.text
    form: dict[str, str | list[str]] = {"decision": decision, "account": account}
    if ticked is not None:
        form |= {"ticks": "yes", "scope": list(ticked)}
    answer = await browser.post(url, data=form)
    assert answer.status_code == httpx.codes.FOUND, answer.text
    return Landing(answer.headers["location"])


NEEDED = {
    **dict.fromkeys(("customer", "subscription", "payment_intent", "checkout_session"), "write"),
    **dict.fromkeys(("product", "plan", "invoice"), "read"),
}
"""What a Stripe key has to open for customers, subscriptions and payments, and nothing more."""


def stripe_key(
    sandbox: Sandbox, account: str = "ada", *, kind: str = "restricted", mode: str = "test", whole: bool = False, **levels: str
) -> tuple[str, str]:
    """Return id and text of a new Stripe key; `levels` are added to what is needed, `whole` is a restricted key that may do everything."""
    return keys.make(sandbox.realms["stripe"], account, "all" if whole else {**NEEDED, **levels}, kind=kind, mode=mode)


CALLBACKS = "http://127.0.0.1:8300/oauth/callback/"
"""Where the sandbox has the service's callbacks registered."""
_BY_BASIC = frozenset({"zoom", "slack", "pipedrive"})
VERIFIER = "verifier-of-this-test-0123456789-0123456789-0123456789"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


class Peer:
    """A client of one provider that knows nothing of ours: plain HTTP, as the provider's documents have it."""

    def __init__(self, sandbox: Sandbox, application: str, browser: httpx.AsyncClient) -> None:
        self.sandbox, self.browser = sandbox, browser
        self.realm = sandbox.realm_of(application)
        self.application = self.realm.applications[application]
        self.urls = next(all_[application] for all_ in sandbox.overrides() if application in all_)
        self.redirect = f"{CALLBACKS}{application}"

    def authorize(self, **changes: str | None) -> str:
        """Return an authorization URL; None leaves a parameter out."""
        said: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.application.id,
            "redirect_uri": self.redirect,
            "state": "state-of-this-test",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        if self.realm.name == "google":
            said |= {"scope": " ".join(self.application.scopes), "access_type": "offline", "prompt": "consent"}
        if self.realm.name == "microsoft":
            said |= {"scope": " ".join(self.application.scopes)}
        if self.realm.name == "slack":
            said |= {"scope": ",".join(self.application.scopes), "code_challenge": None, "code_challenge_method": None}
        if self.realm.name == "hubspot":
            required = [scope for scope in self.application.scopes if scope not in self.application.optional]
            said |= {"scope": " ".join(required), "optional_scope": " ".join(self.application.optional)}
        return f"{self.urls['authorize_url']}?{urlencode({key: value for key, value in (said | changes).items() if value is not None})}"

    async def code(self, account: str = "ada", ticked: Sequence[str] | None = None, **changes: str | None) -> str:
        """Consent, and return the code."""
        return (await consent(self.browser, self.authorize(**changes), account=account, ticked=ticked))["code"]

    async def post(self, url: str, form: Mapping[str, str | None], *, secret: str | None = None, way: str | None = None) -> httpx.Response:
        """Make a call as the application, in the provider's own way unless another is said: `basic`, `body`, `none`."""
        way = way or ("basic" if self.realm.name in _BY_BASIC else "body")
        said = {key: value for key, value in form.items() if value is not None}
        secret = self.application.secret if secret is None else secret
        if way == "body":
            said |= {"client_id": self.application.id, "client_secret": secret}
        shown = base64.b64encode(f"{self.application.id}:{secret}".encode()).decode()
        return await self.browser.post(url, data=said, headers={"authorization": f"Basic {shown}"} if way == "basic" else {})

    async def exchange(self, code: str | None, /, **changes: str | None) -> httpx.Response:
        """Exchange a code."""
        verifier = None if self.realm.name == "slack" else VERIFIER
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self.redirect, "code_verifier": verifier}
        return await self.post(self.urls["token_url"], form | changes)

    async def refresh(self, token: str) -> httpx.Response:
        """Renew an access token."""
        return await self.post(self.urls["token_url"], {"grant_type": "refresh_token", "refresh_token": token})

    async def revoke(self, token: str) -> httpx.Response:
        """End a grant."""
        if self.realm.name == "slack":
            return await self.call("POST", "/api/auth.revoke", token)
        return await self.post(self.urls["revoke_url"], {"token": token}, way="none" if self.realm.name == "google" else None)

    async def connect(self, account: str = "ada", **changes: str | None) -> dict[str, str]:
        """Return a token reply."""
        answer = await self.exchange(await self.code(account, **changes))
        assert answer.status_code == httpx.codes.OK, answer.text
        found: dict[str, str] = answer.json()
        return found

    async def get(self, url: str, token: str, **query: str) -> httpx.Response:
        """Call the API; a path is below the provider's base."""
        url = url if url.startswith("http") else f"{self.realm.base}{url}"
        return await self.browser.get(url, params=query or None, headers={"authorization": f"Bearer {token}"})

    async def call(self, method: str, path: str, token: str, json: object = None, **headers: str) -> httpx.Response:
        """Call the API with a JSON body."""
        sent = {"authorization": f"Bearer {token}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        return await self.browser.request(method, f"{self.realm.base}{path}", json=json, headers=sent)

    async def send(self, method: str, path: str, token: str, form: Mapping[str, str] | None = None, **headers: str) -> httpx.Response:
        """Call the API with a form, as Stripe has it."""
        sent = {"authorization": f"Bearer {token}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        return await self.browser.request(method, f"{self.realm.base}{path}", data=form, headers=sent)

    async def me(self, token: str) -> httpx.Response:
        """Ask who it is."""
        if "introspect_url" in self.urls:
            return await self.post(self.urls["introspect_url"], {"token": token, "token_type_hint": "access_token"})
        return await self.get(self.urls["identity_url"], token)
