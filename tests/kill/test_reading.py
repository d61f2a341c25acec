"""A kill at any moment of reading tokens: whatever token was answered, its entry is in the ledger."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from customhouse.app import Store, migrate_store
from customhouse.config import load
from customhouse.embedded.throwaway import throwaway_cluster
from customhouse.types import Secret
from tests.authority import CLIENT_SECRET, Authority, authority
from tests.services import Service

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]
KEY = "ck_kill-suite-0123456789abcdefghijklmnopqrstuvwxyz"


async def connected(service: Service, provider: Authority) -> str:
    """Connect zoom for acme; return the connection's id."""
    async with httpx.AsyncClient(base_url=service.base, trust_env=False, timeout=30, headers={"Authorization": f"Bearer {KEY}"}) as http:
        await http.post("/v1/tenants", json={"tenant_id": "acme", "name": "Acme"})
        made = (await http.post("/v1/connect-sessions", json={"tenant_id": "acme", "user": {"id": "u1"}, "provider": "zoom"})).json()
        link = urlsplit(made["connect_url"]).path
        csrf = (await http.get(link)).text.split('name="csrf" value="')[1].split('"')[0]
        sent = await http.post(link, data={"csrf": csrf}, headers={"Origin": service.base})
        await http.get(f"/oauth/callback/zoom?{provider.decide(sent.headers['location'])}")
        done = await http.post(f"/v1/connect-sessions/{made['session_id']}/confirm?tenant_id=acme", json={"user_id": "u1"})
        assert done.status_code == 200, done.text
        return str(done.json()["connection_id"])


async def read_until_it_dies(service: Service, connection_id: str, answered: list[str]) -> None:
    """Read one token after the other; keep the ids of the calls that were answered with one."""
    path = f"/v1/connections/{connection_id}/access-token?tenant_id=acme"
    async with httpx.AsyncClient(base_url=service.base, trust_env=False, timeout=30, headers={"Authorization": f"Bearer {KEY}"}) as http:
        while True:
            try:
                answer = await http.post(path)
            except httpx.TransportError:
                return
            assert answer.status_code == 200, answer.text
            answered.append(answer.headers["x-request-id"])


@pytest.mark.parametrize("name", ["read.before_commit", "read.after_commit"])
async def test_no_token_was_answered_whose_entry_is_lost(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R9: every credential read is logged, before it is answered."""
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
                "CUSTOMHOUSE_TOKEN_EXPORT": "on",
            }
            await migrate_store(Store(Secret(b""), cluster), load(service.environ))
            conn = None
            try:
                await service.start(CUSTOMHOUSE_FAILPOINTS=f"{name}=kill:25")
                connection_id = await connected(service, provider)
                answered: list[str] = []
                await asyncio.gather(*[read_until_it_dies(service, connection_id, answered) for _ in range(8)])
                assert await service.died() == -signal.SIGKILL
                assert answered, "the kill came before any answer"
                conn = await asyncpg.connect(cluster.dsn("owner"), server_settings={"search_path": "customhouse"})
                written = {row["request_id"] for row in await conn.fetch("select request_id from audit_entries where tag = 'token.read'")}
                assert set(answered) <= written
                assert provider.live
            finally:
                if conn is not None:
                    await conn.close()
                await asyncio.to_thread(service.stop)
