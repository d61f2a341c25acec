"""Stripe's events: signed as Stripe's own library verifies them, listed for thirty days."""

from __future__ import annotations

import asyncio
import json

import pytest
import stripe as vendor

from customhouse_sandbox.outgoing import Outgoing
from customhouse_sandbox.sandbox import Sandbox
from customhouse_sandbox.stripe import hooks
from customhouse_sandbox.stripe.resources import put
from tests.sandboxes import Peer, stripe_key

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:9/hooks"


@pytest.fixture
def sandbox() -> Sandbox:
    # Without a port and without a postman: what would be sent is looked at where it is made.
    sandbox = Sandbox()
    sandbox.open(1)
    return sandbox


def made(sandbox: Sandbox, event: str = "customer.created", person: str = "ada") -> Outgoing:
    assert sandbox.notify("stripe", person, event, url=URL) == 1
    return sandbox.outbox.get_nowait()


def verified(outgoing: Outgoing, secret: str) -> bool:
    try:
        vendor.Webhook.construct_event(outgoing.body, dict(outgoing.headers)["Stripe-Signature"], secret)
    except vendor.SignatureVerificationError:
        return False
    return True


async def test_an_event_is_signed_so_that_stripes_own_library_takes_it(sandbox: Sandbox) -> None:
    secret = hooks.endpoint(sandbox.realms["stripe"], "ada")
    outgoing = made(sandbox)
    assert verified(outgoing, secret)
    assert not verified(outgoing, f"{secret}x")
    said = json.loads(outgoing.body)
    assert (said["object"], said["type"], said["livemode"], said["data"]["object"]["object"]) == (
        "event",
        "customer.created",
        False,
        "customer",
    )
    assert ",v0=" in dict(outgoing.headers)["Stripe-Signature"]
    assert set(sandbox.secrets()) >= {secret}


async def test_while_a_secret_is_rolled_both_sign_for_a_day(sandbox: Sandbox) -> None:
    realm = sandbox.realms["stripe"]
    old = hooks.endpoint(realm, "ada")
    new = hooks.endpoint(realm, "ada", rolled=True)
    assert old != new == hooks.endpoint(realm, "grace")
    outgoing = made(sandbox)
    assert [verified(outgoing, secret) for secret in (old, new)] == [True, True]
    sandbox.clock.advance(86_401)
    header = dict(made(sandbox).headers)["Stripe-Signature"]
    assert header.count("v1=") == 1


async def test_an_endpoint_that_was_made_by_the_api_has_a_secret_of_its_own(sandbox: Sandbox) -> None:
    realm = sandbox.realms["stripe"]
    dashboard = hooks.endpoint(realm, "ada")
    put(realm, realm.people["ada"].organisation, "webhook_endpoints", {"url": URL, "secret": "whsec_of_this_test"}, live=False)
    assert [verified(made(sandbox), secret) for secret in ("whsec_of_this_test", dashboard)] == [True, False]
    assert verified(made(sandbox, person="alan"), hooks.endpoint(realm, "alan"))


async def test_each_account_and_mode_has_a_secret_of_its_own(sandbox: Sandbox) -> None:
    realm = sandbox.realms["stripe"]
    secrets = [hooks.endpoint(realm, *whose) for whose in (("ada", "test"), ("ada", "live"), ("alan", "test"))]
    assert len(set(secrets)) == 3
    outgoing = made(sandbox, "live:invoice.paid")
    assert [verified(outgoing, secret) for secret in secrets] == [False, True, False]
    assert json.loads(outgoing.body)["livemode"] is True
    assert "v0=" not in dict(outgoing.headers)["Stripe-Signature"]


@pytest.mark.parametrize("event", ["account.application.deauthorized", "live", "half:customer.created", "x"])
async def test_an_event_that_there_is_not_is_refused(sandbox: Sandbox, event: str) -> None:
    with pytest.raises(ValueError, match="Stripe's events here are"):
        sandbox.notify("stripe", "ada", event, url=URL)


async def test_nobody_is_told_that_a_key_was_deleted(sandbox: Sandbox) -> None:
    sandbox.realms["stripe"].change("stripe", webhook_url=URL)
    stripe_key(sandbox)
    assert sandbox.withdraw("stripe", "ada") == 1
    assert sandbox.outbox.empty()


async def test_each_event_that_can_be_ordered_is_about_something(sandbox: Sandbox) -> None:
    for event in hooks.EVENTS:
        said = json.loads(made(sandbox, event).body)
        assert (said["type"], said["data"]["object"]["id"] != "") == (event, True)


async def test_what_changes_is_listed_as_events_for_thirty_days(sandbox: Sandbox) -> None:
    from customhouse_sandbox.serving import running
    from tests.sandboxes import client

    async with running() as listening, client() as browser:
        stripe = Peer(listening, "stripe", browser)
        key = stripe_key(listening, event="read")[1]
        name = (await stripe.send("POST", "/v1/customers", key, {"name": "A"}, idempotency_key="k1")).json()["id"]
        await stripe.send("POST", f"/v1/customers/{name}", key, {"name": "B"})
        found = (await stripe.send("GET", "/v1/events?type=customer.updated", key)).json()["data"]
        assert [one["data"] for one in found] == [{"object": found[0]["data"]["object"], "previous_attributes": {"name": "A"}}]
        born = (await stripe.send("GET", "/v1/events?type=customer.created", key)).json()["data"][0]
        assert (born["data"]["object"]["name"], born["request"]["idempotency_key"]) == ("A", "k1")
        assert (await stripe.send("GET", f"/v1/events/{born['id']}", key)).status_code == 200
        listening.clock.advance(31 * 86_400)
        assert (await stripe.send("GET", "/v1/events", key)).json()["data"] == []
        assert (await stripe.send("GET", f"/v1/events/{born['id']}", key)).status_code == 404


async def test_a_webhook_arrives(sandbox: Sandbox) -> None:
    from customhouse_sandbox.http import Reply, Request, Server

    received: asyncio.Queue[Request] = asyncio.Queue()

    async def take(request: Request) -> Reply:
        received.put_nowait(request)
        return Reply(200)

    server = Server(take)
    await server.start()
    postman = asyncio.create_task(sandbox.deliver())
    try:
        sandbox.notify("stripe", "ada", "invoice.paid", url=f"http://127.0.0.1:{server.port}/hooks", times=2)
        first, second = await received.get(), await received.get()
        assert first.body == second.body
        assert [one.accepted for one in await sandbox.delivered(2)] == [True, True]
    finally:
        postman.cancel()
        await asyncio.gather(postman, return_exceptions=True)
        await server.close()
