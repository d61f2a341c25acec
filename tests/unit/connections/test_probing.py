"""Pasted keys: their shape, what an answer to a probe shows, what all of them prove, and what that does to a connection."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse.connections.pasted import ENDED, WIDER, is_old, next_check
from customhouse.connections.probing import Findings, Outcome, Seen, Verdict, check_shape, check_webhook_secret, judge, refuse_unfit, weigh
from customhouse.connections.rechecking import Turn, turn
from customhouse.egress.fetching import Reply
from customhouse.errors import CredentialRefused
from customhouse.providers import stripe
from customhouse.providers.manifest import Probe, RestrictedKey
from customhouse.providers.replies import Account

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
STRIPE = stripe.PROVIDER
assert isinstance(STRIPE.auth, RestrictedKey)
AUTH: RestrictedKey = STRIPE.auth
KEY = "rk_test_51Canary0123456789Canary"
ACCOUNT = "acct_1Canary"
LACKING = (
    f"The provided key 'rk_test_***nary' does not have the required permissions for this endpoint on account '{ACCOUNT}'. "
    "Having the 'rak_refund_read' permission would allow this request to continue."
)
EVERY = (*AUTH.allowed, *AUTH.forbidden)


def answer(status: int, body: Any) -> Reply:
    return Reply(status, None, json.dumps(body).encode(), "application/json")


def refusal(status: int, message: str = "No such thing.", **members: Any) -> Reply:
    return answer(status, {"error": {"type": "invalid_request_error", "message": message, **members}})


LIST = answer(200, {"object": "list", "data": []})
ABSENT = refusal(404, "No such customer: 'cus_x'", code="resource_missing")


def good(probe: Probe) -> Reply:
    if probe in AUTH.forbidden:
        return refusal(403, LACKING)
    return LIST if probe.method == "GET" else ABSENT


def found(**changed: Reply) -> Findings:
    """Weigh a fit key's answers, some of them changed: by the permission that the probe shows, `rak_…` without the prefix and `*`."""
    seen = []
    for probe in EVERY:
        name = probe.shows.removeprefix("rak_").rstrip("_*")
        seen.append((probe, judge(STRIPE, AUTH, changed.get(name, good(probe)))))
    return weigh(AUTH, seen)


# Shapes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("sk_live_" + "a" * 24, "A secret key can do everything"),
        ("sk_test_" + "a" * 24, "A secret key can do everything"),
        ("pk_live_" + "a" * 24, "A publishable key is for browsers"),
        ("whsec_" + "a" * 24, "belongs in webhook_secret"),
        ("rk_org_" + "a" * 24, "16 to 240 letters and digits"),
        ("rk_test_short", "16 to 240 letters and digits"),
        (KEY + " ", "without blanks"),
        (KEY + "\n", "without blanks"),
        (" " + KEY, "without blanks"),
        ("RK_TEST_" + "a" * 24, "16 to 240 letters and digits"),
        ("rk_test_" + "ａ" * 24, "16 to 240 letters and digits"),
        ("", "16 to 240 letters and digits"),
        ("rk_live_" + "a" * 24, "real money"),
    ],
)
def test_only_restricted_keys_of_the_right_kind_are_taken_and_the_sentence_says_what_to_do(key: str, says: str) -> None:
    with pytest.raises(CredentialRefused, match=says) as refused:
        check_shape(STRIPE, AUTH, key, live=False, test=True)
    assert [fault.pointer for fault in refused.value.faults] == ["/credentials/api_key"]
    told = f"{refused.value.detail} {refused.value.faults}"
    assert "aaaa" not in told
    assert KEY.strip() not in told


def test_prod_takes_live_keys_and_test_keys_only_where_the_operator_lets_it() -> None:
    live = "rk_live_" + "a" * 24
    check_shape(STRIPE, AUTH, live, live=True, test=False)
    check_shape(STRIPE, AUTH, KEY, live=True, test=True)
    with pytest.raises(CredentialRefused, match="CUSTOMHOUSE_ALLOW_TEST_KEYS"):
        check_shape(STRIPE, AUTH, KEY, live=True, test=False)


