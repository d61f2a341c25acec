"""Checks of what we say to a provider: 4 and 12."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from customhouse.providers import calls
from customhouse.providers.contract.subject import CLIENT, REDIRECT, SHOWN, STATES, VERIFIERS, Details, Subject
from customhouse.providers.manifest import OAuth2
from customhouse.providers.replies import parse_token_reply
from customhouse.providers.scopes import names, requested
from customhouse.types import Secret


def judge_authorization(subject: Subject) -> Details:
    """Check 4."""
    provider, auth = subject.provider, subject.provider.auth
    if not isinstance(auth, OAuth2):
        return
    for mode in provider.modes:
        redirect = REDIRECT + provider.id
        first, second = (
            dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
            for url in (
                calls.authorize_url(provider, CLIENT, mode=mode, redirect=redirect, state=state, verifier=verifier)
                for state, verifier in zip(STATES, VERIFIERS, strict=True)
            )
        )
        if first["state"] == second["state"] or first["redirect_uri"] != redirect or first["response_type"] != "code":
            yield f"the authorization request for {mode} does not carry its own state and the exact redirect URI", ""
        if "canary" in repr(first):
            yield "a secret of ours is in the address that the browser is sent to", ""
        if first.get("code_challenge_method") != "S256" or first.get("code_challenge") == second.get("code_challenge"):
            yield "no S256 challenge is sent", "pkce"
        said = " ".join(first.get(name, "") for name in ("scope", auth.act_parameter)).replace(auth.separator, " ").split()
        if sorted(said) != sorted(names(requested(provider, mode))):
            yield f"the authorization request for {mode} does not name its scopes", "scopes in request"


def judge_secrets(subject: Subject) -> Details:
    """Check 12."""
    provider, auth = subject.provider, subject.provider.auth
    if not isinstance(auth, OAuth2):
        return
    token = Secret(b"canary-token")
    made: list[object] = [
        calls.exchange(provider, CLIENT, code=token, redirect=REDIRECT, verifier=VERIFIERS[0]),
        calls.refresh(provider, CLIENT, token=token, scopes=names(provider.scopes)),
        *calls.revoke(provider, CLIENT, access=token, refreshing=token),
        calls.identity(provider, CLIENT, access=token),
    ]
    for one in subject.recordings:
        if one.sort == "token" and isinstance(one.body, dict):
            canary = one.but(access_token="canary-access", refresh_token="canary-refresh")  # noqa: S106 - invented
            made.append(parse_token_reply(provider, one.step, one.status, canary.raw, shown=SHOWN))
    if any("canary" in repr(one) for one in made):
        yield "a token or secret shows in `repr`: keep it in a `Secret`", ""
    if not auth.revocation.steps:
        yield "there is no call that ends a grant", "revocation"
        if not auth.revocation.advice.strip():
            yield "what we cannot revoke needs `advice`: what the customer has to do", ""
    elif not calls.revoke(provider, CLIENT, access=token, refreshing=token):
        yield "the revocation makes no call", ""
