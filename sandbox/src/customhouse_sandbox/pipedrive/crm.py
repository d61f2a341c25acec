"""Pipedrive's people, organizations and deals (§8.4, API v2): created, searched, changed, deleted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from customhouse_sandbox import oauth
from customhouse_sandbox.clock import rfc3339
from customhouse_sandbox.faults import FaultKind, Operation
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.paging import number, page
from customhouse_sandbox.pipedrive.errors import failed
from customhouse_sandbox.routing import Ask, Route
from customhouse_sandbox.state import Person, Realm

_LARGEST_PAGE: Final = 500
_PAGE: Final = 100
_BURST: Final = 80
_SHORTEST_TERM: Final = 2
_VISIBLE: Final = (1, 3, 5, 7)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _are_contacts(value: Any) -> bool:
    """Tell whether a value lists addresses or numbers: each with a value, one at most the primary one."""
    if not isinstance(value, list) or not all(isinstance(one, dict) and set(one) <= {"value", "primary", "label"} for one in value):
        return False
    flags = [one.get("primary", False) for one in value]
    texts = [one.get("value") for one in value] + [one.get("label", "work") for one in value]
    return all(isinstance(flag, bool) for flag in flags) and sum(flags) <= 1 and all(isinstance(text, str) for text in texts)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(_is_number(one) for one in value)


_COMMON: Final[dict[str, Callable[[Any], bool]]] = {
    "owner_id": _is_number,
    "visible_to": lambda value: _is_number(value) and value in _VISIBLE,
    "label_ids": _are_numbers,
    "custom_fields": lambda value: isinstance(value, dict),
}


@dataclass(frozen=True, slots=True)
class Entity:
    """One kind of record."""

    path: str
    name: str
    """In webhooks and searches."""
    needs: str
    scope: str
    """Without `:read` or `:full`."""
    members: dict[str, Callable[[Any], bool]]
    refers: tuple[tuple[str, str], ...] = ()
    """Members that name another record, and the path of those."""


ENTITIES: Final = (
    Entity(
        "persons",
        "person",
        "name",
        "contacts",
        {
            **_COMMON,
            "name": _is_text,
            "org_id": _is_number,
            "emails": _are_contacts,
            "phones": _are_contacts,
            "marketing_status": lambda value: value in ("no_consent", "unsubscribed", "subscribed", "archived"),
        },
        (("org_id", "organizations"),),
    ),
    Entity(
        "organizations",
        "organization",
        "name",
        "contacts",
        {**_COMMON, "name": _is_text, "address": lambda value: isinstance(value, dict)},
    ),
    Entity(
        "deals",
        "deal",
        "title",
        "deals",
        {
            **_COMMON,
            "title": _is_text,
            "value": _is_amount,
            "currency": _is_text,
            "person_id": _is_number,
            "org_id": _is_number,
            "status": lambda value: value in ("open", "won", "lost"),
            "expected_close_date": _is_text,
        },
        (("person_id", "persons"), ("org_id", "organizations")),
    ),
)
OF: Final = {entity.name: entity for entity in ENTITIES}


def records(realm: Realm, company: str, path: str) -> dict[int, dict[str, Any]]:
    """Return a company's records of one kind by id, the oldest first."""
    store: dict[tuple[str, str], dict[int, dict[str, Any]]] = realm.store.setdefault("records", {})
    return store.setdefault((company, path), {})


def add(realm: Realm, person: Person, entity: Entity, members: dict[str, Any]) -> dict[str, Any]:
    """Make a record."""
    realm.store["last-id"] = realm.store.get("last-id", 100) + 1
    now = rfc3339(realm.now())
    made = {
        "id": realm.store["last-id"],
        **dict.fromkeys(entity.members),
        **({"emails": [], "phones": []} if entity.name == "person" else {}),
        "owner_id": int(person.id),
        "visible_to": 3,
        "label_ids": [],
        "custom_fields": {},
        **members,
        "add_time": now,
        "update_time": now,
        "is_deleted": False,
    }
    records(realm, person.organisation, entity.path)[made["id"]] = made
    return made


def fill(realm: Realm) -> None:
    """Give each company an organization, three people and a deal."""
    for person in {person.organisation: person for person in reversed(realm.people.values())}.values():
        org = add(realm, person, OF["organization"], {"name": "Example Org"})
        for count in (1, 2, 3):
            emails = [{"value": f"contact{count}@example.org", "primary": True, "label": "work"}]
            add(realm, person, OF["person"], {"name": f"Contact {count}", "emails": emails, "org_id": org["id"]})
        add(realm, person, OF["deal"], {"title": "First deal", "value": 100, "currency": "USD", "org_id": org["id"], "status": "open"})


