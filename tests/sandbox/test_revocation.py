"""Revocation: what it ends, what it answers afterwards, and the lie."""

from __future__ import annotations

import httpx
import pytest

from customhouse_sandbox import FaultKind
from tests.sandboxes import Peer, Sandbox

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["zoom", "gmail"])
def peer(request: pytest.FixtureRequest, sandbox: Sandbox, browser: httpx.AsyncClient) -> Peer:
    """One of each provider that ends a grant on request, as RFC 7009 has it."""
    return Peer(sandbox, request.param, browser)


async def ended(peer: Peer, reply: dict[str, str]) -> bool:
    """Tell whether both tokens are refused."""
    codes = ((await peer.me(reply["access_token"])).status_code, (await peer.refresh(reply["refresh_token"])).status_code)
    return codes == (httpx.codes.UNAUTHORIZED, httpx.codes.BAD_REQUEST)


async def test_revoking_the_access_token_ends_both(peer: Peer) -> None:
    reply = await peer.connect()
    assert (await peer.revoke(reply["access_token"])).status_code == httpx.codes.OK
    assert await ended(peer, reply)


@pytest.mark.parametrize("fact", ["access", "both"])
async def test_zoom_takes_a_refresh_token_where_its_fact_says_so(zoom: Peer, fact: str) -> None:
    zoom.sandbox.set_fact("zoom", "revoke_takes", fact)
    reply = await zoom.connect()
    answer = await zoom.revoke(reply["refresh_token"])
    assert answer.status_code == (httpx.codes.OK if fact == "both" else httpx.codes.BAD_REQUEST)
    assert zoom.sandbox.is_live(reply["access_token"]) is (fact == "access")


async def test_google_takes_either_token(gmail: Peer) -> None:
    reply = await gmail.connect()
    assert (await gmail.revoke(reply["refresh_token"])).status_code == httpx.codes.OK
    assert await ended(gmail, reply)


@pytest.mark.parametrize("fact", ["project", "grant"])
async def test_googles_revocation_reaches_as_far_as_its_fact_says(gmail: Peer, calendar: Peer, fact: str) -> None:
    gmail.sandbox.set_fact("google", "revoke_extent", fact)
    calendar.realm.change("google-calendar", project=gmail.application.project)
    one, other, bystander = await gmail.connect(), await calendar.connect(), await calendar.connect("grace")
    assert (await gmail.revoke(one["access_token"])).status_code == httpx.codes.OK
    assert await ended(gmail, one)
    assert gmail.sandbox.is_live(other["access_token"]) is (fact == "grant")
    assert gmail.sandbox.is_live(bystander["access_token"])


async def test_separate_projects_do_not_share_a_revocation(gmail: Peer, calendar: Peer) -> None:
    one, other = await gmail.connect(), await calendar.connect()
    await gmail.revoke(one["refresh_token"])
    assert gmail.sandbox.is_live(other["refresh_token"])


@pytest.mark.parametrize("fact", ["refused", "success"])
async def test_revoking_again_answers_what_its_fact_says(peer: Peer, fact: str) -> None:
    peer.sandbox.set_fact(peer.realm.name, "revoked_again", fact)
    token = (await peer.connect())["access_token"]
    assert (await peer.revoke(token)).status_code == httpx.codes.OK
    assert (await peer.revoke(token)).status_code == (httpx.codes.OK if fact == "success" else httpx.codes.BAD_REQUEST)


async def test_a_token_that_nobody_knows_cannot_be_revoked(peer: Peer) -> None:
    assert (await peer.revoke("nothing")).status_code == httpx.codes.BAD_REQUEST


async def test_google_wants_a_form(gmail: Peer) -> None:
    reply = await gmail.connect()
    answer = await gmail.browser.post(gmail.urls["revoke_url"], json={"token": reply["access_token"]})
    assert answer.status_code == httpx.codes.BAD_REQUEST
    assert gmail.sandbox.is_live(reply["access_token"])


async def test_zoom_wants_the_application_that_the_token_is_of(zoom: Peer) -> None:
    token = (await zoom.connect())["access_token"]
    assert (await zoom.post(zoom.urls["revoke_url"], {"token": token}, secret="wrong")).status_code == httpx.codes.UNAUTHORIZED
    assert zoom.sandbox.is_live(token)


async def test_a_revocation_that_lies_answers_200_and_revokes_nothing(peer: Peer) -> None:
    reply = await peer.connect()
    honest = await peer.connect("grace")
    peer.sandbox.order(peer.realm.name, FaultKind.REVOCATION_LIES)
    lie = await peer.revoke(reply["access_token"])
    truth = await peer.revoke(honest["access_token"])
    assert (lie.status_code, lie.content) == (truth.status_code, truth.content), "nobody can tell it from a true answer"
    assert (await peer.me(reply["access_token"])).status_code == httpx.codes.OK
    assert await ended(peer, honest)
