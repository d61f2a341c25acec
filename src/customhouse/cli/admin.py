"""`tenant create`, `api-key create|revoke`: what an operator does without an API key, straight on the database."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import Annotated, Final

import typer

from customhouse import ids
from customhouse.app import App
from customhouse.audit.log import Origin
from customhouse.cli.surroundings import AsJson, Dev, aside, opened, quiet_logs, say_json, settings
from customhouse.clock import rfc3339
from customhouse.config.values import duration
from customhouse.errors import NotFound
from customhouse.tenants.api_keys import ApiKey, Scope
from customhouse.tenants.idempotency import Once
from customhouse.tenants.store import tenant_id_of
from customhouse.types import PLATFORM, TenantId

_BY_HAND: Final = Origin("operator", "cli")
"""Who stands in the ledger: whoever may read the key file or the database's password, which is not ours to name."""
_NOT_REPEATED: Final = Once(None, b"")
_LONGEST: Final = timedelta(days=3650)

tenant_app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)
api_key_app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

Owner = Annotated[str | None, typer.Option("--tenant", metavar="TENANT_ID", help="The tenant that the key belongs to.")]
Platform = Annotated[bool, typer.Option("--platform", help="The operator's key: it may name any tenant.")]
Scopes = Annotated[
    list[Scope], typer.Option("--scope", metavar="SCOPE", help=f"What it may do; may be given several times: {', '.join(Scope)}.")
]


@tenant_app.callback()
def _tenants() -> None:
    """Tenants: the customer organisations of the host application."""


@api_key_app.callback()
def _api_keys() -> None:
    """API keys of a tenant, or of the operator."""


@tenant_app.command("create")
def create_tenant(
    tenant_id: Annotated[str, typer.Argument(help="The host application's own name for it: 1-128 of A-Z a-z 0-9 _ . : -")],
    name: Annotated[str, typer.Option("--name", help="What people call it; the id where it is not given.")] = "",
    dev: Dev = False,
    as_json: AsJson = False,
) -> None:
    """Create a tenant with a key of its own under the key service."""
    quiet_logs()

    async def work() -> None:
        async with opened(settings(dev=dev)) as app:
            tenant = await app.tenants.create(tenant_id, name or tenant_id, _BY_HAND, _NOT_REPEATED)
        if as_json:
            say_json({"tenant_id": tenant.tenant_id, "name": tenant.name, "created_at": rfc3339(tenant.created_at)})
        else:
            sys.stdout.write(f"The tenant {tenant.tenant_id} is there.\n")

    asyncio.run(work())


@api_key_app.command("create")
def create_api_key(
    name: Annotated[str, typer.Option("--name", help="What it is for; shown in lists.")],
    scopes: Scopes,
    tenant: Owner = None,
    platform: Platform = False,
    expires_in: Annotated[str | None, typer.Option("--expires-in", help="Such as 12h or 90d; unset: until it is revoked.")] = None,
    dev: Dev = False,
    as_json: AsJson = False,
) -> None:
    """Create an API key and print it, this once, on standard output."""
    quiet_logs()
    owner = _owner(tenant, platform=platform)
    life = _life(expires_in)

    async def work() -> tuple[ApiKey, str]:
        async with opened(settings(dev=dev)) as app:
            expires_at = app.clock.now() + life if life is not None else None
            key, token = await app.api_keys.create(
                owner, name, scopes, _BY_HAND, by=_operator(app), expires_at=expires_at, once=_NOT_REPEATED
            )
        assert token is not None  # only a repeated call has none
        return key, token.reveal().decode()

    key, token = asyncio.run(work())
    key_id = ids.show("key", key.key_id)
    if as_json:
        ends = rfc3339(key.expires_at) if key.expires_at else None
        listed = [scope.value for scope in sorted(key.scopes)]
        say_json({"key_id": key_id, "tenant_id": owner, "name": key.name, "scopes": [*listed], "expires_at": ends, "api_key": token})
    else:
        aside(f"The key {key_id}, shown this once:")
        sys.stdout.write(f"{token}\n")


@api_key_app.command("revoke")
def revoke_api_key(
    key_id: Annotated[str, typer.Argument(help="key_…, as it was shown when the key was made.")],
    tenant: Owner = None,
    platform: Platform = False,
    dev: Dev = False,
    as_json: AsJson = False,
) -> None:
    """End an API key at once, in every process."""
    quiet_logs()
    owner = _owner(tenant, platform=platform)

    async def work() -> None:
        async with opened(settings(dev=dev)) as app:
            try:
                await app.api_keys.revoke(owner, ids.parse("key", key_id), _BY_HAND)
            except NotFound:
                raise NotFound(f"{owner} has no such key.") from None

    asyncio.run(work())
    if as_json:
        say_json({"key_id": key_id, "tenant_id": owner, "revoked": True})
    else:
        sys.stdout.write(f"The key {key_id} is revoked.\n")


def _owner(tenant: str | None, *, platform: bool) -> TenantId:
    if platform == (tenant is not None):
        raise typer.BadParameter("give either --tenant or --platform")
    return PLATFORM if tenant is None else tenant_id_of(tenant)


def _life(text: str | None) -> timedelta | None:
    if text is None:
        return None
    try:
        life = duration(_LONGEST)(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--expires-in") from None
    if not life:
        raise typer.BadParameter("a key that has ended is of no use", param_hint="--expires-in")
    return life


def _operator(app: App) -> ApiKey:
    """Stand in for the key that gives scopes: whoever runs this command could read the database anyway."""
    return ApiKey(PLATFORM, ids.new(), "cli", frozenset(Scope), app.clock.now())
