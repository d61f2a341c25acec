"""`/_sandbox/…`: what a tester asks of the sandbox itself. It tells of tokens by their hash only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

from customhouse_sandbox.faults import Fault, FaultKind, Operation
from customhouse_sandbox.http import Reply, Request, as_json
from customhouse_sandbox.outgoing import is_here
from customhouse_sandbox.pipedrive.hooks import subscribe
from customhouse_sandbox.sandbox import VENDORS, Sandbox, as_dict, described
from customhouse_sandbox.state import End, Kind, Realm
from customhouse_sandbox.stripe import hooks as endpoints
from customhouse_sandbox.stripe import keys

ADMIN: Final = "_sandbox"
_Name = TypeVar("_Name", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Command:
    """One route of the admin API."""

    method: str
    path: str
    answer: Callable[[Sandbox, dict[str, Any]], Any]
    """Gets the JSON body, or the query; its result becomes JSON."""
    members: tuple[str, ...]
    """What the body or query may hold; with `*` it must."""
    does: str


def administer(sandbox: Sandbox, request: Request) -> Reply:
    """Answer a call to the admin API.

    A body must say that it is JSON: a web page cannot send that here without being asked first.
    """
    command = next((one for one in COMMANDS if (one.method, f"/{ADMIN}{one.path}") == (request.method, request.path)), None)
    if command is None:
        return as_json(404, {"error": "There is no such command."})
    said: dict[str, Any] | None = dict(request.query)
    if request.method == "POST":
        said = request.json() if request.is_json else None
        if said is None:
            return as_json(415, {"error": "Send a JSON object, and say so: Content-Type: application/json."})
    said = said or {}
    if wrong := _wrong(command, said):
        return as_json(400, {"error": wrong})
    try:
        result = command.answer(sandbox, said)
    except ValueError as error:
        return as_json(400, {"error": str(error)})
    return as_json(200, result)


def _wrong(command: Command, said: dict[str, Any]) -> str:
    known = {member.rstrip("*") for member in command.members}
    if extra := set(said) - known:
        return f"Unknown: {', '.join(sorted(extra))}."
    if missing := [member[:-1] for member in command.members if member.endswith("*") and member[:-1] not in said]:
        return f"Missing: {', '.join(missing)}."
    return ""


def _overview(sandbox: Sandbox, _said: dict[str, Any]) -> Any:
    providers = {}
    for vendor in VENDORS:
        realm = sandbox.realms[vendor.name]
        providers[vendor.name] = {
            "base": realm.base,
            "people": [{"login": person.login, "id": person.id, "email": person.email} for person in realm.people.values()],
            "applications": [
                {"key": one.key, "client_id": one.id, "redirects": list(one.redirects), "scopes": list(one.scopes)}
                for one in realm.applications.values()
            ],
            "facts": dict(realm.facts),
        }
    return {"base": sandbox.base, "now": sandbox.clock.now(), "providers": providers}


def _file(sandbox: Sandbox, _said: dict[str, Any]) -> Any:
    return {"providers_file": sandbox.providers_file(), "environ": sandbox.environ()}


def _calls(sandbox: Sandbox, said: dict[str, Any]) -> Any:
    return {"data": [row for row in map(as_dict, sandbox.calls) if all(row[name] == value for name, value in said.items())]}


def _forget_calls(sandbox: Sandbox, _said: dict[str, Any]) -> Any:
    sandbox.calls.clear()
    return {}


def _tokens(sandbox: Sandbox, said: dict[str, Any]) -> Any:
    targets = [said["target"]] if "target" in said else list(sandbox.realms)
    now = sandbox.clock.now()
    return {"data": [described(token, now) for target in targets for token in sandbox.tokens(target)]}


def _order(sandbox: Sandbox, said: dict[str, Any]) -> Any:
    kind = _choice(FaultKind, said["kind"])
    operation = _choice(Operation, said.get("operation", Operation.ANY))
    times, values = said.get("times", 1), said.get("values", {})
    if not (times is None or (isinstance(times, int) and not isinstance(times, bool))) or not isinstance(values, dict):
        raise ValueError("times is a number or null; values is an object")
    if reserved := {"target", "kind", "operation", "times", "self"} & set(values):
        raise ValueError(f"values holds no {', '.join(sorted(reserved))}")
    return _fault(sandbox.order(_text(said["target"]), kind, operation, times=times, **values))


def _faults(sandbox: Sandbox, _said: dict[str, Any]) -> Any:
    return {"data": [_fault(fault) for realm in sandbox.realms.values() for fault in realm.faults.waiting]}


def _fault(fault: Fault) -> dict[str, Any]:
    return {"id": fault.id, "kind": fault.kind, "operation": fault.operation, "application": fault.application, "times": fault.times}


def _clear(sandbox: Sandbox, _said: dict[str, Any]) -> Any:
    sandbox.clear()
    return {}


def _release(sandbox: Sandbox, _said: dict[str, Any]) -> Any:
    sandbox.release()
    return {}


def _set_fact(sandbox: Sandbox, said: dict[str, Any]) -> Any:
    sandbox.set_fact(_text(said["provider"]), _text(said["name"]), _text(said["value"]))
    return {}


def _advance(sandbox: Sandbox, said: dict[str, Any]) -> Any:
    if isinstance(said["seconds"], bool) or not isinstance(said["seconds"], int | float):
        raise ValueError("seconds is a number")  # noqa: TRY004 - one error for all of the tester's mistakes
    sandbox.clock.advance(said["seconds"])
    return {"now": sandbox.clock.now()}


def _limit(sandbox: Sandbox, said: dict[str, Any]) -> Any:
    calls, seconds = said["calls"], said.get("seconds", 1)
    if isinstance(calls, bool) or not isinstance(calls, int | None) or isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ValueError("calls is a number or null, and seconds a number")  # noqa: TRY004 - as above
    sandbox.limit(_text(said["provider"]), calls, seconds)
    return {}


def _expire(sandbox: Sandbox, said: dict[str, Any]) -> Any:
    return {"expired": sandbox.expire(_text(said["target"]), _choice(Kind, said.get("kind", Kind.ACCESS)))}


def _deauthorize(sandbox: Sandbox, said: dict[str, Any]) -> Any:
    why = {"user": End.DEAUTHORIZED, "admin": End.ADMIN}.get(_text(said.get("by", "user")))
    if why is None:
        raise ValueError("by is user or admin")
    return {"ended": sandbox.withdraw(_text(said["application"]), _text(said["person"]), why)}


def _remove(sandbox: Sandbox, said: dict[str, Any]) -> Any:
    sandbox.remove_person(_text(said["provider"]), _text(said["person"]))
    return {}


def _register(sandbox: Sandbox, said: dict[str, Any]) -> Any:
    key = _text(said["application"])
    realm = sandbox.realm_of(key)
    if key not in realm.applications:
        raise ValueError("There is no such integration here.")
    values: dict[str, Any] = {}
    for name in ("redirects", "scopes"):
        if name in said:
            if not isinstance(said[name], list) or not all(isinstance(one, str) for one in said[name]):
                raise ValueError(f"{name} is a list of texts")
            if not all(one.isascii() and one.isprintable() for one in said[name]):
                raise ValueError(f"{name} are printable ASCII")
            values[name] = tuple(said[name])
    for name in ("disabled", "testing"):
        if name in said:
            if not isinstance(said[name], bool):
                raise ValueError(f"{name} is true or false")
            values[name] = said[name]
    if "webhook_url" in said:
        values["webhook_url"] = _text(said["webhook_url"])
        if values["webhook_url"] and not is_here(values["webhook_url"]):
            raise ValueError("webhook_url is on this machine: http://127.0.0.1:PORT/…")
    realm.change(key, **values)
    return {}


def _notify(sandbox: Sandbox, said: dict[str, Any]) -> Any:
    times = said.get("times", 1)
    if isinstance(times, bool) or not isinstance(times, int):
        raise ValueError("times is a number")  # noqa: TRY004 - as above
    names = (_text(said["application"]), _text(said["person"]), _text(said["event"]))
    return {"sending": sandbox.notify(*names, url=_text(said.get("url", "")), times=times)}


def _deliveries(sandbox: Sandbox, _said: dict[str, Any]) -> Any:
    return {"data": [asdict(delivery) for delivery in sandbox.deliveries]}


def _keys_of(sandbox: Sandbox) -> Realm:
    return sandbox.realms[keys.APPLICATION]


def _make_key(sandbox: Sandbox, said: dict[str, Any]) -> Any:
    kind, mode = _text(said.get("kind", "restricted")), _text(said.get("mode", keys.MODES[0]))
    made = keys.make(_keys_of(sandbox), _text(said["person"]), said.get("permissions", {}), kind=kind, mode=mode)
    return {"id": made[0], "key": made[1]}


def _change_key(sandbox: Sandbox, said: dict[str, Any]) -> Any:
    keys.change(_keys_of(sandbox), _text(said["id"]), said["permissions"])
    return {}


def _roll_key(sandbox: Sandbox, said: dict[str, Any]) -> Any:
    seconds = said.get("seconds", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ValueError("seconds is a number")  # noqa: TRY004 - as above
    return {"id": said["id"], "key": keys.roll(_keys_of(sandbox), _text(said["id"]), seconds)}


def _delete_key(sandbox: Sandbox, said: dict[str, Any]) -> Any:
    keys.delete(_keys_of(sandbox), _text(said["id"]))
    return {}


def _endpoint(sandbox: Sandbox, said: dict[str, Any]) -> Any:
    rolled, mode = said.get("rolled", False), _text(said.get("mode", keys.MODES[0]))
    if not isinstance(rolled, bool):
        raise ValueError("rolled is true or false")  # noqa: TRY004 - as above
    return {"secret": endpoints.endpoint(_keys_of(sandbox), _text(said["person"]), mode, rolled=rolled)}


def _subscribe(sandbox: Sandbox, said: dict[str, Any]) -> Any:
    realm = sandbox.realms["pipedrive"]
    person = realm.people.get(_text(said["person"]))
    if person is None:
        raise ValueError("There is no such person here.")
    named = {"user": "user", "password": "password", "event_action": "action", "event_object": "name", "version": "version"}
    values = {named[key]: _text(value) for key, value in said.items() if key in named}
    return {"id": subscribe(realm, person, _text(said["url"]), **values).id}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("A name is a text.")  # noqa: TRY004 - as above
    return value


def _choice(kind: type[_Name], value: Any) -> _Name:
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"{value!r} is none of {', '.join(kind)}.") from None


COMMANDS: Final = (
    Command("GET", "/", _overview, (), "Tell what there is: providers, people, registrations, and how the open facts stand."),
    Command("GET", "/providers", _file, (), "Return a ready providers file for the service, and the variables that it names."),
    Command("GET", "/calls", _calls, ("provider", "operation", "application", "person"), "List the calls that came."),
    Command("DELETE", "/calls", _forget_calls, (), "Forget the calls."),
    Command("GET", "/tokens", _tokens, ("target",), "List the tokens by their SHA-256: whose, and whether they are live."),
    Command("GET", "/faults", _faults, (), "List the faults that wait."),
    Command("POST", "/faults", _order, ("target*", "kind*", "operation", "times", "values"), "Order a fault."),
    Command("DELETE", "/faults", _clear, (), "Forget the faults that wait, and let held calls go on."),
    Command("POST", "/release", _release, (), "Let held calls go on."),
    Command("POST", "/facts", _set_fact, ("provider*", "name*", "value*"), "Say how an open fact stands."),
    Command("POST", "/limits", _limit, ("provider*", "calls*", "seconds"), "Let so many API calls through in so many seconds; null: any."),
    Command("POST", "/clock", _advance, ("seconds*",), "Let time pass."),
    Command("POST", "/expire", _expire, ("target*", "kind"), "Let all tokens of a kind (`access`, `refresh`) expire now."),
    Command(
        "POST", "/deauthorize", _deauthorize, ("application*", "person*", "by"), "End a consent from the provider's side (`by`: admin)."
    ),
    Command("POST", "/remove", _remove, ("provider*", "person*"), "Let an account vanish."),
    Command(
        "POST", "/webhooks", _notify, ("application*", "person*", "event*", "url", "times"), "Send a webhook, signed as the provider does."
    ),
    Command("GET", "/webhooks", _deliveries, (), "List the webhooks that were sent, and whether the answer was the right one."),
    Command(
        "POST",
        "/applications",
        _register,
        ("application*", "redirects", "scopes", "disabled", "testing", "webhook_url"),
        "Change a registration.",
    ),
    Command(
        "POST",
        "/keys",
        _make_key,
        ("person*", "permissions", "kind", "mode"),
        "Make a Stripe key as its customer does; `permissions`: `read` or `write` by resource, or `all`. The answer alone tells it.",
    ),
    Command(
        "POST",
        "/subscriptions",
        _subscribe,
        ("person*", "url*", "user", "password", "event_action", "event_object", "version"),
        "Make a Pipedrive webhook as a person does in the settings; `user` and `password` go with it as Basic.",
    ),
    Command("POST", "/keys/permissions", _change_key, ("id*", "permissions*"), "Give a restricted key other permissions."),
    Command("POST", "/keys/roll", _roll_key, ("id*", "seconds"), "Put a new key in the place of one that expires in so many seconds."),
    Command("POST", "/keys/delete", _delete_key, ("id*",), "Delete a key."),
    Command(
        "POST",
        "/endpoints",
        _endpoint,
        ("person*", "mode", "rolled"),
        "Tell the secret that signs a customer's Stripe events; `rolled`: a new one, while the earlier one signs for a day more.",
    ),
)
