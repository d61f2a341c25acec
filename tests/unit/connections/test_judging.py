"""What an answer to a refresh means: decided by the manifest, the journal and the bytes, and by nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse.connections.judging import (
    Ended,
    Everyone,
    Good,
    Journal,
    Later,
    Unacceptable,
    judge,
    may_show,
    repeated,
)
from customhouse.connections.settling import pause_after
from customhouse.connections.speaking import Lost
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.failures import Failure, classify
from customhouse.providers.manifest import OAuth2, Provider, Refresh
from customhouse.providers.replies import TokenReply
from customhouse.providers.scopes import names, requested
from customhouse.providers.vocabulary import Kind, Reason, Reuse, Rotation, Step
from customhouse.types import Secret

PROVIDERS = [one for one in Catalogue().providers if isinstance(one.auth, OAuth2)]
ALL = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda one: one.id)


def asked(provider: Provider) -> tuple[str, ...]:
    return names(requested(provider, provider.default_mode))


def reply(scopes: tuple[str, ...] | None) -> TokenReply:
    return TokenReply(Secret(b"a"), Secret(b"r"), 3600, None, scopes, None, None)


@ALL
def test_the_same_scopes_are_good_and_no_word_of_them_too(provider: Provider) -> None:
    good = judge(provider, asked(provider), Journal(), reply(asked(provider)))
    assert isinstance(good, Good)
    assert good.held is not None
    assert good.held.missing == ()
    assert judge(provider, asked(provider), Journal(), reply(None)) == Good(None)


@ALL
def test_less_is_named_and_more_is_refused(provider: Provider) -> None:
    said = [scope.name for scope in provider.scopes if scope.name in asked(provider) and not scope.unsaid]
    less = judge(provider, asked(provider), Journal(), reply(tuple(said[:-1])))
    assert isinstance(less, Good)
    assert less.held is not None
    assert set(less.held.missing) <= {said[-1]}
    more = judge(provider, asked(provider), Journal(), reply((*said, "never.heard:of-it")))
    assert more == Unacceptable("scope_wider", ("never.heard:of-it",))
    assert judge(provider, asked(provider), Journal(), reply(tuple(said)), same_account=False) == Unacceptable("other_account")


@ALL
def test_what_is_never_asked_for_is_refused_even_if_somebody_asked_for_it(provider: Provider) -> None:
    never = next((one.pattern for one in provider.not_requested if "*" not in one.pattern), None)
    if never is None:
        never = provider.not_requested[0].pattern.replace("*", "x")
    found = judge(provider, (*asked(provider), never), Journal(), reply((*asked(provider), never)))
    assert isinstance(found, Unacceptable)
    assert found.reason == "scope_forbidden"


@ALL
def test_only_a_refusal_of_the_grant_ends_a_connection_and_a_lost_answer_is_called_so(provider: Provider) -> None:
    ended = Failure(Kind.PERMANENT, Reason.GRANT_ENDED)
    assert judge(provider, (), Journal(), ended) == Ended("grant_ended")
    single = provider.oauth2.refresh.rotation is Rotation.SINGLE_USE
    assert judge(provider, (), Journal(2, lost=1), ended) == Ended("refresh_reply_lost" if single else "grant_ended")
    needed = Failure(Kind.PERMANENT, Reason.USER_NEEDED)
    assert judge(provider, (), Journal(2, lost=1), needed) == Ended("user_must_sign_in")


@ALL
@pytest.mark.parametrize("code", ["invalid_client", "unauthorized_client"])
def test_a_refused_registration_says_nothing_about_a_connection(provider: Provider, code: str) -> None:
    found = classify(provider, Step.REFRESH, 401, json.dumps({"ok": False, "error": code}).encode())
    assert judge(provider, (), Journal(5, lost=4), found) == Everyone("client_refused")


@given(
    st.sampled_from(PROVIDERS), st.integers(100, 599), st.binary(max_size=200) | st.dictionaries(st.text(), st.text()), st.integers(0, 9)
)
def test_no_answer_that_is_not_understood_costs_a_connection(provider: Provider, status: int, body: object, lost: int) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = classify(provider, Step.REFRESH, status, raw)
    for said in (found, Lost(found)) if found.kind is Kind.TRANSIENT else (found,):
        judgement = judge(provider, (), Journal(lost + 1, lost), said)
        if found.kind is Kind.TRANSIENT:
            assert judgement == Later(str(found.reason), lost=isinstance(said, Lost))
        else:
            assert isinstance(judgement, Ended | Everyone | Later)


@given(st.sampled_from(PROVIDERS), st.lists(st.text(min_size=1, max_size=20).filter(str.strip), max_size=8))
def test_whatever_a_reply_names_a_good_one_holds_nothing_that_was_not_asked_for(provider: Provider, spelled: list[str]) -> None:
    found = judge(provider, asked(provider), Journal(), reply(tuple(spelled)))
    if isinstance(found, Good):
        assert found.held is not None
        harmless = {one.name.casefold() for one in provider.harmless}
        assert {name for name in found.held.granted if name.casefold() not in harmless} <= set(asked(provider))


def test_a_doubtful_answer_ends_a_connection_only_after_many_and_long() -> None:
    slack = Catalogue().get("slack")
    said = classify(slack, Step.REFRESH, 200, b'{"ok": false, "error": "internal_error"}')
    assert said.kind is Kind.TRANSIENT
    for journal in (Journal(), Journal(9, lost=8, lost_for=3599.0), Journal(4, lost=3, lost_for=9e9)):
        assert isinstance(judge(slack, (), journal, Lost(said, doubtful=True)), Later)
    assert judge(slack, (), Journal(5, lost=4, lost_for=3600.0), Lost(said, doubtful=True)) == Ended("refresh_reply_lost")
    assert isinstance(judge(slack, (), Journal(50, lost=49, lost_for=9e9), Lost(said)), Later)


@given(st.integers(0, 5), st.floats(0, 1e6), st.integers(0, 3600), st.sampled_from(Reuse))
def test_a_token_is_shown_again_unless_that_could_end_the_grant(lost: int, ago: float, grace: int, reuse: Reuse) -> None:
    facts = Refresh(Rotation.SINGLE_USE, 3600, grace_seconds=grace, reuse=reuse)
    shown = may_show(facts, Journal(lost + 1, lost, ago))
    assert shown == (lost == 0 or reuse is not Reuse.REVOKES or ago < grace)


def test_a_refresh_repeats_what_was_granted_and_what_replies_leave_out() -> None:
    teams = Catalogue().get("microsoft-teams")
    assert "offline_access" in repeated(teams, asked(teams), ("User.Read",))
    assert set(repeated(teams, asked(teams), ("User.Read",))) <= set(asked(teams))
    zoom = Catalogue().get("zoom")
    assert repeated(zoom, asked(zoom), asked(zoom)[:2]) == asked(zoom)[:2]


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_to_a_bound_and_are_spread(failures: int, draw: float) -> None:
    pause = pause_after(failures, draw)
    assert 1.0 <= pause <= 450.0
    assert pause_after(failures + 1, draw) >= pause
    assert pause_after(failures, 0.0) <= pause
