"""Each provider that is connected by consent, through the real service, at its strict stand-in: every mode, and each way it can go."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from customhouse.app import App
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.manifest import Scope
from customhouse.providers.vocabulary import Extent, Mode
from customhouse_sandbox.faults import FaultKind, Operation
from customhouse_sandbox.sandbox import VENDORS
from tests.integration.connections.conftest import PUBLIC, RETURN, Browser, grown
from tests.integration.connections.sandboxed import MODES, PROVIDERS, USER, Desk, sealed_tokens, settle_in
from tests.integration.web.conftest import Api, problem
from tests.sandboxes import Sandbox, running

pytestmark = pytest.mark.anyio

IDENTITY = {"openid", "email", "user:read:user", "oauth", "base", "User.Read", "offline_access", "profile"}
"""Scopes that nobody can do without: they tell whose account it is."""
HELD_IN_ANOTHER = {("google-calendar", "act", "https://www.googleapis.com/auth/calendar.events.owned.readonly")}
"""What is there although it was not ticked: whoever may change events may see them."""
STRANGE = {
    "zoom": "user:read:settings",
    "google": "https://www.googleapis.com/auth/contacts.readonly",
    "slack": "reactions:read",
    "hubspot": "crm.objects.leads.read",
    "pipedrive": "goals:read",
    "microsoft": "Tasks.Read",
}
"""A scope of each server that no manifest of ours names."""
STRANGER = {"microsoft-teams": "grace"}
"""Somebody of another organisation; at Microsoft he has no work account, and there nothing is shared."""
OUTLIVED = ("bot_revocation", "token")
"""Where the refresh token outlives what was revoked: a receipt says so, and it is asked again."""
LABELS = {"slack": "Example Works"}
"""What a connection is called after, where that is not the person's address."""


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running(public_url=PUBLIC) as one:
        yield one


