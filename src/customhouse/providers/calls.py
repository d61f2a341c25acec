"""The requests of the OAuth flow as bytes, ready to be sent: nothing here sends. Pure.

Secrets travel in bodies and in the Authorization header, never in a URL: URLs end up in logs.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote, urlencode, urlsplit

from customhouse.providers.manifest import Probe, Provider, RevokeStep, Scope
from customhouse.providers.scopes import names, requested
from customhouse.providers.vocabulary import ClientAuth, Mode, Token
from customhouse.types import Secret

FORM: Final = "application/x-www-form-urlencoded"
_VERIFIER: Final = re.compile(rb"[A-Za-z0-9._~-]{43,128}")  # RFC 7636 §4.1
_STATE: Final = re.compile(r"[A-Za-z0-9._~-]{32,512}")
CALLBACK: Final = "/oauth/callback/"


@dataclass(frozen=True, slots=True)
class Client:
    """Our registration with a provider."""

    id: str
    secret: Secret


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request to a provider; `repr` shows neither credentials nor body."""

    method: Literal["GET", "POST"]
    url: str
    authorization: Secret | None = None
    """The value of the Authorization header."""
    body: Secret = Secret(b"")  # noqa: RUF009 - immutable
    """A form (`FORM`) where it is not empty."""
    extra: tuple[tuple[str, str], ...] = ()
    """Further headers, names in lower case."""

    def headers(self) -> dict[str, str]:
        """Return the headers that are no secret."""
        accept = {"accept": "application/json", **dict(self.extra)}
        return accept | {"content-type": FORM} if len(self.body) else accept


def redirect_uri(public_url: str, provider_id: str) -> str:
    """Return the redirect URI that is registered with a provider: its own, so that no other provider can answer for it (R23)."""
    return f"{public_url}{CALLBACK}{provider_id}"


def challenge(verifier: Secret) -> str:
    """Return the S256 challenge of a verifier (RFC 7636 §4.2).

    Raises:
        ValueError: the verifier is not one of RFC 7636 §4.1.
    """
    if _VERIFIER.fullmatch(verifier.reveal()) is None:
        raise ValueError("a code verifier has 43 to 128 unreserved characters")
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.reveal()).digest()).rstrip(b"=").decode()


def authorize_url(
    provider: Provider,
    client: Client,
    *,
    mode: Mode,
    redirect: str,
    state: str,
    verifier: Secret,
    extra: Mapping[str, str] | None = None,
) -> str:
    """Return where the browser is sent for consent (RFC 6749 §4.1.1, RFC 7636 §4.3).

    Args:
        provider: the manifest.
        client: our registration.
        mode: decides the scopes.
        redirect: exactly as registered (`redirect_uri`).
        state: at least 32 unreserved characters, bound to the browser and used once.
        verifier: of this flow alone; its challenge is sent where the provider knows PKCE.
        extra: further parameters, such as a login hint; what the flow itself sets cannot be replaced.

    Raises:
        ValueError: no such mode, or a state or verifier that is too weak.
    """
    if _STATE.fullmatch(state) is None:
        raise ValueError("a state has at least 32 unreserved characters")
    auth = provider.oauth2
    hashed = challenge(verifier)
    asked = requested(provider, mode)
    own: dict[str, str] = {"response_type": "code", "client_id": client.id, "redirect_uri": redirect, "state": state}
    if auth.sends_scopes:
        apart = [scope for scope in asked if auth.act_parameter and scope.mode is Mode.ACT]
        own["scope"] = _joined(provider, [scope for scope in asked if scope not in apart])
        if apart:
            own[auth.act_parameter] = _joined(provider, apart)
    if auth.pkce:
        own |= {"code_challenge": hashed, "code_challenge_method": "S256"}
    parameters = {**(extra or {}), **dict(auth.authorize_extra), **own}
    url = provider.endpoints.authorize_url
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(parameters, quote_via=quote)}"


def issuer_fits(provider: Provider, iss: str | None) -> bool:
    """Tell whether an answer in the browser comes from the server that was asked, by its `iss` (RFC 9207 §2.4, R23).

    The redirect URI, which is each provider's own, and the state, which names the provider, say the same; this is one more witness.
    """
    auth = provider.oauth2
    if iss is None:
        return not auth.names_issuer
    return not auth.issuer or iss == auth.issuer


def exchange(provider: Provider, client: Client, *, code: Secret, redirect: str, verifier: Secret) -> Call:
    """Return the call that turns a code into tokens (RFC 6749 §4.1.3, RFC 7636 §4.5)."""
    form = [("grant_type", b"authorization_code"), ("code", code.reveal()), ("redirect_uri", redirect.encode())]
    if provider.oauth2.pkce:
        form.append(("code_verifier", verifier.reveal()))
    return _to(provider.endpoints.token_url, provider.oauth2.client_auth, client, form)


def refresh(provider: Provider, client: Client, *, token: Secret, scopes: Iterable[str] = ()) -> Call:
    """Return the call that renews an access token (RFC 6749 §6); `scopes` are the connection's, for providers that want them repeated."""
    auth = provider.oauth2
    form = [("grant_type", b"refresh_token"), ("refresh_token", token.reveal())]
    if auth.refresh.names_scopes and (held := auth.separator.join(scopes)):
        form.append(("scope", held.encode()))
    return _to(provider.endpoints.token_url, auth.client_auth, client, form)


