"""The whole spine with its root key in AWS KMS, over HTTP and against strict providers: the key disabled midway, and enabled again.

Rulings §16: while the key service is away nothing is accepted or handed out, due deliveries wait without an attempt counted, a
disconnect still destroys what is held here, and the service says what it lacks; afterwards all of it goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import pytest

from customhouse import ids
from customhouse.app import App, Store
from customhouse.clock import SystemClock
from customhouse.config import load
from customhouse.errors import KeyServiceUnavailable
from customhouse.types import TenantId
from customhouse_receiver import MemoryReplayCache, Receiver
from customhouse_sandbox.stripe import keys
from tests.integration.connections.conftest import PUBLIC, RETURN, Browser, acme, browser
from tests.integration.connections.sandboxed import Desk, settle_in
from tests.integration.web.conftest import PLATFORM_KEY, Api, address, platform, problem
from tests.kms import World, moto, world_of
from tests.receivers import Recorder, status
from tests.sandboxes import NEEDED, Sandbox, running, stripe_key
from tests.scenes import hasten, settled, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
__all__ = ["acme", "address", "browser", "platform"]

ACME: Final = TenantId("acme")
EVENT: Final = {"event_type": "person.updated", "data": {"person": {"person_id": "p_4711", "work_email": "ada@example.com"}}}
AWAY: Final = "key_service_unavailable"


class LaterClock(SystemClock):
    """The machine's clock, with a monotonic time that can be moved on."""

    def __init__(self) -> None:
        self.later = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.later


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with moto() as found:
        yield world_of(*found, monkeypatch)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running(public_url=PUBLIC) as one:
        yield one