@pytest.fixture
def environ(environ: dict[str, str], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    return {**environ, "CUSTOMHOUSE_PROVIDERS_FILE": settle_in(sandbox, tmp_path, monkeypatch)}


@pytest.fixture
def desk(acme: Api, browser: Browser, sandbox: Sandbox, provider: str) -> Desk:
    return Desk(acme, browser, sandbox, provider)


every_provider = pytest.mark.parametrize("provider", PROVIDERS)
every_mode = pytest.mark.parametrize(("provider", "mode"), MODES)


async def nothing_made(owner: asyncpg.Connection) -> None:
    """Hold that nothing is connected, nothing waits, and nothing of anybody is kept."""
    for table in ("connect_states", "connect_exchanges", "pending_grants", "connection_grants", "integration_tokens", "revocation_escrow"):
        assert await owner.fetchval(f"select count(*) from {table}") == 0, table
    assert await owner.fetchval("select count(*) from connections") == 0
    assert await owner.fetchval("select count(*) from connect_sessions where facts_sealed is not null") == 0
    assert await owner.fetchval("select count(*) from data_keys where purpose = 'connection' and state <> 'destroyed'") == 0


def each_consent_for_itself(desk: Desk) -> None:
    """Let a provider that adds up what a person ever granted forget what was granted before."""
    realm = desk.sandbox.realm_of(desk.provider)
    if "earlier_scopes" in realm.facts:
        desk.sandbox.set_fact(realm.name, "earlier_scopes", "dropped")


async def revoked(desk: Desk, reason: str) -> None:
    """Hold that what was refused last is ended at the provider, and seen to be, and in the ledger."""
    assert desk.left() == set()
    revocation = desk.manifest.oauth2.revocation
    if not revocation.proof_seconds:
        entry = (await desk.told("grant.revoked"))[0]
        outcome = ("revoked", True) if revocation.supported else ("unsupported", False)
        assert (entry["outcome"], entry["verified"], entry["reason"]) == (*outcome, reason)


async def nothing_kept(desk: Desk, owner: asyncpg.Connection) -> None:
    """Hold that nothing was made; where a proof has to wait, what waits for it waits in escrow alone."""
    if not desk.manifest.oauth2.revocation.proof_seconds:
        await nothing_made(owner)
    assert await owner.fetchval("select count(*) from integration_tokens") == 0
    assert await owner.fetchval("select count(*) from connections") == 0


# What is meant to happen ---------------------------------------------------------------------------------------------------------


@every_mode
async def test_a_user_connects_and_exactly_what_the_manifest_names_is_asked_granted_and_sealed(
    desk: Desk, mode: Mode, app: App, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    session = await desk.invited(mode=mode.value)
    page = await desk.browser.get(session["connect_url"])
    for scope in desk.manifest.scopes:
        assert (f"<code>{scope.name}</code>" in page.text) is (scope.name in desk.asked(mode)), scope.name
    at_provider = await desk.browser.consent(session["connect_url"])
    asked = {name: values[0] for name, values in parse_qs(urlsplit(at_provider).query).items()}
    assert asked["redirect_uri"] == f"{PUBLIC}/oauth/callback/{desk.provider}"
    if desk.manifest.oauth2.sends_scopes:
        said = [asked["scope"], asked.get(desk.manifest.oauth2.act_parameter or "scope", "")]
        assert set(re.split("[ ,]+", " ".join(said).strip())) == set(desk.asked(mode))
    assert ("code_challenge" in asked) is desk.manifest.oauth2.pkce
    assert desk.live() == set()

    session = await desk.invited(mode=mode.value)
    back = await desk.returned(session)
    assert back.headers["location"] == f"{RETURN}/settings?connect_session_id={session['session_id']}&connect_status=granted"
    waiting = (await desk.api("GET", f"/v1/connections?provider={desk.provider}")).json()["data"]
    assert [(one["status"], one["scopes"]["granted"], one["account"]["id"]) for one in waiting] == [("pending", [], None)]
    made = await desk.confirmed(session)

    assert (made["status"], made["mode"], made["user_id"], made["health"]["reason"]) == ("active", mode.value, USER, None)
    assert made["scopes"]["requested"] == desk.asked(mode)
    assert (desk.fits(mode, made["scopes"]["granted"]), made["scopes"]["missing"]) == (True, [])
    ada = sandbox.realm_of(desk.provider).people["ada"]
    assert ada.id in made["account"]["id"]
    assert made["account"]["label"].startswith(LABELS.get(desk.provider, ada.email))
    assert (made["grant_version"], made["token"]["token_generation"]) == (1, 1)
    tokens, sealed = await sealed_tokens(app, made["connection_id"])
    held = {tokens.access.reveal().decode()} | ({tokens.refresh.reveal().decode()} if tokens.refresh is not None else set())
    assert held == desk.live()
    assert not any(value.encode() in sealed for value in held)
    assert await owner.fetchval("select count(*) from pending_grants") == 0
    assert (desk.calls("exchange"), desk.calls("revoke")) == (1, 0)
    (granted,) = await desk.told("connect_session.granted")
    assert (desk.fits(mode, granted["granted"]), granted["missing"]) == (True, [])


@every_mode
async def test_what_is_not_granted_is_missing_by_name_and_the_rest_works(desk: Desk, mode: Mode, sandbox: Sandbox) -> None:
    optional = [name for name in desk.asked(mode) if name not in IDENTITY]
    boxes = await desk.boxes(await desk.invited(mode=mode.value))
    assert boxes <= set(desk.asked(mode))
    each_consent_for_itself(desk)
    for left_out in optional:
        rest = [name for name in desk.asked(mode) if name != left_out]
        if left_out not in boxes:
            # Nobody can untick it there; a provider may still grant less, for reasons of its own.
            sandbox.order(desk.provider, FaultKind.SCOPE_FEWER, Operation.EXCHANGE, scopes=[left_out])
        made = await desk.connected(mode=mode.value, ticked=rest if left_out in boxes else None)
        missing = [] if (desk.provider, mode.value, left_out) in HELD_IN_ANOTHER else [left_out]
        assert (made["status"], made["health"]["reason"]) == (("degraded", "scopes_missing") if missing else ("active", None)), left_out
        assert made["scopes"]["missing"] == missing
        assert desk.fits(mode, made["scopes"]["granted"], without=left_out)
    if set(optional) <= boxes:
        nothing_but_who = await desk.connected(mode=mode.value, ticked=[name for name in desk.asked(mode) if name in IDENTITY])
        assert nothing_but_who["scopes"]["missing"] == optional
    assert desk.calls("revoke") == 0


@every_provider
async def test_however_the_open_questions_stand_a_connection_is_made_and_ended(desk: Desk, sandbox: Sandbox) -> None:
    """What the documents leave open is a switch of the sandbox (rulings §16)."""
    realm = sandbox.realm_of(desk.provider)
    facts = next(vendor.facts for vendor in VENDORS if vendor.name == realm.name)
    for fact in facts:
        for choice in fact.choices[1:]:
            sandbox.set_fact(realm.name, fact.name, choice)
            made = await desk.connected()
            assert (made["status"], made["scopes"]["missing"]) == ("active", []), (fact.name, choice)
            receipt = (await desk.api("DELETE", f"/v1/connections/{made['connection_id']}")).json()
            said = (receipt["revocation"]["status"], receipt["revocation"]["verified"])
            revocation = desk.manifest.oauth2.revocation
            if (fact.name, choice) == OUTLIVED:
                assert said == ("pending", False)
                continue
            if revocation.proof_seconds:
                assert said[0] in {"pending", "revoked"}, (fact.name, choice)
            else:
                assert said == (("revoked", True) if revocation.supported else ("unsupported", False)), (fact.name, choice, receipt)
            assert desk.left() == set(), (fact.name, choice)
        sandbox.set_fact(realm.name, fact.name, fact.choices[0])


# What must not come of it --------------------------------------------------------------------------------------------------------


@every_mode
async def test_more_than_was_asked_for_is_refused_revoked_and_in_the_ledger(
    desk: Desk, mode: Mode, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    strange = STRANGE[sandbox.realm_of(desk.provider).name]
    wider = [strange, *(scope.name for scope in desk.manifest.scopes if scope.name not in desk.asked(mode))]
    for extra in wider:
        sandbox.order(desk.provider, FaultKind.SCOPE_MORE, Operation.EXCHANGE, scopes=[extra])
        session = await desk.invited(mode=mode.value)
        back = await desk.returned(session)
        assert (back.status_code, "<code>scope_wider</code>" in back.text) == (403, True), (extra, back.text)
        assert f"connect_session_id={session['session_id']}&amp;connect_status=refused&amp;connect_reason=scope_wider" in back.text
        refused = (await desk.told("connect_session.refused"))[0]
        assert (refused["reason"], refused["wider"], refused["forbidden"]) == ("scope_wider", [extra], [])
        await revoked(desk, "scope_wider")
        problem(
            await desk.api("POST", f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": USER}), 409, "connect_session_over"
        )
    await nothing_kept(desk, owner)


@every_provider
async def test_each_scope_on_the_deny_list_is_refused_revoked_and_in_the_ledger(
    desk: Desk, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    patterns = [never.pattern for never in desk.manifest.not_requested]
    for forbidden in [pattern.replace("*", "anything") for pattern in patterns] + [patterns[0].upper()]:
        sandbox.order(desk.provider, FaultKind.SCOPE_MORE, Operation.EXCHANGE, scopes=[forbidden])
        back = await desk.returned(await desk.invited())
        assert (back.status_code, "<code>scope_forbidden</code>" in back.text) == (403, True), (forbidden, back.text)
        refused = (await desk.told("connect_session.refused"))[0]
        assert refused["reason"] == "scope_forbidden"
        assert forbidden in refused["forbidden"]
        await revoked(desk, "scope_forbidden")
    await nothing_kept(desk, owner)


@every_mode
async def test_a_person_who_does_not_agree_finds_a_page_and_the_way_back_and_nothing_is_made(
    desk: Desk, mode: Mode, owner: asyncpg.Connection
) -> None:
    session = await desk.invited(mode=mode.value)
    back = await desk.returned(session, decision="deny")
    assert (back.status_code, "<code>consent_denied</code>" in back.text) == (403, True), back.text
    assert f"connect_session_id={session['session_id']}&amp;connect_status=refused&amp;connect_reason=consent_denied" in back.text
    assert desk.calls("exchange") == 0
    assert desk.sandbox.grants(desk.provider) == []
    assert [one["reason"] for one in await desk.told("connect_session.refused")] == ["consent_denied"]
    await nothing_made(owner)


@every_provider
async def test_nobody_is_connected_whom_the_provider_does_not_name(desk: Desk, sandbox: Sandbox, owner: asyncpg.Connection) -> None:
    if desk.calls("identity") == 0:
        await desk.connected()
        if desk.calls("identity") == 0:
            return  # who it was stands in the token reply, and is held to the same tests there
        made = (await desk.api("GET", f"/v1/connections?provider={desk.provider}")).json()["data"]
        await desk.api("DELETE", f"/v1/connections/{made[0]['connection_id']}")
    for fault, values in (
        (FaultKind.IDENTITY_MISSING, {}),
        (FaultKind.STATUS, {"status": 500}),
        (FaultKind.RATE_LIMITED, {}),
        (FaultKind.LOST, {}),
        (FaultKind.REPLY, {"body": "[]"}),
    ):
        sandbox.order(desk.provider, fault, Operation.IDENTITY, **values)
        back = await desk.returned(await desk.invited())
        assert (back.status_code, "<code>identity_unknown</code>" in back.text) == (403, True), (fault, back.text)
        assert desk.left() == set(), fault
    assert await owner.fetchval("select count(*) from integration_tokens") == 0


async def test_a_grant_without_the_scope_that_tells_whose_it_is_is_refused(
    acme: Api, browser: Browser, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    """Zoom lets a person untick it; at Google nobody can."""
    desk = Desk(acme, browser, sandbox, "zoom")
    back = await desk.returned(await desk.invited(), ticked=[name for name in desk.asked(Mode.OBSERVE) if name not in IDENTITY])
    assert (back.status_code, "<code>identity_unknown</code>" in back.text, desk.live()) == (403, True, set()), back.text
    await nothing_made(owner)


# What changes later --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", [key for key, mode in MODES if mode is Mode.ACT and (key, Mode.OBSERVE) in MODES])
async def test_observe_becomes_act_by_a_new_consent_that_marks_what_is_added(desk: Desk, app: App, owner: asyncpg.Connection) -> None:
    made = await desk.connected()
    assert made["mode"] == "observe"
    session = await desk.invited(connection_id=made["connection_id"], mode="act")
    page = await desk.browser.get(session["connect_url"])
    added = [name for name in desk.asked(Mode.ACT) if name not in desk.asked(Mode.OBSERVE)]
    marked = re.findall(r'<li class="new">.*?<code>([^<]+)</code>', page.text, re.DOTALL)
    assert marked == added
    await desk.returned(session)
    assert await desk.read(made) == made, "nothing changes before the host confirms"
    acting = await desk.confirmed(session)
    assert (acting["connection_id"], acting["mode"], acting["status"]) == (made["connection_id"], "act", "active")
    assert (acting["grant_version"], acting["token"]["token_generation"]) == (2, 2)
    assert acting["scopes"]["requested"] == desk.asked(Mode.ACT)
    tokens, _ = await sealed_tokens(app, made["connection_id"])
    assert tokens.access.reveal().decode() in desk.live()
    assert await owner.fetchval("select count(*) from consents") == 2
    assert await owner.fetchval("select count(*) from integration_tokens") == 1

    # And back: a new consent again, never by itself.
    watching = await desk.connected(connection_id=made["connection_id"], mode="observe")
    assert (watching["mode"], desk.fits(Mode.OBSERVE, watching["scopes"]["granted"])) == ("observe", True)
    assert watching["grant_version"] == 3


@every_provider
async def test_a_manifest_that_asks_for_more_prompts_and_the_new_consent_brings_it(desk: Desk, sandbox: Sandbox, app: App) -> None:
    made = await desk.connected()
    strange = STRANGE[sandbox.realm_of(desk.provider).name]
    realm = sandbox.realm_of(desk.provider)
    realm.change(desk.provider, scopes=(*realm.applications[desk.provider].scopes, strange))
    grown(app, desk.provider, Scope(strange, words="see more", why="Because.", reaches="more"))
    await app.sweeping.outgrown()
    found = await desk.read(made)
    assert (found["status"], found["health"]["reason"]) == ("reauthorization_required", "scopes_added")
    assert (found["scopes"], found["token"], found["grant_version"]) == (made["scopes"], made["token"], made["grant_version"])

    session = await desk.invited(connection_id=made["connection_id"])
    page = await desk.browser.get(session["connect_url"])
    assert re.findall(r'<li class="new">.*?<code>([^<]+)</code>', page.text, re.DOTALL) == [strange]
    assert (await desk.returned(session)).status_code == 303
    renewed = await desk.confirmed(session)
    assert (renewed["status"], renewed["scopes"]["missing"], renewed["grant_version"]) == ("active", [], 2)
    assert strange in renewed["scopes"]["granted"]
    await app.sweeping.outgrown()
    assert (await desk.read(made))["status"] == "active"

    each_consent_for_itself(desk)
    sandbox.order(desk.provider, FaultKind.SCOPE_FEWER, Operation.EXCHANGE, scopes=[strange])
    less = await desk.connected(connection_id=made["connection_id"])
    assert (less["status"], less["scopes"]["missing"]) == ("degraded", [strange])


@every_provider
async def test_another_account_does_not_take_a_connection_over_and_its_grant_is_revoked(
    desk: Desk, app: App, owner: asyncpg.Connection
) -> None:
    made = await desk.connected()
    mine = desk.live("ada")
    back = await desk.returned(await desk.invited(connection_id=made["connection_id"]), account=STRANGER.get(desk.provider, "alan"))
    assert (back.status_code, "<code>other_account</code>" in back.text) == (409, True), back.text
    assert await desk.read(made) == made
    assert (desk.left() - mine, desk.live("ada")) == (set(), mine)
    tokens, _ = await sealed_tokens(app, made["connection_id"])
    assert tokens.access.reveal().decode() in mine


# Grants that stand on each other -------------------------------------------------------------------------------------------------


@every_provider
async def test_the_last_connection_of_an_account_ends_what_it_gave_and_none_before_it(desk: Desk) -> None:
    first, second = await desk.connected(), await desk.connected()
    shares = desk.manifest.oauth2.revocation.extent in {Extent.GRANT, Extent.PROJECT, Extent.INSTALLATION}
    receipt = (await desk.api("DELETE", f"/v1/connections/{first['connection_id']}")).json()
    if shares:
        assert (receipt["revocation"]["status"], receipt["shared"], desk.calls("revoke")) == ("unsupported", True, 0)
        assert desk.live() != set()
    receipt = (await desk.api("DELETE", f"/v1/connections/{second['connection_id']}")).json()
    revocation = desk.manifest.oauth2.revocation
    possible = {"unsupported"} if not revocation.supported else {"revoked", "pending"} if revocation.proof_seconds else {"revoked"}
    assert receipt["revocation"]["status"] in possible
    assert desk.left() == set()


async def test_google_integrations_in_projects_of_their_own_do_not_end_each_other(acme: Api, browser: Browser, sandbox: Sandbox) -> None:
    google = [Desk(acme, browser, sandbox, key) for key in PROVIDERS if sandbox.realm_of(key).name == "google"]
    made = [await desk.connected() for desk in google]
    for place, (desk, connection) in enumerate(zip(google, made, strict=True)):
        receipt = (await acme("DELETE", f"/v1/connections/{connection['connection_id']}")).json()
        assert (receipt["revocation"]["status"], receipt["revocation"]["verified"]) == ("revoked", True)
        assert [bool(other.live()) for other in google] == [at > place for at in range(len(google))], desk.provider


async def test_every_provider_that_the_sandbox_stands_in_for_is_connected_here() -> None:
    assert set(PROVIDERS) >= {"zoom", "google-meet", "google-calendar", "gmail", "google-drive"}
    assert {key for key, _ in MODES} == set(PROVIDERS)
    assert all(Catalogue().get(key).modes for key in PROVIDERS)
