"""Pasted keys over time, through the real service: what they may do changes at the provider without a word, and they grow old (R10)."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App, Store
from customhouse.audit.log import SYSTEM, Origin
from customhouse.config import load
from customhouse.connections.pasting import Pasting
from customhouse.connections.reading import Asker
from customhouse.connections.users import User
from customhouse.errors import Conflict, ReauthorizationRequired
from customhouse.types import Secret, TenantId
from customhouse.vault.steps import Kind
from customhouse_sandbox.faults import FaultKind, Operation
from customhouse_sandbox.stripe import keys
from tests.conftest import NOT_REPEATED
from tests.integration.connections.test_keys import PROBES, PROVIDER, WANTED, account, environ, pasted, replaced, sandbox, told
from tests.integration.test_key_rotation import HeldClock, Scene, unheard
from tests.integration.web.conftest import Api, problem
from tests.sandboxes import NEEDED, Sandbox, stripe_key

pytestmark = pytest.mark.anyio
__all__ = ["environ", "sandbox"]

ACME = TenantId("acme")
ASKER = Asker(Origin("api_key", "key_test", "req_test"), ACME)


async def recheck(app: App, owner: asyncpg.Connection) -> None:
    """Let the time of every check come."""
    await owner.execute("update pasted_keys set next_check_at = now() - interval '1 second' where next_check_at is not null")
    await app.rechecking.due()


async def shown(api: Api, made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (await api("GET", f"/v1/connections/{made['connection_id']}")).json()
    return found


async def events(api: Api, kind: str) -> list[dict[str, Any]]:
    """Return what the user's inbox holds of a kind."""
    notices = (await api("GET", "/v1/notices?user_id=u1")).json()["data"]
    return [one["detail"] for one in notices if one["kind"] == kind]