@pytest.fixture
def environ(environ: dict[str, str], world: World, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    said = {
        "KMS_KEY": f"aws:{world.arn}",
        "PROVIDERS_FILE": settle_in(sandbox, tmp_path, monkeypatch),
        "PLATFORM_KEY": PLATFORM_KEY,
        "PUBLIC_URL": PUBLIC,
        "RETURN_URLS": RETURN,
        "TOKEN_EXPORT": "on",
    }
    return environ | {f"CUSTOMHOUSE_{name}": value for name, value in said.items()}


@pytest.fixture
async def app(environ: dict[str, str]) -> AsyncIterator[App]:
    settings = load(environ)
    assert settings.database_url is not None
    app = await App.open(settings, Store(settings.database_url), LaterClock())
    try:
        await app.start()
        yield app
    finally:
        await app.stop()


def cold(app: App) -> None:
    """Let everything that was unwrapped be too old to be used."""
    assert isinstance(app.clock, LaterClock)
    app.clock.later += app.settings.kms_cache_ttl


async def token(api: Api, made: dict[str, Any]) -> httpx.Response:
    return await api("POST", f"/v1/connections/{made['connection_id']}/access-token")


def refused(answer: httpx.Response) -> None:
    """Hold that an answer says that the key service is away, and when to come again."""
    problem(answer, 503, AWAY)
    assert int(answer.headers["retry-after"]) > 0


async def test_a_root_key_that_is_disabled_midway_stops_the_whole_spine_and_loses_nothing(
    acme: Api, browser: Browser, app: App, world: World, sandbox: Sandbox, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    meet, zoom = Desk(acme, browser, sandbox, "google-meet"), Desk(acme, browser, sandbox, "zoom")
    kept, ended = await meet.connected(), await zoom.connected()
    key_id, key = stripe_key(sandbox)
    charged = (await acme("POST", "/v1/connections", {"provider": "stripe", "credentials": {"api_key": key}})).json()
    assert charged["status"] == "active"
    endpoint = (await acme("POST", "/v1/connections", {"provider": "webhook", "url": receiver.url("/hook")})).json()
    assert (await token(acme, kept)).json()["access_token"] in meet.live()
    assert (await token(acme, ended)).json()["access_token"] in zoom.live()
    await app.refresher.renew(ACME, ids.parse("con", ended["connection_id"]), generation=1)
    first = (await acme("POST", "/v1/events", EVENT)).json()
    await settled(owner, 1)
    receiver.answer = status(500)
    second = (await acme("POST", "/v1/events", EVENT)).json()

    async def waits() -> bool:
        return bool(await owner.fetchval("select count(*) = 1 from delivery_queue where owner is null and attempts = 1"))

    await until(waits)

    second_key = (await acme("POST", "/v1/api-keys", {"name": "second", "scopes": ["audit:read"]})).json()

    # Within the cache time an outage is not noticed.
    world.client.disable_key(KeyId=world.key_id)
    assert (await token(acme, kept)).status_code == 200
    cold(app)
    known = await owner.fetchrow("select (select count(*) from events) as events, (select count(*) from connections) as connections")
    renewals = zoom.calls("refresh")

    refused(await acme("POST", "/v1/events", EVENT))
    refused(await token(acme, kept))
    refused(await token(acme, ended))
    refused(await acme("POST", "/v1/connections", {"provider": "webhook", "url": receiver.url("/other")}))
    other = {"credentials": {"api_key": stripe_key(sandbox)[1]}}
    refused(await acme("POST", "/v1/connections", {"provider": "stripe", **other}))
    refused(await acme("POST", f"/v1/connections/{charged['connection_id']}/credentials", other))
    refused(await acme("POST", "/v1/connect-sessions", {"provider": "zoom", "user": {"id": "u2"}}))
    with pytest.raises(KeyServiceUnavailable):
        await app.refresher.renew(ACME, ids.parse("con", ended["connection_id"]), generation=2)
    assert zoom.calls("refresh") == renewals
    assert await owner.fetchrow("select (select count(*) from events), (select count(*) from connections)") == tuple(known)
    ready = await acme("GET", "/readyz")
    assert ready.status_code == 503
    assert [one["name"] for one in ready.json()["checks"] if not one["ok"]] == ["key_service"]

    # Who calls is still known, and who has ended is not let in.
    problem(await acme.as_key("ck_" + "x" * 43)("GET", "/v1/connections"), 401, "unauthenticated")
    assert (await acme.as_key(second_key["api_key"])("GET", "/v1/audit")).status_code == 200
    assert (await acme("DELETE", f"/v1/api-keys/{second_key['key_id']}")).status_code in {200, 204}
    problem(await acme.as_key(second_key["api_key"])("GET", "/v1/audit"), 401, "unauthenticated")

    # What is due waits, and no attempt is counted.
    attempts = await owner.fetchval("select count(*) from attempts")
    lease = await owner.fetchval("select sum(lease) from delivery_queue")
    await hasten(owner)

    async def was_claimed_and_given_back() -> bool:
        return bool(await owner.fetchval("select sum(lease) >= $1 + 2 and bool_and(owner is null) from delivery_queue", lease))

    await until(was_claimed_and_given_back)
    assert await owner.fetchval("select count(*) from attempts") == attempts

    # What is known of keys stays as it was.
    keys.change(sandbox.realms["stripe"], key_id, {**NEEDED, "refund": "write"})
    await owner.execute("update pasted_keys set next_check_at = now()")
    await app.rechecking.due()
    assert (await owner.fetchval("select status from connections where provider = 'stripe'")) == "active"

    # A disconnect does all that can be done here.
    answer = await acme("DELETE", f"/v1/connections/{ended['connection_id']}")
    assert answer.status_code == 200, answer.text
    receipt = answer.json()
    assert receipt["revocation"]["status"] == "pending"
    assert (receipt["tokens_destroyed"], receipt["escrow_until"] is not None) == (False, True)
    assert (
        await owner.fetchval("select count(*) from integration_tokens where connection_id = $1", ids.parse("con", ended["connection_id"]))
        == 0
    )
    problem(await token(acme, ended), 409, "connection_ended")
    assert zoom.live() != set()

    world.client.enable_key(KeyId=world.key_id)
    receiver.answer = status(204)

    async def accepts() -> bool:
        return (await acme("POST", "/v1/events", EVENT)).status_code == 202

    await until(accepts)
    await hasten(owner)
    await settled(owner, 3)
    assert await owner.fetchval("select max(attempt) from attempts") == 2
    assert (await token(acme, kept)).json()["access_token"] in meet.live()
    await owner.execute("update revocation_escrow set next_at = now()")
    await app.revoker.end_due()
    receipt = (await acme("GET", f"/v1/connections/{ended['connection_id']}/receipt")).json()
    assert (receipt["revocation"]["status"], receipt["revocation"]["verified"]) == ("revoked", True)
    assert (receipt["tokens_destroyed"], receipt["key_destroyed"], zoom.live()) == (True, True, set())
    await owner.execute("update pasted_keys set next_check_at = now()")
    await app.rechecking.due()
    assert (await acme("GET", f"/v1/connections/{charged['connection_id']}")).json()["status"] == "disabled"
    assert (await acme("POST", f"/v1/connections/{charged['connection_id']}/credentials", other)).json()["status"] == "active"
    again = await zoom.connected()
    assert (await token(acme, again)).status_code == 200
    cold(app)  # what was seen of the key service is told for a few seconds
    assert (await acme("GET", "/readyz")).status_code == 200

    customer = Receiver(
        secrets={endpoint["secrets"]["signing"]["key_id"]: endpoint["secrets"]["signing"]["secret"]}, replay=MemoryReplayCache()
    )
    seen = set()
    for one in receiver.received:
        event = customer.verify(one.headers, one.body)
        event.done()  # the second attempt is known as one
        seen.add(event.event_id)
    assert {first["event_id"], second["event_id"]} < seen
    assert len(seen) == 3
    asked = [(operation, call["EncryptionContext"]["tenant_id"]) for operation, call in world.warden.calls if "EncryptionContext" in call]
    assert {tenant for _, tenant in asked} == {"acme", "_platform"}
    # One key of a tenant stands for all of its connections: what was sealed and opened is far more than what the key service was asked.
    assert asked.count(("GenerateDataKey", "acme")) == 1
