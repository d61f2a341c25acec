"""Stripe's keys: what they open, how they refuse, and how they end."""

from __future__ import annotations

import base64
import re

import httpx
import pytest

from customhouse_sandbox import FaultKind, Operation
from customhouse_sandbox.stripe import keys
from customhouse_sandbox.stripe.resources import RESOURCES
from tests.sandboxes import Peer, stripe_key

pytestmark = pytest.mark.anyio

READABLE = [(resource.path, resource.permission) for resource in RESOURCES] + [("balance", "balance"), ("account", "accounts_kyc_basic")]
ADMIN = "/_sandbox"


async def listed(stripe: Peer, path: str, key: str) -> httpx.Response:
    return await stripe.send("GET", f"/v1/{path}", key)


def error(answer: httpx.Response) -> dict[str, str]:
    said: dict[str, str] = answer.json()["error"]
    return said


@pytest.mark.parametrize(("path", "permission"), READABLE, ids=[path for path, _ in READABLE])
async def test_each_call_is_opened_by_its_own_permission_and_by_no_other(stripe: Peer, path: str, permission: str) -> None:
    _, right = keys.make(stripe.realm, "ada", {permission: "read"})
    _, wrong = keys.make(stripe.realm, "ada", dict.fromkeys(set(keys.RESOURCES) - {permission}, "write"))
    assert (await listed(stripe, path, right)).status_code == httpx.codes.OK
    refused = await listed(stripe, path, wrong)
    assert refused.status_code == httpx.codes.FORBIDDEN
    assert f"Having the 'rak_{permission}_read' permission" in error(refused)["message"]
    assert error(refused)["type"] == "invalid_request_error"
    assert re.search(r"on account '(acct_[A-Za-z0-9]{16})'", error(refused)["message"])


async def test_a_key_opens_by_bearer_and_as_the_user_of_basic(stripe: Peer) -> None:
    key = stripe_key(stripe.sandbox)[1]
    basic = base64.b64encode(f"{key}:".encode()).decode()
    for header, status in (
        (f"Bearer {key}", 200),
        (f"Basic {basic}", 200),
        ("", 401),
        ("Basic ?", 401),
        ("Bearer rk_test_unknown", 401),
        (f"Bearer {key}x", 401),
    ):
        answer = await stripe.browser.get(f"{stripe.realm.base}/v1/customers", headers={"authorization": header})
        assert answer.status_code == status, header


@pytest.mark.parametrize(("words", "name"), [("having", "'rak_refund_write'"), ("enabling", "'refund_write'")])
async def test_a_refusal_names_the_permission_in_the_words_that_its_fact_says(stripe: Peer, words: str, name: str) -> None:
    stripe.sandbox.set_fact("stripe", "refusal_words", words)
    refused = await stripe.send("POST", "/v1/refunds", stripe_key(stripe.sandbox)[1], {"payment_intent": "pi_1"})
    assert (refused.status_code, name in error(refused)["message"]) == (403, True)


@pytest.mark.parametrize(("fact", "named"), [("yes", True), ("no", False)])
async def test_a_refusal_names_the_account_where_its_fact_says_so(stripe: Peer, fact: str, named: bool) -> None:
    stripe.sandbox.set_fact("stripe", "refusal_names_account", fact)
    refused = await listed(stripe, "refunds", stripe_key(stripe.sandbox)[1])
    assert (stripe.realm.people["ada"].organisation in error(refused)["message"]) is named


@pytest.mark.parametrize(("fact", "whole"), [("masked", False), ("whole", True)])
async def test_a_refusal_shows_as_much_of_the_key_as_its_fact_says(stripe: Peer, fact: str, whole: bool) -> None:
    stripe.sandbox.set_fact("stripe", "refusals_show_key", fact)
    key_id, key = stripe_key(stripe.sandbox)
    assert (key in (await listed(stripe, "refunds", key)).text) is whole
    keys.delete(stripe.realm, key_id)
    assert (key in (await listed(stripe, "refunds", key)).text) is whole
    assert key[-4:] in (await listed(stripe, "refunds", key)).text


