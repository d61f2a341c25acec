"""`/v1/providers`: what can be connected, with which scopes and why, and what is never asked for."""

from __future__ import annotations

from typing import Final, Literal

from customhouse.providers.catalogue import Catalogue
from customhouse.providers.manifest import OAuth2, Provider, Scope
from customhouse.tenants.api_keys import Scope as KeyScope
from customhouse.web.auth import CallerOf, needs
from customhouse.web.routes import Shape, router

ROUTES: Final = router("providers")


class ScopeShape(Shape):
    """One permission that is asked for."""

    name: str
    words: str
    """Continues the sentence "Customhouse can …"."""
    why: str
    reaches: str
    writes: bool
    spec_name: str | None
    """What the source documents call it, where that is another name."""


class NeverShape(Shape):
    """A permission that is never asked for; a grant that carries it is refused and revoked."""

    pattern: str
    why: str


class FlowShape(Shape):
    """Data that crosses: `in` from the provider, `out` to it."""

    direction: Literal["in", "out"]
    what: str


class ProviderShape(Shape):
    """One outside system that can be connected."""

    provider: str
    name: str
    purpose: str
    risk: Literal["low", "medium", "high"]
    risk_why: str
    auth: Literal["oauth2", "api_key"]
    set_up: bool
    """Users can connect it here: this installation is registered with the provider, or needs no registration."""
    manifest_version: int
    modes: list[str]
    scopes: dict[str, list[ScopeShape]]
    """By mode; `act` asks for those of both."""
    not_requested: list[NeverShape]
    flows: list[FlowShape]
    key_url: str | None
    """Where the customer makes a key with just these permissions; null: it is connected by consent."""
    shares_grants: str | None
    """Whose grant another connection of the same account shares; null: each connection has its own."""


class ProviderList(Shape):
    """All of them, in the order of the catalogue."""

    data: list[ProviderShape]
    next_cursor: None = None


@ROUTES.get("/v1/providers", summary="List what can be connected")
@needs(KeyScope.CONNECTIONS_READ)
async def list_providers(caller: CallerOf) -> ProviderList:
    """List the providers of this installation."""
    catalogue = caller.app.catalogue
    return ProviderList(data=[_shown(catalogue, provider) for provider in catalogue.providers])


@ROUTES.get("/v1/providers/{provider}", summary="Show a provider")
@needs(KeyScope.CONNECTIONS_READ)
async def get_provider(provider: str, caller: CallerOf) -> ProviderShape:
    """Show one provider."""
    catalogue = caller.app.catalogue
    return _shown(catalogue, catalogue.get(provider))


def _shown(catalogue: Catalogue, one: Provider) -> ProviderShape:
    return ProviderShape(
        provider=one.id,
        name=one.name,
        purpose=one.purpose,
        risk=one.risk.value,
        risk_why=one.risk_why,
        auth="oauth2" if isinstance(one.auth, OAuth2) else "api_key",
        set_up=catalogue.is_set_up(one),
        manifest_version=one.version,
        modes=list(one.modes),
        scopes={mode: [_scope(scope) for scope in one.scopes if scope.mode is mode] for mode in one.modes},
        not_requested=[NeverShape(pattern=never.pattern, why=never.why) for never in one.not_requested],
        flows=[FlowShape(direction=flow.direction, what=flow.what) for flow in one.flows],
        key_url=None if isinstance(one.auth, OAuth2) else one.auth.create_url,
        shares_grants=one.shares or None,
    )


def _scope(one: Scope) -> ScopeShape:
    return ScopeShape(name=one.name, words=one.words, why=one.why, reaches=one.reaches, writes=one.writes, spec_name=one.spec or None)