def revoke(provider: Provider, client: Client, *, access: Secret | None, refreshing: Secret | None) -> tuple[Call, ...]:
    """Return the calls that end a grant, in their order (RFC 7009 §2.1); a step without a token that it could show is left out.

    Args:
        provider: the manifest; without a revocation there are no calls.
        client: our registration.
        access: the access token; None where it is not there any more.
        refreshing: the refresh token; None where there is none.
    """
    calls = []
    for step in provider.oauth2.revocation.steps:
        kind, token = _shown(step, access, refreshing)
        if token is None:
            continue
        url = provider.endpoints.revoke_url
        if step.bearer:
            calls.append(Call("POST", url, _bearer(token)))
            continue
        form = [("token", token.reveal())]
        if step.hint:
            form.append(("token_type_hint", kind.encode()))
        calls.append(_to(url, step.client_auth, client, form))
    return tuple(calls)


def identity(provider: Provider, client: Client, *, access: Secret, api_origin: str | None = None) -> Call | None:
    """Return the call that tells who was connected; None where the token reply has told it (`TokenReply.account`)."""
    if provider.oauth2.identity.by in {"token_reply", "id_token"}:
        return None
    return probe(provider, client, access=access, api_origin=api_origin)


def probe(provider: Provider, client: Client, *, access: Secret, api_origin: str | None = None) -> Call:
    """Return a harmless call that an access token opens and a dead one does not: the proof of a revocation.

    Args:
        provider: the manifest.
        client: our registration.
        access: the token.
        api_origin: of this account, where its token reply named one (`TokenReply.api_origin`).
    """
    if provider.oauth2.identity.by == "introspect":
        return introspect(provider, client, token=access)
    return Call("GET", at_origin(provider, provider.endpoints.identity_url, api_origin), _bearer(access))


def key_probe(provider: Provider, probe: Probe, *, key: Secret) -> Call:
    """Return the call that shows whether a pasted key may do something."""
    return Call(probe.method, provider.endpoints.api_base + probe.path, _bearer(key), extra=provider.api_headers)


def key_identity(provider: Provider, *, key: Secret) -> Call:
    """Return the call that tells whose key it is, if it may know."""
    return Call("GET", provider.endpoints.identity_url, _bearer(key), extra=provider.api_headers)


def at_origin(provider: Provider, url: str, api_origin: str | None) -> str:
    """Return a URL of the API on the account's own origin; a URL that is not on the API's is returned as it is."""
    base, parts = urlsplit(provider.endpoints.api_base), urlsplit(url)
    if api_origin is None or (parts.scheme, parts.netloc) != (base.scheme, base.netloc):
        return url
    return api_origin + url[len(f"{parts.scheme}://{parts.netloc}") :]


def introspect(provider: Provider, client: Client, *, token: Secret) -> Call:
    """Return the call that asks what a token is worth (RFC 7662 §2.1).

    Raises:
        ValueError: the provider has no introspection.
    """
    if not provider.endpoints.introspect_url:
        raise ValueError(f"{provider.id} has no introspection")
    form = [("token", token.reveal()), ("token_type_hint", Token.ACCESS.encode())]
    return _to(provider.endpoints.introspect_url, provider.oauth2.client_auth, client, form)


def may_carry_token(provider: Provider, url: str) -> bool:
    """Tell whether a token of this provider may be sent to a URL: https on one of its own hosts, or an origin the operator named (R21)."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    place = parts.netloc.lower()
    if f"{parts.scheme}://{place}" in provider.trusts:
        return True
    return parts.scheme == "https" and any(host_fits(pattern, place) for pattern in provider.hosts)


def host_fits(pattern: str, place: str) -> bool:
    """Tell whether `host` or `host:port` is what a line of `Provider.hosts` means."""
    if pattern.startswith("*."):
        label, _, rest = place.partition(".")
        return rest == pattern[2:] and re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", label) is not None
    return place == pattern


def _joined(provider: Provider, scopes: Iterable[Scope]) -> str:
    return provider.oauth2.separator.join(names(scopes))


def _shown(step: RevokeStep, access: Secret | None, refreshing: Secret | None) -> tuple[Token, Secret | None]:
    if step.token is Token.REFRESH and refreshing is not None:
        return Token.REFRESH, refreshing
    return Token.ACCESS, access


def _bearer(token: Secret) -> Secret:
    return Secret(b"Bearer " + token.reveal())


def _to(url: str, by: ClientAuth, client: Client, form: list[tuple[str, bytes]]) -> Call:
    authorization = None
    if by is ClientAuth.BASIC:
        # RFC 6749 §2.3.1: both are form-encoded first.
        pair = f"{quote(client.id, safe='')}:".encode() + quote(client.secret.reveal(), safe="").encode()
        authorization = Secret(b"Basic " + base64.b64encode(pair))
    elif by is ClientAuth.BODY:
        form = [*form, ("client_id", client.id.encode()), ("client_secret", client.secret.reveal())]
    return Call("POST", url, authorization, Secret(urlencode(form).encode()))
