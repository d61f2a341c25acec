"""HubSpot's CRM objects (§8.2): one by one, searched, and in batches of which a part may fail."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from customhouse_sandbox import oauth
from customhouse_sandbox.clock import rfc3339
from customhouse_sandbox.faults import Operation
from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.hubspot.errors import failed, missing_scopes
from customhouse_sandbox.paging import number
from customhouse_sandbox.routing import Ask, Route
from customhouse_sandbox.state import Person, Realm

READ: Final = "read"
WRITE: Final = "write"
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s]+\.[^@\s]+")
_WINDOW: Final = 10_000
_CALLS: Final = 110
_OPERATORS: Final = ("EQ", "NEQ", "IN", "HAS_PROPERTY", "NOT_HAS_PROPERTY", "CONTAINS_TOKEN")
_PAGE: Final = 10
_LARGEST_PAGE: Final = 100

PROPERTIES: Final[dict[str, tuple[str, ...]]] = {
    "contacts": (
        *("email", "firstname", "lastname", "phone", "mobilephone", "company", "jobtitle", "website", "address", "city", "state", "zip"),
        *("country", "lifecyclestage", "hs_lead_status", "hubspot_owner_id"),
    ),
    "companies": ("domain", "name", "phone", "industry", "website", "city", "state", "country", "description", "hubspot_owner_id"),
    "deals": ("dealname", "amount", "closedate", "dealstage", "pipeline", "description", "hubspot_owner_id"),
}
"""What an object of each kind can hold."""
UNIQUE: Final = {"contacts": "email", "companies": "", "deals": ""}
"""The property by which one is found again; empty: by its id alone."""
_SHOWN: Final = {"contacts": ("email", "firstname", "lastname"), "companies": ("domain", "name"), "deals": ("dealname", "amount")}


@dataclass(slots=True)
class Record:
    """One object of a portal."""

    id: str
    properties: dict[str, str]
    made_at: float
    changed_at: float
    archived: bool = False
    trace: str = field(default="")


def records(realm: Realm, portal: str, kind: str) -> dict[str, Record]:
    """Return a portal's objects of one kind by id, the oldest first."""
    store: dict[tuple[str, str], dict[str, Record]] = realm.store.setdefault("objects", {})
    return store.setdefault((portal, kind), {})


def fill(realm: Realm) -> None:
    """Give each portal three contacts, a company and a deal."""
    for portal in dict.fromkeys(person.organisation for person in realm.people.values()):
        for count in (1, 2, 3):
            named = {"email": f"contact{count}@example.org", "firstname": f"Contact {count}", "lastname": "Known"}
            _added(realm, portal, "contacts", named)
        _added(realm, portal, "companies", {"domain": "example.org", "name": "Example Org"})
        _added(realm, portal, "deals", {"dealname": "First deal", "amount": "100"})


def _added(realm: Realm, portal: str, kind: str, properties: dict[str, str]) -> Record:
    held = records(realm, portal, kind)
    realm.store["last-id"] = realm.store.get("last-id", 100) + 1
    made = Record(str(realm.store["last-id"]), {key: value for key, value in properties.items() if value}, realm.now(), realm.now())
    held[made.id] = made
    return made


def opened(ask: Ask, scope: str) -> Person | Reply:
    """Return whose token opens a call, or the refusal (§8.1, errors)."""
    realm = ask.realm
    shown = oauth.bearer(ask)
    if shown is None:
        held = realm.tokens.get(ask.request.headers.get("authorization", "").removeprefix("Bearer "))
        if held is not None and held.expires_at <= realm.now():
            return failed(realm, 401, "EXPIRED_AUTHENTICATION", "The OAuth token used to make this call expired.")
        return failed(realm, 401, "INVALID_AUTHENTICATION", "Authentication credentials not found.")
    token, person = shown
    return person if scope in token.scopes else missing_scopes(realm, scope)