@given(st.text(max_size=300) | st.text(alphabet=string.ascii_letters + "_" + string.digits, max_size=260).map("rk_test_".__add__))
def test_whatever_is_pasted_is_taken_whole_or_refused_without_being_repeated(key: str) -> None:
    start, rest = key[:8], key[8:]
    letters = set(string.ascii_letters + string.digits)
    if start in {"rk_live_", "rk_test_"} and 16 <= len(rest) <= 240 and set(rest) <= letters:
        check_shape(STRIPE, AUTH, key, live=True, test=True)
        return
    with pytest.raises(CredentialRefused) as refused:
        check_shape(STRIPE, AUTH, key, live=True, test=True)
    assert len(key) < 12 or key not in f"{refused.value.detail} {refused.value.faults}"


def test_a_webhook_secret_is_one_or_refused() -> None:
    check_webhook_secret(STRIPE, AUTH, "whsec_" + "a" * 32)
    for wrong in (KEY, "whsec_short", "whsec_" + "a" * 32 + "\n", ""):
        with pytest.raises(CredentialRefused) as refused:
            check_webhook_secret(STRIPE, AUTH, wrong)
        assert [fault.pointer for fault in refused.value.faults] == ["/credentials/webhook_secret"]
    with pytest.raises(CredentialRefused):
        check_webhook_secret(STRIPE, replace(AUTH, webhook_pattern=""), "whsec_" + "a" * 32)


# One answer -----------------------------------------------------------------------------------------------------------

PAGE = Reply(200, None, b"<html>sign in</html>", "text/html")


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (LIST, Outcome.MAY),
        (ABSENT, Outcome.MAY),
        (refusal(400, "Invalid integer"), Outcome.MAY),
        (refusal(403, LACKING), Outcome.LACKS),
        (refusal(401, "Invalid API Key provided: rk_test_***"), Outcome.DEAD),
        (refusal(401, "Expired API Key provided", code="api_key_expired"), Outcome.DEAD),
        (refusal(403, "This IP address is not allowed."), Outcome.DOUBT),
        (refusal(429, "Too many requests"), Outcome.DOUBT),
        (refusal(400, "Too many requests", code="rate_limit"), Outcome.DOUBT),
        (refusal(409, "Locked", code="lock_timeout"), Outcome.DOUBT),
        (answer(402, {"error": {"type": "card_error"}}), Outcome.DOUBT),
        (answer(500, {"error": {"type": "api_error"}}), Outcome.DOUBT),
        (Reply(503, None, b""), Outcome.DOUBT),
        (PAGE, Outcome.DOUBT),
        (answer(200, {"data": []}), Outcome.DOUBT),
        (answer(200, []), Outcome.DOUBT),
        (replace(PAGE, status=403), Outcome.DOUBT),
        (replace(PAGE, status=401), Outcome.DOUBT),
        (replace(PAGE, status=404), Outcome.DOUBT),
        (replace(PAGE, status=302), Outcome.DOUBT),
        (Reply(None, "timeout"), Outcome.DOUBT),
        (Reply(None, "connect_failed"), Outcome.DOUBT),
        (replace(LIST, error="response_too_large"), Outcome.DOUBT),
        (replace(refusal(403, LACKING), error="timeout"), Outcome.DOUBT),
    ],
    ids=lambda one: f"{one.status}-{one.error}-{one.body[:60].decode()}" if isinstance(one, Reply) else str(one),
)
def test_only_the_provider_s_own_words_show_anything(reply: Reply, outcome: Outcome) -> None:
    assert judge(STRIPE, AUTH, reply).outcome is outcome


def test_a_refusal_names_the_account_by_the_way() -> None:
    assert judge(STRIPE, AUTH, refusal(403, LACKING)) == Seen(Outcome.LACKS, ACCOUNT)
    assert judge(STRIPE, AUTH, refusal(403, "It does not have the required permissions.")) == Seen(Outcome.LACKS)


@given(st.one_of(st.none(), st.integers(100, 599)), st.binary(max_size=200))
def test_whatever_bytes_come_nothing_is_raised_and_a_good_status_alone_shows_nothing(status: int | None, raw: bytes) -> None:
    seen = judge(STRIPE, AUTH, Reply(status, None if status else "timeout", raw))
    assert seen.outcome is not Outcome.LACKS
    if seen.outcome is Outcome.MAY:
        assert b"{" in raw


