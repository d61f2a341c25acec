"""An OAuth server for tests, on loopback: strict about what a client sends, and told what to answer. It stands in for any provider."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from customhouse.providers.catalogue import Catalogue
from tests.receivers import Received, Recorder, recorder, status

CLIENT_ID = "client-of-the-suite"
CLIENT_SECRET = "s3cret/of the+suite:0123456789"  # a form-encoded Basic header shows that it is encoded
ZOOM = " ".join(scope.name for scope in Catalogue().get("zoom").scopes)
Answer = Callable[[dict[str, str]], bytes]


def reply(code: int, body: Any) -> bytes:
    """Return a JSON answer."""
    return status(code, "content-type: application/json", body=json.dumps(body).encode())


@dataclass
class Authority:
    """The server: codes, tokens, and switches."""

    server: Recorder
    pkce: bool = True
    scope: str | None = ZOOM
    account: dict[str, Any] = field(default_factory=lambda: {"id": "u-1", "account_id": "a-1", "email": "ada@example.com"})
    extra: dict[str, Any] = field(default_factory=dict)
    """Further members of the token reply."""
    on_token: Answer | None = None
    """Answers the next token calls instead, after their effect."""
    lies: bool = False
    """Revocations are answered with 200, and revoke nothing."""
    live: set[str] = field(default_factory=set)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    issued: list[str] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)
    """The access token that each code gave."""
    verifiers: list[str] = field(default_factory=list)

    def registered(self, provider_id: str) -> str:
        """Return the section of a providers file that sends a built-in provider's calls here."""
        base = self.server.url("").rstrip("/")
        return f"""
            [{provider_id}]
            client_id = "{CLIENT_ID}"
            client_secret = {{env = "SUITE_CLIENT_SECRET"}}
            authorize_url = "{base}/oauth/authorize"
            token_url = "{base}/oauth/token"
            revoke_url = "{base}/oauth/revoke"
            identity_url = "{base}/v2/users/me"
            api_base = "{base}/v2"
        """

    def answer(self, request: Received) -> bytes:
        """Answer one call."""
        path = urlsplit(request.path).path
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if path == "/oauth/token":
            made = self._token(request, form)
            return made if self.on_token is None else self.on_token(form)
        if path == "/oauth/revoke":
            if not _authenticated(request):
                return reply(401, {"error": "invalid_client"})
            if not self.lies:
                self.live.clear()
            return reply(200, {"status": "success"})
        if path == "/v2/users/me":
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            return reply(200, self.account) if token in self.live else reply(401, {"code": 124, "message": "Invalid access token."})
        return reply(404, {})

    def decide(self, url: str, **changes: str | None) -> str:
        """Be the person at the authorize page who agrees; return the query of the way back."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        code = secrets.token_urlsafe(24)
        self.codes[code] = asked
        said: dict[str, str | None] = {"code": code, "state": asked["state"], **changes}
        return urlencode({name: value for name, value in said.items() if value is not None})

    def calls(self, path: str) -> int:
        """Return how often a path was called."""
        return sum(urlsplit(one.path).path == path for one in self.server.received)

    def _token(self, request: Received, form: dict[str, str]) -> bytes:
        if not _authenticated(request):
            return reply(401, {"error": "invalid_client"})
        self.verifiers.append(form.get("code_verifier", ""))
        spent = self.given.get(form.get("code", ""))
        if spent is not None:
            self.live.discard(spent)  # RFC 6749 §4.1.2
        asked = self.codes.pop(form.get("code", ""), None)
        if asked is None or asked["redirect_uri"] != form.get("redirect_uri"):
            return reply(400, {"error": "invalid_grant"})
        if self.pkce:
            hashed = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            assert asked["code_challenge_method"] == "S256"
            if base64.urlsafe_b64encode(hashed).rstrip(b"=").decode() != asked["code_challenge"]:
                return reply(400, {"error": "invalid_grant"})
        access, refresh = f"access-{secrets.token_urlsafe(24)}", f"refresh-{secrets.token_urlsafe(24)}"
        self.live.add(access)
        self.given[form["code"]] = access
        self.issued += [access, refresh]
        said = {"access_token": access, "refresh_token": refresh, "token_type": "bearer", "expires_in": 3600}
        if self.scope is not None:
            said["scope"] = self.scope
        return reply(200, said | self.extra)


def _authenticated(request: Received) -> bool:
    given = request.headers.get("authorization", "").removeprefix("Basic ")
    name, _, secret = base64.b64decode(given).decode().partition(":")
    return (unquote(name), unquote(secret)) == (CLIENT_ID, CLIENT_SECRET)


@asynccontextmanager
async def authority() -> AsyncIterator[Authority]:
    """Run one for the length of a block."""
    async with recorder() as server:
        one = Authority(server)
        server.answer = one.answer
        yield one
