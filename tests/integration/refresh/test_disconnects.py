"""What a renewal that came to no good end means for a disconnect: its receipt claims no more than what was seen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from uuid import UUID

import asyncpg
import pytest

from customhouse.app import App
from customhouse.audit.log import SYSTEM, Origin
from customhouse.connections.confirming import Confirming
from customhouse.connections.speaking import Renewal, Speaker
from customhouse.egress.fetching import Fetcher
from customhouse.errors import ConnectRefused, ReauthorizationRequired, TokenUnavailable
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.manifest import Provider
from customhouse.providers.replies import TokenReply
from customhouse.types import Secret, TenantId
from customhouse_sandbox.faults import FaultKind, Operation
from customhouse_sandbox.state import Kind
from tests.connected import connect
from tests.integration.refresh.scene import reply
from tests.sandboxes import Sandbox

pytestmark = pytest.mark.anyio


@pytest.fixture
async def zoom(app: App, tenant: TenantId) -> UUID:
    return await connect(app, tenant, "zoom")


class NotConfirmed(Exception):
    """The host has not said who it was."""


class Silent(Confirming):
    """The word of a host that says nothing."""

    def __init__(self) -> None:
        """Take nothing: nothing is done."""

    async def confirm(self, tenant: TenantId, session_id: UUID, user_id: str, origin: Origin) -> UUID:
        raise NotConfirmed


class Slow(Speaker):
    """Its answers to refreshes are on the way until they may arrive."""

    def __init__(self, catalogue: Catalogue, fetcher: Fetcher) -> None:
        super().__init__(catalogue, fetcher)
        self.answered, self.arrives = asyncio.Event(), asyncio.Event()

    async def refresh(self, provider: Provider, token: Secret, scopes: Iterable[str]) -> Renewal:
        said = await super().refresh(provider, token, scopes)
        self.answered.set()
        await self.arrives.wait()
        return said


def live(sandbox: Sandbox) -> int:
    """Return how many tokens the provider still takes."""
    return sum(token.is_live(sandbox.clock.now()) for token in sandbox.tokens("zoom"))


async def run_out(sandbox: Sandbox, owner: asyncpg.Connection) -> None:
    """Let every access token be too old."""
    sandbox.expire("zoom", Kind.ACCESS)
    await owner.execute("update integration_tokens set access_expires_at = now()")


async def test_the_refusal_of_a_token_that_we_may_have_spent_proves_nothing(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    """The provider renewed, and its answer was lost: our refresh token is refused, and the grant lives."""
    await run_out(sandbox, owner)
    sandbox.order("zoom", FaultKind.LOST, Operation.REFRESH)
    with pytest.raises(TokenUnavailable):
        await app.refresher.renew(tenant, zoom, generation=1)
    receipt = await app.ending.disconnect(tenant, zoom, SYSTEM)
    assert live(sandbox), "the receipt must not claim what is not so"
    assert (receipt.status, receipt.verified) == ("pending", False)


async def test_what_a_renewal_brings_after_the_disconnect_is_what_is_revoked(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    """The provider has renewed, and its answer is on the way while the connection ends."""
    await run_out(sandbox, owner)
    slow = Slow(app.catalogue, app.refresher._renewing._speaker._fetcher)
    app.refresher._renewing._speaker = slow
    reader = asyncio.create_task(app.refresher.renew(tenant, zoom, generation=1))
    await slow.answered.wait()
    receipt = await app.ending.disconnect(tenant, zoom, SYSTEM)
    assert live(sandbox)
    assert (receipt.status, receipt.verified) == ("pending", False)
    slow.arrives.set()
    await asyncio.wait({reader})
    await owner.execute("update revocation_escrow set next_at = now()")
    await app.revoker.end_due()
    receipt = await app.receipts.get(tenant, zoom)
    assert (receipt.status, receipt.verified, receipt.tokens_destroyed, receipt.key_destroyed) == ("revoked", True, True, True)
    assert not live(sandbox)
    assert await owner.fetchval("select count(*) from revocation_escrow") == 0


class Locking(Speaker):
    """After its last question somebody holds the sessions, until they are let go."""

    def __init__(self, catalogue: Catalogue, fetcher: Fetcher, owner: asyncpg.Connection) -> None:
        super().__init__(catalogue, fetcher)
        self.owner = owner

    async def granted(self, provider: Provider, reply: TokenReply) -> tuple[str, ...] | None:
        said = await super().granted(provider, reply)
        await self.owner.execute("begin; lock connect_sessions in exclusive mode")
        return said


async def test_a_disconnect_between_the_look_and_the_writing_ends_the_new_grant_too(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    """Kept for a connection that has ended, the grant would live for ever, and others that share it could not end it."""
    app.returning._speaker = Locking(app.catalogue, app.returning._speaker._fetcher, owner)
    again = asyncio.create_task(connect(app, tenant, "zoom", renews=zoom))
    while not await owner.fetchval(
        "select count(*) from pg_locks where not granted and relation = 'customhouse.connect_sessions'::regclass"
    ):
        await asyncio.sleep(0.01)
    await app.ending.disconnect(tenant, zoom, SYSTEM)
    await owner.execute("commit")
    with pytest.raises(ConnectRefused) as refused:
        await again
    assert refused.value.reason == "connection_ended"
    assert await owner.fetchval("select count(*) from pending_grants") == 0
    assert not live(sandbox)


async def test_a_new_grant_whose_key_was_destroyed_does_not_wait_for_ever(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    """A renewal that may not be kept ends the connection, and its key, while its user comes back with a new consent."""
    other = await connect(app, tenant, "zoom")
    app.confirming = Silent()
    with pytest.raises(NotConfirmed):
        await connect(app, tenant, "zoom", renews=zoom)
    reply(sandbox, "zoom", scope="user:read:user meeting:write")
    with pytest.raises(ReauthorizationRequired):
        await app.refresher.renew(tenant, zoom, generation=1)
    await owner.execute("update connect_sessions set deadline = now() - interval '1 second' where state = 'granted'")
    await app.sweeping.sessions()
    assert await owner.fetchval("select count(*) from pending_grants") == 0
    receipt = await app.ending.disconnect(tenant, other, SYSTEM)
    assert not receipt.shared


async def test_an_exchange_that_was_lost_is_settled_after_its_connection_has_ended(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    sandbox.order("zoom", FaultKind.UNREACHED, Operation.EXCHANGE)
    with pytest.raises(ConnectRefused):
        await connect(app, tenant, "zoom", renews=zoom)
    await app.ending.disconnect(tenant, zoom, SYSTEM)
    await owner.execute("update connect_sessions set deadline = now() - interval '1 second' where state = 'exchanging'")
    await app.sweeping.sessions()
    assert await owner.fetchval("select count(*) from connect_sessions where state = 'exchanging'") == 0
    assert await owner.fetchval("select count(*) from connect_exchanges") == 0
    assert not live(sandbox)
