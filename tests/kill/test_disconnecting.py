"""A kill at any step of a disconnect leaves no grant that nobody ends, no key that stays, and no receipt that lies."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from customhouse.app import App, Store, migrate_store
from customhouse.config import load
from customhouse.embedded.throwaway import throwaway_cluster
from customhouse.failpoints import NAMES
from customhouse.types import Secret
from tests.authority import CLIENT_SECRET, Authority, authority
from tests.services import Service

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

KEY = "ck_kill-suite-0123456789abcdefghijklmnopqrstuvwxyz"


async def connected(http: httpx.AsyncClient, provider: Authority, origin: str) -> str:
    """Connect, and return the connection's id."""
    await http.post("/v1/tenants", json={"tenant_id": "acme", "name": "Acme"})
    made = (await http.post("/v1/connect-sessions", json={"tenant_id": "acme", "user": {"id": "u1"}, "provider": "zoom"})).json()
    link = urlsplit(made["connect_url"]).path
    csrf = (await http.get(link)).text.split('name="csrf" value="')[1].split('"')[0]
    sent = await http.post(link, data={"csrf": csrf}, headers={"Origin": origin})
    await http.get(f"/oauth/callback/zoom?{provider.decide(sent.headers['location'])}")
    answer = await http.post(f"/v1/connect-sessions/{made['session_id']}/confirm?tenant_id=acme", json={"user_id": "u1"})
    assert answer.status_code == httpx.codes.OK, answer.text
    return str(answer.json()["connection_id"])


async def receipt_of(app: App, conn: asyncpg.Connection) -> dict[str, Any]:
    """Let the jobs do what is due by now, and return what the receipt says."""
    await conn.execute("update revocation_escrow set next_at = now() - interval '1 second'")
    await conn.execute("update disconnect_receipts set updated_at = now() - interval '5 minutes' where not key_released")
    await app.ending.finish_due()
    await app.revoker.end_due()
    row = await conn.fetchrow("select revocation_status, verified, tokens_destroyed, key_destroyed from disconnect_receipts")
    assert row is not None
    return dict(row)


@pytest.mark.parametrize("name", sorted(name for name in NAMES if name.startswith("disconnect.")))
async def test_a_disconnect_that_is_killed_is_finished_by_the_jobs(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUITE_CLIENT_SECRET", CLIENT_SECRET)
    with throwaway_cluster() as cluster:
        service = Service({}, tmp_path)
        async with authority() as provider:
            (tmp_path / "providers.toml").write_text(provider.registered("zoom"), encoding="utf-8")
            service.environ |= {
                "CUSTOMHOUSE_ENVIRONMENT": "dev",
                "CUSTOMHOUSE_DATA_DIR": str(tmp_path / "data"),
                "CUSTOMHOUSE_DATABASE_URL": cluster.dsn("app"),
                "CUSTOMHOUSE_PLATFORM_KEY": KEY,
                "CUSTOMHOUSE_PUBLIC_URL": service.base,
                "CUSTOMHOUSE_PROVIDERS_FILE": str(tmp_path / "providers.toml"),
            }
            settings = load(service.environ)
            await migrate_store(Store(Secret(b""), cluster), settings)
            await service.start(CUSTOMHOUSE_FAILPOINTS=f"{name}=kill:1")
            headers = {"Authorization": f"Bearer {KEY}"}
            async with httpx.AsyncClient(base_url=service.base, trust_env=False, timeout=30, headers=headers) as http:
                connection_id = await connected(http, provider, service.base)
                with pytest.raises(httpx.TransportError):
                    await http.delete(f"/v1/connections/{connection_id}?tenant_id=acme")
            assert await service.died() == -signal.SIGKILL
            conn = await asyncpg.connect(cluster.dsn("owner"), server_settings={"search_path": "customhouse"})
            app = await App.open(settings, Store(Secret(cluster.dsn("app").encode())))
            try:
                if name == "disconnect.before_commit":
                    # Nothing was durable: the connection works on, and can be disconnected again.
                    assert await conn.fetchval("select status from connections") == "active"
                    assert await conn.fetchval("select count(*) from integration_tokens") == 1
                    assert len(provider.live) == 1
                    return
                assert await conn.fetchval("select status from connections") == "disconnected"
                assert await conn.fetchval("select count(*) from integration_tokens") == 0
                whole = {"revocation_status": "revoked", "verified": True, "tokens_destroyed": True, "key_destroyed": True}
                assert await receipt_of(app, conn) == whole
                assert provider.live == set()
                assert await conn.fetchval("select count(*) from revocation_escrow") == 0
                assert await conn.fetchval("select bool_and(state = 'destroyed') from data_keys where purpose = 'connection'")
                ended = "select count(*) from audit_entries where tag = "
                assert await conn.fetchval(ended + "'connection.disconnected'") == 1
                assert await conn.fetchval(ended + "'grant.revoked'") == 1
            finally:
                await app.stop()
                await conn.close()
                await asyncio.to_thread(service.stop)
