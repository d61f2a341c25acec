"""What we say and understand of OAuth, against a certified server that we did not write: declared in TOML as any user would."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from customhouse.providers import calls
from customhouse.providers.calls import Call, Client
from customhouse.providers.declared import read
from customhouse.providers.failures import Failure
from customhouse.providers.manifest import Provider
from customhouse.providers.replies import Account, TokenReply, parse_identity, parse_introspection, parse_token_reply
from customhouse.providers.scopes import Verdict, compare
from customhouse.providers.vocabulary import Kind, Mode, Step
from customhouse.types import Secret
from tests.oidc.peer import PROVIDER, Peer, consent

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Flow:
    """One flow of ours with the peer, call by call."""

    peer: Peer
    provider: Provider
    client: Client
    http: httpx.AsyncClient
    verifier: Secret
    state: str

    def authorize_url(self, mode: Mode = Mode.OBSERVE) -> str:
        """Return where the browser is sent."""
        return calls.authorize_url(
            self.provider, self.client, mode=mode, redirect=self.peer.redirect, state=self.state, verifier=self.verifier
        )

    async def arrive(self, mode: Mode = Mode.OBSERVE, *, allow: list[str] | None = None, deny: bool = False) -> dict[str, str]:
        """Return what the browser brings back."""
        arrived = urlsplit(await consent(self.authorize_url(mode), self.peer.redirect, allow=allow, deny=deny))
        return {name: values[0] for name, values in parse_qs(arrived.query).items()}

    async def send(self, call: Call) -> httpx.Response:
        """Send one of our calls as it is."""
        headers = call.headers()
        if call.authorization is not None:
            headers["authorization"] = call.authorization.reveal().decode()
        return await self.http.request(call.method, call.url, headers=headers, content=call.body.reveal())

    async def exchange(self, code: str, verifier: Secret | None = None) -> TokenReply | Failure:
        """Turn a code into tokens."""
        call = calls.exchange(
            self.provider, self.client, code=Secret(code.encode()), redirect=self.peer.redirect, verifier=verifier or self.verifier
        )
        answer = await self.send(call)
        return parse_token_reply(self.provider, Step.EXCHANGE, answer.status_code, answer.content, answer.headers)

    async def refresh(self, token: Secret) -> TokenReply | Failure:
        """Renew."""
        answer = await self.send(calls.refresh(self.provider, self.client, token=token))
        return parse_token_reply(self.provider, Step.REFRESH, answer.status_code, answer.content, answer.headers, shown=token)

    async def identity(self, access: Secret) -> Account | Failure:
        """Ask who was connected; so does the probe of a revocation."""
        call = calls.identity(self.provider, self.client, access=access)
        assert call is not None
        answer = await self.send(call)
        return parse_identity(self.provider, answer.status_code, answer.content)

    async def connected(self, mode: Mode = Mode.OBSERVE, *, allow: list[str] | None = None) -> TokenReply:
        """Return the tokens of a whole flow."""
        arrived = await self.arrive(mode, allow=allow)
        reply = await self.exchange(arrived["code"])
        assert isinstance(reply, TokenReply)
        return reply


@pytest.fixture
async def flow(peer: Peer) -> AsyncIterator[Flow]:
    catalogue = read(peer.toml().encode(), lambda _place: Secret(peer.client_secret.encode()), https_required=False)
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        yield Flow(
            peer,
            catalogue.get(PROVIDER),
            catalogue.client(PROVIDER),
            http,
            Secret(secrets.token_urlsafe(48).encode()),
            secrets.token_urlsafe(32),
        )


async def test_a_whole_flow_gives_what_was_asked_for_and_says_who_was_connected(flow: Flow) -> None:
    arrived = await flow.arrive()
    assert arrived["state"] == flow.state
    assert calls.issuer_fits(flow.provider, arrived["iss"])
    assert not calls.issuer_fits(flow.provider, arrived["iss"] + "/")
    reply = await flow.exchange(arrived["code"])
    assert isinstance(reply, TokenReply)
    assert reply.refresh_token is not None
    assert reply.expires_in == 600
    assert compare(flow.provider, Mode.OBSERVE, reply.scopes).verdict is Verdict.SAME
    assert await flow.identity(reply.access_token) == Account("ada", "ada@peer.example")


async def test_acting_asks_for_the_union_of_scopes(flow: Flow) -> None:
    reply = await flow.connected(Mode.ACT)
    assert set(reply.scopes or ()) == {"openid", "read", "write"}
    assert compare(flow.provider, Mode.ACT, reply.scopes).verdict is Verdict.SAME


async def test_scopes_that_the_user_unticked_are_missing_by_name(flow: Flow) -> None:
    reply = await flow.connected(Mode.ACT, allow=["openid", "read"])
    found = compare(flow.provider, Mode.ACT, reply.scopes)
    assert (found.verdict, found.missing, found.acceptable) == (Verdict.FEWER, ("write",), True)


async def test_more_than_the_mode_declares_is_not_acceptable(flow: Flow) -> None:
    reply = await flow.connected(Mode.ACT)
    found = compare(flow.provider, Mode.OBSERVE, reply.scopes)
    assert (found.verdict, found.wider, found.acceptable) == (Verdict.WIDER, ("write",), False)


async def test_a_refusal_of_the_user_arrives_as_one_and_without_a_code(flow: Flow) -> None:
    arrived = await flow.arrive(deny=True)
    assert (arrived["error"], arrived["state"]) == ("access_denied", flow.state)
    assert "code" not in arrived


async def test_the_peer_demands_proof_of_possession_and_ours_is_the_one_it_wants(flow: Flow) -> None:
    without = flow.authorize_url().partition("&code_challenge=")[0]
    arrived = urlsplit(await consent(without, flow.peer.redirect))
    said = parse_qs(arrived.query)
    assert said["error"] == ["invalid_request"]
    assert "code" not in said

    code = (await flow.arrive())["code"]
    refused = await flow.exchange(code, Secret(secrets.token_urlsafe(48).encode()))
    assert isinstance(refused, Failure)
    assert refused.kind is Kind.PERMANENT


async def test_a_code_shown_twice_gives_nothing_and_ends_what_the_first_gave(flow: Flow) -> None:
    code = (await flow.arrive())["code"]
    first = await flow.exchange(code)
    assert isinstance(first, TokenReply)
    second = await flow.exchange(code)
    assert isinstance(second, Failure)
    assert second.kind is Kind.PERMANENT
    assert isinstance(await flow.identity(first.access_token), Failure)


async def test_each_refresh_gives_another_token_and_an_old_one_ends_the_grant(flow: Flow) -> None:
    first = await flow.connected()
    assert first.refresh_token is not None
    second = await flow.refresh(first.refresh_token)
    assert isinstance(second, TokenReply)
    assert second.refresh_token is not None
    assert second.refresh_token != first.refresh_token
    assert compare(flow.provider, Mode.OBSERVE, second.scopes).verdict is Verdict.SAME
    assert isinstance(await flow.identity(second.access_token), Account)

    stolen = await flow.refresh(first.refresh_token)
    assert isinstance(stolen, Failure)
    assert stolen.kind is Kind.PERMANENT
    for token in (second.refresh_token, first.refresh_token):
        ended = await flow.refresh(token)
        assert isinstance(ended, Failure)
        assert ended.kind is Kind.PERMANENT
    assert isinstance(await flow.identity(second.access_token), Failure)


async def test_revocation_ends_the_grant_and_the_probe_sees_it(flow: Flow) -> None:
    reply = await flow.connected()
    assert reply.refresh_token is not None
    ends = calls.revoke(flow.provider, flow.client, access=reply.access_token, refreshing=reply.refresh_token)
    assert ends
    for call in ends:
        assert (await flow.send(call)).status_code == 200
    gone = await flow.identity(reply.access_token)
    assert isinstance(gone, Failure)
    assert gone.kind is Kind.PERMANENT
    dead = await flow.refresh(reply.refresh_token)
    assert isinstance(dead, Failure)
    assert dead.kind is Kind.PERMANENT
    for call in ends:
        assert (await flow.send(call)).status_code == 200, "revoking again is harmless (RFC 7009 §2.2)"


async def test_introspection_says_what_a_token_is_worth(flow: Flow) -> None:
    reply = await flow.connected(allow=["openid"])
    answer = await flow.send(calls.introspect(flow.provider, flow.client, token=reply.access_token))
    assert parse_introspection(flow.provider, answer.status_code, answer.content) == ("openid",)


async def test_a_wrong_client_secret_is_our_fault_and_no_reason_to_ask_the_user_again(flow: Flow) -> None:
    wrong = replace(flow, client=Client(flow.client.id, Secret(b"wrong")))
    code = (await flow.arrive())["code"]
    refused = await wrong.exchange(code)
    assert isinstance(refused, Failure)
    assert refused.kind is Kind.APPLICATION
    assert isinstance(await flow.exchange(code), TokenReply)


async def test_an_unknown_redirect_uri_leads_nowhere(flow: Flow) -> None:
    """The peer shows its own error page: it does not send the browser to an address that is not registered."""
    elsewhere = replace(flow.peer, redirect="http://127.0.0.1:9/oauth/callback/other")
    async with httpx.AsyncClient(trust_env=False, timeout=20) as browser:
        answer = await browser.get(replace(flow, peer=elsewhere).authorize_url())
    assert answer.status_code == 400
    assert "location" not in answer.headers
