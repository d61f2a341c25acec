"""Which path is answered by what, and where the providers' facts say so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from customhouse_sandbox.facts import Fact
from customhouse_sandbox.faults import Fault, FaultKind, Operation
from customhouse_sandbox.http import Reply, Request
from customhouse_sandbox.outgoing import Outgoing
from customhouse_sandbox.state import Application, End, Grant, Person, Realm, Token


@dataclass(frozen=True, slots=True)
class Ask:
    """One call, as a route sees it."""

    request: Request
    realm: Realm
    parts: Mapping[str, str]
    """What stood in the place of the path's {names}, decoded once."""
    faults: Mapping[FaultKind, Fault] = field(default_factory=dict)
    """What was ordered for this call."""

    def query(self, name: str, default: str = "") -> str:
        """Return a parameter of the query; the first, where it stands twice."""
        return next((value for key, value in self.request.query if key == name), default)

    def ordered(self, kind: FaultKind, name: str) -> Any:
        """Return a value of an order for this call; None where there is no such order."""
        return self.faults[kind].values.get(name) if kind in self.faults else None


@dataclass(frozen=True, slots=True)
class Handshake:
    """A call that is answered when other addresses have answered first."""

    asks: tuple[Outgoing, ...]
    then: Callable[[bool], Reply]
    """The answer; told whether each of them answered as it should."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path."""

    method: str
    path: str
    """Below the provider's prefix; `{name}` stands for one segment."""
    answer: Callable[[Ask], Reply | Handshake]
    operation: Operation
    cites: str
    """The section of the providers' facts that it imitates."""

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """Return the parts of a path, still encoded, that fits; None where it does not."""
        if method != self.method:
            return None
        mine, given = self.path.split("/"), path.split("/")
        if len(mine) != len(given):
            return None
        parts: dict[str, str] = {}
        for wanted, segment in zip(mine, given, strict=True):
            if wanted.startswith("{"):
                name, _, tail = wanted[1:].partition("}")
                text = unquote(segment)
                if not text.removesuffix(tail) or not text.endswith(tail):
                    return None
                parts[name] = text.removesuffix(tail)
            elif wanted != unquote(segment):
                return None
        return parts


def bearer_text(request: Request) -> str:
    """Return what a call shows as a bearer token (RFC 6750 §2.1); empty where it shows none."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


@dataclass(frozen=True, slots=True)
class Vendor:
    """One provider: what it answers, and how it begins."""

    name: str
    """Its prefix."""
    routes: tuple[Route, ...]
    facts: tuple[Fact, ...]
    begin: Callable[[Realm, str], None]
    """Fills a new realm; gets the service's public URL."""
    overrides: Callable[[Realm], dict[str, dict[str, str]]]
    """Endpoint overrides, by integration."""
    notify: Callable[[Realm, Application, Person, str, str], list[Outgoing]]
    """The webhooks of an event that concerns a person; raises `ValueError` where there is no such event."""
    withdrawn: str
    """The event that tells an application that a person removed it; empty: nobody is told."""
    counted: Callable[[Token, Person], str]
    """Whose rate limit a call falls under."""
    unknown: Callable[[Ask], Reply]
    """The answer to a path that there is not."""
    limited: Callable[[Realm, int | None], Reply]
    """The answer to too many calls; with seconds to wait."""
    ended: Callable[[Realm], Reply]
    """The token endpoint's answer that a grant is over."""
    shared: Callable[[Realm, Application, Person, End], Iterable[Grant]] = lambda realm, application, person, _why: realm.live(
        application.key, person.login
    )
    """What ends together when a person, or an administrator, removes an application."""
    subscribes: bool = False
    """Whether its webhooks go where each subscription says, and not to one address of the application."""
    shows: Callable[[Request], str] = bearer_text
    """The access token, or key, that a call of the API shows."""
    failing: Callable[[int], Reply] = Reply
    """The answer to a call that was ordered to fail with a status."""