def _told(kind: str, one: Record, wanted: list[str]) -> dict[str, Any]:
    every = {
        **one.properties,
        "hs_object_id": one.id,
        "createdate": rfc3339(one.made_at),
        "lastmodifieddate": rfc3339(one.changed_at),
    }
    names = ("hs_object_id", "createdate", "lastmodifieddate", *(wanted or _SHOWN[kind]))
    said: dict[str, Any] = {
        "id": one.id,
        "properties": {name: every.get(name) for name in names},
        "createdAt": rfc3339(one.made_at),
        "updatedAt": rfc3339(one.changed_at),
        "archived": one.archived,
    }
    if one.trace:
        said["objectWriteTraceId"] = one.trace
    return said


def answered(ask: Ask, person: Person, status: int, said: Any) -> Reply:
    """Return an answer, with what is left of the rate where that is told (§8.2)."""
    if ask.realm.facts["rate_limit_headers"] == "no":
        return as_json(status, said)
    limit = ask.realm.limit
    most = limit.calls if limit else _CALLS
    used = len(limit.seen.get(person.organisation, ())) if limit else 1
    headers = {"Max": most, "Remaining": max(0, most - used), "Interval-Milliseconds": int(limit.seconds * 1000) if limit else _WINDOW}
    return as_json(status, said, *((f"X-HubSpot-RateLimit-{name}", str(value)) for name, value in headers.items()))


def _invalid(ask: Ask, message: str) -> Reply:
    return failed(ask.realm, 400, "VALIDATION_ERROR", message)


def _missing(ask: Ask) -> Reply:
    return failed(ask.realm, 404, "OBJECT_NOT_FOUND", "resource not found")


def _written(kind: str, said: Any) -> dict[str, str] | str:
    """Return properties that can be written; a text says what is wrong with them."""
    if not isinstance(said, dict):
        return "properties are an object"
    found: dict[str, str] = {}
    for name, value in said.items():
        if name not in PROPERTIES[kind]:
            return f'Property "{name}" does not exist'
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            return f'Property "{name}" is no text'
        found[name] = str(value)
    if found.get("email") and _EMAIL.fullmatch(found["email"]) is None:
        return f"Email address {found['email']} is invalid"
    if "email" in found:
        found["email"] = found["email"].lower()
    return found


def _by(held: dict[str, Record], kind: str, name: str, value: str) -> Record | None:
    if name in {"", "id", "hs_object_id"}:
        one = held.get(value)
        return one if one is not None and not one.archived else None
    wanted = value.lower()
    return next((one for one in held.values() if not one.archived and name == UNIQUE[kind] and one.properties.get(name) == wanted), None)


def _changed(ask: Ask, one: Record, properties: dict[str, str]) -> None:
    one.properties.update(properties)
    for name in [name for name, value in one.properties.items() if not value]:
        del one.properties[name]
    one.changed_at = ask.realm.now()


def _wanted(ask: Ask) -> list[str]:
    return [name for value in [ask.query("properties")] for name in value.split(",") if name]


def create(kind: str, ask: Ask) -> Reply:
    """`POST /crm/v3/objects/{kind}`."""
    person = opened(ask, f"crm.objects.{kind}.{WRITE}")
    if isinstance(person, Reply):
        return person
    said = ask.request.json() if ask.request.is_json else None
    properties = _written(kind, (said or {}).get("properties"))
    if isinstance(properties, str):
        return _invalid(ask, properties)
    held, unique = records(ask.realm, person.organisation, kind), UNIQUE[kind]
    there = _by(held, kind, unique, properties[unique]) if properties.get(unique) else None
    if there is not None:
        return failed(ask.realm, 409, "CONFLICT", f"Contact already exists. Existing ID: {there.id}")
    return answered(ask, person, 201, _told(kind, _added(ask.realm, person.organisation, kind, properties), list(properties)))