async def test_a_key_that_stays_as_it_was_changes_nothing_but_the_time_of_its_next_check(
    acme: Api, app: App, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    made = await pasted(acme, stripe_key(sandbox)[1])
    await app.rechecking.due()
    assert len(sandbox.calls) == PROBES
    await recheck(app, owner)
    assert len(sandbox.calls) == 2 * PROBES
    after = await shown(acme, made)
    assert after["key"]["permissions_seen_at"] > made["key"]["permissions_seen_at"]
    assert (after["status"], after["grant_version"], after["token"]["token_generation"]) == ("active", 1, 1)
    wait = await owner.fetchval("select extract(epoch from next_check_at - checked_at) from pasted_keys")
    assert 0.9 * 86_400 <= wait <= 1.1 * 86_400
    assert await told(acme, "connection.key_rechecked") == []


async def test_a_key_that_became_wider_is_switched_off_and_everybody_is_told(
    acme: Api, app: App, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    key_id, key = stripe_key(sandbox)
    made = await pasted(acme, key)
    keys.change(sandbox.realms[PROVIDER], key_id, {**NEEDED, "refund": "write"})
    await recheck(app, owner)
    after = await shown(acme, made)
    assert (after["status"], after["health"]["ok"], after["health"]["reason"]) == ("disabled", False, "key_wider")
    (entry,) = await told(acme, "connection.key_rechecked")
    assert (entry["wider"], entry["status"], entry["reason"]) == (["rak_refund_*"], "disabled", "key_wider")
    assert await events(acme, "connection.disabled") == [{"provider": PROVIDER, "reason": "key_wider"}]
    with pytest.raises(Conflict):
        await app.reader.token(ACME, ids.parse("con", made["connection_id"]), ASKER, "proxy")
    # Nobody but a person puts an end to that: not the key's owner by taking it back, nor a resumption.
    keys.change(sandbox.realms[PROVIDER], key_id, NEEDED)
    before = len(sandbox.calls)
    await recheck(app, owner)
    assert (await acme("PATCH", f"/v1/connections/{made['connection_id']}", {"paused": False})).status_code == 409
    assert ((await shown(acme, made))["status"], len(sandbox.calls)) == ("disabled", before)
    again = await replaced(acme, made["connection_id"], key)
    assert (again.json()["status"], again.json()["token"]["token_generation"]) == ("active", 2)


async def test_a_key_that_became_narrower_is_degraded_by_name_and_recovers(
    acme: Api, app: App, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    key_id, key = stripe_key(sandbox)
    made = await pasted(acme, key)
    keys.change(sandbox.realms[PROVIDER], key_id, {**NEEDED, "invoice": "none", "customer": "read"})
    await recheck(app, owner)
    less = await shown(acme, made)
    assert (less["status"], less["health"]["reason"]) == ("degraded", "scopes_missing")
    assert less["scopes"]["missing"] == ["rak_customer_write", "rak_invoice_read"]
    assert set(less["scopes"]["granted"]) == set(WANTED) - set(less["scopes"]["missing"])
    assert (less["grant_version"], less["account"]) == (2, made["account"])
    assert await events(acme, "connection.degraded") == [{"provider": PROVIDER, "reason": "scopes_missing"}]
    await recheck(app, owner)
    assert len(await told(acme, "connection.key_rechecked")) == 1
    keys.change(sandbox.realms[PROVIDER], key_id, NEEDED)
    await recheck(app, owner)
    whole = await shown(acme, made)
    assert (whole["status"], whole["scopes"]["missing"], whole["grant_version"]) == ("active", [], 3)


async def test_a_key_that_the_provider_forgot_needs_another_and_works_again_with_it(
    acme: Api, app: App, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    key_id, key = stripe_key(sandbox)
    made = await pasted(acme, key)
    rolled = keys.roll(sandbox.realms[PROVIDER], key_id)
    await recheck(app, owner)
    over = await shown(acme, made)
    assert (over["status"], over["health"]["ok"], over["health"]["reason"]) == ("reauthorization_required", False, "access_token_refused")
    assert await events(acme, "connection.reauthorization_required") == [{"provider": PROVIDER, "reason": "access_token_refused"}]
    with pytest.raises(ReauthorizationRequired):
        await app.reader.token(ACME, ids.parse("con", made["connection_id"]), ASKER, "proxy")
    await recheck(app, owner)
    assert len(await events(acme, "connection.reauthorization_required")) == 1
    assert (await replaced(acme, made["connection_id"], rolled)).json()["status"] == "active"


@pytest.mark.parametrize(
    ("kind", "values"),
    [(FaultKind.STATUS, {"status": 500}), (FaultKind.RATE_LIMITED, {}), (FaultKind.UNREACHED, {}), (FaultKind.REPLY, {"body": "<html>"})],
    ids=lambda one: str(one) if isinstance(one, FaultKind) else "",
)
async def test_a_provider_that_is_away_shows_in_the_health_alone(
    acme: Api, app: App, sandbox: Sandbox, owner: asyncpg.Connection, kind: FaultKind, values: dict[str, Any]
) -> None:
    made = await pasted(acme, stripe_key(sandbox)[1])
    sandbox.order(PROVIDER, kind, Operation.API, times=None, **values)
    await recheck(app, owner)
    away = await shown(acme, made)
    assert (away["status"], away["health"]["ok"]) == ("active", False)
    assert away["health"]["reason"] in {"provider_unavailable", "rate_limited", "reply_unreadable"}
    assert away["health"]["failing_since"] is not None
    assert away["key"]["permissions_seen_at"] == made["key"]["permissions_seen_at"]
    assert await owner.fetchval("select next_check_at <= now() + interval '91 minutes' from pasted_keys")
    sandbox.clear()
    await recheck(app, owner)
    back = await shown(acme, made)
    assert (back["health"]["ok"], back["health"]["reason"], back["health"]["failing_since"]) == (True, None, None)


async def test_a_key_is_used_here_and_never_handed_out(acme: Api, app: App, sandbox: Sandbox) -> None:
    key = stripe_key(sandbox)[1]
    made = await pasted(acme, key)
    reading = await app.reader.token(ACME, ids.parse("con", made["connection_id"]), ASKER, "proxy")
    assert (reading.access.reveal().decode(), reading.token_type, reading.expires_at) == (key, "Bearer", None)
    problem(await acme("POST", f"/v1/connections/{made['connection_id']}/access-token"), 409, "token_not_exportable")
    versions = {"Stripe-Version": "2019-01-01"}
    found = await acme("GET", f"/v1/connections/{made['connection_id']}/proxy/customers?limit=1", headers=versions)
    assert (found.status_code, found.json()["object"]) == (200, "list")
    assert sandbox.calls[-1].operation is Operation.API
    problem(await acme("GET", f"/v1/connections/{made['connection_id']}/proxy/refunds?limit=1"), 403, "not_allowed")


async def test_one_check_is_made_however_many_processes_look(acme: Api, app: App, sandbox: Sandbox, owner: asyncpg.Connection) -> None:
    await pasted(acme, stripe_key(sandbox)[1])
    await owner.execute("update pasted_keys set next_check_at = now() - interval '1 second'")
    await asyncio.gather(*(app.rechecking.due() for _ in range(4)))
    assert len(sandbox.calls) == 2 * PROBES


async def test_a_check_of_a_key_that_was_replaced_meanwhile_says_nothing_about_the_new_one(
    acme: Api, app: App, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    key_id, key = stripe_key(sandbox)
    made = await pasted(acme, key)
    new = stripe_key(sandbox)[1]
    held = sandbox.order(PROVIDER, FaultKind.HOLD, Operation.IDENTITY)
    keys.change(sandbox.realms[PROVIDER], key_id, {**NEEDED, "invoice": "none"})
    checking = asyncio.create_task(recheck(app, owner))
    await sandbox.holding(held)
    await replaced(acme, made["connection_id"], new)
    sandbox.release()
    await checking
    after = await shown(acme, made)
    assert (after["status"], after["scopes"]["missing"], after["token"]["token_generation"]) == ("active", [], 2)


async def test_a_row_that_was_edited_by_hand_is_not_even_tried(acme: Api, app: App, sandbox: Sandbox, owner: asyncpg.Connection) -> None:
    await pasted(acme, stripe_key(sandbox)[1])
    await owner.execute("update connection_grants set granted = granted || '{rak_refund_write}'")
    await recheck(app, owner)
    assert len(sandbox.calls) == PROBES


async def test_r10_an_old_key_is_asked_for_again_and_again_and_goes_on_working(
    acme: Api, app: App, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    made = await pasted(acme, stripe_key(sandbox)[1])
    await owner.execute("update pasted_keys set pasted_at = now() - interval '181 days'")
    for _ in range(2):
        await recheck(app, owner)
    old = await shown(acme, made)
    assert (old["status"], old["health"]["ok"], old["health"]["reason"]) == ("active", True, "key_old")
    assert (await told(acme, "connection.key_old"), len(await events(acme, "connection.key_old"))) == ([{"age_days": 181}], 1)
    await owner.execute("update pasted_keys set told_at = now() - interval '30 days'")
    await recheck(app, owner)
    assert len(await events(acme, "connection.key_old")) == 2
    await replaced(acme, made["connection_id"], stripe_key(sandbox)[1])
    await recheck(app, owner)
    assert len(await events(acme, "connection.key_old")) == 2


async def test_a_disconnect_says_what_the_customer_has_to_do_and_keeps_nothing(
    acme: Api, app: App, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    made = await pasted(acme, stripe_key(sandbox)[1], webhook_secret="whsec_Canary0123456789abcdefCanary")
    answer = await acme("DELETE", f"/v1/connections/{made['connection_id']}")
    assert answer.status_code == 200, answer.text
    receipt = answer.json()
    assert (receipt["revocation"]["status"], receipt["tokens_destroyed"], receipt["key_destroyed"]) == ("unsupported", True, True)
    assert (await shown(acme, made))["status"] == "disconnected"
    for table in ("integration_tokens", "pasted_keys", "revocation_escrow"):
        assert await owner.fetchval(f"select count(*) from {table}") == 0, table
    assert await owner.fetchval("select bool_and(state = 'destroyed' and sealed is null) from connection_secrets")
    assert "Delete the key" in receipt["instructions"]
    await recheck(app, owner)
    assert len(sandbox.calls) == PROBES


async def test_a_key_is_checked_and_replaced_at_every_step_of_a_rotation(
    environ: dict[str, str], sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    settings, clock = load(environ), HeldClock()
    assert settings.database_url is not None
    app = await App.open(settings, Store(settings.database_url), clock)
    try:
        await app.start()
        await app.tenants.create(ACME, "Acme", SYSTEM, NOT_REPEATED)
        key_id, key = stripe_key(sandbox)
        wish = Pasting(PROVIDER, Secret(key.encode()), user=User("u1", email="ada@example.com"))
        connection_id = (await app.pasted_keys.paste(ACME, wish, SYSTEM, NOT_REPEATED)).connection_id
        scene = Scene(app, clock, settings, owner)
        generation = 1

        async def tried() -> None:
            nonlocal generation
            shown = (await app.grants.of(ACME, [connection_id]))[connection_id]
            assert shown.account_id == account(sandbox)
            for less in ("none", NEEDED["invoice"]):
                keys.change(sandbox.realms[PROVIDER], key_id, {**NEEDED, "invoice": less})
                await owner.execute("update pasted_keys set next_check_at = '2001-01-01'")
                await app.rechecking.due()
                status = await owner.fetchval("select status from connections")
                assert status == ("degraded" if less == "none" else "active")
            await app.pasted_keys.replace(ACME, connection_id, Secret(key.encode()), None, SYSTEM)
            generation += 1
            reading = await app.reader.token(ACME, connection_id, ASKER, "proxy")
            assert (reading.access.reveal().decode(), reading.generation) == (key, generation)

        await tried()
        await app.rotating.make(await app.rotating.begin(Kind.ALL, None, clock.now()), unheard)
        await tried()
        for _ in range(2):
            scene.wait()
            await app.rotating.advance(ACME, unheard)
            await tried()
    finally:
        await app.stop()
    sealed = await owner.fetch(
        """
        select substring(user_sealed from 2 for 16) from connection_grants
        union all select substring(access_sealed from 2 for 16) from integration_tokens
        """
    )
    active = await owner.fetchval("select uuid_send(key_id) from data_keys where purpose = 'connection' and state = 'active'")
    assert {bytes(row[0]) for row in sealed} == {bytes(active)}
