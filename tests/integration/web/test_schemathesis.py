"""The real server against its own description: good and bad data, a fixed seed, nothing that is not documented, no 500."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from customhouse.config import Address
from tests.integration.web.conftest import PLATFORM_KEY, Api
from tests.receivers import Recorder

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

SEED = "4711"
# What JSON Schema cannot say, so data that fits the description may be refused: an opaque cursor, what may be dialled, a moment in
# the future, a period that begins before it ends, a reason that names nobody, a schema that is one, text without NUL, an identifier
# that tells who somebody is, a connection that exists, a provider that is set up, a key that is one, a path that means one thing only.
MORE_THAN_SCHEMA = (
    "GET /v1/api-keys",
    "GET /v1/audit",
    "GET /v1/connections",
    "GET /v1/deliveries",
    "GET /v1/event-types",
    "GET /v1/notices",
    "GET /v1/schemas",
    "POST /v1/api-keys",
    "POST /v1/connections",
    "POST /v1/connect-sessions",
    "PATCH /v1/connections/{connection_id}",
    "POST /v1/connections/{connection_id}/credentials",
    "POST /v1/connections/{connection_id}/secrets/rotate",
    "POST /v1/connections/{connection_id}/recover",
    "GET /v1/deliveries/{delivery_id}/payload",
    "POST /v1/event-types",
    "POST /v1/events",
    "POST /v1/events/batch",
    "POST /v1/tenants",
    "PUT /v1/tenants/{tenant_id}/privacy-policy",
    *(f"{method} /v1/connections/{{connection_id}}/proxy/{{path}}" for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")),
)
# Keys of two users of one tenant may see the same: access goes by tenant and scope, and the tenancy matrix holds that.
NOT_OURS = ("object_level_authorization",)
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "8")


def _settings(tenant_in_query: bool) -> str:
    """Return the tool's settings: ids that exist where it cannot find them by itself."""
    lines = ["[parameters]", '"path.tenant_id" = "acme"', '"path.event_type" = "person.updated"']
    if tenant_in_query:
        lines.append('"query.tenant_id" = "acme"')
    for check in NOT_OURS:
        lines += [f"[checks.{check}]", "enabled = false"]
    for name in MORE_THAN_SCHEMA:
        lines += ["[[operations]]", f'include-name = "{name}"', "checks.positive_data_acceptance.enabled = false"]
    return "\n".join(lines)


async def _run(address: Address, key: str, folder: Path, *, tenant_in_query: bool) -> tuple[int, str]:
    (folder / "schemathesis.toml").write_text(_settings(tenant_in_query), encoding="utf-8")
    clean = {name: text for name, text in os.environ.items() if not name.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"http://{address}/openapi.json",
        "--header", f"Authorization: Bearer {key}",
        # It would end the very key that it calls with.
        "--exclude-name", "DELETE /v1/api-keys/{key_id}",
        "--seed", SEED,
        "--max-examples", EXAMPLES,
        "--request-timeout", "10",
        "--continue-on-failure",
        "--no-color",
        cwd=folder,
        env={**clean, "COLUMNS": "140"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode(errors="replace")


@pytest.mark.parametrize("platform_key", [False, True], ids=["a tenant's key", "a platform key"])
async def test_the_api_keeps_to_its_description(
    address: Address, acme: Api, receiver: Recorder, tmp_path: Path, platform_key: bool
) -> None:
    await acme("POST", "/v1/connections", {"provider": "webhook", "url": receiver.url("/hook")})
    await acme("POST", "/v1/event-types", {"event_type": "person.updated"})
    key = PLATFORM_KEY if platform_key else acme.key
    assert key is not None
    code, output = await _run(address, key, tmp_path, tenant_in_query=platform_key)
    assert code == 0, output[-20_000:]
    described = (await acme("GET", "/openapi.json")).json()["paths"].values()
    total = sum(len(operations) for operations in described)
    assert f"{total - 1} selected / {total} total" in output
    assert "401 Unauthorized" not in output, output[-5_000:]
