"""Connections that were made by consent at the sandbox, through the parts of the service: no server, no browser pages."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.connections import tokens
from customhouse.connections.returning import answer_of
from customhouse.connections.sessions import Invitation
from customhouse.connections.tokens import GrantSeal
from customhouse.connections.users import User
from customhouse.crypto.envelope import key_id_of
from customhouse.types import TenantId
from tests.conftest import NOT_REPEATED
from tests.sandboxes import Sandbox, client, consent

__all__ = ["access_token", "connect", "settings_of"]


def settings_of(sandbox: Sandbox, folder: Path) -> dict[str, str]:
    """Return the settings that let a service find the sandbox."""
    return {"CUSTOMHOUSE_PROVIDERS_FILE": str(sandbox.write(folder)), "CUSTOMHOUSE_PUBLIC_URL": "http://127.0.0.1:8300"}


async def connect(
    app: App, tenant: TenantId, provider: str, *, account: str = "ada", mode: str | None = None, renews: UUID | None = None
) -> UUID:
    """Connect an account from end to end; return the connection."""
    user = User("u1")
    wish = Invitation(user=user, provider=provider, mode=mode, connection_id=renews)
    made = await app.sessions.invite(tenant, wish, SYSTEM, NOT_REPEATED)
    assert made.link is not None
    browser = tokens.new_token()
    url = await app.sessions.consent(made.link.rpartition("/")[2], browser)
    async with client() as person:
        landing = await consent(person, url, account=account)
    pairs = [(name, landing[name]) for name in ("state", "code", "iss") if landing[name]]
    await app.returning.take_back(provider, answer_of(pairs), browser)
    return await app.confirming.confirm(tenant, made.session_id, user.id, SYSTEM)


async def access_token(app: App, tenant: TenantId, connection_id: UUID) -> str:
    """Open the access token that is stored now, as a reader does."""
    async with app.database.transaction(tenant) as conn:
        row = await conn.fetchrow(
            "select access_sealed, token_generation from integration_tokens where tenant_id = $1 and connection_id = $2",
            tenant,
            connection_id,
        )
    assert row is not None
    key = await app.vault.key(tenant, key_id_of(row["access_sealed"]))
    seal = GrantSeal(app.vault.environment, tenant, connection_id, key)
    opened = seal.open("integration_tokens", "access_sealed", str(connection_id), row["access_sealed"], row["token_generation"])
    return opened.reveal().decode()
