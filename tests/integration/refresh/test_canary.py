"""No token, new, old, spent or refused, shows anywhere: rows, logs, metrics, errors."""

from __future__ import annotations

import asyncpg
import pytest

from customhouse.app import App
from customhouse.errors import CustomhouseError
from customhouse.types import TenantId
from customhouse_sandbox.faults import FaultKind, Operation
from tests.canaries import traces
from tests.connected import access_token, connect
from tests.integration.refresh.scene import at_once, reply, state
from tests.sandboxes import Sandbox

pytestmark = pytest.mark.anyio


async def rows(owner: asyncpg.Connection) -> dict[str, bytes]:
    """Return every table as text."""
    tables = await owner.fetch("select relname from pg_class where relnamespace = 'customhouse'::regnamespace and relkind in ('r', 'p')")
    found = {}
    for table in tables:
        said = await owner.fetch(f"select x::text as said from {table['relname']} x")
        found[f"table {table['relname']}"] = "\n".join(row["said"] for row in said).encode()
    return found


async def test_no_token_of_a_renewal_shows_anywhere(
    app: App, tenant: TenantId, sandbox: Sandbox, owner: asyncpg.Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    made = {name: await connect(app, tenant, name) for name in ("zoom", "gmail", "slack")}
    told: list[str] = []
    echo = '{"error": "invalid_request", "error_description": "access-of-the-suite"}'
    for kind, values in (
        (None, {}),
        (FaultKind.STATUS, {"status": 502}),
        (FaultKind.REPLY, {"body": echo, "status": 400}),
        (FaultKind.REPLY, {"body": "access-of-the-suite", "status": 200}),
        (FaultKind.UNREACHED, {}),
        (None, {}),
        (FaultKind.LOST, {}),
        (None, {}),
    ):
        for name, connection_id in made.items():
            if kind is not None:
                sandbox.order(name, kind, Operation.REFRESH, **values)
            generation = (await state(owner, connection_id))["token_generation"]
            try:
                await app.refresher.renew(tenant, connection_id, generation=generation)
            except CustomhouseError as error:
                told.append(repr(error))
        await at_once(owner)
    kept = await access_token(app, tenant, made["gmail"])
    reply(sandbox, "gmail", scope="openid https://mail.google.com/")
    with pytest.raises(CustomhouseError) as refused:
        await app.refresher.renew(tenant, made["gmail"], generation=(await state(owner, made["gmail"]))["token_generation"])
    told.append(repr(refused.value))
    secrets = {f"secret {place}": value for place, value in enumerate(dict.fromkeys((*sandbox.secrets(), kept, "access-of-the-suite")))}
    evidence = {**await rows(owner), "errors": "\n".join(told).encode(), "metrics": app.exposition()}
    evidence["output"] = "".join(capfd.readouterr()).encode()
    assert len(secrets) > 20
    assert len(told) > 8
    assert traces(secrets, evidence) == []
