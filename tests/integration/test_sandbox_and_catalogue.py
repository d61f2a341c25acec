"""The catalogue and the sandbox were written down apart from the same facts: here they meet, over HTTP."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from customhouse.providers import calls
from customhouse.providers.calls import Call
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.declared import read
from customhouse.providers.failures import Failure, classify
from customhouse.providers.manifest import Provider, RestrictedKey
from customhouse.providers.replies import Account, TokenReply, account_in_refusal, parse_identity, parse_token_reply
from customhouse.providers.scopes import Verdict, compare, names, requested
from customhouse.providers.vocabulary import Mode, Reason, Rotation, Step
from customhouse.types import Secret
from customhouse_sandbox import End
from customhouse_sandbox.sandbox import VENDORS
from tests.sandboxes import NEEDED, Sandbox, client, consent, running, stripe_key

IMITATED = ("zoom", "google-meet", "google-calendar", "gmail", "google-drive", "slack", "microsoft-teams", "hubspot", "pipedrive")
ENDING = tuple(provider for provider in IMITATED if provider != "microsoft-teams")
"""Those that offer an end: Microsoft has none."""


LABEL = {"slack": "Example Works"}
"""How an account is shown that is not shown by an e-mail address."""
REFUSED = {"slack": Reason.GRANT_ENDED}
"""What a revoked access token is refused with, where a provider says more than that it is refused."""


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running() as sandbox:
        yield sandbox


def catalogue_of(sandbox: Sandbox) -> Catalogue:
    environ = sandbox.environ()
    return read(sandbox.providers_file().encode(), lambda reference: Secret(environ[reference.env].encode()), https_required=False)


def fresh() -> Secret:
    return Secret(secrets.token_urlsafe(48).encode())


class Flow:
    """One connection as the catalogue makes it, without the service around it."""

    def __init__(self, sandbox: Sandbox, provider: str, browser: httpx.AsyncClient, mode: Mode | None = None) -> None:
        catalogue = catalogue_of(sandbox)
        self.provider: Provider = catalogue.get(provider)
        self.registration = catalogue.client(provider)
        self.browser, self.mode = browser, mode or self.provider.default_mode
        self.redirect = calls.redirect_uri("http://127.0.0.1:8300", provider)
        self.state, self.verifier = secrets.token_urlsafe(32), fresh()

    def url(self) -> str:
        return calls.authorize_url(
            self.provider, self.registration, mode=self.mode, redirect=self.redirect, state=self.state, verifier=self.verifier
        )

    async def send(self, call: Call) -> httpx.Response:
        headers = call.headers()
        if call.authorization is not None:
            headers["authorization"] = call.authorization.reveal().decode()
        return await self.browser.request(call.method, call.url, headers=headers, content=call.body.reveal())

    async def code(self) -> Secret:
        landing = await consent(self.browser, self.url())
        assert landing.place == self.redirect
        assert landing["state"] == self.state
        return Secret(landing["code"].encode())

    async def exchange(self, code: Secret) -> TokenReply | Failure:
        call = calls.exchange(self.provider, self.registration, code=code, redirect=self.redirect, verifier=self.verifier)
        return self.read(await self.send(call), Step.EXCHANGE)

    async def refresh(self, token: Secret) -> TokenReply | Failure:
        call = calls.refresh(self.provider, self.registration, token=token)
        return self.read(await self.send(call), Step.REFRESH, token)

    def read(self, answer: httpx.Response, step: Step, shown: Secret | None = None) -> TokenReply | Failure:
        return parse_token_reply(self.provider, step, answer.status_code, answer.content, dict(answer.headers), shown=shown)

    async def account(self, reply: TokenReply) -> Account:
        """Ask who was connected, where the token reply has not told it."""
        who = calls.identity(self.provider, self.registration, access=reply.access_token, api_origin=reply.api_origin)
        if who is None:
            assert reply.account is not None
            return reply.account
        answer = await self.send(who)
        account = parse_identity(self.provider, answer.status_code, answer.content)
        assert isinstance(account, Account)
        return account

    async def connected(self) -> TokenReply:
        reply = await self.exchange(await self.code())
        assert isinstance(reply, TokenReply)
        return reply


@pytest.mark.anyio
@pytest.mark.parametrize("provider", IMITATED)
async def test_what_the_sandbox_answers_is_what_the_catalogue_understands(provider: str, sandbox: Sandbox) -> None:
    async with client() as browser:
        for mode in catalogue_of(sandbox).get(provider).modes:
            flow = Flow(sandbox, provider, browser, mode)
            reply = await flow.connected()
            assert reply.refresh_token is not None
            assert compare(flow.provider, mode, reply.scopes).verdict is Verdict.SAME
            account = await flow.account(reply)
            assert account.label.startswith(LABEL.get(provider, "ada@example.com"))
            renewed = await flow.refresh(reply.refresh_token)
            assert isinstance(renewed, TokenReply)
            rotates = flow.provider.oauth2.refresh.rotation is not Rotation.STABLE
            assert (renewed.refresh_token != reply.refresh_token) is rotates


@pytest.mark.anyio
@pytest.mark.parametrize("provider", ENDING)
async def test_a_revocation_as_the_catalogue_makes_it_ends_both_tokens(provider: str, sandbox: Sandbox) -> None:
    async with client() as browser:
        flow = Flow(sandbox, provider, browser)
        reply = await flow.connected()
        assert reply.refresh_token is not None
        for call in calls.revoke(flow.provider, flow.registration, access=reply.access_token, refreshing=reply.refresh_token):
            assert (await flow.send(call)).status_code == httpx.codes.OK
        # Where issued access tokens outlive their grant, the proof waits until they have run out.
        sandbox.clock.advance(flow.provider.oauth2.revocation.proof_seconds)
        probe = await flow.send(calls.probe(flow.provider, flow.registration, access=reply.access_token))
        refused = parse_identity(flow.provider, probe.status_code, probe.content)
        assert isinstance(refused, Failure)
        assert refused.reason is REFUSED.get(provider, Reason.TOKEN_REFUSED)
        ended = await flow.refresh(reply.refresh_token)
        assert isinstance(ended, Failure)
        assert ended.reason is Reason.GRANT_ENDED


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("why", "reason"), [(End.DEAUTHORIZED, Reason.SCOPE_MISSING), (End.ADMIN, Reason.ADMIN_BLOCKED), (End.REVOKED, Reason.GRANT_ENDED)]
)
async def test_the_catalogue_ends_nothing_at_microsoft_and_understands_who_did(why: End, reason: Reason, sandbox: Sandbox) -> None:
    async with client() as browser:
        flow = Flow(sandbox, "microsoft-teams", browser)
        reply = await flow.connected()
        assert reply.refresh_token is not None
        assert calls.revoke(flow.provider, flow.registration, access=reply.access_token, refreshing=reply.refresh_token) == ()
        sandbox.withdraw("microsoft-teams", "ada", why)
        ended = await flow.refresh(reply.refresh_token)
        assert isinstance(ended, Failure)
        assert ended.reason is reason


@pytest.mark.anyio
@pytest.mark.parametrize("provider", IMITATED)
async def test_a_code_is_good_once_and_only_with_its_verifier(provider: str, sandbox: Sandbox) -> None:
    async with client() as browser:
        flow = Flow(sandbox, provider, browser)
        code = await flow.code()
        right, flow.verifier = flow.verifier, fresh()
        if flow.provider.oauth2.pkce:
            refused = await flow.exchange(code)
            assert isinstance(refused, Failure)
            assert refused.reason is Reason.CODE_REFUSED
        flow.verifier = right
        assert isinstance(await flow.exchange(code), TokenReply)
        again = await flow.exchange(code)
        assert isinstance(again, Failure)
        assert again.reason is Reason.CODE_REFUSED


@pytest.mark.parametrize("provider", [*IMITATED, "stripe"])
@pytest.mark.anyio
async def test_every_endpoint_of_an_imitated_provider_is_overridden(provider: str, sandbox: Sandbox) -> None:
    for name, url in catalogue_of(sandbox).get(provider).endpoints.items():
        assert url.startswith(sandbox.base), name


async def probed(sandbox: Sandbox, browser: httpx.AsyncClient, key: str, *, forbidden: bool) -> list[httpx.Response]:
    provider = catalogue_of(sandbox).get("stripe")
    assert isinstance(provider.auth, RestrictedKey)
    probes = provider.auth.forbidden if forbidden else provider.auth.allowed
    base, headers = provider.endpoints.api_base, {"authorization": f"Bearer {key}", **dict(provider.api_headers)}
    return [await browser.request(probe.method, base + probe.path, headers=headers) for probe in probes]


@pytest.mark.anyio
async def test_the_probes_of_a_stripe_key_tell_a_narrow_key_from_a_wide_one(sandbox: Sandbox) -> None:
    async with client() as browser:
        narrow, wide = stripe_key(sandbox)[1], stripe_key(sandbox, whole=True)[1]
        found = {httpx.codes.OK, httpx.codes.NOT_FOUND}
        assert {answer.status_code for answer in await probed(sandbox, browser, narrow, forbidden=False)} == found
        assert {answer.status_code for answer in await probed(sandbox, browser, narrow, forbidden=True)} == {httpx.codes.FORBIDDEN}
        assert {answer.status_code for answer in await probed(sandbox, browser, wide, forbidden=True)} == found


@pytest.mark.anyio
async def test_what_stripe_refuses_is_what_the_catalogue_understands(sandbox: Sandbox) -> None:
    provider = catalogue_of(sandbox).get("stripe")
    account = sandbox.realms["stripe"].people["ada"].organisation
    async with client() as browser:
        key = stripe_key(sandbox)[1]
        for refused in await probed(sandbox, browser, key, forbidden=True):
            named = account_in_refusal(provider, refused.content)
            assert named is not None
            assert named.id == account
            assert classify(provider, Step.API, refused.status_code, refused.content).reason is Reason.SCOPE_MISSING
        known = stripe_key(sandbox, accounts_kyc_basic="read")[1]
        told = await browser.get(provider.endpoints.identity_url, headers={"authorization": f"Bearer {known}"})
        found = parse_identity(provider, told.status_code, told.content)
        assert not isinstance(found, Failure)
        assert (found.id, found.label) == (account, "Example & Co")
        sandbox.expire("stripe")
        ended = (await probed(sandbox, browser, key, forbidden=False))[0]
        assert classify(provider, Step.API, ended.status_code, ended.content).reason is Reason.GRANT_ENDED


@pytest.mark.anyio
async def test_what_a_narrow_stripe_key_opens_is_what_the_catalogue_asks_for(sandbox: Sandbox) -> None:
    provider = catalogue_of(sandbox).get("stripe")
    assert {f"rak_{name}_{level}" for name, level in NEEDED.items()} == {scope.name for scope in provider.scopes}
    key = stripe_key(sandbox)[1]
    assert isinstance(provider.auth, RestrictedKey)
    assert re.fullmatch(provider.auth.pattern, key)
    link = provider.auth.create_url.replace("https://dashboard.stripe.com", sandbox.realms["stripe"].base)
    async with client() as browser:
        page = (await browser.get(link)).text
    assert page.count(" selected>none") == page.count("<label>") - 2 - len(NEEDED)


@pytest.mark.parametrize("provider", [*IMITATED, "stripe"])
@pytest.mark.anyio
async def test_every_call_that_the_guarded_proxy_lets_through_is_imitated(provider: str, sandbox: Sandbox) -> None:
    found = catalogue_of(sandbox).get(provider)
    base = urlsplit(found.endpoints.api_base).path
    vendor = next(one for one in VENDORS if base.split("/")[1] == one.name)
    for allowed in found.allow:
        path = base.removeprefix(f"/{vendor.name}") + re.sub(r"{\w+}|\*", "x", allowed.path)
        assert any(route.match(allowed.method, path) is not None for route in vendor.routes), (allowed.method, allowed.path)


@pytest.mark.anyio
async def test_zoom_is_registered_for_exactly_the_scopes_that_the_catalogue_asks_for(sandbox: Sandbox) -> None:
    assert sandbox.realms["zoom"].applications["zoom"].scopes == names(requested(catalogue_of(sandbox).get("zoom"), Mode.OBSERVE))


@pytest.mark.anyio
async def test_pipedrive_is_registered_for_exactly_the_scopes_that_the_catalogue_wants(sandbox: Sandbox) -> None:
    assert sandbox.realms["pipedrive"].applications["pipedrive"].scopes == names(
        requested(catalogue_of(sandbox).get("pipedrive"), Mode.ACT)
    )


@pytest.mark.anyio
async def test_a_missing_scope_at_pipedrive_is_understood(sandbox: Sandbox) -> None:
    async with client() as browser:
        flow = Flow(sandbox, "pipedrive", browser)
        reply = await flow.connected()
        assert reply.api_origin == sandbox.base
        url = f"{flow.provider.endpoints.api_base}/v2/deals"
        refused = await browser.get(url, headers={"authorization": f"Bearer {reply.access_token.reveal().decode()}"})
        assert classify(flow.provider, Step.API, refused.status_code, refused.content).reason is Reason.SCOPE_MISSING


@pytest.mark.anyio
async def test_hubspot_requires_what_is_asked_for_to_observe_and_takes_the_rest_beside_it(sandbox: Sandbox) -> None:
    application, provider = sandbox.realms["hubspot"].applications["hubspot"], catalogue_of(sandbox).get("hubspot")
    assert application.scopes == names(requested(provider, Mode.ACT))
    assert tuple(scope for scope in application.scopes if scope not in application.optional) == names(requested(provider, Mode.OBSERVE))


@pytest.mark.anyio
async def test_the_folder_that_the_sandbox_writes_is_a_providers_file_in_order(sandbox: Sandbox, tmp_path: Path) -> None:
    path = sandbox.write(tmp_path / "sandbox")
    catalogue = read(path.read_bytes(), lambda reference: Secret(Path(reference.file).read_bytes()), https_required=False)
    assert {provider.id for provider in catalogue.providers if catalogue.is_set_up(provider)} >= {*IMITATED, "stripe"}
    assert {oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()} == {"0o600"}