@pytest.mark.parametrize(("fact", "status"), [("first", 403), ("last", 404)])
async def test_a_call_about_nothing_is_refused_before_or_after_the_permission_as_its_fact_says(
    stripe: Peer, fact: str, status: int
) -> None:
    stripe.sandbox.set_fact("stripe", "permissions_judged", fact)
    key = stripe_key(stripe.sandbox)[1]
    assert (await stripe.send("GET", "/v1/refunds/re_nothing", key)).status_code == status
    assert (await stripe.send("GET", "/v1/refunds?limit=x", key)).status_code == (400 if fact == "last" else 403)
    assert (await stripe.send("GET", "/v1/refunds?limit=1", key)).status_code == 403


async def test_permission_and_absence_are_told_apart(stripe: Peer) -> None:
    narrow, wide = stripe_key(stripe.sandbox)[1], stripe_key(stripe.sandbox, refund="write")[1]
    fake = {"payment_intent": "pi_nothing"}
    assert (await stripe.send("POST", "/v1/refunds", narrow, fake)).status_code == 403
    absent = await stripe.send("POST", "/v1/refunds", wide, fake)
    assert (absent.status_code, error(absent)["code"], error(absent)["param"]) == (400, "resource_missing", "payment_intent")
    gone = await stripe.send("GET", "/v1/customers/cus_nothing", narrow)
    assert (gone.status_code, error(gone)["code"]) == (404, "resource_missing")


@pytest.mark.parametrize("status", ["400", "404"])
async def test_a_parameter_that_names_nothing_is_refused_with_the_status_of_its_fact(stripe: Peer, status: str) -> None:
    stripe.sandbox.set_fact("stripe", "missing_reference", status)
    form = {"customer": "cus_nothing", "items[0][price]": "price_nothing"}
    assert (await stripe.send("POST", "/v1/subscriptions", stripe_key(stripe.sandbox)[1], form)).status_code == int(status)


@pytest.mark.parametrize(("fact", "status"), [("yes", 200), ("no", 403)])
async def test_writing_includes_reading_where_its_fact_says_so(stripe: Peer, fact: str, status: int) -> None:
    stripe.sandbox.set_fact("stripe", "write_includes_read", fact)
    key = stripe_key(stripe.sandbox)[1]
    assert (await listed(stripe, "customers", key)).status_code == status
    assert (await listed(stripe, "products", key)).status_code == 200
    assert (await stripe.send("POST", "/v1/customers", key, {"email": "a@example.org"})).status_code == 200


@pytest.mark.parametrize(("fact", "status"), [("apart", 403), ("with_charges", 200)])
async def test_reading_charges_opens_refunds_where_the_dashboard_shows_them_in_one_row(stripe: Peer, fact: str, status: int) -> None:
    stripe.sandbox.set_fact("stripe", "refunds_row", fact)
    assert (await listed(stripe, "refunds", stripe_key(stripe.sandbox, charge="read")[1])).status_code == status
    narrow = await listed(stripe, "refunds", stripe_key(stripe.sandbox)[1])
    assert f"rak_{'refund' if fact == 'apart' else 'charge'}_read" in error(narrow)["message"]


@pytest.mark.parametrize(("fact", "status"), [("yes", 403), ("no", 200)])
async def test_the_account_needs_a_permission_where_its_fact_says_so(stripe: Peer, fact: str, status: int) -> None:
    stripe.sandbox.set_fact("stripe", "account_needs_permission", fact)
    assert (await stripe.me(stripe_key(stripe.sandbox)[1])).status_code == status


async def test_the_account_says_who_it_is(stripe: Peer) -> None:
    accounts = [(await stripe.me(stripe_key(stripe.sandbox, who, accounts_kyc_basic="read")[1])).json() for who in ("ada", "grace", "alan")]
    assert accounts[0]["id"] == accounts[1]["id"] != accounts[2]["id"]
    assert accounts[0]["settings"]["dashboard"]["display_name"] == "Example & Co"
    stripe.sandbox.order("stripe", FaultKind.IDENTITY_MISSING, Operation.IDENTITY)
    assert "id" not in (await stripe.me(stripe_key(stripe.sandbox, accounts_kyc_basic="read")[1])).json()


async def test_a_restricted_key_may_do_everything_where_its_maker_wanted_so(stripe: Peer) -> None:
    for key in (stripe_key(stripe.sandbox, whole=True)[1], stripe_key(stripe.sandbox, kind="secret")[1]):
        assert [(await listed(stripe, path, key)).status_code for path, _ in READABLE] == [200] * len(READABLE)


