"""A connection with a client certificate: from the call that gives it to the receiver that demands it, and to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from cryptography.hazmat.primitives import hashes

from customhouse import ids
from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.config import Settings
from customhouse.crypto.certificates import read_credential
from customhouse.crypto.credentials import Credential
from customhouse.errors import Invalid, NotFound
from customhouse.outbound.endpoints import Change
from customhouse.types import PLATFORM, TenantId
from tests.authorities import Authority, Issued
from tests.conftest import running
from tests.receivers import Recorder, recorder
from tests.scenes import connect, hasten, make_tenant, publish, settled, until

pytestmark = pytest.mark.anyio


def credential(issued: Issued, now: datetime | None = None) -> Credential:
    return read_credential(issued.chain, issued.private_key, now or datetime.now(UTC))


def fingerprint(issued: Issued) -> str:
    return issued.certificates[0].fingerprint(hashes.SHA256()).hex()


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """An authority that the machine of the service trusts, and that receivers trust."""
    made = Authority()
    file = tmp_path / "machine.pem"
    file.write_bytes(made.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    return made


@pytest.fixture
async def app(authority: Authority, app: App) -> App:
    """A service on a machine that trusts the authority."""
    return app


@pytest.fixture
async def demanding(tmp_path: Path, authority: Authority) -> AsyncIterator[Recorder]:
    """A receiver that demands a certificate of the authority."""
    async with recorder(tls=authority.server(tmp_path, "127.0.0.1", clients=authority)) as made:
        yield made


async def test_deliveries_show_the_certificate_that_the_connection_was_given(
    app: App, tenant: TenantId, demanding: Recorder, authority: Authority, owner: asyncpg.Connection
) -> None:
    issued = authority.issue()
    made = await connect(app, tenant, demanding.url(), client_certificate=credential(issued))
    assert made.connection.client_certificate is not None
    assert made.connection.client_certificate.fingerprint == fingerprint(issued)
    await publish(app, tenant)
    await settled(owner, 1)
    assert [one.shown for one in demanding.received] == [fingerprint(issued)]

    row = await owner.fetchrow("select * from connections")
    assert row is not None
    everything = repr(row) + str(await owner.fetch("select * from audit_entries"))
    secret = issued.private_key.splitlines()[1]
    for hidden in (secret, "PRIVATE KEY", "BEGIN CERTIFICATE", "CN=customhouse"):
        assert hidden not in everything
    assert b"PRIVATE" not in row["client_key_sealed"]
    assert b"CERTIFICATE" not in row["client_certificate_sealed"]
    assert row["certificate_expires_at"] == issued.certificates[0].not_valid_after_utc
    detail = await owner.fetchval("select detail::text from audit_entries where tag = 'connection.created'")
    assert fingerprint(issued) in detail


async def test_without_a_certificate_with_a_strangers_and_with_one_taken_away_nothing_arrives(
    app: App, tenant: TenantId, demanding: Recorder, authority: Authority, owner: asyncpg.Connection
) -> None:
    stranger = Authority("stranger").issue()
    made = await connect(app, tenant, demanding.url())
    connection_id = made.connection.connection_id
    for turn, wished in enumerate((None, credential(stranger), None), 1):
        await app.endpoints.change(tenant, connection_id, Change(client_certificate=wished), SYSTEM)
        await publish(app, tenant)

        async def tried(turn: int = turn) -> bool:
            return bool(await owner.fetchval("select count(*) = $1 from attempts where outcome = 'retrying'", turn))

        await until(tried)
    assert demanding.received == []
    errors = {row["error"] for row in await owner.fetch("select error from attempts")}
    assert errors <= {"tls_failed", "connection_lost"}
    right = authority.issue()
    changed = await app.endpoints.change(tenant, connection_id, Change(client_certificate=credential(right)), SYSTEM)
    assert changed.connection.client_certificate is not None
    await hasten(owner)
    await demanding.wait_for(3)
    assert {one.shown for one in demanding.received} == {fingerprint(right)}


async def test_a_new_certificate_takes_over_and_other_changes_keep_it(
    app: App, tenant: TenantId, demanding: Recorder, authority: Authority, owner: asyncpg.Connection
) -> None:
    first, second = authority.issue("first"), authority.issue("second")
    made = await connect(app, tenant, demanding.url(), client_certificate=credential(first))
    connection_id = made.connection.connection_id
    sealed = await owner.fetchval("select client_key_sealed from connections")
    await app.endpoints.change(tenant, connection_id, Change(description="kept", retry_schedule=(60,)), SYSTEM)
    assert await owner.fetchval("select client_key_sealed from connections") == sealed, "the key is not even opened"
    await publish(app, tenant)
    await demanding.wait_for(1)
    await app.endpoints.change(tenant, connection_id, Change(client_certificate=credential(second)), SYSTEM)
    await publish(app, tenant)
    await demanding.wait_for(2)
    assert [one.shown for one in demanding.received] == [fingerprint(first), fingerprint(second)]


async def test_two_tenants_with_one_receiver_are_told_apart(
    app: App, demanding: Recorder, authority: Authority, owner: asyncpg.Connection
) -> None:
    shown = {}
    for name in ("acme", "other"):
        tenant = await make_tenant(app, name)
        issued = authority.issue(name)
        shown[f"/{name}"] = fingerprint(issued)
        await connect(app, tenant, demanding.url(f"/{name}"), client_certificate=credential(issued))
        for _ in range(3):
            await publish(app, tenant)
    await settled(owner, 6)
    assert {(one.path, one.shown) for one in demanding.received} == set(shown.items())
    assert len(demanding.received) == 6


@pytest.mark.parametrize(
    "edit",
    [
        "client_certificate_sealed = null, client_key_sealed = null, certificate_expires_at = null",
        "(client_certificate_sealed, client_key_sealed) = (select o.client_certificate_sealed, o.client_key_sealed from other o)",
        "client_key_sealed = client_certificate_sealed",
    ],
    ids=["taken away", "of another tenant", "swapped"],
)
async def test_a_certificate_that_was_moved_by_hand_sends_nothing(
    app: App, tenant: TenantId, demanding: Recorder, authority: Authority, owner: asyncpg.Connection, edit: str
) -> None:
    other = await make_tenant(app, "other")
    for one in (tenant, other):
        await connect(app, one, demanding.url(), client_certificate=credential(authority.issue(one)))
    other_row = "with other as (select * from connections where tenant_id = 'other')"
    await owner.execute(f"{other_row} update connections set {edit} where tenant_id = 'acme'")
    app.rosters.forget()
    assert (await publish(app, tenant)).deliveries == ()
    assert len((await publish(app, other)).deliveries) == 1


async def test_a_certificate_goes_with_https_only(app: App, tenant: TenantId, demanding: Recorder, authority: Authority) -> None:
    given = credential(authority.issue())
    with pytest.raises(Invalid) as caught:
        await connect(app, tenant, "http://127.0.0.1:9/", client_certificate=given)
    assert [fault.pointer for fault in caught.value.faults] == ["/client_certificate"]
    made = await connect(app, tenant, demanding.url(), client_certificate=given)
    with pytest.raises(Invalid) as caught:
        await app.endpoints.change(tenant, made.connection.connection_id, Change(url="http://127.0.0.1:9/"), SYSTEM)
    assert [fault.pointer for fault in caught.value.faults] == ["/client_certificate"]


async def test_disconnecting_destroys_certificate_and_key(
    app: App, tenant: TenantId, demanding: Recorder, authority: Authority, owner: asyncpg.Connection
) -> None:
    made = await connect(app, tenant, demanding.url(), client_certificate=credential(authority.issue()))
    await app.endpoints.disconnect(tenant, made.connection.connection_id, SYSTEM)
    row = await owner.fetchrow("select client_certificate_sealed, client_key_sealed, certificate_expires_at from connections")
    assert tuple(row or ()) == (None, None, None)
    assert (await app.endpoints.get(tenant, made.connection.connection_id)).client_certificate is None


# The end of a certificate ----------------------------------------------------------------------------------------------------


async def test_a_certificate_near_its_end_is_told_once_and_its_successor_again(
    app: App, tenant: TenantId, receiver: Recorder, authority: Authority, owner: asyncpg.Connection
) -> None:
    await connect(app, PLATFORM, receiver.url(), event_types=("customhouse.connection.certificate_expiring",))
    near, far = authority.issue(end=timedelta(days=20)), authority.issue(end=timedelta(days=90))
    made = await connect(app, tenant, "https://127.0.0.1:9/", client_certificate=credential(near))
    fresh = await connect(app, tenant, "https://127.0.0.1:9/", client_certificate=credential(far))
    assert (made.connection.certificate_state, fresh.connection.certificate_state) == ("expiring", "valid")
    assert [await app.certificates.tell_due() for _ in range(2)] == [1, 0]
    (told,) = await receiver.wait_for(1)
    assert ids.show("con", made.connection.connection_id).encode() in told.body
    assert near.certificates[0].not_valid_after_utc.isoformat().encode() in told.body
    assert await owner.fetchval("select count(*) from audit_entries where tag = 'certificate.expiring'") == 1
    next_one = authority.issue(end=timedelta(days=25))
    await app.endpoints.change(tenant, made.connection.connection_id, Change(client_certificate=credential(next_one)), SYSTEM)
    assert [await app.certificates.tell_due() for _ in range(2)] == [1, 0]
    await receiver.wait_for(2)


async def test_a_certificate_that_has_ended_is_told_too_and_one_of_an_ended_connection_is_not(
    app: App, tenant: TenantId, authority: Authority
) -> None:
    ended = authority.issue(end=timedelta(seconds=-60))
    before = datetime.now(UTC) - timedelta(hours=1)
    made = await connect(app, tenant, "https://127.0.0.1:9/", client_certificate=credential(ended, before))
    gone = await connect(app, tenant, "https://127.0.0.1:9/", client_certificate=credential(ended, before))
    await app.endpoints.disconnect(tenant, gone.connection.connection_id, SYSTEM)
    assert made.connection.certificate_state == "expired"
    assert await app.certificates.tell_due() == 1


async def test_one_tenant_whose_keys_are_away_holds_up_no_other(
    app: App, tenant: TenantId, authority: Authority, owner: asyncpg.Connection, settings: Settings
) -> None:
    near = credential(authority.issue(end=timedelta(days=2)))
    await connect(app, tenant, "https://127.0.0.1:9/", client_certificate=near)
    other = await make_tenant(app, "other")
    await connect(app, other, "https://127.0.0.1:9/", client_certificate=near)
    await owner.execute("update tenant_keys set wrapped = '\\x00' where tenant_id = 'acme'")
    async with running(settings) as fresh:
        assert await fresh.certificates.tell_due() == 1
    told = await owner.fetch("select tenant_id from audit_entries where tag = 'certificate.expiring'")
    assert [row["tenant_id"] for row in told] == [other]


# Proxies ---------------------------------------------------------------------------------------------------------------------


async def test_no_delivery_goes_through_a_proxy_of_the_environment(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    async with recorder() as proxy, recorder() as plain, recorder(tls=authority.server(tmp_path, "127.0.0.1")) as secure:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            for spelled in (name, name.lower()):
                monkeypatch.setenv(spelled, proxy.url())
        for name in ("NO_PROXY", "no_proxy", "REQUEST_METHOD"):
            monkeypatch.delenv(name, raising=False)
        async with running(settings) as app:
            tenant = await make_tenant(app, "acme")
            for receiver in (plain, secure):
                await connect(app, tenant, receiver.url())
            await publish(app, tenant)
            await plain.wait_for(1)
            await secure.wait_for(1)
        assert proxy.received == []


async def test_a_certificate_of_a_connection_of_another_tenant_is_not_found(app: App, tenant: TenantId, authority: Authority) -> None:
    made = await connect(app, tenant, "https://127.0.0.1:9/", client_certificate=credential(authority.issue()))
    other = await make_tenant(app, "other")
    with pytest.raises(NotFound):
        await app.endpoints.change(other, made.connection.connection_id, Change(client_certificate=None), SYSTEM)
    assert (await app.endpoints.get(tenant, made.connection.connection_id)).client_certificate is not None
