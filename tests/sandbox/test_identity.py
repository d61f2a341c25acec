"""Who somebody is: Zoom's `users/me`, Google's user info and id tokens."""

from __future__ import annotations

import base64
import json

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from customhouse_sandbox import FaultKind, Operation
from tests.sandboxes import Peer

pytestmark = pytest.mark.anyio


async def test_zoom_tells_account_and_user(zoom: Peer) -> None:
    ada, grace, alan = [(await zoom.me((await zoom.connect(login))["access_token"])).json() for login in ("ada", "grace", "alan")]
    assert (ada["email"], ada["display_name"]) == ("ada@example.com", "Ada Example")
    assert ada["account_id"] == grace["account_id"] != alan["account_id"]
    assert len({ada["id"], grace["id"], alan["id"]}) == 3


async def test_google_tells_the_domain_of_a_workspace_account_only(gmail: Peer) -> None:
    ada, alan = [(await gmail.me((await gmail.connect(login))["access_token"])).json() for login in ("ada", "alan")]
    assert (ada["id"], ada["hd"], ada["verified_email"]) == ("100000000000000000001", "example.com", True)
    assert "hd" not in alan


async def test_google_tells_only_what_the_scopes_open(gmail: Peer) -> None:
    access = (await gmail.connect(scope="openid"))["access_token"]
    assert set((await gmail.me(access)).json()) == {"id", "picture", "hd"}
    assert set((await gmail.get("/v1/userinfo", access)).json()) == {"sub", "picture", "hd"}
    blind = (await gmail.connect(scope="https://www.googleapis.com/auth/gmail.send"))["access_token"]
    assert (await gmail.me(blind)).status_code == httpx.codes.FORBIDDEN


@pytest.mark.parametrize("status", ["400", "401", "200"])
async def test_zoom_names_the_missing_scope_with_the_status_that_its_fact_says(zoom: Peer, status: str) -> None:
    zoom.sandbox.set_fact("zoom", "scope_error_status", status)
    answer = await zoom.me((await zoom.connect(scope="meeting:read:meeting"))["access_token"])
    assert answer.status_code == int(status)
    assert answer.json() == {"code": 4711, "message": "Invalid access token, does not contain scopes:[user:read:user]."}


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer nothing", "Basic eDp5"])
async def test_without_a_live_token_nothing_opens(peer: Peer, header: str) -> None:
    answer = await peer.browser.get(peer.urls["identity_url"], headers={"authorization": header})
    assert answer.status_code == httpx.codes.UNAUTHORIZED


async def test_a_refresh_token_opens_nothing(peer: Peer) -> None:
    assert (await peer.me((await peer.connect())["refresh_token"])).status_code == httpx.codes.UNAUTHORIZED


async def test_the_identity_can_be_missing(peer: Peer) -> None:
    access = (await peer.connect())["access_token"]
    peer.sandbox.order(peer.realm.name, FaultKind.IDENTITY_MISSING, Operation.IDENTITY)
    assert "id" not in (await peer.me(access)).json()
    assert "id" in (await peer.me(access)).json()


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


async def test_an_id_token_verifies_with_the_published_key(gmail: Peer) -> None:
    reply = await gmail.connect(nonce="of this test")
    key = (await gmail.browser.get(f"{gmail.realm.base}/oauth2/v3/certs")).json()["keys"][0]
    public = rsa.RSAPublicNumbers(int.from_bytes(decoded(key["e"])), int.from_bytes(decoded(key["n"]))).public_key()
    head, claims, signature = reply["id_token"].split(".")
    public.verify(decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
    assert json.loads(decoded(head)) == {"alg": "RS256", "kid": key["kid"], "typ": "JWT"}
    said = json.loads(decoded(claims))
    expected = {"iss": "https://accounts.google.com", "aud": gmail.application.id, "sub": "100000000000000000001", "nonce": "of this test"}
    assert expected.items() <= said.items()
    assert said["exp"] - said["iat"] == 3600


async def test_no_id_token_without_openid(gmail: Peer) -> None:
    assert "id_token" not in await gmail.connect(scope="email")
