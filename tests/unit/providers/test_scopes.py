"""What a grant is worth: fewer, same, wider, forbidden; by name, by family, and inside another scope."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse.providers import gmail, google_calendar, google_drive, google_meet, microsoft_teams, slack, zoom
from customhouse.providers.catalogue import BUILT_IN
from customhouse.providers.google import AUTH
from customhouse.providers.manifest import Alias, Provider
from customhouse.providers.scopes import Verdict, added, closure, compare, forbidden, names, normalise, requested
from customhouse.providers.vocabulary import Mode

GMAIL, CALENDAR, DRIVE, MEET, ZOOM = gmail.PROVIDER, google_calendar.PROVIDER, google_drive.PROVIDER, google_meet.PROVIDER, zoom.PROVIDER
providers = st.sampled_from(BUILT_IN)
provider_and_mode = providers.flatmap(lambda provider: st.tuples(st.just(provider), st.sampled_from(provider.modes)))


def test_act_asks_for_the_union_and_observe_for_reading_only() -> None:
    observed, acted = names(requested(GMAIL, Mode.OBSERVE)), names(requested(GMAIL, Mode.ACT))
    assert observed == ("openid", "email", f"{AUTH}gmail.readonly")
    assert acted == (*observed, f"{AUTH}gmail.send")
    assert names(added(GMAIL, Mode.ACT, observed)) == (f"{AUTH}gmail.send",)


def test_a_mode_that_a_provider_lacks_is_an_error() -> None:
    with pytest.raises(ValueError, match="zoom has no mode act"):
        requested(ZOOM, Mode.ACT)


@given(provider_and_mode)
def test_exactly_what_was_asked_for_is_the_same(case: tuple[Provider, Mode]) -> None:
    provider, mode = case
    comparison = compare(provider, mode, names(requested(provider, mode)))
    assert comparison.verdict is Verdict.SAME
    assert comparison.acceptable
    assert (comparison.missing, comparison.wider, comparison.forbidden) == ((), (), ())


@given(provider_and_mode, st.data())
def test_fewer_are_named_one_by_one(case: tuple[Provider, Mode], data: st.DataObject) -> None:
    provider, mode = case
    asked = names(requested(provider, mode))
    granted = data.draw(st.lists(st.sampled_from(asked), unique=True))
    comparison = compare(provider, mode, granted)
    held = closure(provider, granted)
    unsaid = {scope.name for scope in provider.scopes if scope.unsaid}
    assert comparison.missing == tuple(name for name in asked if name not in held | unsaid)
    assert comparison.verdict is (Verdict.FEWER if comparison.missing else Verdict.SAME)


def test_nothing_granted_is_fewer_and_nothing_said_is_unknown() -> None:
    empty, unsaid = compare(ZOOM, Mode.OBSERVE, ()), compare(ZOOM, Mode.OBSERVE, None)
    assert (empty.verdict, unsaid.verdict) == (Verdict.FEWER, Verdict.UNKNOWN)
    assert empty.missing == unsaid.missing == names(ZOOM.scopes)


@pytest.mark.parametrize(
    ("provider", "granted"),
    [
        (ZOOM, "meeting:write"),
        (ZOOM, "meeting:write:meeting"),
        (ZOOM, "MEETING:WRITE:MEETING"),
        (ZOOM, "cloud_recording:delete:recording_file"),
        (ZOOM, "meeting:update:meeting"),
        (ZOOM, "user:read:user:admin"),
        (ZOOM, "meeting:read:meeting:master"),
        (ZOOM, "chat:write"),
        (ZOOM, "chat_message:write"),
        (ZOOM, "team_chat:read:list_user_messages"),
        (ZOOM, "imchat:userapp"),
        (GMAIL, f"{AUTH}gmail.modify"),
        (GMAIL, f"{AUTH}gmail.settings.sharing"),
        (GMAIL, "https://mail.google.com/"),
        (CALENDAR, f"{AUTH}calendar"),
        (CALENDAR, f"{AUTH}calendar.acls.readonly"),
        (DRIVE, f"{AUTH}drive"),
        (DRIVE, f"{AUTH}drive.metadata.readonly"),
        (MEET, f"{AUTH}drive"),
        (MEET, f"{AUTH}meetings.space.settings"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.id,
)
def test_what_is_never_asked_for_is_refused_whatever_comes_with_it(provider: Provider, granted: str) -> None:
    asked = names(requested(provider, Mode.OBSERVE))
    for scopes in ([granted], [*asked, granted], [f" {granted} ", *asked]):
        comparison = compare(provider, Mode.OBSERVE, scopes)
        assert comparison.verdict is Verdict.FORBIDDEN
        assert not comparison.acceptable
        assert set(comparison.forbidden) <= set(comparison.wider)


def test_a_scope_that_holds_a_forbidden_one_is_forbidden() -> None:
    # No line of the deny-list fits this name; what it holds does.
    wide = Provider(**{name: getattr(GMAIL, name) for name in GMAIL.__slots__} | {"not_requested": GMAIL.not_requested[:2]})
    assert forbidden(wide, "https://mail.google.com/")


def test_more_than_asked_for_is_wider_even_where_nobody_forbade_it() -> None:
    asked = names(requested(CALENDAR, Mode.OBSERVE))
    comparison = compare(CALENDAR, Mode.OBSERVE, [*asked, f"{AUTH}calendar.events"])
    assert (comparison.verdict, comparison.wider) == (Verdict.WIDER, (f"{AUTH}calendar.events",))


def test_an_act_scope_on_an_observing_connection_is_wider() -> None:
    asked = names(requested(GMAIL, Mode.ACT))
    assert compare(GMAIL, Mode.OBSERVE, asked).wider == (f"{AUTH}gmail.send",)
    assert compare(GMAIL, Mode.ACT, asked).verdict is Verdict.SAME


def test_a_scope_counts_as_granted_inside_a_larger_one() -> None:
    comparison = compare(CALENDAR, Mode.ACT, ["openid", "email", f"{AUTH}calendar.events.owned"])
    assert comparison.verdict is Verdict.SAME


def test_google_spells_the_identity_scopes_in_its_own_way() -> None:
    spelled = [f"{AUTH}gmail.readonly", f"{AUTH}userinfo.email", "openid"]
    assert compare(GMAIL, Mode.OBSERVE, spelled).verdict is Verdict.SAME
    assert normalise(GMAIL, spelled) == (f"{AUTH}gmail.readonly", "email", "openid")


def test_classic_zoom_applications_stand_for_the_granular_scopes() -> None:
    comparison = compare(ZOOM, Mode.OBSERVE, ["recording:read", "meeting:read", "user:read"])
    assert comparison.verdict is Verdict.SAME
    assert set(comparison.granted) == set(names(ZOOM.scopes))
    assert compare(ZOOM, Mode.OBSERVE, ["user:read", "meeting:read"]).missing == tuple(
        scope.name for scope in ZOOM.scopes if scope.spec == "recording:read"
    )


@given(provider_and_mode, st.lists(st.text(max_size=40), max_size=8), st.data())
def test_no_grant_is_the_same_unless_it_is_within_what_was_asked_for(
    case: tuple[Provider, Mode], noise: list[str], data: st.DataObject
) -> None:
    provider, mode = case
    asked = names(requested(provider, mode))
    known = [scope.name for scope in provider.scopes] + [one.name for one in provider.implied] + [one.spelling for one in provider.aliases]
    granted = data.draw(st.permutations([*data.draw(st.lists(st.sampled_from(known), max_size=6)), *noise]))
    comparison = compare(provider, mode, granted)
    harmless = {one.name for one in provider.harmless}
    if comparison.acceptable:
        assert set(normalise(provider, granted)) <= set(asked) | harmless
        assert not any(forbidden(provider, name) for name in granted if name.strip())
    if comparison.verdict is Verdict.SAME:
        assert set(asked) <= closure(provider, normalise(provider, granted))


@given(providers)
def test_no_provider_forbids_what_it_asks_for(provider: Provider) -> None:
    assert [scope.name for scope in provider.scopes if forbidden(provider, scope.name)] == []


def test_a_scope_that_replies_leave_out_is_not_missed() -> None:
    teams = microsoft_teams.PROVIDER
    said = [name for name in names(requested(teams, Mode.OBSERVE)) if name != "offline_access"]
    assert compare(teams, Mode.OBSERVE, said).verdict is Verdict.SAME
    assert "offline_access" in compare(teams, Mode.OBSERVE, None).missing


def test_a_prefix_hides_nothing_from_the_deny_list() -> None:
    teams = microsoft_teams.PROVIDER
    asked = names(requested(teams, Mode.OBSERVE))
    for name in ("https://graph.microsoft.com/Mail.ReadWrite", "HTTPS://GRAPH.MICROSOFT.COM/sites.read.all", "Group.ReadWrite.All"):
        assert compare(teams, Mode.OBSERVE, [*asked, name]).verdict is Verdict.FORBIDDEN


def test_an_alias_hides_nothing_from_the_deny_list() -> None:
    sly = replace(ZOOM, aliases=(*ZOOM.aliases, Alias("meeting:write", ("meeting:read:meeting",))))
    comparison = compare(sly, Mode.OBSERVE, [*names(sly.scopes), "meeting:write"])
    assert (comparison.verdict, comparison.forbidden) == (Verdict.FORBIDDEN, ("meeting:write",))


def test_what_providers_add_by_themselves_does_not_make_a_grant_wider() -> None:
    teams = microsoft_teams.PROVIDER
    assert compare(teams, Mode.OBSERVE, [*names(requested(teams, Mode.OBSERVE)), "email"]).verdict is Verdict.SAME


def test_a_permission_in_a_persons_own_name_is_refused() -> None:
    comparison = compare(slack.PROVIDER, Mode.OBSERVE, ["chat:write", "users:read", "user/chat:write"])
    assert comparison.verdict is Verdict.FORBIDDEN
