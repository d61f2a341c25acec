"""Stripe's calls (§7.1, §7.2): the same few verbs for every kind of object, and who the account is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from customhouse_sandbox.faults import FaultKind, Operation
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.paging import number
from customhouse_sandbox.routing import Ask, Route
from customhouse_sandbox.state import Realm
from customhouse_sandbox.stripe import hooks
from customhouse_sandbox.stripe.calls import Caller, answer
from customhouse_sandbox.stripe.errors import failed, missing_parameter, not_there, unknown_parameter
from customhouse_sandbox.stripe.keys import READ, WRITE
from customhouse_sandbox.stripe.parameters import nested, whole
from customhouse_sandbox.stripe.resources import RESOURCES, Resource, objects, put
from customhouse_sandbox.stripe.shapes import NUMBERS, SHAPES, available, currency, paid, typed

_PAGE: Final = 10
_LARGEST_PAGE: Final = 100
_PAGING: Final = ("limit", "starting_after", "ending_before", "expand", "created")
_OVER: Final = frozenset({"succeeded", "canceled"})
_EVENT_SECONDS: Final = 30 * 86_400
"""Events can be fetched for 30 days (§7.3)."""

Members = dict[str, Any]


def _said(ask: Ask, known: tuple[str, ...]) -> Members | Reply:
    """Return the parameters of a call: of the query where it reads, of the form where it changes something."""
    changing = ask.request.method == "POST"
    if changing and ask.request.body and not ask.request.is_form:
        return failed(400, "Invalid request (check that your POST content type is application/x-www-form-urlencoded).")
    said = nested(ask.request.form() if changing else ask.request.query)
    if isinstance(said, str):
        return unknown_parameter(said)
    for name in said:
        if name not in known:
            return unknown_parameter(name)
    for name in NUMBERS & set(said):
        if whole(said[name]) is None:
            return failed(400, f"Invalid integer: {name}", code="parameter_invalid_integer", param=name)
    if not isinstance(said.get("metadata", {}), dict) and said["metadata"] != "":
        return failed(400, "Invalid hash", param="metadata")
    return said


def _judged(ask: Ask, resource: Resource, caller: Caller, said: Members | Reply) -> Members | Reply:
    """Judge what parameters say: amounts, the currency, and objects that they name."""
    if isinstance(said, Reply):
        return said
    for name in resource.amounts:
        if name in said and (whole(said[name]) or 0) < 1:
            return failed(400, "This value must be greater than or equal to 1.", code="parameter_invalid_integer", param=name)
    if (wrong := currency(said)) is not None:
        return wrong
    for name, path in resource.refers:
        value = said.get(name)
        if value is not None and not isinstance(value, str):
            return failed(400, f"Invalid string: {name}", param=name)
        if value and value not in objects(ask.realm, caller.account, path, live=caller.live):
            return not_there(int(ask.realm.facts["missing_reference"]), path.rstrip("s"), value, name)
    return said


def list_objects(resource: Resource, ask: Ask) -> Reply:
    """`GET /v1/{objects}`: the newest first, from or up to an object that the caller knows."""

    def judge(caller: Caller) -> tuple[list[Members], bool] | Reply:
        said = _said(ask, (*_PAGING, *resource.filters))
        if isinstance(said, Reply):
            return said
        size = number(str(said.get("limit", "")), _PAGE, _LARGEST_PAGE)
        if size is None:
            return failed(400, "Invalid integer: limit", code="parameter_invalid_integer", param="limit")
        # Events older than they are kept are not listed.
        since = ask.realm.now() - _EVENT_SECONDS if resource.object == "event" else 0
        found = [one for one in reversed(_all(ask.realm, caller, resource).values()) if one["created"] >= since]
        found = [one for one in found if all(_fits(one, name, said[name]) for name in resource.filters if name in said)]
        return _page(found, said, size, resource)

    def act(_caller: Caller, found: tuple[list[Members], bool]) -> Reply:
        told = [_told(one) for one in found[0]]
        return as_json(200, {"object": "list", "url": f"/v1/{resource.path}", "has_more": found[1], "data": told})

    return answer(ask, resource.permission, READ, judge, act)


def _fits(one: Members, name: str, wanted: Any) -> bool:
    value = one.get(name)
    return str(value).lower() == str(wanted).lower() if isinstance(value, bool) else bool(value == wanted)


def _page(found: list[Members], said: Members, size: int, resource: Resource) -> tuple[list[Members], bool] | Reply:
    ids = [one["id"] for one in found]
    for name in ("starting_after", "ending_before"):
        if name in said and said[name] not in ids:
            return not_there(400, resource.object, str(said[name]), name)
    if "ending_before" in said:
        before = found[: ids.index(said["ending_before"])]
        return before[-size:], len(before) > size
    if "starting_after" in said:
        found = found[ids.index(said["starting_after"]) + 1 :]
    return found[:size], len(found) > size


def _all(realm: Realm, caller: Caller, resource: Resource) -> dict[str, Members]:
    if resource.path != "accounts":
        return objects(realm, caller.account, resource.path, live=caller.live)
    return {}  # Accounts of others, which a platform alone has.


def _told(one: Members) -> Members:
    """Return an object as it is told later: an endpoint's secret is told once."""
    return {key: value for key, value in one.items() if key != "secret"}