def get(kind: str, ask: Ask) -> Reply:
    """`GET /crm/v3/objects/{kind}/{id}`; with `idProperty` by another property."""
    person = opened(ask, f"crm.objects.{kind}.{READ}")
    if isinstance(person, Reply):
        return person
    one = _by(records(ask.realm, person.organisation, kind), kind, ask.query("idProperty"), ask.parts["id"])
    return _missing(ask) if one is None else answered(ask, person, 200, _told(kind, one, _wanted(ask)))


def list_all(kind: str, ask: Ask) -> Reply:
    """`GET /crm/v3/objects/{kind}`."""
    person = opened(ask, f"crm.objects.{kind}.{READ}")
    if isinstance(person, Reply):
        return person
    held = [one for one in records(ask.realm, person.organisation, kind).values() if not one.archived]
    return _paged(ask, person, kind, held, ask.query("limit"), ask.query("after"), _wanted(ask))


def change(kind: str, ask: Ask) -> Reply:
    """`PATCH /crm/v3/objects/{kind}/{id}`."""
    person = opened(ask, f"crm.objects.{kind}.{WRITE}")
    if isinstance(person, Reply):
        return person
    said = ask.request.json() if ask.request.is_json else None
    properties = _written(kind, (said or {}).get("properties"))
    if isinstance(properties, str):
        return _invalid(ask, properties)
    held = records(ask.realm, person.organisation, kind)
    one = _by(held, kind, ask.query("idProperty"), ask.parts["id"])
    if one is None:
        return _missing(ask)
    other = _by(held, kind, UNIQUE[kind], properties.get(UNIQUE[kind], "")) if UNIQUE[kind] else None
    if other is not None and other is not one:
        return failed(ask.realm, 409, "CONFLICT", f"Contact already exists. Existing ID: {other.id}")
    _changed(ask, one, properties)
    return answered(ask, person, 200, _told(kind, one, list(properties)))


def archive(kind: str, ask: Ask) -> Reply:
    """`DELETE /crm/v3/objects/{kind}/{id}`: into the bin; the scope to write includes it."""
    person = opened(ask, f"crm.objects.{kind}.{WRITE}")
    if isinstance(person, Reply):
        return person
    one = _by(records(ask.realm, person.organisation, kind), kind, "", ask.parts["id"])
    if one is not None:
        one.archived = True
    return Reply(204)


def search(kind: str, ask: Ask) -> Reply:
    """`POST /crm/v3/objects/{kind}/search`: any of the groups, each of whose filters has to fit."""
    person = opened(ask, f"crm.objects.{kind}.{READ}")
    if isinstance(person, Reply):
        return person
    said = ask.request.json() if ask.request.is_json else None
    groups = (said or {}).get("filterGroups", [])
    wanted = (said or {}).get("properties", [])
    if said is None or not _is_texts(wanted) or not isinstance(groups, list) or not all(_is_group(kind, group) for group in groups):
        return _invalid(ask, "Invalid input JSON")
    held = [one for one in records(ask.realm, person.organisation, kind).values() if not one.archived]
    found = [one for one in held if not groups or any(all(_fits(one, rule) for rule in group["filters"]) for group in groups)]
    return _paged(ask, person, kind, found, str(said.get("limit", "")), str(said.get("after", "")), wanted, total=True)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_group(kind: str, group: Any) -> bool:
    filters = group.get("filters") if isinstance(group, dict) else None
    return isinstance(filters, list) and bool(filters) and all(_is_filter(kind, rule) for rule in filters)


def _is_filter(kind: str, rule: Any) -> bool:
    if not isinstance(rule, dict) or rule.get("operator") not in _OPERATORS:
        return False
    if rule.get("propertyName") not in (*PROPERTIES[kind], "hs_object_id"):
        return False
    if rule["operator"] == "IN":
        return _is_texts(rule.get("values"))
    return rule["operator"].endswith("HAS_PROPERTY") or isinstance(rule.get("value"), str)


