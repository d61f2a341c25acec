"""Stripe's calls: customers, subscriptions and payments, their parameters, idempotency keys; seen also by Stripe's own client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import stripe as vendor

from customhouse_sandbox import FaultKind, Operation
from customhouse_sandbox.stripe import keys
from customhouse_sandbox.stripe.parameters import nested
from customhouse_sandbox.stripe.resources import objects
from tests.sandboxes import Peer, stripe_key

pytestmark = pytest.mark.anyio


@pytest.fixture
def key(stripe: Peer) -> str:
    return stripe_key(stripe.sandbox)[1]


@pytest.fixture
def wide(stripe: Peer) -> str:
    return stripe_key(stripe.sandbox, whole=True)[1]


def first(stripe: Peer, path: str) -> dict[str, Any]:
    return next(iter(objects(stripe.realm, stripe.realm.people["ada"].organisation, path, live=False).values()))


def bracketed(name: str) -> str:
    """Return `a[b][c]` for `a__b__c`."""
    head, *rest = name.split("__")
    return head + "".join(f"[{part}]" for part in rest)


async def post(stripe: Peer, path: str, key: str, idempotency: str = "", **form: str) -> httpx.Response:
    headers = {"idempotency_key": idempotency} if idempotency else {}
    return await stripe.send("POST", f"/v1/{path}", key, {bracketed(name): value for name, value in form.items()}, **headers)


async def get(stripe: Peer, path: str, key: str) -> Any:
    return (await stripe.send("GET", f"/v1/{path}", key)).json()


def error(answer: httpx.Response) -> tuple[int, str, str]:
    said = answer.json()["error"]
    return answer.status_code, said.get("code", said["type"]), said.get("param", "")


async def test_a_customer_is_made_changed_found_and_deleted(stripe: Peer, key: str) -> None:
    made = (await post(stripe, "customers", key, email="new@example.org", name="New", metadata__a="1", metadata__b="2")).json()
    assert (made["object"], made["email"], made["metadata"], made["livemode"]) == (
        "customer",
        "new@example.org",
        {"a": "1", "b": "2"},
        False,
    )
    changed = (await post(stripe, f"customers/{made['id']}", key, name="Newer", metadata__a="", metadata__c="3")).json()
    assert (changed["name"], changed["email"], changed["metadata"]) == ("Newer", "new@example.org", {"b": "2", "c": "3"})
    assert [one["id"] for one in (await get(stripe, "customers?email=new%40example.org", key))["data"]] == [made["id"]]
    assert (await stripe.send("DELETE", f"/v1/customers/{made['id']}", key)).json() == {
        "id": made["id"],
        "object": "customer",
        "deleted": True,
    }
    assert error(await stripe.send("GET", f"/v1/customers/{made['id']}", key)) == (404, "resource_missing", "id")


async def test_a_list_is_paged_by_the_objects_that_the_caller_knows(stripe: Peer, key: str) -> None:
    page = await get(stripe, "customers?limit=2", key)
    assert (page["object"], page["url"], page["has_more"], len(page["data"])) == ("list", "/v1/customers", True, 2)
    rest = await get(stripe, f"customers?limit=2&starting_after={page['data'][-1]['id']}", key)
    assert (rest["has_more"], len(rest["data"])) == (False, 1)
    back = await get(stripe, f"customers?limit=1&ending_before={rest['data'][0]['id']}", key)
    assert (back["data"], back["has_more"]) == (page["data"][1:], True)
    for query in ("limit=0", "limit=101", "limit=x", "limit=1.5", "starting_after=cus_nothing", "order=asc", "limit[=1"):
        assert (await stripe.send("GET", f"/v1/customers?{query}", key)).status_code == 400, query


@pytest.mark.parametrize(
    ("path", "form", "expected"),
    [
        ("customers", {"colour": "red"}, (400, "parameter_unknown", "colour")),
        ("customers", {"metadata": "red"}, (400, "invalid_request_error", "metadata")),
        ("products", {}, (400, "parameter_missing", "name")),
        ("payment_intents", {"currency": "usd"}, (400, "parameter_missing", "amount")),
        ("payment_intents", {"amount": "0", "currency": "usd"}, (400, "parameter_invalid_integer", "amount")),
        ("payment_intents", {"amount": "ten", "currency": "usd"}, (400, "parameter_invalid_integer", "amount")),
        ("payment_intents", {"amount": "10", "currency": "money"}, (400, "invalid_request_error", "currency")),
        (
            "payment_intents",
            {"amount": "10", "currency": "usd", "capture_method": "late"},
            (400, "invalid_request_error", "capture_method"),
        ),
        ("payment_intents", {"amount": "10", "currency": "usd", "confirm": "true"}, (400, "parameter_missing", "")),
        ("subscriptions", {"customer": "cus_1"}, (400, "parameter_missing", "items")),
        ("checkout/sessions", {"mode": "gift"}, (400, "invalid_request_error", "mode")),
        ("checkout/sessions", {"mode": "payment"}, (400, "parameter_missing", "line_items[0][price]")),
        ("refunds", {}, (400, "invalid_request_error", "")),
        ("webhook_endpoints", {"url": "here", "enabled_events__": "*"}, (400, "url_invalid", "url")),
        ("payouts", {"amount": "10000000", "currency": "usd"}, (400, "balance_insufficient", "")),
    ],
)
async def test_what_is_wrong_with_a_call_is_named(
    stripe: Peer, wide: str, path: str, form: dict[str, str], expected: tuple[int, str, str]
) -> None:
    assert error(await post(stripe, path, wide, **form)) == expected


async def test_only_forms_are_taken_and_only_versions_that_could_be(stripe: Peer, key: str) -> None:
    assert (await stripe.call("POST", "/v1/customers", key, {"name": "x"})).status_code == 400
    assert (await stripe.send("GET", "/v1/customers", key, stripe_version="latest")).status_code == 400
    assert (await stripe.send("GET", "/v1/customers", key, stripe_version="2026-06-24.dahlia")).status_code == 200
    assert error(await stripe.send("GET", "/v1/nothing", key)) == (404, "invalid_request_error", "")
    assert (await stripe.send("GET", "/v1/nothing", "rk_test_nothing")).status_code == 401


async def test_a_subscription_is_made_changed_and_ended_once(stripe: Peer, key: str) -> None:
    customer, price = first(stripe, "customers")["id"], first(stripe, "prices")["id"]
    made = (await post(stripe, "subscriptions", key, customer=customer, items__0__price=price)).json()
    assert (made["status"], made["items"]["data"][0]["price"]["id"], made["customer"]) == ("active", price, customer)
    ending = (await post(stripe, f"subscriptions/{made['id']}", key, cancel_at_period_end="true")).json()
    assert ending["cancel_at_period_end"] is True
    over = await stripe.send("DELETE", f"/v1/subscriptions/{made['id']}", key)
    assert over.json()["status"] == "canceled"
    assert (await stripe.send("DELETE", f"/v1/subscriptions/{made['id']}", key)).status_code == 404
    assert (await stripe.send("DELETE", f"/v1/subscriptions/{made['id']}?now=yes", key)).status_code == 400
    assert (await post(stripe, f"subscriptions/{made['id']}", key, cancel_at_period_end="false")).status_code == 400
    trial = (await post(stripe, "subscriptions", key, customer=customer, items__0__price=price, trial_period_days="7")).json()
    once = objects(stripe.realm, stripe.realm.people["ada"].organisation, "prices", live=False)
    assert trial["status"] == "trialing"
    one_time = next(name for name, one in once.items() if one["type"] == "one_time")
    assert (await post(stripe, "subscriptions", key, customer=customer, items__0__price=one_time)).status_code == 400


async def test_a_payment_is_taken_captured_declined_or_cancelled(stripe: Peer, key: str, wide: str) -> None:
    form = {"amount": "500", "currency": "USD"}
    made = (await post(stripe, "payment_intents", key, **form)).json()
    assert (made["status"], made["currency"], made["amount"]) == ("requires_payment_method", "usd", 500)
    assert made["client_secret"] in set(stripe.sandbox.secrets())
    taken = (await post(stripe, f"payment_intents/{made['id']}/confirm", key, payment_method="pm_card_visa")).json()
    assert (taken["status"], taken["amount_received"]) == ("succeeded", 500)
    assert (await get(stripe, f"charges?payment_intent={made['id']}", wide))["data"][0]["amount"] == 500
    assert error(await post(stripe, f"payment_intents/{made['id']}/cancel", key))[:2] == (400, "payment_intent_unexpected_state")
    declined = await post(stripe, "payment_intents", key, **form, confirm="true", payment_method="pm_card_chargeDeclined")
    assert error(declined)[:2] == (402, "card_declined")
    held = (await post(stripe, "payment_intents", key, **form, confirm="true", payment_method="pm_1", capture_method="manual")).json()
    assert held["status"] == "requires_capture"
    assert (await post(stripe, f"payment_intents/{held['id']}/capture", key)).json()["status"] == "succeeded"
    waiting = (await post(stripe, "payment_intents", key, **form)).json()
    assert (await post(stripe, f"payment_intents/{waiting['id']}/confirm", key)).status_code == 400
    assert (await post(stripe, f"payment_intents/{waiting['id']}/cancel", key)).json()["status"] == "canceled"


async def test_money_goes_back_once_and_out_only_as_far_as_there_is_some(stripe: Peer, wide: str) -> None:
    charge = first(stripe, "charges")
    before = (await get(stripe, "balance", wide))["available"][0]["amount"]
    assert (await post(stripe, "refunds", wide, charge=charge["id"], amount="900")).json()["amount"] == 900
    assert (await post(stripe, "refunds", wide, payment_intent=charge["payment_intent"])).json()["amount"] == charge["amount"] - 900
    assert error(await post(stripe, "refunds", wide, charge=charge["id"]))[:2] == (400, "charge_already_refunded")
    assert (await get(stripe, "balance", wide))["available"][0]["amount"] == before - charge["amount"] == 0
    assert error(await post(stripe, "transfers", wide, amount="1", currency="usd", destination="acct_1"))[1] == "balance_insufficient"


async def test_payment_pages_and_links_have_an_address(stripe: Peer, wide: str) -> None:
    price = first(stripe, "prices")["id"]
    line = {"line_items__0__price": price, "line_items__0__quantity": "2"}
    session = (await post(stripe, "checkout/sessions", wide, mode="subscription", success_url="https://example.org", **line)).json()
    assert session["id"].startswith("cs_test_")
    assert session["url"].startswith("https://checkout.stripe.com/")
    assert session["amount_total"] == 5_800
    assert (await post(stripe, f"checkout/sessions/{session['id']}/expire", wide)).json()["status"] == "expired"
    assert (await post(stripe, f"checkout/sessions/{session['id']}/expire", wide)).status_code == 400
    assert (await post(stripe, "payment_links", wide, **line)).json()["url"].startswith("https://buy.stripe.com/")
    assert error(await post(stripe, "payment_links", wide, line_items__0__price="price_nothing"))[2] == "line_items[0][price]"


async def test_an_endpoint_made_by_the_api_tells_its_secret_once(stripe: Peer, wide: str) -> None:
    made = (await post(stripe, "webhook_endpoints", wide, url="https://example.org/hook", enabled_events__0="*")).json()
    assert made["secret"].startswith("whsec_")
    assert made["secret"] in set(stripe.sandbox.secrets())
    assert "secret" not in await get(stripe, f"webhook_endpoints/{made['id']}", wide)
    assert "secret" not in (await get(stripe, "webhook_endpoints", wide))["data"][0]


async def test_an_idempotency_key_makes_a_call_happen_once(stripe: Peer, key: str) -> None:
    made = await post(stripe, "customers", key, "key-1", name="Once")
    again = await post(stripe, "customers", key, "key-1", name="Once")
    assert (again.json(), again.headers["idempotent-replayed"], "idempotent-replayed" in made.headers) == (made.json(), "true", False)
    assert error(await post(stripe, "customers", key, "key-1", name="Other"))[:2] == (400, "idempotency_error")
    assert error(await post(stripe, "customers", key, "k" * 256, name="Once"))[:2] == (400, "idempotency_error")
    other = await post(stripe, "customers", stripe_key(stripe.sandbox, "alan")[1], "key-1", name="Once")
    assert other.json()["id"] != made.json()["id"]


@pytest.mark.parametrize(("hours", "same"), [("24", False), ("720", True)])
async def test_an_idempotency_key_is_kept_for_as_long_as_its_fact_says(stripe: Peer, key: str, hours: str, same: bool) -> None:
    stripe.sandbox.set_fact("stripe", "idempotency_hours", hours)
    made = (await post(stripe, "customers", key, "key-1", name="Once")).json()
    stripe.sandbox.clock.advance(25 * 3600)
    assert ((await post(stripe, "customers", key, "key-1", name="Once")).json()["id"] == made["id"]) is same


@pytest.mark.parametrize("kind", [FaultKind.LOST, FaultKind.UNREACHED])
async def test_a_call_whose_answer_was_lost_can_be_made_again(stripe: Peer, key: str, kind: FaultKind) -> None:
    stripe.sandbox.order("stripe", kind, Operation.API)
    with pytest.raises(httpx.TransportError):
        await post(stripe, "customers", key, "key-1", email="once@example.org")
    again = await post(stripe, "customers", key, "key-1", email="once@example.org")
    assert (again.headers.get("idempotent-replayed") == "true") is (kind is FaultKind.LOST)
    assert len((await get(stripe, "customers?email=once%40example.org", key))["data"]) == 1


@pytest.mark.parametrize(("fact", "status"), [("yes", 500), ("no", 200)])
async def test_a_failure_is_repeated_for_its_idempotency_key_where_its_fact_says_so(stripe: Peer, key: str, fact: str, status: int) -> None:
    stripe.sandbox.set_fact("stripe", "idempotency_keeps_failures", fact)
    stripe.sandbox.order("stripe", FaultKind.REPLY, Operation.API, status=500, body="{}")
    assert (await post(stripe, "customers", key, "key-1", name="Once")).status_code == 500
    assert (await post(stripe, "customers", key, "key-1", name="Once")).status_code == status


@pytest.mark.parametrize(("fact", "replayed"), [("no", False), ("yes", True)])
async def test_a_refusal_is_repeated_for_its_idempotency_key_where_its_fact_says_so(
    stripe: Peer, key: str, fact: str, replayed: bool
) -> None:
    stripe.sandbox.set_fact("stripe", "idempotency_keeps_validation", fact)
    answers = [await post(stripe, "payment_intents", key, "key-1", currency="usd") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert ("idempotent-replayed" in answers[1].headers) is replayed


def test_names_nest_by_brackets() -> None:
    said = [("items[0][price]", "a"), ("items[0][quantity]", "2"), ("items[1][price]", "b"), ("metadata[x-y]", ""), ("mode", "m")]
    assert nested(said) == {"items": [{"price": "a", "quantity": "2"}, {"price": "b"}], "metadata": {"x-y": ""}, "mode": "m"}
    assert nested([("a[][b]", "1"), ("a[][c]", "2"), ("a[][b]", "3"), ("e[]", "x"), ("e[]", "y")]) == {
        "a": [{"b": "1", "c": "2"}, {"b": "3"}],
        "e": ["x", "y"],
    }
    for name in ("a[", "a]b", "[a]", "", "a[b[c]]", "a[1][2][3][4][5][6]"):
        assert nested([(name, "1")]) == name
    assert nested([("a", "1"), ("a", "2")]) == "a"
    assert nested([("a", "1"), ("a[b]", "2")]) == "a[b]"


class Vendor:
    """Stripe's own client, at work on the sandbox."""

    def __init__(self, stripe: Peer, key: str) -> None:
        self.client = vendor.StripeClient(key, base_addresses={"api": stripe.realm.base}, max_network_retries=0)

    async def call(self, what: Callable[[Any], Any]) -> Any:
        return await asyncio.to_thread(what, self.client)


