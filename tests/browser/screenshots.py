"""Write `docs/images/{consent,receipt}-{light,dark}.png`: the consent page and a receipt as a person sees them.

.venv/bin/python -m tests.browser.screenshots
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import UUID

from customhouse.app import EMBEDDED_LOGIN, App, Store
from customhouse.audit.log import SYSTEM
from customhouse.config import load
from customhouse.connections.receipts import Receipt, instructions
from customhouse.connections.sessions import Invitation
from customhouse.connections.users import user_of
from customhouse.db import Migrator
from customhouse.embedded.throwaway import throwaway_cluster
from customhouse.providers.catalogue import Catalogue
from customhouse.sql.migrate import migrate
from customhouse.tenants.idempotency import Once
from customhouse.types import Secret, TenantId
from customhouse.web.asgi import create
from customhouse.web.receipts import receipt_page
from customhouse.web.server import listening
from tests.browser.chromium import SCHEMES, chromium, fresh

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
_NOT_REPEATED: Final = Once(None, b"")
_ACME: Final = TenantId("acme")
_PROVIDERS: Final = '[google-calendar]\nclient_id = "shown-nowhere"\nclient_secret = {env = "SCREENSHOT_SECRET"}\n'


_AT: Final = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)
_WAITS: Final = Receipt(
    connection_id=UUID("019aab6c-8d37-7c6e-b3f0-2f3a4b5c6d7e"),
    version=3,
    provider="google-calendar",
    reason="requested",
    operation_id=None,
    status="pending",
    verified=False,
    attempts=2,
    shared=False,
    tokens_destroyed=False,
    key_destroyed=False,
    escrow_until=_AT + timedelta(days=7),
    actions_cancelled=1,
    deliveries_cancelled=0,
    subscriptions_ended=0,
    notified=True,
    instructions=instructions(Catalogue().get("google-calendar"), "pending", shared=False),
    audit_entry_id=UUID("019aab6c-8d40-7d11-9c5e-6a7b8c9d0e1f"),
    at=_AT,
    updated_at=_AT + timedelta(minutes=6),
)
"""A provider that was not seen to have done it yet."""


async def main(owner: str, service: str, folder: Path) -> None:
    """Start a service, invite somebody, and take the pictures."""
    async with Migrator.connect(Secret(owner.encode())) as migrator:
        await migrate(migrator, login=EMBEDDED_LOGIN)
    (folder / "providers.toml").write_text(_PROVIDERS, encoding="utf-8")
    os.environ["SCREENSHOT_SECRET"] = "shown-nowhere"
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    settings = load(
        {
            "CUSTOMHOUSE_ENVIRONMENT": "dev",
            "CUSTOMHOUSE_DATA_DIR": str(folder / "data"),
            "CUSTOMHOUSE_DATABASE_URL": service,
            "CUSTOMHOUSE_PROVIDERS_FILE": str(folder / "providers.toml"),
            "CUSTOMHOUSE_PUBLIC_URL": f"http://127.0.0.1:{door.getsockname()[1]}",
        }
    )
    assert settings.database_url is not None
    app = await App.open(settings, Store(settings.database_url))
    try:
        await app.start(first_key=False)
        await app.tenants.create(_ACME, "Acme Corporation", SYSTEM, _NOT_REPEATED)
        wish = Invitation(user_of("u1", "Ada Lovelace"), "google-calendar", "act", None, None)
        made = await app.sessions.invite(_ACME, wish, SYSTEM, _NOT_REPEATED)
        assert made.link is not None
        async with listening(create(app), door), chromium() as browser:
            for scheme in SCHEMES:
                async with fresh(browser, scheme=scheme, width=760) as profile:
                    page = await profile.new_page()
                    await page.goto(made.link)
                    await page.screenshot(path=IMAGES / f"consent-{scheme}.png", full_page=True)
                    await page.set_content(bytes(receipt_page(_WAITS, "Google Calendar").body).decode())
                    await page.screenshot(path=IMAGES / f"receipt-{scheme}.png", full_page=True)
                    sys.stdout.write(f"docs/images/{{consent,receipt}}-{scheme}.png written\n")
    finally:
        await app.stop()


if __name__ == "__main__":
    with throwaway_cluster() as cluster, TemporaryDirectory() as place:
        asyncio.run(main(cluster.dsn("owner"), cluster.dsn("app"), Path(place)))