def _fits(one: Record, rule: dict[str, Any]) -> bool:
    name, value = rule["propertyName"], str(rule.get("value", "")).lower()
    there = one.id if name == "hs_object_id" else one.properties.get(name, "").lower()
    match rule["operator"]:
        case "EQ":
            return there == value
        case "NEQ":
            return there != value
        case "IN":
            return there in {wanted.lower() for wanted in rule["values"]}
        case "HAS_PROPERTY":
            return bool(there)
        case "NOT_HAS_PROPERTY":
            return not there
        case _:
            return value in re.split(r"[^0-9a-z*]+", there)


def _paged(
    ask: Ask, person: Person, kind: str, found: list[Record], limit: str, after: str, wanted: list[str], *, total: bool = False
) -> Reply:
    size = number(limit, _PAGE, _LARGEST_PAGE)
    if size is None or (after and (not after.isascii() or not after.isdigit() or len(after) > 9)):  # noqa: PLR2004 - an index
        return _invalid(ask, "limit and after are numbers, and a page has at most 100")
    start = int(after or 0)
    said: dict[str, Any] = {"results": [_told(kind, one, wanted) for one in found[start : start + size]]}
    if total:
        said["total"] = len(found)
    if start + size < len(found):
        said["paging"] = {"next": {"after": str(start + size)}}
    return answered(ask, person, 200, said)


def batch_read(kind: str, ask: Ask) -> Reply:
    """`POST /crm/v3/objects/{kind}/batch/read`: 207 where some are not there."""
    person = opened(ask, f"crm.objects.{kind}.{READ}")
    if isinstance(person, Reply):
        return person
    said = _batch(ask, kind)
    if isinstance(said, Reply):
        return said
    wanted = said.get("properties", [])
    if not _is_texts(wanted):
        return _invalid(ask, "Invalid input JSON")
    held = records(ask.realm, person.organisation, kind)
    found, errors = [], []
    for name in [row["id"] for row in said["inputs"]]:
        one = _by(held, kind, str(said.get("idProperty", "")), name)
        if one is None:
            errors.append(_error("OBJECT_NOT_FOUND", "Could not get some objects, they may be deleted or not exist.", name))
        else:
            found.append(_told(kind, one, wanted))
    return _told_batch(ask, person, found, errors)


def batch_upsert(kind: str, ask: Ask) -> Reply:
    """`POST /crm/v3/objects/{kind}/batch/upsert`: made or changed, by a unique property; 207 where some were refused."""
    person = opened(ask, f"crm.objects.{kind}.{WRITE}")
    if isinstance(person, Reply):
        return person
    said = _batch(ask, kind)
    if isinstance(said, Reply):
        return said
    judged: list[tuple[dict[str, Any], dict[str, str]]] = []
    errors = []
    for row in said["inputs"]:
        by = row.get("idProperty", "")
        properties = _written(kind, row.get("properties"))
        if isinstance(properties, str):
            errors.append(_error("VALIDATION_ERROR", properties, row["id"]))
        elif by and by != UNIQUE[kind]:
            errors.append(_error("VALIDATION_ERROR", f"{by} is not a unique property", row["id"]))
        elif by and _written(kind, {by: row["id"]}) != {by: row["id"].lower()}:
            errors.append(_error("VALIDATION_ERROR", f"{row['id']} is no {by}", row["id"]))
        else:
            judged.append((row, properties))
    if errors and ask.realm.facts["partial_upsert"] == "all_or_nothing":
        return _invalid(ask, errors[0]["message"])
    found = []
    for row, properties in judged:
        told = _upserted(ask, person, kind, row, properties)
        if isinstance(told, str):
            errors.append(_error(told, "There is no such object, or another one has this value already.", row["id"]))
        else:
            found.append(told)
    return _told_batch(ask, person, found, errors)


