"""The service with its face, listening on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from customhouse.app import App
from customhouse.config import Address
from customhouse.web.asgi import create
from customhouse.web.server import listening

ALL_SCOPES = [
    "events:write",
    "connections:read",
    "connections:write",
    "tokens:read",
    "actions:write",
    "audit:read",
    "payloads:read",
    "admin",
]
PLATFORM_KEY = "ck_" + "platform-key-of-the-suite-0123456789"


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    return {**environ, "CUSTOMHOUSE_PLATFORM_KEY": PLATFORM_KEY}


@pytest.fixture
async def address(app: App) -> AsyncIterator[Address]:
    """Where the service listens."""
    async with listening(create(app), Address("127.0.0.1", 0)) as address:
        yield address


@dataclass(frozen=True)
class Api:
    """Calls with one API key."""

    base: str
    key: str | None
    http: httpx.AsyncClient

    def as_key(self, key: str | None) -> Api:
        """Return the same with another key."""
        return Api(self.base, key, self.http)

    async def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """Send a request; `body` goes as JSON."""
        headers = dict(options.pop("headers", {}))
        if self.key is not None:
            headers.setdefault("Authorization", f"Bearer {self.key}")
        if body is not None:
            options["json"] = body
        return await self.http.request(method, self.base + path, headers=headers, **options)


@pytest.fixture
async def platform(address: Address) -> AsyncIterator[Api]:
    """The API with the operator's key."""
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        yield Api(f"http://{address}", PLATFORM_KEY, http)


async def make_tenant(platform: Api, name: str, scopes: list[str] | None = None) -> Api:
    """Create a tenant and return the API with a key of its own."""
    made = await platform("POST", "/v1/tenants", {"tenant_id": name, "name": name.title()})
    assert made.status_code == 201, made.text
    key = await platform(
        "POST",
        "/v1/api-keys",
        {
            "tenant_id": name,
            "name": "all",
            "scopes": scopes or ALL_SCOPES,
        },
    )
    assert key.status_code == 201, key.text
    return platform.as_key(key.json()["api_key"])


@pytest.fixture
async def acme(platform: Api) -> Api:
    """The API with a key of the tenant acme."""
    return await make_tenant(platform, "acme")


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is this problem, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = answer.json()
    assert said["code"] == code, said
    assert said["status"] == status
    assert said["type"] == f"/problems/{code}"
    assert said["title"]
    return said
