"""Slack and Microsoft against a model: whatever people, applications and administrators do, exactly the right tokens open something."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from customhouse_sandbox import End
from customhouse_sandbox.http import Reply, Request
from customhouse_sandbox.routing import Ask, Handshake
from customhouse_sandbox.sandbox import VENDORS, Sandbox
from customhouse_sandbox.state import Application

_VENDOR = {vendor.name: vendor for vendor in VENDORS}
DAY = 86_400


@dataclass
class Held:
    """What one consent gave, as its holder knows it."""

    person: str
    place: str
    access: dict[str, float] = field(default_factory=dict)
    """Until when; infinity has no place here."""
    dead: set[str] = field(default_factory=set)
    """Access tokens that ended before their time."""
    refresh: dict[str, float] = field(default_factory=dict)
    """Until when they may be used."""
    spent: set[str] = field(default_factory=set)
    ended: End | None = None


class Caller:
    """Calls routes without a port."""

    def __init__(self, provider: str, application: str) -> None:
        self.sandbox = Sandbox()
        self.sandbox.open(1)
        self.provider = provider
        self.realm = self.sandbox.realms[provider]
        self.application: Application = self.realm.applications[application]

    def call(self, method: str, target: str, *, form: dict[str, str] | None = None, bearer: str = "") -> Reply:
        headers = {"content-type": "application/x-www-form-urlencoded"} if form is not None else {}
        if bearer:
            headers["authorization"] = f"Bearer {bearer}"
        request = Request(method, target, MappingProxyType(headers), urlencode(form or {}).encode())
        for route in _VENDOR[self.provider].routes:
            parts = route.match(method, request.path)
            if parts is not None:
                reply = route.answer(Ask(request, self.realm, parts))
                assert not isinstance(reply, Handshake)
                return reply
        raise AssertionError(target)

    def consent(self, path: str, person: str, **query: str) -> str:
        """Return the code of a consent."""
        said = {"client_id": self.application.id, "redirect_uri": self.application.redirects[0], "response_type": "code", **query}
        reply = self.call("POST", f"{path}?{urlencode(said)}", form={"decision": "allow", "account": person})
        assert reply.status == 302, reply.body
        return parse_qs(urlsplit(dict(reply.headers)["Location"]).query)["code"][0]

    def token(self, path: str, **form: str) -> dict[str, Any]:
        """Return the answer of the token endpoint."""
        shown = {"client_id": self.application.id, "client_secret": self.application.secret}
        said: dict[str, Any] = json.loads(self.call("POST", path, form={**shown, **form}).body)
        return said


class Model(RuleBasedStateMachine):
    """What both have in common."""

    held = Bundle("held")
    caller: Caller
    grants: list[Held]
    token_path: str

    def now(self) -> float:
        return self.caller.sandbox.clock.now()

    def keep(self, one: Held, said: dict[str, Any], seconds: float) -> None:
        one.access[said["access_token"]] = self.now() + said["expires_in"]
        one.refresh[said["refresh_token"]] = self.now() + seconds

    def of_place(self, place: str) -> list[Held]:
        return [one for one in self.grants if one.place == place and not one.ended]

    @rule(seconds=st.sampled_from([60, 3600, 43_300, DAY, 30 * DAY, 91 * DAY]))
    def time_passes(self, seconds: int) -> None:
        self.caller.sandbox.clock.advance(seconds)

    def opens(self, value: str) -> bool:
        raise NotImplementedError

    def should_open(self, one: Held, value: str) -> bool:
        raise NotImplementedError

    @invariant()
    def exactly_the_right_tokens_open_something(self) -> None:
        for one in getattr(self, "grants", []):
            for value in one.access:
                assert self.opens(value) is self.should_open(one, value), (one.person, one.ended)
                assert self.caller.sandbox.is_live(value) is self.should_open(one, value)
            for value in one.refresh:
                assert not self.opens(value), "a refresh token opens nothing"


class Slack(Model):
    """Bots of workspaces, with tokens that rotate."""

    @initialize(
        revocation=st.sampled_from(["workspace", "installation", "token"]),
        again=st.sampled_from(["no", "yes"]),
        after=st.sampled_from(["lives", "ends"]),
        error=st.sampled_from(["invalid_refresh_token", "internal_error"]),
    )
    def begin(self, revocation: str, again: str, after: str, error: str) -> None:
        self.caller, self.grants = Caller("slack", "slack"), []
        self.facts = {
            "bot_revocation": revocation,
            "reinstall_ends_tokens": again,
            "access_after_refresh": after,
            "spent_refresh_error": error,
        }
        for name, value in self.facts.items():
            self.caller.sandbox.set_fact("slack", name, value)

    def opens(self, value: str) -> bool:
        found: bool = json.loads(self.caller.call("GET", "/api/auth.test", bearer=value).body)["ok"]
        return found

    def should_open(self, one: Held, value: str) -> bool:
        return not one.ended and value not in one.dead and self.now() < one.access[value]

    @rule(target=Model.held, person=st.sampled_from(["ada", "grace", "alan", "edith"]))
    def install(self, person: str) -> Held:
        code = self.caller.consent("/oauth/v2/authorize", person, scope="chat:write,users:read")
        said = self.caller.token("/api/oauth.v2.access", code=code, redirect_uri=self.caller.application.redirects[0])
        assert said["ok"], said
        one = Held(person, self.caller.realm.people[person].organisation)
        assert (said["team"] or said["enterprise"])["id"] == one.place
        if self.facts["reinstall_ends_tokens"] == "yes":
            for other in self.of_place(one.place):
                other.ended = End.REPLACED
        self.keep(one, said, float("inf"))
        self.grants.append(one)
        return one

    @rule(one=Model.held, data=st.data())
    def renew(self, one: Held, data: st.DataObject) -> None:
        value = data.draw(st.sampled_from(sorted(one.refresh)))
        said = self.caller.token("/api/oauth.v2.access", grant_type="refresh_token", refresh_token=value)
        assert said["ok"] is (not one.ended and value not in one.spent), said
        if not said["ok"]:
            expected = {None: self.facts["spent_refresh_error"], End.ADMIN: "team_access_not_granted"}
            assert said["error"] == expected.get(one.ended, "invalid_refresh_token")
            return
        one.spent.add(value)
        if self.facts["access_after_refresh"] == "ends":
            one.dead |= set(one.access)
        self.keep(one, said, float("inf"))

    @rule(one=Model.held)
    def revoke(self, one: Held) -> None:
        value = list(one.access)[-1]
        worked = self.should_open(one, value)
        assert json.loads(self.caller.call("POST", "/api/auth.revoke", bearer=value).body)["ok"] is worked
        if not worked:
            return
        match self.facts["bot_revocation"]:
            case "workspace":
                for other in self.of_place(one.place):
                    other.ended = End.REVOKED
            case "installation":
                one.ended = End.REVOKED
            case _:
                one.dead.add(value)

    @rule(person=st.sampled_from(["ada", "grace", "alan"]), why=st.sampled_from([End.DEAUTHORIZED, End.ADMIN]))
    def uninstall(self, person: str, why: End) -> None:
        ending = self.of_place(self.caller.realm.people[person].organisation)
        assert self.caller.sandbox.withdraw("slack", person, why) == len(ending)
        for one in ending:
            one.ended = why

    @precondition(lambda self: bool(getattr(self, "grants", [])))
    @rule()
    def nobody_reads_another_workspace(self) -> None:
        for one in self.grants:
            value = next((value for value in one.access if self.should_open(one, value)), None)
            for person in self.caller.realm.people.values() if value else ():
                reply = json.loads(self.caller.call("GET", f"/api/users.info?user={person.id}", bearer=value or "").body)
                assert reply["ok"] is (person.organisation == one.place)


class Microsoft(Model):
    """Tenants, and refresh tokens that live on."""

    @initialize(outlives=st.sampled_from(["yes", "no"]))
    def begin(self, outlives: str) -> None:
        self.caller, self.grants, self.outlives = Caller("microsoft", "microsoft-teams"), [], outlives
        self.caller.sandbox.set_fact("microsoft", "access_outlives_grant", outlives)
        self.token_path = "/organizations/oauth2/v2.0/token"

    def opens(self, value: str) -> bool:
        return self.caller.call("GET", "/v1.0/me", bearer=value).status == 200

    def should_open(self, one: Held, value: str) -> bool:
        return (self.outlives == "yes" or not one.ended) and self.now() < one.access[value]

    @rule(target=Model.held, person=st.sampled_from(["ada", "grace", "mira"]))
    def connect(self, person: str) -> Held:
        code = self.caller.consent("/organizations/oauth2/v2.0/authorize", person, scope="openid profile offline_access User.Read")
        redirect = self.caller.application.redirects[0]
        said = self.caller.token(self.token_path, grant_type="authorization_code", code=code, redirect_uri=redirect)
        one = Held(person, self.caller.realm.people[person].organisation)
        self.keep(one, said, 90 * DAY)
        self.grants.append(one)
        return one

    @rule(one=Model.held, data=st.data())
    def renew(self, one: Held, data: st.DataObject) -> None:
        value = data.draw(st.sampled_from(sorted(one.refresh)))
        said = self.caller.token(self.token_path, grant_type="refresh_token", refresh_token=value)
        works = not one.ended and self.now() < one.refresh[value]
        assert ("access_token" in said) is works, said
        if works:
            one.refresh[value] = self.now() + 90 * DAY
            self.keep(one, said, 90 * DAY)
        elif not one.ended:
            assert said["error_codes"] == [700082]

    @rule(person=st.sampled_from(["ada", "grace", "mira"]), why=st.sampled_from([End.DEAUTHORIZED, End.ADMIN]))
    def withdraw(self, person: str, why: End) -> None:
        place = self.caller.realm.people[person].organisation
        ending = [one for one in self.of_place(place) if why is End.ADMIN or one.person == person]
        assert self.caller.sandbox.withdraw("microsoft-teams", person, why) == len(ending)
        for one in ending:
            one.ended = why


TestSlack = Slack.TestCase
TestSlack.settings = settings(max_examples=40, stateful_step_count=20)
TestMicrosoft = Microsoft.TestCase
TestMicrosoft.settings = settings(max_examples=40, stateful_step_count=20)
