"""API keys: one answer to all that is wrong, no way to more than one has, an end that counts everywhere at once."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.audit import log
from customhouse.audit.log import SYSTEM, Filter
from customhouse.config import load
from customhouse.errors import IdempotencyConflict, Invalid, NotFound, ScopeMissing, Unauthenticated
from customhouse.tenants.api_keys import ApiKey, Scope, new_token
from customhouse.tenants.idempotency import Once
from customhouse.types import PLATFORM, Secret, TenantId
from tests.conftest import running
from tests.scenes import NOT_REPEATED, make_tenant, until

pytestmark = pytest.mark.anyio


def root(app: App) -> ApiKey:
    return ApiKey(PLATFORM, ids.new(), "root", frozenset(Scope), app.clock.now())


async def make(app: App, tenant: TenantId, *scopes: str, lasting: timedelta | None = None) -> tuple[ApiKey, str]:
    expires_at = None if lasting is None else app.clock.now() + lasting
    key, token = await app.api_keys.create(
        tenant, "a key", scopes or ["admin"], SYSTEM, by=root(app), expires_at=expires_at, once=NOT_REPEATED
    )
    assert token is not None
    return key, token.reveal().decode()


async def test_a_key_is_recognised_and_only_its_hash_is_kept(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    key, token = await make(app, tenant, "events:write", "audit:read")
    found = await app.api_keys.authenticate(token)
    assert (found.tenant_id, found.key_id, found.scopes) == (tenant, key.key_id, frozenset({Scope.EVENTS_WRITE, Scope.AUDIT_READ}))
    assert token.startswith("ck_")
    assert len(token) == 46
    rows = await owner.fetch("select to_jsonb(k)::text from api_keys k")
    assert not any(token[3:] in row[0] for row in rows)


async def test_unknown_expired_and_revoked_are_answered_alike(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    revoked, revoked_token = await make(app, tenant)
    await app.api_keys.revoke(tenant, revoked.key_id, SYSTEM)
    expired, expired_token = await make(app, tenant, lasting=timedelta(hours=1))
    await owner.execute("update api_keys set expires_at = now() - interval '1 second' where key_id = $1", expired.key_id)
    answers = set()
    unknown = new_token().reveal().decode()
    for token in (revoked_token, expired_token, unknown, "ck_", "", "Bearer", expired_token[:-1], expired_token + "x"):
        with pytest.raises(Unauthenticated) as refused:
            await app.api_keys.authenticate(token)
        answers.add((type(refused.value), refused.value.code, refused.value.detail))
    assert len(answers) == 1


async def test_a_key_that_ends_while_it_is_remembered_ends_in_time(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    key, token = await make(app, tenant, lasting=timedelta(hours=1))
    await app.api_keys.authenticate(token)
    await owner.execute("update api_keys set expires_at = now() where key_id = $1", key.key_id)

    async def refused() -> bool:
        try:
            await app.api_keys.authenticate(token)
        except Unauthenticated:
            return True
        return False

    await until(refused, within=1.0)


async def test_revoking_counts_at_once_in_every_process(environ: dict[str, str], app: App, tenant: TenantId) -> None:
    key, token = await make(app, tenant)
    async with running(load(environ)) as other:
        for one in (app, other):
            assert (await one.api_keys.authenticate(token)).key_id == key.key_id
        await app.api_keys.revoke(tenant, key.key_id, SYSTEM)
        with pytest.raises(Unauthenticated):
            await app.api_keys.authenticate(token)

        async def refused() -> bool:
            try:
                await other.api_keys.authenticate(token)
            except Unauthenticated:
                return True
            return False

        await until(refused, within=1.0)
        await other.api_keys.revoke(tenant, key.key_id, SYSTEM)
    async with app.database.transaction(tenant) as conn:
        assert len(await log.read(conn, tenant, Filter(tag="api_key.revoked"))) == 1


async def test_a_key_cannot_give_what_it_does_not_have(app: App, tenant: TenantId) -> None:
    small, _ = await make(app, tenant, "events:write", "admin")
    for scopes in (["payloads:read"], ["events:write", "tokens:read"]):
        with pytest.raises(ScopeMissing):
            await app.api_keys.create(tenant, "wider", scopes, SYSTEM, by=small, once=NOT_REPEATED)
    same, _ = await app.api_keys.create(tenant, "same", ["events:write"], SYSTEM, by=small, once=NOT_REPEATED)
    with pytest.raises(ScopeMissing):
        same.require(Scope.ADMIN)
    same.require(Scope.EVENTS_WRITE)
    assert len(await app.api_keys.list(tenant, None, 10)) == 2


@pytest.mark.parametrize("scopes", [[], ["everything"], ["admin", "Admin"], ["*"]])
async def test_scopes_that_are_none_are_refused(app: App, tenant: TenantId, scopes: list[str]) -> None:
    with pytest.raises(Invalid):
        await app.api_keys.create(tenant, "a key", scopes, SYSTEM, by=root(app), once=NOT_REPEATED)
    with pytest.raises(Invalid):
        await app.api_keys.create(tenant, "", ["admin"], SYSTEM, by=root(app), once=NOT_REPEATED)
    with pytest.raises(Invalid):
        await app.api_keys.create(tenant, "a key", ["admin"], SYSTEM, by=root(app), expires_at=app.clock.now(), once=NOT_REPEATED)


async def test_a_key_of_one_tenant_names_no_other(app: App, tenant: TenantId) -> None:
    other = await make_tenant(app, "other")
    key, _ = await make(app, tenant)
    assert key.tenant_for(None) == key.tenant_for("acme") == tenant
    for named in ("other", "ACME", "", "_platform"):
        with pytest.raises(NotFound):
            key.tenant_for(named)
    with pytest.raises(NotFound):
        await app.api_keys.revoke(other, key.key_id, SYSTEM)
    with pytest.raises(NotFound):
        await app.api_keys.get(other, key.key_id)
    assert root(app).tenant_for("acme") == tenant
    with pytest.raises(Invalid):
        root(app).tenant_for(None)


async def test_a_repeated_call_shows_no_token_again(app: App, tenant: TenantId) -> None:
    async def call(body: bytes) -> tuple[ApiKey, Secret | None]:
        once = await Once.prepare(app.vault, tenant, "POST /v1/api-keys", "k-1", body)
        return await app.api_keys.create(tenant, "a key", ["admin"], SYSTEM, by=root(app), once=once)

    first, token = await call(b"one")
    again, nothing = await call(b"one")
    assert token is not None
    assert (again.key_id, nothing) == (first.key_id, None)
    with pytest.raises(IdempotencyConflict):
        await call(b"two")


async def test_the_first_key_is_made_once_and_a_preset_one_replaces_the_preset_before(app: App, owner: asyncpg.Connection) -> None:
    assert await app.api_keys.first_platform_key(None) is None
    live = "select count(*) from api_keys where tenant_id = '_platform' and revoked_at is null and name = 'preset'"
    one, other = (Secret(f"ck_{letter * 40}".encode()) for letter in "ab")
    for _ in range(2):
        assert await app.api_keys.first_platform_key(one) is None
        assert await owner.fetchval(live) == 1
    assert (await app.api_keys.authenticate(one.reveal().decode())).platform
    await app.api_keys.first_platform_key(other)
    app.api_keys.forget()
    assert await owner.fetchval(live) == 1
    with pytest.raises(Unauthenticated):
        await app.api_keys.authenticate(one.reveal().decode())
    assert (await app.api_keys.authenticate(other.reveal().decode())).scopes == frozenset(Scope)


async def test_a_token_that_is_preset_again_lets_the_operator_in(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    one, other = (Secret(f"ck_{letter * 40}".encode()) for letter in "ab")
    for preset in (one, other, one):
        await app.api_keys.first_platform_key(preset)
        app.api_keys.forget()
        assert (await app.api_keys.authenticate(preset.reveal().decode())).platform
    # The key that was made at the first start, or by the API, named as the preset later.
    made, token = await make(app, PLATFORM, *Scope)
    await app.api_keys.first_platform_key(Secret(token.encode()))
    app.api_keys.forget()
    assert (await app.api_keys.authenticate(token)).key_id == made.key_id
    with pytest.raises(Unauthenticated):
        await app.api_keys.authenticate(one.reveal().decode())


async def test_a_token_that_two_live_keys_have_is_refused(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    key, token = await make(app, tenant)
    other = await make_tenant(app, "other")
    await make(app, other)
    await owner.execute(
        "update api_keys set token_hash = (select token_hash from api_keys where key_id = $1) where tenant_id = $2", key.key_id, other
    )
    app.api_keys.forget()
    with pytest.raises(Unauthenticated):
        await app.api_keys.authenticate(token)


async def test_a_new_first_key_is_made_where_the_last_one_has_expired(app: App, owner: asyncpg.Connection) -> None:
    await owner.execute("update api_keys set expires_at = now() - interval '1 second' where tenant_id = '_platform'")
    token = await app.api_keys.first_platform_key(None)
    assert token is not None
    assert (await app.api_keys.authenticate(token.reveal().decode())).platform


@pytest.mark.parametrize("text", ["ck_é", "ck_\ud800", "ck_\x00", "ck_" + "a" * 100_000, "ck_\n", "CK_" + "a" * 43])
async def test_text_that_is_no_token_is_refused_like_an_unknown_one(app: App, text: str) -> None:
    with pytest.raises(Unauthenticated):
        await app.api_keys.authenticate(text)