def _upserted(ask: Ask, person: Person, kind: str, row: dict[str, Any], properties: dict[str, str]) -> dict[str, Any] | str:
    """Return the object; a text is the category of the error."""
    by, held = row.get("idProperty", ""), records(ask.realm, person.organisation, kind)
    one = _by(held, kind, by, row["id"])
    other = _by(held, kind, UNIQUE[kind], properties[UNIQUE[kind]]) if properties.get(UNIQUE[kind]) else None
    if other is not None and other is not one:
        return "CONFLICT"
    new = one is None
    if one is None:
        if not by:
            return "OBJECT_NOT_FOUND"
        one = _added(ask.realm, person.organisation, kind, {by: row["id"].lower(), **properties})
    else:
        _changed(ask, one, properties)
    one.trace = row.get("objectWriteTraceId", "")
    return {**_told(kind, one, list(PROPERTIES[kind])), "new": new}


def _batch(ask: Ask, kind: str) -> dict[str, Any] | Reply:
    said = ask.request.json() if ask.request.is_json else None
    inputs = said.get("inputs") if said is not None else None
    if said is None or not isinstance(inputs, list) or not inputs or not all(_is_input(row) for row in inputs):
        return _invalid(ask, "Invalid input JSON")
    if not isinstance(said.get("idProperty", ""), str):
        return _invalid(ask, "Invalid input JSON")
    most = int(ask.realm.facts["batch_size"])
    if len(inputs) > most:
        return _invalid(ask, f"The maximum number of inputs supported in a batch request for {kind} is {most}")
    if len({row["id"].lower() for row in inputs}) < len(inputs):
        return _invalid(ask, "Duplicate IDs found in batch input")
    return said


def _is_input(row: Any) -> bool:
    texts = ("id", "idProperty", "objectWriteTraceId")
    return isinstance(row, dict) and bool(row.get("id")) and all(isinstance(row.get(name, ""), str) for name in texts)


def _error(category: str, message: str, name: str) -> dict[str, Any]:
    return {"status": "error", "category": category, "message": message, "context": {"ids": [name]}}


def _told_batch(ask: Ask, person: Person, found: list[dict[str, Any]], errors: list[dict[str, Any]]) -> Reply:
    now = rfc3339(ask.realm.now())
    said: dict[str, Any] = {"status": "COMPLETE", "results": found, "startedAt": now, "completedAt": now}
    if errors:
        said |= {"numErrors": len(errors), "errors": errors}
    return answered(ask, person, 207 if errors else 200, said)


def _routes(base: str, kind: str) -> list[Route]:
    path = f"{base}/{kind}"
    cites = "§8.2 (date-versioned twin)" if "/v3/" not in base else "§8.2"
    calls = (
        ("POST", f"{path}/batch/upsert", batch_upsert),
        ("POST", f"{path}/batch/read", batch_read),
        ("POST", f"{path}/search", search),
        ("POST", path, create),
        ("GET", path, list_all),
        ("GET", f"{path}/{{id}}", get),
        ("PATCH", f"{path}/{{id}}", change),
        ("DELETE", f"{path}/{{id}}", archive),
    )
    return [Route(method, where, partial(answer, kind), Operation.API, cites) for method, where, answer in calls]


def details(ask: Ask) -> Reply:
    """`GET /account-info/v3/details`: which portal it is (§8.1)."""
    person = opened(ask, "oauth")
    if isinstance(person, Reply):
        return person
    told = {"portalId": int(person.organisation), "timeZone": "UTC", "companyCurrency": "USD", "uiDomain": "app.hubspot.com"}
    return answered(ask, person, 200, {**told, "dataHostingLocation": "na1", "accountType": "STANDARD"})


def unknown(ask: Ask) -> Reply:
    """Answer a path that there is not."""
    return failed(ask.realm, 404, "OBJECT_NOT_FOUND", "No such path.")


ROUTES: Final = (
    Route("GET", "/account-info/v3/details", details, Operation.API, "§8.1 (identity)"),
    *(route for base in ("/crm/v3/objects", "/crm/objects/2026-09") for kind in PROPERTIES for route in _routes(base, kind)),
)
