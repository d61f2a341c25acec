"""R7: in an incident all connections of a selection end at once, within a budget at the providers, and the report tells the truth."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from customhouse.app import App
from customhouse.audit.log import Origin
from customhouse.canonical import dump
from customhouse.connections.mass import Selection
from customhouse.types import PLATFORM, TenantId
from customhouse.web.receipts import KEYS
from customhouse_sandbox.faults import FaultKind, Operation
from tests.commands import call
from tests.integration.connections.conftest import PUBLIC, Browser
from tests.integration.connections.sandboxed import Desk, settle_in
from tests.integration.web.conftest import Api, make_tenant
from tests.sandboxes import Sandbox, running

pytestmark = pytest.mark.anyio

BY_HAND = Origin("operator", "suite")
FAST = 1000.0


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running(public_url=PUBLIC) as one:
        yield one


@pytest.fixture
def environ(environ: dict[str, str], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    return {**environ, "CUSTOMHOUSE_PROVIDERS_FILE": settle_in(sandbox, tmp_path, monkeypatch)}


@pytest.fixture
async def other(platform: Api) -> Api:
    return await make_tenant(platform, "other")


async def populated(acme: Api, other: Api, browser: Browser, sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    """Connect people of two tenants; return the connections."""
    return {
        "acme zoom": await Desk(acme, browser, sandbox, "zoom").connected(account="ada"),
        "acme gmail": await Desk(acme, browser, sandbox, "gmail").connected(account="ada"),
        "other zoom": await Desk(other, browser, sandbox, "zoom").connected(account="grace"),
        "other gmail": await Desk(other, browser, sandbox, "gmail").connected(account="grace"),
    }


async def ended(
    app: App, selection: Selection, *, rate: float = FAST, wait: bool = True
) -> tuple[dict[str, Any], Counter[str], Counter[str]]:
    """Run it; return the report and what the bars were told."""
    cut: Counter[str] = Counter()
    asked: Counter[str] = Counter()

    def here(provider: str) -> None:
        cut[provider] += 1

    def there(provider: str) -> None:
        asked[provider] += 1

    report = await app.mass_ending.run(selection, BY_HAND, rate=rate, wait=wait, on_cut=here, on_asked=there)
    return json.loads(dump(report.document())), cut, asked


async def statuses(owner: asyncpg.Connection) -> dict[str, str]:
    rows = await owner.fetch("select tenant_id, provider, status from connections")
    return {f"{row['tenant_id']} {row['provider']}": row["status"] for row in rows}


async def test_all_connections_of_a_provider_end_in_every_tenant_and_no_others(
    app: App, acme: Api, other: Api, browser: Browser, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    made = await populated(acme, other, browser, sandbox)
    report, cut, asked = await ended(app, Selection(provider="zoom"))
    assert (report["ended"], report["failed"], report["at_providers"]) == (2, [], {"verified": 2})
    assert (cut, asked) == ({"zoom": 2}, {"zoom": 2})
    assert await statuses(owner) == {
        "acme zoom": "disconnected",
        "other zoom": "disconnected",
        "acme gmail": "active",
        "other gmail": "active",
    }
    assert not [token for token in sandbox.tokens("zoom") if token.is_live(sandbox.clock.now())]
    told = {(one["tenant_id"], one["connection_id"]): one for one in report["receipts"]}
    receipt = told["acme", made["acme zoom"]["connection_id"]]
    assert (receipt["reason"], receipt["revocation"]["verified"]) == ("incident", True)
    assert (await acme("GET", f"/v1/connections/{receipt['connection_id']}/receipt")).json() == receipt
    tags = await owner.fetch("select tag, detail from audit_entries where tenant_id = $1 and tag like 'mass_disconnect.%'", PLATFORM)
    assert {row["tag"]: json.loads(row["detail"]) for row in tags} == {
        "mass_disconnect.begun": {"provider": "zoom", "tenant_id": None, "since": None},
        "mass_disconnect.ended": {"ended": 2, "gone": 0, "failed": 0},
    }
    again, cut, _ = await ended(app, Selection(provider="zoom"))
    assert (again["ended"], cut) == (0, {})


async def test_a_tenant_and_a_time_narrow_it(
    app: App, acme: Api, other: Api, browser: Browser, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    await populated(acme, other, browser, sandbox)
    await owner.execute("update consents set confirmed_at = now() - interval '2 days' where tenant_id = 'acme'")
    yesterday = app.clock.now() - timedelta(days=1)
    report, _, _ = await ended(app, Selection(tenant=TenantId("acme"), since=yesterday))
    assert report["ended"] == 0
    report, _, _ = await ended(app, Selection(since=yesterday))
    assert {one["tenant_id"] for one in report["receipts"]} == {"other"}
    assert {name for name, status in (await statuses(owner)).items() if status == "active"} == {"acme zoom", "acme gmail"}


async def test_a_provider_that_is_down_is_left_to_the_jobs_and_the_report_says_so(
    app: App, acme: Api, other: Api, browser: Browser, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    await populated(acme, other, browser, sandbox)
    sandbox.order("zoom", FaultKind.UNREACHED, Operation.REVOKE, times=2)
    report, _, _ = await ended(app, Selection(provider="zoom"))
    assert report["at_providers"] == {"pending": 2}
    await owner.execute("update revocation_escrow set next_at = now()")
    await app.revoker.end_due()
    assert await owner.fetch("select distinct revocation_status, verified from disconnect_receipts") == [("revoked", True)]


async def test_without_waiting_the_providers_are_asked_one_after_the_other_when_their_turn_comes(
    app: App, acme: Api, other: Api, browser: Browser, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    await populated(acme, other, browser, sandbox)
    report, _, asked = await ended(app, Selection(provider="zoom"), wait=False, rate=0.01)
    assert (report["at_providers"], asked) == ({"pending": 2}, {})
    due = [row[0] for row in await owner.fetch("select next_at from revocation_escrow order by 1")]
    assert timedelta(seconds=90) < due[1] - due[0] < timedelta(seconds=130)
    await app.revoker.end_due()
    assert await owner.fetchval("select count(*) from revocation_escrow") == 2


async def test_one_that_cannot_be_ended_is_named_and_keeps_nobody_else(
    app: App, acme: Api, other: Api, browser: Browser, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    made = await populated(acme, other, browser, sandbox)
    await owner.execute(
        """
        create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
        create trigger refuse before insert on disconnect_receipts for each row when (new.tenant_id = 'acme') execute function refuse()
        """
    )
    report, _, _ = await ended(app, Selection(provider="zoom"))
    assert [(one["tenant_id"], one["connection_id"]) for one in report["failed"]] == [("acme", made["acme zoom"]["connection_id"])]
    assert report["ended"] == 1
    assert (await statuses(owner))["acme zoom"] == "active"
    await owner.execute("drop trigger refuse on disconnect_receipts")
    report, _, _ = await ended(app, Selection(provider="zoom"))
    assert (report["ended"], report["failed"]) == (1, [])


async def test_the_command_shows_first_does_it_when_told_and_writes_a_report(
    environ: dict[str, str],
    app: App,
    acme: Api,
    other: Api,
    browser: Browser,
    sandbox: Sandbox,
    owner: asyncpg.Connection,
    tmp_path: Path,
) -> None:
    await populated(acme, other, browser, sandbox)
    settings = {name.removeprefix("CUSTOMHOUSE_"): value for name, value in environ.items()}

    async def command(*arguments: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(call, "connection", *arguments, settings=settings)
        return done.returncode, done.stdout, done.stderr

    code, out, err = await command("list", "--json")
    assert code == 0, err
    assert len(json.loads(out)["data"]) == 4
    code, out, _ = await command("disconnect", "--provider", "zoom")
    assert (code, "Nothing was done" in out) == (0, True)
    code, _, err = await command("disconnect", "--yes")
    assert (code, "--all" in err) == (2, True)
    assert set((await statuses(owner)).values()) == {"active"}
    file = tmp_path / "report.json"
    code, out, err = await command("disconnect", "--provider", "zoom", "--yes", "--rate", "100", "--report", str(file))
    assert (code, "2 connections ended" in out) == (0, True), err
    report = json.loads(file.read_text())
    assert (report["ended"], report["at_providers"]) == (2, {"verified": 2})
    assert (await statuses(owner))["other zoom"] == "disconnected"
    code, _, err = await command("disconnect", "--provider", "zoom", "--since", "yesterday", "--yes")
    assert (code, "--since" in err) == (2, True)


async def test_the_command_checks_a_signed_receipt_without_the_service(
    acme: Api, browser: Browser, sandbox: Sandbox, tmp_path: Path
) -> None:
    made = await Desk(acme, browser, sandbox, "zoom").connected()
    receipt = (await acme("DELETE", f"/v1/connections/{made['connection_id']}")).json()
    signed, keys = tmp_path / "receipt.json", tmp_path / "keys.json"
    signed.write_bytes((await acme("GET", f"/v1/connections/{made['connection_id']}/receipt?format=signed")).content)
    keys.write_bytes((await acme("GET", KEYS)).content)

    async def verify() -> tuple[int, str, str]:
        done = await asyncio.to_thread(call, "connection", "verify-receipt", str(signed), "--keys", str(keys), "--json")
        return done.returncode, done.stdout, done.stderr

    code, out, _ = await verify()
    assert (code, json.loads(out)) == (0, {"genuine": True, "receipt": receipt})
    signed.write_text(signed.read_text().replace('"payload":"', '"payload":"A'))
    code, _, err = await verify()
    assert (code, "signature" in err) == (1, True)