def opened(ask: Ask, *scopes: str) -> Person | Reply:
    """Return whose token opens a call, or the refusal: one of the scopes is enough."""
    shown = oauth.bearer(ask)
    if shown is None:
        return failed(401, "unauthorized access")
    held, person = shown
    return person if set(scopes) & set(held.scopes) else failed(403, "Scope and URL mismatch")


def answered(ask: Ask, person: Person, status: int, said: dict[str, Any]) -> Reply:
    """Return an answer, with what is left of the rate where that is told."""
    said = {"success": True, **said}
    if ask.realm.facts["rate_limit_headers"] == "no":
        return as_json(status, said)
    limit = ask.realm.limit
    most = limit.calls if limit else _BURST
    used = len(limit.seen.get(person.organisation, ())) if limit else 1
    told = {"limit": most, "remaining": max(0, most - used), "reset": int(limit.seconds) if limit else 2}
    return as_json(status, said, *((f"x-ratelimit-{name}", str(value)) for name, value in told.items()))


def me(ask: Ask) -> Reply:
    """`GET /api/v1/users/me`."""
    person = opened(ask, "base")
    if isinstance(person, Reply):
        return person
    found: dict[str, Any] = {
        "id": int(person.id),
        "name": person.name,
        "email": person.email,
        "lang": 1,
        "timezone_name": "Etc/UTC",
        "company_id": int(person.organisation),
        "company_name": f"Company {person.organisation}",
        "company_domain": f"company-{person.organisation}",
        "company_country": "EE",
        "is_admin": 1 if person.login == "ada" else 0,
        "active_flag": True,
    }
    if FaultKind.IDENTITY_MISSING in ask.faults:
        del found["id"], found["company_id"]
    return answered(ask, person, 200, {"data": found})


def _reading(entity: Entity) -> tuple[str, ...]:
    return f"{entity.scope}:read", f"{entity.scope}:full"


def _judged(ask: Ask, person: Person, entity: Entity, *, whole: bool) -> dict[str, Any] | Reply:
    """Return the members that a call writes, or what is wrong with them."""
    said = ask.request.json() if ask.request.is_json else None
    if said is None:
        return failed(400, "The body is no JSON object")
    for name, value in said.items():
        if name not in entity.members:
            return failed(400, f"Validation failed: {name}: Parameter '{name}' is not allowed")
        if value is None and name != entity.needs:
            continue
        if not entity.members[name](value):
            return failed(400, f"Validation failed: {name}: has a wrong form")
    if whole and entity.needs not in said:
        return failed(400, f"Validation failed: {entity.needs}: is required")
    for name, path in entity.refers:
        if said.get(name) is not None and _there(ask.realm, person, path, said[name]) is None:
            return failed(400, f"Validation failed: {name}: there is no such record")
    if said.get("owner_id") is not None and not any(
        one.id == str(said["owner_id"]) and one.organisation == person.organisation for one in ask.realm.people.values()
    ):
        return failed(400, "Validation failed: owner_id: there is no such user")
    return said


def _there(realm: Realm, person: Person, path: str, name: Any) -> dict[str, Any] | None:
    one = records(realm, person.organisation, path).get(name) if isinstance(name, int) else None
    return one if one is not None and not one["is_deleted"] else None


def _named(ask: Ask, person: Person, entity: Entity) -> dict[str, Any] | Reply:
    text = ask.parts["id"]
    name = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0  # noqa: PLR2004 - 64 bits
    one = _there(ask.realm, person, entity.path, name)
    return failed(404, f"{entity.name.capitalize()} not found") if one is None else one


def create(entity: Entity, ask: Ask) -> Reply:
    """`POST /api/v2/{records}`: the same one twice makes two."""
    person = opened(ask, f"{entity.scope}:full")
    if isinstance(person, Reply):
        return person
    said = _judged(ask, person, entity, whole=True)
    if isinstance(said, Reply):
        return said
    return answered(ask, person, int(ask.realm.facts["created_status"]), {"data": add(ask.realm, person, entity, said)})


def get(entity: Entity, ask: Ask) -> Reply:
    """`GET /api/v2/{records}/{id}`."""
    person = opened(ask, *_reading(entity))
    if isinstance(person, Reply):
        return person
    one = _named(ask, person, entity)
    return one if isinstance(one, Reply) else answered(ask, person, 200, {"data": one})


def change(entity: Entity, ask: Ask) -> Reply:
    """`PATCH /api/v2/{records}/{id}`."""
    person = opened(ask, f"{entity.scope}:full")
    if isinstance(person, Reply):
        return person
    one = _named(ask, person, entity)
    if isinstance(one, Reply):
        return one
    said = _judged(ask, person, entity, whole=False)
    if isinstance(said, Reply):
        return said
    one.update(said, update_time=rfc3339(ask.realm.now()))
    return answered(ask, person, 200, {"data": one})