async def test_a_publishable_key_opens_nothing(stripe: Peer) -> None:
    key = stripe_key(stripe.sandbox, kind="publishable")[1]
    answer = await listed(stripe, "customers", key)
    assert (key[:8], answer.status_code, error(answer)["code"]) == ("pk_test_", 403, "secret_key_required")


async def test_test_mode_and_live_mode_know_nothing_of_each_other(stripe: Peer) -> None:
    test, live = stripe_key(stripe.sandbox)[1], stripe_key(stripe.sandbox, mode="live")[1]
    made = (await stripe.send("POST", "/v1/customers", live, {"name": "Live"})).json()
    assert (live[:8], made["livemode"]) == ("rk_live_", True)
    assert (await stripe.send("GET", f"/v1/customers/{made['id']}", live)).status_code == 200
    assert (await stripe.send("GET", f"/v1/customers/{made['id']}", test)).status_code == 404


async def test_a_key_of_one_account_reaches_no_other(stripe: Peer) -> None:
    mine, other = stripe_key(stripe.sandbox)[1], stripe_key(stripe.sandbox, "alan")[1]
    name = (await listed(stripe, "customers", other)).json()["data"][0]["id"]
    assert (await stripe.send("GET", f"/v1/customers/{name}", mine)).status_code == 404
    for header in ("stripe_account", "stripe_context"):
        refused = await stripe.send("GET", "/v1/customers", mine, None, **{header: stripe.realm.people["alan"].organisation})
        assert (refused.status_code, error(refused)["code"]) == (403, "account_invalid")


async def test_a_rolled_key_expires_and_the_new_one_opens_the_same(stripe: Peer) -> None:
    key_id, old = stripe_key(stripe.sandbox)
    new = keys.roll(stripe.realm, key_id, 60)
    assert [(await listed(stripe, "customers", key)).status_code for key in (old, new)] == [200, 200]
    stripe.sandbox.clock.advance(61)
    refused = await listed(stripe, "customers", old)
    assert (refused.status_code, error(refused)["code"]) == (401, "api_key_expired")
    assert (await listed(stripe, "customers", new)).status_code == 200
    assert (await listed(stripe, "refunds", new)).status_code == 403
    assert [stripe.sandbox.is_live(key) for key in (old, new)] == [False, True]
    with pytest.raises(ValueError, match="There is no such key"):
        keys.roll(stripe.realm, "nothing")


async def test_a_deleted_key_is_an_invalid_one(stripe: Peer) -> None:
    key_id, key = stripe_key(stripe.sandbox)
    keys.delete(stripe.realm, key_id)
    refused = await listed(stripe, "customers", key)
    assert refused.status_code == 401
    assert "code" not in error(refused)
    assert error(refused)["message"].startswith("Invalid API Key provided: rk_test_****")
    with pytest.raises(ValueError, match="over already"):
        keys.roll(stripe.realm, key_id)


async def test_all_keys_of_a_person_end_when_they_remove_them_or_their_account_goes(stripe: Peer) -> None:
    ada, grace = stripe_key(stripe.sandbox)[1], stripe_key(stripe.sandbox, "grace")[1]
    assert stripe.sandbox.withdraw("stripe", "ada") == 1
    stripe.sandbox.remove_person("stripe", "grace")
    assert [(await listed(stripe, "customers", key)).status_code for key in (ada, grace)] == [401, 401]


async def test_a_key_can_become_wider_and_narrower_while_it_stays_the_same(stripe: Peer) -> None:
    key_id, key = stripe_key(stripe.sandbox)
    keys.change(stripe.realm, key_id, {"refund": "read"})
    assert [(await listed(stripe, path, key)).status_code for path in ("refunds", "customers")] == [200, 403]
    with pytest.raises(ValueError, match="Only a restricted key"):
        keys.change(stripe.realm, stripe_key(stripe.sandbox, kind="secret")[0], {})