def _found(ask: Ask, caller: Caller, resource: Resource) -> Members | Reply:
    one = _all(ask.realm, caller, resource).get(ask.parts["id"])
    if one is None or (resource.object == "event" and one["created"] < ask.realm.now() - _EVENT_SECONDS):
        return not_there(404, resource.object.replace(".", " "), ask.parts["id"])
    return one


def get_object(resource: Resource, ask: Ask) -> Reply:
    """`GET /v1/{objects}/{id}`."""

    def judge(caller: Caller) -> Members | Reply:
        said = _said(ask, ("expand",))
        return said if isinstance(said, Reply) else _found(ask, caller, resource)

    return answer(ask, resource.permission, READ, judge, lambda _caller, one: as_json(200, _told(one)))


def create(resource: Resource, ask: Ask) -> Reply:
    """`POST /v1/{objects}`."""

    def judge(caller: Caller) -> Members | Reply:
        said = _said(ask, resource.creates)
        if isinstance(said, dict):
            for name in resource.needs:
                if said.get(name, "") == "":
                    return missing_parameter(name)
        said = _judged(ask, resource, caller, said)
        return said if isinstance(said, Reply) else SHAPES[resource.path](ask.realm, caller, said)

    def act(caller: Caller, made: Members) -> Reply:
        one = put(ask.realm, caller.account, resource.path, made, live=caller.live)
        _happened(ask, caller, resource, "created", one)
        if resource.object == "payment_intent":
            _settle(ask, caller, one)
        return as_json(200, one)

    return answer(ask, resource.permission, WRITE, judge, act)


def change(resource: Resource, ask: Ask) -> Reply:
    """`POST /v1/{objects}/{id}`: what is not named stays as it was."""

    def judge(caller: Caller) -> tuple[Members, Members] | Reply:
        found = _found(ask, caller, resource)
        if isinstance(found, Reply):
            return found
        if found.get("status") in _OVER:
            return failed(400, f"This {resource.object} is {found['status']}.", code=f"{resource.object}_unexpected_state")
        said = _judged(ask, resource, caller, _said(ask, resource.updates))
        return said if isinstance(said, Reply) else (found, said)

    def act(caller: Caller, judged: tuple[Members, Members]) -> Reply:
        found, said = judged
        changed = typed({name: value for name, value in said.items() if name != "items"})
        if isinstance(said.get("metadata"), dict):
            # One that is set to nothing goes away; the rest stays.
            kept = {key: text for key, text in found["metadata"].items() if key not in said["metadata"]}
            changed["metadata"] = kept | changed["metadata"]
        previous = {name: found.get(name) for name, value in changed.items() if found.get(name) != value}
        found.update(changed)
        _happened(ask, caller, resource, "updated", found, previous)
        return as_json(200, _told(found))

    return answer(ask, resource.permission, WRITE, judge, act)


