"""Replies of providers as they were recorded or documented, and what we must make of each: the material of the contract."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from customhouse.canonical import dump, parse_object
from customhouse.errors import Fault, Invalid
from customhouse.providers.manifest import OAuth2, Provider
from customhouse.providers.scopes import Verdict, names, requested
from customhouse.providers.vocabulary import Kind, Mode, Reason, Rotation, Step
from customhouse.types import Json, JsonObject

Sort = Literal["token", "identity", "error"]
_SORTS: Final = ("token", "identity", "error")
_MEMBERS: Final = frozenset({"source", "sort", "step", "mode", "status", "body", "expect"})
_EXPECTED: Final = {
    "token": frozenset({"verdict", "missing", "refused", "expires_in", "refresh_token", "account", "api_origin"}),
    "identity": frozenset({"account", "label", "organisation"}),
    "error": frozenset({"kind", "reason"}),
}


@dataclass(frozen=True, slots=True)
class Recording:
    """One reply, and what it must come to."""

    name: str
    source: str
    """Where it is from, and when that was read."""
    sort: Sort
    step: Step
    mode: Mode
    """Of the connection that it was for."""
    status: int
    body: Json
    """A text is sent as it is; anything else as JSON."""
    expect: JsonObject

    @property
    def raw(self) -> bytes:
        """The body as it comes over the wire."""
        return self.body.encode() if isinstance(self.body, str) else dump(self.body)

    def but(self, **members: Json) -> Recording:
        """Return the same reply with members set, or removed where None."""
        assert isinstance(self.body, dict)  # the callers' own: only objects are varied
        body: JsonObject = {name: value for name, value in {**self.body, **members}.items() if value is not None}
        return replace(self, body=body)


def recording(name: str, raw: bytes) -> Recording:
    """Read a recording from JSON.

    Raises:
        MalformedJson, Invalid: it is none.
    """
    said = parse_object(raw)
    faults = [Fault(f"/{member}", "there is no such member") for member in said if member not in _MEMBERS]
    sort, status, source, expect = said.get("sort"), said.get("status"), said.get("source"), said.get("expect")
    step, mode = said.get("step"), said.get("mode", Mode.OBSERVE)
    if sort not in _SORTS:
        faults.append(Fault("/sort", f"must be one of {', '.join(_SORTS)}"))
    if step not in set(Step):
        faults.append(Fault("/step", f"must be one of {', '.join(Step)}"))
    if mode not in set(Mode):
        faults.append(Fault("/mode", f"must be one of {', '.join(Mode)}"))
    if isinstance(status, bool) or not isinstance(status, int) or not 100 <= status <= 599:  # noqa: PLR2004 - RFC 9110 §15
        faults.append(Fault("/status", "must be an HTTP status"))
    if not isinstance(source, str) or not source.strip():
        faults.append(Fault("/source", "must say where the reply is from, and when that was read"))
    if not isinstance(expect, dict) or not expect or (sort in _SORTS and not expect.keys() <= _EXPECTED[str(sort)]):
        faults.append(Fault("/expect", f"must name what the reply comes to: {', '.join(sorted(_EXPECTED.get(str(sort), ())))}"))
    if "body" not in said:
        faults.append(Fault("/body", "is required"))
    if faults:
        raise Invalid(f"The recording {name} is not in order.", tuple(faults))
    return Recording(
        name,
        str(source),
        sort,  # type: ignore[arg-type]  # checked above
        Step(str(step)),
        Mode(str(mode)),
        status,  # type: ignore[arg-type]
        said["body"],
        expect,  # type: ignore[arg-type]
    )


def standard(provider: Provider) -> tuple[Recording, ...]:
    """Return the replies that RFC 6749 lets one expect, for a provider of which nothing was recorded.

    Raises:
        ValueError: the provider has no OAuth.
    """
    if not isinstance(provider.auth, OAuth2):
        raise ValueError(f"{provider.id} has no OAuth")  # noqa: TRY004 - the argument is of the right type
    auth = provider.auth
    found: list[Recording] = []
    section = "RFC 6749 §5.1"
    for mode in provider.modes:
        asked = auth.separator.join(names(requested(provider, mode)))
        body: JsonObject = {"access_token": "test-access-1", "token_type": "Bearer", "expires_in": 3600, "scope": asked}
        if auth.refresh.rotation is not Rotation.NONE:
            body["refresh_token"] = "test-refresh-1"  # noqa: S105 - invented
        expect: JsonObject = {"verdict": Verdict.SAME, "expires_in": 3600}
        found.append(Recording(f"exchange-{mode}", section, "token", Step.EXCHANGE, mode, 200, body, expect))
    if auth.refresh.rotation is not Rotation.NONE:
        renewed: JsonObject = {"access_token": "test-access-2", "token_type": "Bearer", "expires_in": 3600}
        kept = auth.refresh.rotation is Rotation.STABLE
        if not kept:
            renewed["refresh_token"] = "test-refresh-2"  # noqa: S105 - invented
        expect = {"refresh_token": "kept" if kept else "new", "verdict": Verdict.UNKNOWN}
        found.append(Recording("refresh", section, "token", Step.REFRESH, provider.modes[0], 200, renewed, expect))
    found.append(_standard_identity(provider, auth))
    found += [
        _refusal("ended", Step.REFRESH, 400, {"error": "invalid_grant"}, Kind.PERMANENT, Reason.GRANT_ENDED),
        _refusal("code", Step.EXCHANGE, 400, {"error": "invalid_grant"}, Kind.PERMANENT, Reason.CODE_REFUSED),
        _refusal("client", Step.REFRESH, 401, {"error": "invalid_client"}, Kind.APPLICATION, Reason.CLIENT_REFUSED),
        _refusal("down", Step.REFRESH, 503, "", Kind.TRANSIENT, Reason.UNAVAILABLE),
        _refusal("limited", Step.API, 429, "", Kind.TRANSIENT, Reason.RATE_LIMITED),
        _refusal("token", Step.API, 401, "", Kind.PERMANENT, Reason.TOKEN_REFUSED),
        _refusal("denied", Step.AUTHORIZE, 400, {"error": "access_denied"}, Kind.PERMANENT, Reason.DENIED),
    ]
    return tuple(found)


def _refusal(name: str, step: Step, status: int, body: Json, kind: Kind, reason: Reason) -> Recording:
    return Recording(name, "RFC 6749 §5.2, RFC 6750 §3.1", "error", step, Mode.OBSERVE, status, body, {"kind": kind, "reason": reason})


def _standard_identity(provider: Provider, auth: OAuth2) -> Recording:
    told = {pointer: f"test-{index}" for index, pointer in enumerate(auth.identity.account)}
    account = ":".join(told.values())
    if auth.identity.label:
        told.setdefault(auth.identity.label[0], "ada@example.com")
    body: JsonObject = {}
    for pointer, value in told.items():
        _put(body, pointer, value)
    expect: JsonObject = {"account": account, "label": told[auth.identity.label[0]] if auth.identity.label else account}
    return Recording("identity", "the manifest's own pointers", "identity", Step.API, provider.modes[0], 200, body, expect)


def _put(body: JsonObject, pointer: str, value: str) -> None:
    *path, last = pointer.split("/")[1:]
    for name in path:
        below = body.setdefault(name, {})
        if not isinstance(below, dict):
            return  # the pointers contradict each other: the reply stays unreadable, and the contract says so
        body = below
    body[last] = value
