"""Each fault that can be ordered, and that it ends when it should."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from customhouse_sandbox import FaultKind, Operation
from customhouse_sandbox.faults import MEANING
from tests.sandboxes import Peer

pytestmark = pytest.mark.anyio


async def test_a_slow_answer_has_its_effect_after_the_time(peer: Peer) -> None:
    reply = await peer.connect()
    peer.sandbox.order(peer.application.key, FaultKind.SLOW, Operation.REFRESH, seconds=0.05)
    before = asyncio.get_running_loop().time()
    assert (await peer.refresh(reply["refresh_token"])).status_code == httpx.codes.OK
    assert asyncio.get_running_loop().time() - before >= 0.05


async def test_a_held_call_has_its_effect_when_it_is_let_go(peer: Peer) -> None:
    reply = await peer.connect()
    fault = peer.sandbox.order(peer.application.key, FaultKind.HOLD, Operation.REFRESH)
    async with asyncio.TaskGroup() as group:
        held = group.create_task(peer.refresh(reply["refresh_token"]))
        await peer.sandbox.holding(fault)
        assert not held.done()
        assert len(peer.sandbox.tokens(peer.application.key)) == 2
        peer.sandbox.release()
    assert held.result().status_code == httpx.codes.OK


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_status_comes_without_the_effect(peer: Peer, status: int) -> None:
    reply = await peer.connect()
    peer.sandbox.order(peer.application.key, FaultKind.STATUS, Operation.REFRESH, status=status, retry_after=7)
    answer = await peer.refresh(reply["refresh_token"])
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
    assert (await peer.refresh(reply["refresh_token"])).status_code == httpx.codes.OK


async def test_a_lost_reply_leaves_the_effect_behind(zoom: Peer) -> None:
    reply = await zoom.connect()
    zoom.sandbox.order("zoom", FaultKind.LOST, Operation.REFRESH)
    with pytest.raises(httpx.TransportError):
        await zoom.refresh(reply["refresh_token"])
    assert (await zoom.refresh(reply["refresh_token"])).json()["error_code"] == 4740
    assert [call.status for call in zoom.sandbox.calls if call.operation == "refresh"] == [0, 400]


async def test_a_call_that_is_not_reached_leaves_no_effect(zoom: Peer) -> None:
    reply = await zoom.connect()
    zoom.sandbox.order("zoom", FaultKind.UNREACHED, Operation.REFRESH)
    with pytest.raises(httpx.TransportError):
        await zoom.refresh(reply["refresh_token"])
    assert (await zoom.refresh(reply["refresh_token"])).status_code == httpx.codes.OK


async def test_an_invalid_grant_can_be_claimed_although_the_grant_lives(peer: Peer) -> None:
    reply = await peer.connect()
    peer.sandbox.order(peer.realm.name, FaultKind.INVALID_GRANT, Operation.REFRESH)
    answer = await peer.refresh(reply["refresh_token"])
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert (await peer.refresh(reply["refresh_token"])).status_code == httpx.codes.OK


async def test_scopes_can_be_left_unsaid(peer: Peer) -> None:
    peer.sandbox.order(peer.realm.name, FaultKind.SCOPE_MISSING, Operation.EXCHANGE)
    assert "scope" not in await peer.connect()
    assert "scope" in await peer.connect("grace")


async def test_a_token_reply_can_leave_out_whose_it_is(gmail: Peer) -> None:
    gmail.sandbox.order("gmail", FaultKind.ACCOUNT_MISSING, Operation.EXCHANGE)
    assert "id_token" not in await gmail.connect()
    assert "id_token" in await gmail.connect("grace")


async def test_more_scopes_than_asked_are_really_granted(gmail: Peer) -> None:
    gmail.sandbox.order("gmail", FaultKind.SCOPE_MORE, scopes=["https://mail.google.com/"])
    reply = await gmail.connect(scope="openid email")
    assert reply["scope"].split()[-1] == "https://mail.google.com/"
    assert gmail.sandbox.grants("gmail")[0].scopes == ("openid", "email", "https://mail.google.com/")


async def test_fewer_scopes_than_asked_are_granted(zoom: Peer) -> None:
    zoom.sandbox.order("zoom", FaultKind.SCOPE_FEWER, scopes=["user:read:user"])
    reply = await zoom.connect()
    assert "user:read:user" not in reply["scope"].split()
    assert (await zoom.me(reply["access_token"])).json()["code"] == 4711


async def test_a_refresh_token_can_be_missing(peer: Peer) -> None:
    peer.sandbox.order(peer.realm.name, FaultKind.REFRESH_TOKEN_MISSING)
    assert "refresh_token" not in await peer.connect()
    assert "refresh_token" in await peer.connect("grace")


async def test_an_answer_can_be_anything(peer: Peer) -> None:
    peer.sandbox.order(peer.realm.name, FaultKind.REPLY, Operation.EXCHANGE, body="<html>", status=200)
    assert (await peer.exchange(await peer.code())).text == "<html>"


async def test_too_many_calls_name_the_seconds_to_wait(peer: Peer) -> None:
    access = (await peer.connect())["access_token"]
    peer.sandbox.order(peer.realm.name, FaultKind.RATE_LIMITED, retry_after=3)
    answer = await peer.me(access)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert (await peer.me(access)).status_code == httpx.codes.OK


@pytest.mark.parametrize(("fact", "status"), [("429", 429), ("403", 403)])
async def test_google_limits_in_the_form_that_its_fact_says(gmail: Peer, fact: str, status: int) -> None:
    gmail.sandbox.set_fact("google", "rate_limit", fact)
    gmail.sandbox.order("google", FaultKind.RATE_LIMITED)
    answer = await gmail.me((await gmail.connect())["access_token"])
    reasons = [error["reason"] for error in answer.json()["error"]["errors"]]
    assert (answer.status_code, reasons) == (status, ["rateLimitExceeded" if fact == "429" else "userRateLimitExceeded"])


async def test_an_order_for_one_integration_leaves_its_neighbours_alone(gmail: Peer, calendar: Peer) -> None:
    gmail.sandbox.order("gmail", FaultKind.STATUS, Operation.EXCHANGE, status=500)
    await calendar.connect()
    assert (await gmail.exchange(await gmail.code())).status_code == 500
    await gmail.connect()


async def test_an_order_counts_its_calls_and_can_stand_until_it_is_cleared(peer: Peer) -> None:
    access = (await peer.connect())["access_token"]
    peer.sandbox.order(peer.realm.name, FaultKind.STATUS, Operation.IDENTITY, times=2, status=500)
    assert [(await peer.me(access)).status_code for _ in range(3)] == [500, 500, 200]
    peer.sandbox.order(peer.realm.name, FaultKind.STATUS, Operation.IDENTITY, times=None, status=500)
    assert [(await peer.me(access)).status_code for _ in range(4)] == [500] * 4
    peer.sandbox.clear()
    assert (await peer.me(access)).status_code == 200


async def test_several_orders_work_on_one_call(peer: Peer) -> None:
    peer.sandbox.order(peer.realm.name, FaultKind.SCOPE_MISSING)
    peer.sandbox.order(peer.realm.name, FaultKind.REFRESH_TOKEN_MISSING)
    assert not {"scope", "refresh_token"} & set(await peer.connect())


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (FaultKind.SLOW, {}),
        (FaultKind.SLOW, {"seconds": "soon"}),
        (FaultKind.SLOW, {"seconds": -1}),
        (FaultKind.STATUS, {}),
        (FaultKind.STATUS, {"status": 99}),
        (FaultKind.REPLY, {}),
        (FaultKind.SCOPE_MORE, {"scopes": "one"}),
        (FaultKind.LOST, {"colour": "red"}),
        (FaultKind.LOST, {"times": 0}),
    ],
)
async def test_an_order_that_cannot_be_meant_is_refused(zoom: Peer, kind: FaultKind, values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        zoom.sandbox.order("zoom", kind, **values)  # type: ignore[arg-type]
    assert not zoom.realm.faults.waiting


async def test_an_order_for_an_operation_that_it_never_reaches_is_refused(zoom: Peer) -> None:
    with pytest.raises(ValueError, match="revocation_lies"):
        zoom.sandbox.order("zoom", FaultKind.REVOCATION_LIES, Operation.EXCHANGE)


def test_every_fault_says_what_it_does() -> None:
    assert set(MEANING) == set(FaultKind)
