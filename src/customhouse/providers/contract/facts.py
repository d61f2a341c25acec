"""Checks of what a manifest declares: 1, 2, 3 and 11."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from customhouse.providers import calls
from customhouse.providers.catalogue import RESERVED
from customhouse.providers.contract.subject import Details, Subject
from customhouse.providers.manifest import OAuth2, Provider
from customhouse.providers.scopes import closure, forbidden, names, requested
from customhouse.providers.vocabulary import Mode

_ID: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_HOST: Final = re.compile(r"(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}(?::[1-9][0-9]{0,4})?")


def judge_name(subject: Subject) -> Details:
    """Check 1."""
    provider = subject.provider
    if _ID.fullmatch(provider.id) is None or provider.id in RESERVED:
        yield f"the id `{provider.id}` is none: lower-case letters, digits, single `-`", ""
    for name in ("name", "purpose", "risk_why", "register"):
        if not getattr(provider, name).strip():
            yield f"`{name}` is empty", ""
    if provider.version < 1:
        yield "`version` begins at 1 and grows with every change of scopes", ""


def judge_places(subject: Subject) -> Details:
    """Check 2."""
    provider = subject.provider
    for host in provider.hosts:
        if _HOST.fullmatch(host) is None:
            yield f"`{host}` in `hosts` is neither a host nor `*.` and a host", ""
    for name, url in provider.endpoints.items():
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if parts.scheme != "https" and origin not in provider.trusts:
            yield f"`{name}` is not https", ""
        elif re.search(r"[{}<>\s]", url) or not parts.netloc:
            yield f"`{name}` holds a placeholder or no host", ""
        # The browser goes to authorize_url; no secret of ours does.
        elif name != "authorize_url" and not calls.may_carry_token(provider, url):
            yield f"the host of `{name}` is not in `hosts`", ""
    auth = provider.auth
    if isinstance(auth, OAuth2):
        needed = {"authorize_url", "token_url", "introspect_url" if auth.identity.by == "introspect" else "identity_url"}
        if auth.revocation.steps:
            needed.add("revoke_url")
        for name in sorted(needed - {name for name, _ in provider.endpoints.items()}):
            yield f"`{name}` is missing in `endpoints`", ""


def judge_scopes(subject: Subject) -> Details:
    """Check 3."""
    provider = subject.provider
    if not provider.modes or list(provider.modes) != [mode for mode in Mode if mode in provider.modes]:
        yield "`modes` is empty, or does not begin with the one that may do least", ""
    if not provider.not_requested:
        yield "`not_requested` is empty: name at least what would open the whole account", ""
    yield from ((f"`{never.pattern}` in `not_requested` has no `why`", "") for never in provider.not_requested if not never.why.strip())
    yield from _declared(provider)
    if Mode.ACT in provider.modes and not any(scope.writes for scope in provider.scopes):
        yield "there is a mode `act`, and no scope `writes`", ""
    if isinstance(provider.auth, OAuth2) and (needs := provider.auth.identity.needs):
        for mode in provider.modes:
            if needs not in closure(provider, names(requested(provider, mode))):
                yield f"the identity call needs `{needs}`, which {mode} does not ask for", ""


def _declared(provider: Provider) -> Details:
    declared = set(names(provider.scopes))
    if not provider.scopes or len(declared) != len(provider.scopes):
        yield "`scopes` is empty or names one twice", ""
    for scope in provider.scopes:
        for member in ("words", "why", "reaches"):
            if not getattr(scope, member).strip():
                yield f"the scope `{scope.name}` has no `{member}`", ""
        if scope.mode is Mode.ACT and Mode.ACT not in provider.modes:
            yield f"the scope `{scope.name}` is for act, which is not in `modes`", ""
        if forbidden(provider, scope.name):
            yield f"the scope `{scope.name}` is asked for and, itself or in what it holds, in `not_requested`", ""
    for alias in provider.aliases:
        if not set(alias.stands_for) <= declared:
            yield f"the alias `{alias.spelling}` stands for something that is not in `scopes`", ""


def judge_flows(subject: Subject) -> Details:
    """Check 11."""
    provider = subject.provider
    if not any(flow.direction == "in" for flow in provider.flows):
        yield "`flows` does not say what comes in", ""
    if any(scope.writes for scope in provider.scopes) and not any(flow.direction == "out" for flow in provider.flows):
        yield "a scope `writes`, and `flows` does not say what goes out", ""