# All answers ----------------------------------------------------------------------------------------------------------


def test_a_key_with_just_the_right_permissions_is_fit() -> None:
    whole = found()
    assert whole.verdict is Verdict.FIT
    assert whole.granted == tuple(scope.name for scope in STRIPE.scopes)
    assert (whole.missing, whole.wider, whole.account) == ((), (), Account(ACCOUNT, ACCOUNT))
    refuse_unfit(STRIPE, AUTH, whole)


@pytest.mark.parametrize("probe", AUTH.forbidden, ids=lambda probe: f"{probe.method} {probe.path}")
@pytest.mark.parametrize("reply", [LIST, ABSENT, refusal(400, "Missing required param")], ids=["list", "absent", "invalid"])
def test_every_answer_but_a_refusal_for_want_of_the_permission_makes_a_key_wider(probe: Probe, reply: Reply) -> None:
    wide = found(**{probe.shows.removeprefix("rak_").rstrip("_*"): reply})
    assert (wide.verdict, wide.wider) == (Verdict.WIDER, (probe.shows,))
    with pytest.raises(CredentialRefused, match=r"set rak_\w+.* to None") as refused:
        refuse_unfit(STRIPE, AUTH, wide)
    assert refused.value.faults


@pytest.mark.parametrize("probe", AUTH.allowed, ids=lambda probe: f"{probe.method} {probe.path}")
def test_a_permission_of_which_one_probe_is_refused_is_missing(probe: Probe) -> None:
    seen = [(one, judge(STRIPE, AUTH, refusal(403, LACKING) if one == probe else good(one))) for one in EVERY]
    less = weigh(AUTH, seen)
    assert (less.verdict, less.missing) == (Verdict.NARROWER, (probe.shows,))
    assert probe.shows not in less.granted
    with pytest.raises(CredentialRefused, match=probe.shows):
        refuse_unfit(STRIPE, AUTH, less)


@pytest.mark.parametrize("probe", EVERY, ids=lambda probe: f"{probe.method} {probe.path}")
@pytest.mark.parametrize(
    "reply",
    [Reply(None, "timeout"), Reply(502, None, b""), refusal(429), PAGE, replace(PAGE, status=403), refusal(401, "Invalid API Key")],
    ids=["timeout", "502", "429", "page", "page-403", "401"],
)
def test_one_doubtful_answer_leaves_the_whole_key_in_doubt(probe: Probe, reply: Reply) -> None:
    seen = [(one, judge(STRIPE, AUTH, reply if one == probe else good(one))) for one in EVERY]
    assert weigh(AUTH, seen).verdict is Verdict.DOUBT
    refuse_unfit(STRIPE, AUTH, weigh(AUTH, seen))  # a doubt is no refusal: it can be tried again


def test_a_needed_list_that_is_refused_for_another_reason_proves_nothing() -> None:
    assert found(product_read=refusal(404, "Unrecognized request URL")).verdict is Verdict.DOUBT


def test_what_is_certain_comes_before_what_is_not() -> None:
    assert found(refund=LIST, balance=Reply(None, "timeout"), product_read=refusal(403, LACKING)).verdict is Verdict.WIDER
    assert found(balance=Reply(None, "timeout"), product_read=refusal(403, LACKING)).verdict is Verdict.DOUBT


def test_a_key_that_every_probe_finds_dead_is_dead() -> None:
    gone = judge(STRIPE, AUTH, refusal(401, "Expired API Key provided", code="api_key_expired"))
    one = weigh(AUTH, [(AUTH.allowed[0], gone)])
    assert (one.verdict, one.why) == (Verdict.DEAD, "grant_ended")
    with pytest.raises(CredentialRefused, match="does not accept this key"):
        refuse_unfit(STRIPE, AUTH, one)


def test_refusals_that_name_two_accounts_prove_nothing() -> None:
    assert found(refund=refusal(403, LACKING.replace(ACCOUNT, "acct_other"))).verdict is Verdict.DOUBT


