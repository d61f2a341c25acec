"""A kill at any point of a connect flow leaves no grant that nobody holds and nobody ends."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
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
CONFIRMS = frozenset({"connect.after_commit", "connect.before_confirm"})
"""Here the grant is durable when the process dies: what the host says decides."""


async def connect(service: Service, provider: Authority) -> str:
    """Go through a flow until the process dies; return the session's id."""
    async with httpx.AsyncClient(base_url=service.base, trust_env=False, timeout=30, headers={"Authorization": f"Bearer {KEY}"}) as http:
        await http.post("/v1/tenants", json={"tenant_id": "acme", "name": "Acme"})
        body = {"tenant_id": "acme", "user": {"id": "u1"}, "provider": "zoom"}
        made = (await http.post("/v1/connect-sessions", json=body)).json()
        link = urlsplit(made["connect_url"]).path
        csrf = (await http.get(link)).text.split('name="csrf" value="')[1].split('"')[0]
        sent = await http.post(link, data={"csrf": csrf}, headers={"Origin": service.base})
        query = provider.decide(sent.headers["location"])
        try:
            await http.get(f"/oauth/callback/zoom?{query}")
            await http.post(f"/v1/connect-sessions/{made['session_id']}/confirm?tenant_id=acme", json={"user_id": "u1"})
        except httpx.TransportError:
            pass
        return str(made["session_id"])


@pytest.mark.parametrize("name", sorted(name for name in NAMES if name.startswith("connect.")))
async def test_a_kill_in_a_connect_flow_leaves_nothing_half_made(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
            session_id = await connect(service, provider)
            assert await service.died() == -signal.SIGKILL
            conn = await asyncpg.connect(cluster.dsn("owner"), server_settings={"search_path": "customhouse"})
            try:
                if name in CONFIRMS:
                    await service.start()
                    async with httpx.AsyncClient(base_url=service.base, trust_env=False, timeout=30) as http:
                        path = f"/v1/connect-sessions/{session_id}/confirm?tenant_id=acme"
                        made = await http.post(path, json={"user_id": "u1"}, headers={"Authorization": f"Bearer {KEY}"})
                    assert (made.status_code, made.json()["status"]) == (200, "active"), made.text
                    assert await asyncio.to_thread(service.stop) == 0
                    assert len(provider.live) == 1
                    assert await conn.fetchval("select count(*) from integration_tokens") == 1
                else:
                    await conn.execute("update connect_sessions set deadline = now() - interval '1 second'")
                    app = await App.open(settings, Store(Secret(cluster.dsn("app").encode())))
                    try:
                        await app.sweeping.sessions()
                    finally:
                        await app.stop()
                    # A provider of the good sort ends what a code gave when the code comes again (RFC 6749 §4.1.2).
                    assert provider.live == set()
                    assert await conn.fetchval("select reason from connect_sessions") == "reply_lost"
                    assert await conn.fetchval("select count(*) from integration_tokens") == 0
                assert await conn.fetchval("select count(*) from connect_exchanges") == 0
                assert await conn.fetchval("select count(*) from pending_grants") == 0
                assert await conn.fetchval("select count(*) from revocation_escrow") == 0
            finally:
                await conn.close()
                await asyncio.to_thread(service.stop)