def delete(entity: Entity, ask: Ask) -> Reply:
    """`DELETE /api/v2/{records}/{id}`: the scope to write includes it."""
    person = opened(ask, f"{entity.scope}:full")
    if isinstance(person, Reply):
        return person
    one = _named(ask, person, entity)
    if isinstance(one, Reply):
        return one
    one["is_deleted"] = True
    return answered(ask, person, 200, {"data": {"id": one["id"]}})


def list_all(entity: Entity, ask: Ask) -> Reply:
    """`GET /api/v2/{records}`."""
    person = opened(ask, *_reading(entity))
    if isinstance(person, Reply):
        return person
    found = [one for one in records(ask.realm, person.organisation, entity.path).values() if not one["is_deleted"]]
    names = [name for name in ask.query("ids").split(",") if name]
    found = [one for one in found if not names or str(one["id"]) in names]
    return _paged(ask, person, (entity.path, *names), found, lambda rows: rows)


def search(entity: Entity, ask: Ask) -> Reply:
    """`GET /api/v2/{records}/search`: by a term, as a part or (`exact_match`) as the whole of a field."""
    person = opened(ask, *_reading(entity), "search:read")
    if isinstance(person, Reply):
        return person
    term, exact = ask.query("term").strip().lower(), ask.query("exact_match") in {"true", "1"}
    fields = ask.query("fields", "name,email,phone" if entity.name == "person" else entity.needs).split(",")
    if len(term) < (1 if exact else _SHORTEST_TERM):
        return failed(400, "Validation failed: term: is too short")
    if not set(fields) <= {"name", "title", "email", "phone", "notes", "custom_fields"}:
        return failed(400, "Validation failed: fields: has a wrong form")
    every = [one for one in records(ask.realm, person.organisation, entity.path).values() if not one["is_deleted"]]
    found = [one for one in every if any(term == text or (not exact and term in text) for text in _texts(one, fields))]

    def told(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {"items": [{"result_score": 1.0, "item": _item(entity, one)} for one in rows]}

    return _paged(ask, person, (entity.path, term, exact, tuple(fields)), found, told)


def _texts(one: dict[str, Any], fields: list[str]) -> list[str]:
    found = [one[name] for name in ("name", "title") if name in fields and name in one]
    for name, member in (("email", "emails"), ("phone", "phones")):
        if name in fields:
            found += [row["value"] for row in one.get(member) or []]
    return [text.lower() for text in found]


def _item(entity: Entity, one: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"id": one["id"], "type": entity.name, entity.needs: one[entity.needs], "visible_to": one["visible_to"]}
    if entity.name == "person":
        emails, phones = one["emails"] or [], one["phones"] or []
        main = next((row["value"] for row in emails if row.get("primary")), emails[0]["value"] if emails else None)
        said |= {"emails": [row["value"] for row in emails], "phones": [row["value"] for row in phones], "primary_email": main}
    return {**said, "owner": {"id": one["owner_id"]}}


def _paged(
    ask: Ask, person: Person, question: tuple[object, ...], found: list[dict[str, Any]], told: Callable[[list[dict[str, Any]]], Any]
) -> Reply:
    size = number(ask.query("limit"), _PAGE, _LARGEST_PAGE)
    part = None if size is None else page(ask.realm, (person.organisation, *question), found, size, ask.query("cursor"))
    if part is None:
        return failed(400, "Validation failed: limit or cursor has a wrong form")
    return answered(ask, person, 200, {"data": told(part[0]), "additional_data": {"next_cursor": part[1] or None}})


def unknown(_ask: Ask) -> Reply:
    """Answer a path that there is not: records of API v1 among them."""
    return failed(404, "Unknown method .")


def _routes(entity: Entity) -> list[Route]:
    path = f"/api/v2/{entity.path}"
    calls = (
        ("POST", path, create),
        ("GET", path, list_all),
        ("GET", f"{path}/search", search),
        ("GET", f"{path}/{{id}}", get),
        ("PATCH", f"{path}/{{id}}", change),
        ("DELETE", f"{path}/{{id}}", delete),
    )
    return [Route(method, where, partial(answer, entity), Operation.API, "§8.4 (API)") for method, where, answer in calls]


ROUTES: Final = (
    Route("GET", "/api/v1/users/me", me, Operation.IDENTITY, "§8.4 (identity)"),
    *(route for entity in ENTITIES for route in _routes(entity)),
)