@given(st.sets(st.sampled_from(EVERY), max_size=len(EVERY) - 1))
def test_a_probe_that_was_not_made_is_never_taken_for_a_proof(made: set[Probe]) -> None:
    assert weigh(AUTH, [(probe, judge(STRIPE, AUTH, good(probe))) for probe in EVERY if probe in made]).verdict is Verdict.DOUBT


OUTCOMES = [LIST, ABSENT, refusal(403, LACKING), refusal(401), refusal(429), PAGE, Reply(None, "timeout"), refusal(403, "no")]


@given(st.lists(st.sampled_from(OUTCOMES), min_size=len(EVERY), max_size=len(EVERY)))
def test_no_mixture_of_answers_makes_a_key_fit_but_the_right_one(replies: list[Reply]) -> None:
    weighed = weigh(AUTH, [(probe, judge(STRIPE, AUTH, reply)) for probe, reply in zip(EVERY, replies, strict=True)])
    right = [
        judge(STRIPE, AUTH, reply).outcome is judge(STRIPE, AUTH, good(probe)).outcome for probe, reply in zip(EVERY, replies, strict=True)
    ]
    if weighed.verdict is Verdict.FIT:
        assert all(right)
    if any(
        judge(STRIPE, AUTH, reply).outcome is Outcome.MAY for probe, reply in zip(EVERY, replies, strict=True) if probe in AUTH.forbidden
    ):
        assert weighed.verdict is Verdict.WIDER


# What a later check does ----------------------------------------------------------------------------------------------

FIT = found()
LESS = found(product_read=refusal(403, LACKING))
WIDE = found(refund=LIST)
GONE = Findings(Verdict.DEAD, why="grant_ended")
DOUBT = Findings(Verdict.DOUBT, why="provider_unavailable")


@pytest.mark.parametrize(
    ("status", "reason", "before", "seen", "after"),
    [
        ("active", None, FIT, FIT, Turn("active", None)),
        ("active", None, FIT, LESS, Turn("degraded", "scopes_missing", regrant=True)),
        ("degraded", "scopes_missing", LESS, LESS, Turn("degraded", "scopes_missing")),
        ("degraded", "scopes_missing", LESS, FIT, Turn("active", None, regrant=True)),
        ("active", None, FIT, WIDE, Turn("disabled", WIDER)),
        ("paused", None, FIT, WIDE, Turn("disabled", WIDER)),
        ("disabled", WIDER, FIT, FIT, Turn("disabled", WIDER)),
        ("active", None, FIT, GONE, Turn("reauthorization_required", ENDED)),
        ("reauthorization_required", ENDED, FIT, FIT, Turn("active", None)),
        ("reauthorization_required", ENDED, FIT, LESS, Turn("degraded", "scopes_missing", regrant=True)),
        ("disabled", WIDER, FIT, GONE, Turn("disabled", WIDER)),
        ("paused", None, FIT, FIT, Turn("paused", None)),
        ("paused", None, FIT, LESS, Turn("paused", None, regrant=True)),
        ("paused", None, FIT, GONE, Turn("paused", None)),
        ("disconnected", "disconnected", FIT, WIDE, Turn("disconnected", "disconnected")),
    ],
)
def test_a_check_does_to_a_connection_what_was_certain(
    status: str, reason: str | None, before: Findings, seen: Findings, after: Turn
) -> None:
    assert turn(status, reason, before.granted, seen) == after


@pytest.mark.parametrize("status", ["active", "degraded", "paused", "reauthorization_required", "disabled", "disconnected"])
def test_a_doubt_changes_nothing(status: str) -> None:
    assert turn(status, "why", FIT.granted, DOUBT) == Turn(status, "why")


@given(st.floats(0, 1, exclude_max=True))
def test_checks_are_a_day_apart_give_or_take_a_tenth(draw: float) -> None:
    wait = (next_check(AUTH, NOW, lambda: draw) - NOW).total_seconds()
    assert 0.9 * 86_400 <= wait <= 1.1 * 86_400


def test_a_key_is_old_at_its_age_and_never_where_there_is_none() -> None:
    assert not is_old(NOW, timedelta(days=180), NOW + timedelta(days=179))
    assert is_old(NOW, timedelta(days=180), NOW + timedelta(days=180))
    assert not is_old(NOW, timedelta(0), NOW + timedelta(days=9999))
