"""Connecting by a pasted key, through the real service, at the strict stand-in: what is kept, what is refused, what is replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from customhouse.app import App
from customhouse.audit.log import SYSTEM, Origin
from customhouse.config import load
from customhouse.connections.pasting import Pasting
from customhouse.connections.reading import Asker
from customhouse.connections.tokens import check_guard
from customhouse.providers.catalogue import Catalogue
from customhouse.types import Secret, TenantId
from customhouse_sandbox.faults import FaultKind, Operation
from customhouse_sandbox.stripe import keys
from customhouse_sandbox.stripe.vendor import FACTS
from tests.canaries import traces
from tests.conftest import NOT_REPEATED, Server
from tests.conftest import running as in_process
from tests.integration.connections.conftest import PUBLIC
from tests.integration.connections.sandboxed import sealed_tokens, settle_in
from tests.integration.web.conftest import Api, make_tenant, problem
from tests.sandboxes import NEEDED, Sandbox, running, stripe_key
from tests.scenes import still
from tests.wire import wire

pytestmark = pytest.mark.anyio

ACME = TenantId("acme")
PROVIDER = "stripe"
SIGNS = "whsec_Canary0123456789abcdefCanary"
WANTED = [scope.name for scope in Catalogue().get(PROVIDER).scopes]
PROBES = 23


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running(public_url=PUBLIC) as one:
        yield one


@pytest.fixture
def environ(environ: dict[str, str], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    return {**environ, "CUSTOMHOUSE_PROVIDERS_FILE": settle_in(sandbox, tmp_path, monkeypatch)}


def body(key: str, **more: Any) -> dict[str, Any]:
    return {"provider": PROVIDER, "user_id": "u1", "credentials": {"api_key": key, **more}}


async def pasted(api: Api, key: str, **more: Any) -> dict[str, Any]:
    made = await api("POST", "/v1/connections", body(key, **more))
    assert made.status_code == 201, made.text
    said: dict[str, Any] = made.json()
    return said


async def nothing_kept(owner: asyncpg.Connection) -> None:
    for table in ("connections", "connection_grants", "integration_tokens", "pasted_keys", "connection_secrets", "idempotency_keys"):
        if await owner.fetchval("select to_regclass($1)", f"customhouse.{table}") is not None:
            assert await owner.fetchval(f"select count(*) from {table}") == 0, table
    assert await owner.fetchval("select count(*) from data_keys where purpose = 'connection' and state <> 'destroyed'") == 0


async def told(api: Api, tag: str) -> list[dict[str, Any]]:
    found = (await api("GET", f"/v1/audit?type={tag}")).json()["data"]
    return [one["detail"] for one in found]


def account(sandbox: Sandbox, person: str = "ada") -> str:
    return sandbox.realms[PROVIDER].people[person].organisation


# What is kept ---------------------------------------------------------------------------------------------------------


async def test_a_key_with_just_the_right_permissions_becomes_a_connection(
    acme: Api, app: App, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    key = stripe_key(sandbox)[1]
    made = await pasted(acme, key, webhook_secret=SIGNS)
    assert (made["status"], made["mode"], made["user_id"], made["provider"]) == ("active", "act", "u1", PROVIDER)
    assert (made["scopes"]["requested"], made["scopes"]["granted"], made["scopes"]["missing"]) == (WANTED, WANTED, [])
    assert made["account"] == {"id": account(sandbox), "label": account(sandbox)}
    assert (made["grant_version"], made["token"]["token_generation"], made["token"]["expires_at"]) == (1, 1, None)
    assert (made["key"]["live"], made["key"]["age_days"]) == (False, 0)
    assert (made["health"]["ok"], made["health"]["reason"]) == (True, None)
    assert made["secrets"]["signing"] is None
    assert (made["secrets"]["inbound"]["secret"], made["secrets"]["inbound"]["secret_already_shown"]) == (None, True)
    shown = (await acme("GET", f"/v1/connections/{made['connection_id']}")).json()
    assert shown == {name: value for name, value in made.items() if name != "secrets"}
    assert (await acme("GET", "/v1/connections?provider=stripe&healthy=true")).json()["data"] == [shown]

    tokens, sealed = await sealed_tokens(app, made["connection_id"])
    assert tokens.access.reveal().decode() == key
    assert key.encode() not in sealed
    row = await owner.fetchrow(
        "select c.*, g.granted, g.account_index, null::text as api_origin from connections c join connection_grants g using (connection_id)"
    )
    check_guard(await app.vault.mac_key(row["tenant_id"], "connections"), row["connection_id"], PROVIDER, row)
    assert [one["granted"] for one in await told(acme, "connection.created")] == [WANTED]
    calls = [call for call in sandbox.calls if call.operation in {Operation.API, Operation.IDENTITY}]
    assert len(calls) == PROBES


async def test_a_label_is_told_where_the_key_may_know_its_account(acme: Api, sandbox: Sandbox) -> None:
    made = await pasted(acme, stripe_key(sandbox, accounts_kyc_basic="read")[1])
    assert made["account"]["id"] == account(sandbox)
    assert made["account"]["label"] != account(sandbox)


async def test_a_repeated_call_makes_one_connection_and_another_key_is_another_call(
    acme: Api, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    (_, one), (_, other) = stripe_key(sandbox), stripe_key(sandbox)
    again = {"Idempotency-Key": "paste-1"}
    first = await acme("POST", "/v1/connections", body(one, webhook_secret=SIGNS), headers=again)
    second = await acme("POST", "/v1/connections", body(one, webhook_secret=SIGNS), headers=again)
    assert first.json()["connection_id"] == second.json()["connection_id"]
    assert first.json()["secrets"] == second.json()["secrets"]
    problem(await acme("POST", "/v1/connections", body(other), headers=again), 409, "idempotency_conflict")
    assert await owner.fetchval("select count(*) from connections") == 1
    assert await owner.fetchval("select count(*) from data_keys where purpose = 'connection' and state <> 'destroyed'") == 1


async def test_the_same_key_is_kept_once_in_a_tenant_and_says_nothing_to_others(acme: Api, platform: Api, sandbox: Sandbox) -> None:
    key = stripe_key(sandbox)[1]
    made = await pasted(acme, key)
    said = problem(await acme("POST", "/v1/connections", body(key)), 409, "conflict")
    assert made["connection_id"] in said["detail"]
    other = await make_tenant(platform, "other")
    assert (await pasted(other, key))["status"] == "active"


async def test_the_same_key_pasted_twice_at_once_makes_one_connection(acme: Api, sandbox: Sandbox, owner: asyncpg.Connection) -> None:
    key = stripe_key(sandbox)[1]
    answers = await asyncio.gather(*(acme("POST", "/v1/connections", body(key)) for _ in range(3)))
    assert sorted(one.status_code for one in answers) == [201, 409, 409]
    assert await owner.fetchval("select count(*) from pasted_keys") == 1
    assert await owner.fetchval("select count(*) from data_keys where purpose = 'connection' and state <> 'destroyed'") == 1


async def test_a_commit_whose_reply_was_lost_leaves_a_connection_that_works(
    environ: dict[str, str], database_server: Server, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    async with wire(database_server.app) as line:
        settings = load(environ | {"CUSTOMHOUSE_DATABASE_URL": line.leads(database_server.app)})
        async with in_process(settings) as app:
            await app.tenants.create(ACME, "Acme", SYSTEM, NOT_REPEATED)
            first, key = (Secret(stripe_key(sandbox)[1].encode()) for _ in range(2))
            await app.pasted_keys.paste(ACME, Pasting(PROVIDER, first), SYSTEM, NOT_REPEATED)
            await still(app, "jobs", "claims", "presence", "health", "keys")
            before = len(line.ran)

            async def lose_the_commit() -> None:
                while not any("insert into pasted_keys" in one for one in line.ran[before:]):
                    await asyncio.sleep(0)
                line.losing = b"COMMIT;"

            losing = asyncio.create_task(lose_the_commit())
            kept = await app.pasted_keys.paste(ACME, Pasting(PROVIDER, key), SYSTEM, NOT_REPEATED)
            await losing
            assert line.lost == 1
            asker = Asker(Origin("api_key", "key_test", "req_test"), ACME)
            assert (await app.reader.token(ACME, kept.connection_id, asker, "proxy")).access == key
    assert await owner.fetchval("select count(*) from connections") == 2
    assert await owner.fetchval("select count(*) from data_keys where purpose = 'connection' and state <> 'destroyed'") == 2


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["secret", "publishable"])
async def test_other_kinds_of_keys_are_refused_before_anything_is_sent(
    acme: Api, sandbox: Sandbox, owner: asyncpg.Connection, kind: str
) -> None:
    said = problem(await acme("POST", "/v1/connections", body(stripe_key(sandbox, kind=kind)[1])), 422, "credential_refused")
    assert "https://dashboard.stripe.com/apikeys/create" in said["detail"]
    assert list(sandbox.calls) == []
    await nothing_kept(owner)


async def test_keys_for_real_money_are_refused_in_a_dev_environment(acme: Api, sandbox: Sandbox, owner: asyncpg.Connection) -> None:
    said = problem(await acme("POST", "/v1/connections", body(stripe_key(sandbox, mode="live")[1])), 422, "credential_refused")
    assert "rk_test_" in said["detail"]
    assert list(sandbox.calls) == []
    await nothing_kept(owner)


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"refund": "read"}, ["rak_refund_*"]),
        ({"refund": "write", "payout": "read"}, ["rak_refund_*", "rak_payout_*"]),
        ({"transfer": "read"}, ["rak_transfer_*"]),
        ({"balance": "read"}, ["rak_balance_*"]),
        ({"dispute": "read"}, ["rak_dispute_*"]),
        ({"file": "read"}, ["rak_file_*"]),
        ({"webhook": "read"}, ["rak_webhook_*"]),
        ({"charge": "write"}, ["rak_charge_write"]),
        ({"product": "write"}, ["rak_product_write"]),
        ({"plan": "write"}, ["rak_plan_write"]),
        ({"invoice": "write"}, ["rak_invoice_write"]),
        ({"customer": "none"}, ["rak_customer_write"]),
        ({"customer": "read"}, ["rak_customer_write"]),
        ({"checkout_session": "read", "plan": "none"}, ["rak_checkout_session_write", "rak_plan_read"]),
    ],
    ids=lambda one: "-".join(f"{name}_{level}" for name, level in one.items()) if isinstance(one, dict) else "",
)
async def test_a_key_that_may_more_or_less_is_refused_by_name_and_nothing_is_kept(
    acme: Api, sandbox: Sandbox, owner: asyncpg.Connection, changed: dict[str, str], names: list[str]
) -> None:
    key = keys.make(sandbox.realms[PROVIDER], "ada", {**NEEDED, **changed})[1]
    said = problem(await acme("POST", "/v1/connections", body(key)), 422, "credential_refused")
    for name in names:
        assert name in said["detail"]
        assert any(name in fault["detail"] for fault in said["errors"])
    assert {fault["pointer"] for fault in said["errors"]} == {"/credentials/api_key"}
    assert key not in str(said)
    (refused,) = await told(acme, "connection.key_refused")
    assert sorted([*refused["wider"], *refused["missing"]]) == sorted(names)
    await nothing_kept(owner)


async def test_a_key_that_may_read_charges_is_not_refused_for_it(acme: Api, sandbox: Sandbox) -> None:
    assert (await pasted(acme, stripe_key(sandbox, charge="read", event="read", payment_method="read")[1]))["status"] == "active"


async def test_a_key_that_the_provider_does_not_know_is_refused_after_one_call(
    acme: Api, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    key_id, key = stripe_key(sandbox)
    keys.delete(sandbox.realms[PROVIDER], key_id)
    said = problem(await acme("POST", "/v1/connections", body(key)), 422, "credential_refused")
    assert "does not accept this key" in said["detail"]
    assert len(sandbox.calls) == 1
    await nothing_kept(owner)


FAULTS: list[tuple[FaultKind, dict[str, Any]]] = [
    (FaultKind.STATUS, {"status": 500}),
    (FaultKind.STATUS, {"status": 503}),
    (FaultKind.RATE_LIMITED, {}),
    (FaultKind.REPLY, {"body": "<html>sign in</html>", "status": 200}),
    (FaultKind.REPLY, {"body": "<html>blocked</html>", "status": 403}),
    (FaultKind.REPLY, {"body": '{"error": {"type": "invalid_request_error", "message": "Not from this address."}}', "status": 403}),
    (FaultKind.REPLY, {"body": '{"object"', "status": 200}),
    (FaultKind.UNREACHED, {}),
    (FaultKind.LOST, {}),
]


@pytest.mark.parametrize(
    ("kind", "values"), FAULTS, ids=lambda one: str(one) if isinstance(one, FaultKind) else "-".join(map(str, one.values()))[:24]
)
async def test_one_doubtful_answer_keeps_nothing_and_can_be_tried_again(
    acme: Api, sandbox: Sandbox, owner: asyncpg.Connection, kind: FaultKind, values: dict[str, Any]
) -> None:
    key = stripe_key(sandbox)[1]
    sandbox.order(PROVIDER, kind, Operation.API, times=None, **values)
    answer = await acme("POST", "/v1/connections", body(key))
    problem(answer, 503, "provider_unavailable")
    assert answer.headers["retry-after"]
    await nothing_kept(owner)
    sandbox.clear()
    assert (await pasted(acme, key))["status"] == "active"


@pytest.mark.parametrize("answered", [1, 9, PROBES - 2])
async def test_a_provider_that_has_enough_in_the_middle_of_the_questions_proves_nothing(
    acme: Api, sandbox: Sandbox, owner: asyncpg.Connection, answered: int
) -> None:
    key = stripe_key(sandbox)[1]
    sandbox.limit(PROVIDER, answered, 3600)
    problem(await acme("POST", "/v1/connections", body(key)), 503, "provider_unavailable")
    await nothing_kept(owner)
    sandbox.limit(PROVIDER, None)
    assert (await pasted(acme, key))["status"] == "active"


async def test_what_is_not_of_a_key_is_refused_by_name(acme: Api, sandbox: Sandbox, owner: asyncpg.Connection) -> None:
    key = stripe_key(sandbox)[1]
    for changed, pointer in (
        ({"url": "https://example.com"}, "/url"),
        ({"event_types": ["*"]}, "/event_types"),
        ({"credentials": None}, "/credentials"),
        ({"provider": "zoom"}, "/provider"),
        ({"provider": "nobody"}, "/provider"),
        ({"provider": "webhook"}, "/url"),
        ({"provider": "webhook", "url": "https://example.com/x"}, "/credentials"),
        ({"user_id": "ada@example.com"}, "/user_id"),
        ({"credentials": {"api_key": key, "webhook_secret": "not one"}}, "/credentials/webhook_secret"),
    ):
        answer = await acme("POST", "/v1/connections", body(key) | changed)
        assert answer.status_code == 422, (changed, answer.text)
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer], changed
        assert key not in answer.text
    assert list(sandbox.calls) == []
    await nothing_kept(owner)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.name)
async def test_however_the_open_questions_stand_a_key_is_proved_or_refused(
    acme: Api, sandbox: Sandbox, owner: asyncpg.Connection, fact: Any
) -> None:
    refused = {"permissions_judged": (422, "credential_refused"), "write_includes_read": (422, "credential_refused")}
    refused["refusal_names_account"] = (503, "provider_unavailable")
    for choice in fact.choices[1:]:
        sandbox.set_fact(PROVIDER, fact.name, choice)
        answer = await acme("POST", "/v1/connections", body(stripe_key(sandbox)[1]))
        if fact.name in refused:
            problem(answer, *refused[fact.name])
            await nothing_kept(owner)
        else:
            assert answer.status_code == 201, (choice, answer.text)


async def test_a_key_is_in_no_answer_log_or_table_although_the_provider_repeats_it(
    acme: Api, sandbox: Sandbox, owner: asyncpg.Connection, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.set_fact(PROVIDER, "refusals_show_key", "whole")
    kept, wide, dead = stripe_key(sandbox)[1], stripe_key(sandbox, refund="read")[1], stripe_key(sandbox)
    keys.delete(sandbox.realms[PROVIDER], dead[0])
    answers = [await acme("POST", "/v1/connections", body(key, webhook_secret=SIGNS)) for key in (kept, wide, dead[1], kept)]
    assert [one.status_code for one in answers] == [201, 422, 422, 409]
    tables = [
        row[0]
        for row in await owner.fetch("select relname from pg_class where relnamespace = 'customhouse'::regnamespace and relkind = 'r'")
    ]
    evidence = {f"table {name}": str(await owner.fetch(f"select * from {name}")).encode() for name in tables}
    evidence |= {f"answer {at}": one.content for at, one in enumerate(answers)}
    said = capsys.readouterr()
    evidence |= {"output": said.out.encode(), "errors": said.err.encode(), "log": caplog.text.encode()}
    assert traces({"kept": kept, "wide": wide, "dead": dead[1], "signs": SIGNS}, evidence) == []


# Replacement ----------------------------------------------------------------------------------------------------------


async def replaced(api: Api, connection_id: str, key: str, **more: Any) -> Any:
    return await api("POST", f"/v1/connections/{connection_id}/credentials", {"credentials": {"api_key": key, **more}})


async def test_another_key_of_the_same_account_takes_the_place_of_the_one_before(
    acme: Api, app: App, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    old, new = stripe_key(sandbox)[1], stripe_key(sandbox)[1]
    made = await pasted(acme, old, webhook_secret=SIGNS)
    await owner.execute("update pasted_keys set pasted_at = now() - interval '400 days'")
    aged = (await acme("GET", f"/v1/connections/{made['connection_id']}")).json()
    assert (aged["key"]["age_days"], aged["health"]["ok"], aged["health"]["reason"]) == (400, True, "key_old")
    answer = await replaced(acme, made["connection_id"], new)
    assert answer.status_code == 200, answer.text
    after = answer.json()
    assert (after["token"]["token_generation"], after["grant_version"], after["status"]) == (2, 1, "active")
    assert (after["key"]["age_days"], after["health"]["reason"]) == (0, None)
    assert after["secrets"]["inbound"]["key_id"] == made["secrets"]["inbound"]["key_id"]
    assert "Delete the key before it" in after["instructions"]
    tokens, _ = await sealed_tokens(app, made["connection_id"])
    assert tokens.access.reveal().decode() == new
    assert [one["token_generation"] for one in await told(acme, "connection.key_replaced")] == [2]
    changed = (await replaced(acme, made["connection_id"], new, webhook_secret=SIGNS)).json()
    assert changed["secrets"]["inbound"]["key_id"] != made["secrets"]["inbound"]["key_id"]
    states = await owner.fetch("select state, sealed is null as gone from connection_secrets where purpose = 'inbound' order by created_at")
    assert [tuple(one) for one in states] == [("destroyed", True), ("active", False)]
    # The old key is free again: nobody holds it.
    assert (await pasted(acme, old))["status"] == "active"


async def test_a_key_of_another_account_or_of_real_money_does_not_replace(acme: Api, app: App, sandbox: Sandbox) -> None:
    made = await pasted(acme, stripe_key(sandbox)[1])
    other = stripe_key(sandbox, "alan")[1]
    assert "another account" in problem(await replaced(acme, made["connection_id"], other), 409, "conflict")["detail"]
    app.pasted_keys._live = True
    live = stripe_key(sandbox, mode="live")[1]
    assert "real money" in problem(await replaced(acme, made["connection_id"], live), 409, "conflict")["detail"]
    assert (await acme("GET", f"/v1/connections/{made['connection_id']}")).json()["token"]["token_generation"] == 1


async def test_a_replacement_that_is_refused_or_in_doubt_leaves_what_is_held(acme: Api, app: App, sandbox: Sandbox) -> None:
    old = stripe_key(sandbox)[1]
    made = await pasted(acme, old)
    problem(await replaced(acme, made["connection_id"], stripe_key(sandbox, refund="read")[1]), 422, "credential_refused")
    problem(await replaced(acme, made["connection_id"], "sk_test_" + "a" * 24), 422, "credential_refused")
    sandbox.order(PROVIDER, FaultKind.STATUS, Operation.API, times=None, status=500)
    problem(await replaced(acme, made["connection_id"], stripe_key(sandbox)[1]), 503, "provider_unavailable")
    sandbox.clear()
    tokens, _ = await sealed_tokens(app, made["connection_id"])
    assert tokens.access.reveal().decode() == old
    refused = (await acme("GET", f"/v1/audit?type=connection.key_refused&connection_id={made['connection_id']}")).json()["data"]
    assert len(refused) == 1


async def test_of_two_replacements_at_once_one_is_told_that_it_came_late(acme: Api, sandbox: Sandbox) -> None:
    made = await pasted(acme, stripe_key(sandbox)[1])
    answers = await asyncio.gather(*(replaced(acme, made["connection_id"], stripe_key(sandbox)[1]) for _ in range(2)))
    assert sorted(one.status_code for one in answers) == [200, 409]
    assert (await acme("GET", f"/v1/connections/{made['connection_id']}")).json()["token"]["token_generation"] == 2


async def test_only_a_pasted_key_of_one_s_own_can_be_replaced(acme: Api, platform: Api, sandbox: Sandbox) -> None:
    key = stripe_key(sandbox)[1]
    made = await pasted(acme, stripe_key(sandbox)[1])
    hook = (await acme("POST", "/v1/connections", {"provider": "webhook", "url": "http://127.0.0.1:9/x"})).json()
    problem(await replaced(acme, hook["connection_id"], key), 409, "conflict")
    other = await make_tenant(platform, "other")
    problem(await replaced(other, made["connection_id"], key), 404, "not_found")
    await acme("DELETE", f"/v1/connections/{made['connection_id']}")
    problem(await replaced(acme, made["connection_id"], key), 409, "conflict")


async def test_a_pause_holds_through_a_replacement(acme: Api, sandbox: Sandbox) -> None:
    made = await pasted(acme, stripe_key(sandbox)[1])
    await acme("PATCH", f"/v1/connections/{made['connection_id']}", {"paused": True})
    assert (await replaced(acme, made["connection_id"], stripe_key(sandbox)[1])).json()["status"] == "paused"
    resumed = await acme("PATCH", f"/v1/connections/{made['connection_id']}", {"paused": False})
    assert resumed.json()["status"] == "active"