def delete(resource: Resource, ask: Ask) -> Reply:
    """`DELETE /v1/{objects}/{id}`."""

    def act(caller: Caller, one: Members) -> Reply:
        del _all(ask.realm, caller, resource)[one["id"]]
        _happened(ask, caller, resource, "deleted", one)
        return as_json(200, {"id": one["id"], "object": resource.object, "deleted": True})

    return answer(ask, resource.permission, WRITE, lambda caller: _found(ask, caller, resource), act)


def cancel_subscription(resource: Resource, ask: Ask) -> Reply:
    """`DELETE /v1/subscriptions/{id}`: over at once, and never again."""

    def judge(caller: Caller) -> Members | Reply:
        said = nested([*ask.request.query, *ask.request.form()])
        if isinstance(said, str):
            return unknown_parameter(said)
        for name in said:
            if name not in _CANCELLATION:
                return unknown_parameter(name)
        found = _found(ask, caller, resource)
        if isinstance(found, Reply) or found["status"] != "canceled":
            return found
        return not_there(404, resource.object, found["id"])

    def act(caller: Caller, found: Members) -> Reply:
        now = int(ask.realm.now())
        found.update(status="canceled", canceled_at=now, ended_at=now)
        _happened(ask, caller, resource, "deleted", found)
        return as_json(200, found)

    return answer(ask, resource.permission, WRITE, judge, act)


_CANCELLATION: Final = ("invoice_now", "prorate", "cancellation_details", "expand")
_ENDINGS: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    # From which states, to which one.
    "cancel": (("requires_payment_method", "requires_confirmation", "requires_action", "requires_capture"), "canceled"),
    "capture": (("requires_capture",), "succeeded"),
    "expire": (("open",), "expired"),
    "confirm": (("requires_payment_method", "requires_confirmation"), "succeeded"),
}


def act_on(resource: Resource, verb: str, ask: Ask) -> Reply:
    """`POST /v1/{objects}/{id}/{verb}`."""
    before, after = _ENDINGS[verb]

    def judge(caller: Caller) -> tuple[Members, Members] | Reply:
        found = _found(ask, caller, resource)
        said = _said(ask, ("payment_method", "amount_to_capture", "cancellation_reason", "return_url", "off_session", "expand"))
        if isinstance(found, Reply):
            return found
        if isinstance(said, Reply):
            return said
        if found["status"] not in before:
            return failed(400, f"You cannot {verb} this {resource.object}: its status is {found['status']}.", code=_unexpected(resource))
        if verb == "confirm":
            method = said.get("payment_method") or found.get("payment_method")
            if not method:
                return failed(400, "It is missing a payment method.", code="parameter_missing", param="payment_method")
            made = paid({**found, "payment_method": method})
            return made if isinstance(made, Reply) else (found, made)
        amount = {"amount_received": found["amount"]} if verb == "capture" else {}
        return found, {**found, "status": after, **amount}

    def act(caller: Caller, judged: tuple[Members, Members]) -> Reply:
        found, made = judged
        found.update(made)
        if resource.object == "payment_intent":
            _settle(ask, caller, found)
        else:
            _happened(ask, caller, resource, found["status"], found)
        return as_json(200, found)

    return answer(ask, resource.permission, WRITE, judge, act)


def _unexpected(resource: Resource) -> str:
    return f"{resource.object.replace('.', '_')}_unexpected_state"


def _settle(ask: Ask, caller: Caller, intent: Members) -> None:
    """Charge a payment that succeeded, and say what became of one that is over."""
    if intent["status"] == "succeeded":
        taken: Members = {name: intent.get(name) for name in ("amount", "currency", "customer", "payment_method", "transfer_data")}
        taken |= {"payment_intent": intent["id"], "paid": True, "status": "succeeded", "amount_refunded": 0}
        charge = put(ask.realm, caller.account, "charges", taken, live=caller.live)
        intent["latest_charge"] = charge["id"]
    if intent["status"] in _OVER:
        hooks.record(ask.realm, caller.account, f"payment_intent.{intent['status']}", _told(intent), live=caller.live)


