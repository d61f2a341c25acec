"""A provider in JSON, as programs are told of it: the API and `customhouse provider` say the same."""

from __future__ import annotations

from customhouse.providers.manifest import OAuth2, Provider, Scope
from customhouse.providers.scopes import requested
from customhouse.types import Json, JsonObject


def brief(provider: Provider, *, set_up: bool) -> JsonObject:
    """Return what a list shows; `set_up`: this installation is registered with it."""
    return {
        "provider": provider.id,
        "name": provider.name,
        "purpose": provider.purpose,
        "risk": provider.risk.value,
        "risk_why": provider.risk_why,
        "auth": "oauth2" if isinstance(provider.auth, OAuth2) else "restricted_key",
        "modes": [mode.value for mode in provider.modes],
        "version": provider.version,
        "set_up": set_up,
    }


def whole(provider: Provider, *, set_up: bool) -> JsonObject:
    """Return everything that concerns a person who connects it: scopes by mode with their reasons, what is never asked for, flows."""
    scopes: JsonObject = {mode.value: [_scope(scope) for scope in requested(provider, mode)] for mode in provider.modes}
    never: list[Json] = [{"scope": one.pattern, "why": one.why} for one in provider.not_requested]
    flows: list[Json] = [{"direction": flow.direction, "what": flow.what} for flow in provider.flows]
    return {
        **brief(provider, set_up=set_up),
        "scopes": scopes,
        "not_requested": never,
        "flows": flows,
        "hosts": [*provider.hosts],
        "shares": provider.shares or None,
    }


def _scope(scope: Scope) -> JsonObject:
    return {
        "name": scope.name,
        "words": scope.words,
        "why": scope.why,
        "reaches": scope.reaches,
        "writes": scope.writes,
        "spec_name": scope.spec or None,
    }