async def test_stripes_own_client_understands_the_answers(stripe: Peer, key: str) -> None:
    by = Vendor(stripe, key)
    made = await by.call(lambda client: client.v1.customers.create({"email": "sdk@example.org", "metadata": {"a": "1"}}))
    assert (made.email, made.metadata["a"]) == ("sdk@example.org", "1")
    price = first(stripe, "prices")["id"]
    params = {"customer": made.id, "items": [{"price": price, "quantity": 2}]}
    assert (await by.call(lambda client: client.v1.subscriptions.create(params))).status == "active"
    assert len(list(await by.call(lambda client: list(client.v1.customers.list({"limit": 2}).auto_paging_iter())))) == 4
    intent = {"amount": 100, "currency": "usd", "automatic_payment_methods": {"enabled": True}}
    assert (await by.call(lambda client: client.v1.payment_intents.create(intent))).amount == 100


async def test_stripes_own_client_names_the_errors(stripe: Peer, key: str) -> None:
    by = Vendor(stripe, key)
    with pytest.raises(vendor.PermissionError) as refused:
        await by.call(lambda client: client.v1.refunds.list({"limit": 1}))
    assert (refused.value.http_status, (refused.value.request_id or "")[:4]) == (403, "req_")
    with pytest.raises(vendor.InvalidRequestError, match="No such customer"):
        await by.call(lambda client: client.v1.customers.retrieve("cus_nothing"))
    stripe.sandbox.order("stripe", FaultKind.RATE_LIMITED, Operation.API)
    with pytest.raises(vendor.RateLimitError):
        await by.call(lambda client: client.v1.customers.list())
    stripe.sandbox.order("stripe", FaultKind.STATUS, Operation.API, status=503)
    with pytest.raises(vendor.APIError):
        await by.call(lambda client: client.v1.customers.list())
    options = {"idempotency_key": "key-1"}
    await by.call(lambda client: client.v1.customers.create({"name": "a"}, options))
    with pytest.raises(vendor.IdempotencyError):
        await by.call(lambda client: client.v1.customers.create({"name": "b"}, options))
    keys.roll(stripe.realm, next(token.grant.id for token in stripe.realm.tokens.values()))
    with pytest.raises(vendor.AuthenticationError) as ended:
        await by.call(lambda client: client.v1.customers.list())
    assert "api_key_expired" in str(ended.value.http_body)