def _happened(ask: Ask, caller: Caller, resource: Resource, what: str, one: Members, previous: Members | None = None) -> None:
    key = ask.request.headers.get("idempotency-key")
    if resource.object == "refund":
        charge = objects(ask.realm, caller.account, "charges", live=caller.live)[one["charge"]]
        charge["amount_refunded"] += one["amount"]
    if name := hooks.NAMES.get(resource.object):
        hooks.record(ask.realm, caller.account, f"{name}.{what}", _told(one), live=caller.live, previous=previous, key=key)


def balance(ask: Ask) -> Reply:
    """`GET /v1/balance`."""

    def act(caller: Caller, _said: Members) -> Reply:
        there = [{"amount": available(ask.realm, caller), "currency": "usd"}]
        return as_json(
            200, {"object": "balance", "livemode": caller.live, "available": there, "pending": [{"amount": 0, "currency": "usd"}]}
        )

    return answer(ask, "balance", READ, lambda _caller: _said(ask, ("expand",)), act)


def account(ask: Ask) -> Reply:
    """`GET /v1/account`: who the key's owner is (§7.1, identity)."""
    needed = "accounts_kyc_basic" if ask.realm.facts["account_needs_permission"] == "yes" else ""

    def act(caller: Caller, _said: Members) -> Reply:
        told: Members = {
            "id": caller.account,
            "object": "account",
            "business_profile": {"name": f"{caller.person.family} & Co", "url": None},
            "country": "US",
            "default_currency": "usd",
            "email": caller.person.email,
            "charges_enabled": True,
            "payouts_enabled": True,
            "settings": {"dashboard": {"display_name": f"{caller.person.family} & Co", "timezone": "Etc/UTC"}},
            "type": "standard",
        }
        if FaultKind.IDENTITY_MISSING in ask.faults:
            del told["id"]
        return as_json(200, told)

    return answer(ask, needed, READ, lambda _caller: _said(ask, ("expand",)), act)


def unknown(ask: Ask) -> Reply:
    """Answer a path that there is not: with whom the key is for, first."""
    path = "".join(char if char.isprintable() else "?" for char in ask.request.path)
    refused = failed(404, f"Unrecognized request URL ({ask.request.method}: {path}).")
    return answer(ask, "", READ, lambda _caller: refused, lambda _caller, reply: reply)


def _routes(resource: Resource) -> list[Route]:
    path = f"/v1/{resource.path}"
    made = [
        Route("GET", path, partial(list_objects, resource), Operation.API, resource.cites),
        Route("GET", f"{path}/{{id}}", partial(get_object, resource), Operation.API, resource.cites),
    ]
    if resource.creates:
        made.append(Route("POST", path, partial(create, resource), Operation.API, resource.cites))
    if resource.updates:
        made.append(Route("POST", f"{path}/{{id}}", partial(change, resource), Operation.API, resource.cites))
    if resource.deletes:
        made.append(Route("DELETE", f"{path}/{{id}}", partial(delete, resource), Operation.API, resource.cites))
    if resource.object == "subscription":
        made.append(Route("DELETE", f"{path}/{{id}}", partial(cancel_subscription, resource), Operation.API, resource.cites))
    made += [
        Route("POST", f"{path}/{{id}}/{verb}", partial(act_on, resource, verb), Operation.API, resource.cites) for verb in resource.actions
    ]
    return made


ROUTES: Final = (
    Route("GET", "/v1/account", account, Operation.IDENTITY, "§7.1 (identity)"),
    Route("GET", "/v1/balance", balance, Operation.API, "§7.1 (never: balance)"),
    *(route for resource in RESOURCES for route in _routes(resource)),
)