async def test_the_admin_api_makes_changes_rolls_and_deletes_keys(stripe: Peer) -> None:
    async def ask(path: str, **said: object) -> httpx.Response:
        return await stripe.browser.post(f"{stripe.sandbox.base}{ADMIN}/{path}", json=said)

    made = (await ask("keys", person="ada", permissions={"customer": "read"})).json()
    assert (await listed(stripe, "customers", made["key"])).status_code == 200
    assert (await ask("keys/permissions", id=made["id"], permissions="all")).json() == {}
    assert (await listed(stripe, "refunds", made["key"])).status_code == 200
    rolled = (await ask("keys/roll", id=made["id"])).json()["key"]
    assert [(await listed(stripe, "refunds", key)).status_code for key in (made["key"], rolled)] == [401, 200]
    await ask("keys/delete", id=made["id"])
    assert (await listed(stripe, "refunds", rolled)).status_code == 401
    for path, said in (
        ("keys", {"person": "nobody"}),
        ("keys", {"person": "ada", "kind": "golden"}),
        ("keys", {"person": "ada", "permissions": {"everything": "read"}}),
        ("keys", {"person": "ada", "permissions": {"customer": "own"}}),
        ("keys/roll", {"id": made["id"], "seconds": "soon"}),
        ("keys/delete", {"id": "nothing"}),
        ("endpoints", {"person": "ada", "mode": "half"}),
    ):
        assert (await ask(path, **said)).status_code == 400, said
    told = (await stripe.browser.get(f"{stripe.sandbox.base}{ADMIN}/tokens", params={"target": "stripe"})).text
    assert rolled not in told


async def test_the_prepared_link_leads_to_a_page_that_makes_the_key(stripe: Peer) -> None:
    link = f"{stripe.realm.base}/apikeys/create?name=%3Cb%3E&permissions[]=rak_customer_write&permissions[]=rak_invoice_read"
    page = (await stripe.browser.get(link)).text
    assert "&lt;b&gt;" in page
    assert re.search(r'name="customer">(<option>\w+</option>)*<option selected>write', page)
    assert page.count("<option selected>none") == len(keys.RESOURCES) - 2
    made = await stripe.browser.post(
        link, data={"account": "ada", "mode": "test", "customer": "write", "invoice": "read", "refund": "none"}
    )
    found = re.search(r"rk_test_[A-Za-z0-9]+", made.text)
    assert found is not None
    assert [(await listed(stripe, path, found[0])).status_code for path in ("customers", "invoices", "refunds")] == [200, 200, 403]
    assert (await stripe.browser.post(link, data={"account": "nobody"})).status_code == 400


async def test_a_key_looks_as_stripes_do_and_is_told_to_whoever_searches_for_secrets(stripe: Peer) -> None:
    key_id, key = stripe_key(stripe.sandbox)
    assert re.fullmatch(r"rk_test_[A-Za-z0-9]{99}", key)
    assert {key} <= set(stripe.sandbox.secrets())
    assert "" not in set(stripe.sandbox.secrets())
    assert key_id not in key


@pytest.mark.parametrize("status", ["429", "400"])
async def test_too_many_calls_are_refused_with_the_status_that_its_fact_says(stripe: Peer, status: str) -> None:
    stripe.sandbox.set_fact("stripe", "rate_limit", status)
    key, other = stripe_key(stripe.sandbox)[1], stripe_key(stripe.sandbox, "alan")[1]
    stripe.sandbox.limit("stripe", 1, 60)
    answers = [await listed(stripe, "customers", one) for one in (key, key, other)]
    assert [answer.status_code for answer in answers] == [200, int(status), 200]
    assert error(answers[1])["code"] == "rate_limit"


@pytest.mark.parametrize(("status", "kind"), [(500, "api_error"), (503, "api_error"), (409, "invalid_request_error"), (402, "card_error")])
async def test_an_ordered_failure_has_the_body_that_stripe_gives_it(stripe: Peer, status: int, kind: str) -> None:
    stripe.sandbox.order("stripe", FaultKind.STATUS, Operation.API, status=status)
    answer = await listed(stripe, "customers", stripe_key(stripe.sandbox)[1])
    assert (answer.status_code, error(answer)["type"]) == (status, kind)
    assert answer.headers.get("stripe-should-retry") == ("true" if status == 409 else None)


async def test_calls_say_whose_key_they_showed(stripe: Peer) -> None:
    await listed(stripe, "customers", stripe_key(stripe.sandbox)[1])
    assert [(call.person, call.application, call.path, call.token) for call in stripe.sandbox.calls] == [
        ("ada", "stripe", "/v1/customers", 1)
    ]
