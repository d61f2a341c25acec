"""Who calls, what the key may do, and which tenant the call is about."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Final, TypeVar, cast
from uuid import UUID

from fastapi import Depends, Query, Request

from customhouse import ids
from customhouse.app import App
from customhouse.audit.log import Origin
from customhouse.errors import NotFound, ScopeMissing, Unauthenticated
from customhouse.tenants.api_keys import ApiKey, ApiKeys, Scope
from customhouse.types import PLATFORM, TenantId
from customhouse.web.calls import Call, call_of

_NAMED: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")
_NEEDS: Final = "customhouse_needs"
_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Needs:
    """What a route asks of a key: one of the scopes, perhaps one more besides, and perhaps that it is the operator's."""

    any_of: tuple[Scope, ...]
    platform: bool = False
    also: Scope | None = None

    def check(self, key: ApiKey) -> None:
        """Refuse a key that does not suffice.

        Raises:
            ScopeMissing: it does not.
        """
        if self.platform and not key.platform:
            raise ScopeMissing("This call needs a platform key.")
        if not any(scope in key.scopes for scope in self.any_of):
            raise ScopeMissing(f"This call needs the scope {' or '.join(scope.value for scope in self.any_of)}.")
        if self.also is not None and self.also not in key.scopes:
            raise ScopeMissing(f"This call needs the scope {self.also.value} too.")


def needs(*any_of: Scope, platform: bool = False, also: Scope | None = None) -> Callable[[_Endpoint], _Endpoint]:
    """Declare what a route asks of a key; a route below `/v1` without it does not load (`web.routes`)."""

    def declared(endpoint: _Endpoint) -> _Endpoint:
        setattr(endpoint, _NEEDS, Needs(any_of, platform, also))
        return endpoint

    return declared


def needs_of(endpoint: Callable[..., Any]) -> Needs | None:
    """Return what a route asks for; None: it is open to everybody."""
    return cast("Needs | None", getattr(endpoint, _NEEDS, None))


async def authenticate(api_keys: ApiKeys, call: Call) -> ApiKey:
    """Return the key in the Authorization header (RFC 6750 §2.1).

    Raises:
        Unauthenticated: there is none, or not exactly one, or it is not valid.
    """
    header = call.header(b"authorization")
    if header is None or header[:7].lower() != b"bearer " or not header.isascii():
        raise Unauthenticated
    key = await api_keys.authenticate(header[7:].strip().decode("ascii"))
    call.tenant_id = key.tenant_id
    return key


def named_tenant(key: ApiKey, name: str | None) -> TenantId:
    """Return the tenant that a call is about.

    Raises:
        NotFound: it is another one than the key's, or no tenant can be called so.
        Invalid: a platform key has to name one.
    """
    tenant = key.tenant_for(name)
    # PostgreSQL refuses some text (NUL); what cannot be a tenant is not there.
    if key.platform and not _NAMED.fullmatch(tenant):
        raise NotFound
    return tenant


@lru_cache(maxsize=4096)
def _shown(key_id: UUID) -> str:
    return ids.show("key", key_id)


def origin_of(key: ApiKey, call: Call) -> Origin:
    """Return who did it, for the ledger."""
    return Origin("api_key", _shown(key.key_id), call.request_id, call.correlation_id)


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller on a management route."""

    app: App
    key: ApiKey
    call: Call

    @property
    def origin(self) -> Origin:
        """Who did it, for the ledger."""
        return origin_of(self.key, self.call)

    async def tenant(self, name: str | None) -> TenantId:
        """Return the tenant that the call is about; it exists.

        Raises:
            NotFound: it is another one than the key's, or there is none of that name.
            Invalid: a platform key has to name one.
        """
        tenant = named_tenant(self.key, name)
        if self.key.platform and tenant != PLATFORM:
            await self.app.tenants.get(tenant)
        return tenant

    async def customer(self, name: str | None) -> TenantId:
        """Return the tenant that the call is about where the operator's own will not do; raises as `tenant` does."""
        tenant = await self.tenant(name)
        if tenant == PLATFORM:
            raise NotFound
        return tenant


def app_of(request: Request) -> App:
    """Return the running application."""
    return cast("App", request.app.state.customhouse)


def _caller(request: Request) -> Caller:
    return Caller(app_of(request), cast("ApiKey", request.scope["customhouse.key"]), call_of(request.scope))


CallerOf = Annotated[Caller, Depends(_caller)]
"""The parameter of a route that is told who calls."""
ConnectionFilter = Annotated[str | None, Query(json_schema_extra={"pattern": "^con_[0-7][0-9a-hjkmnp-tv-z]{25}$"})]
"""The `?connection_id=` of a list."""
NamedTenant = Annotated[str | None, Query(alias="tenant_id", max_length=128, description="Required with a platform key.")]
"""The `?tenant_id=` of a route."""
