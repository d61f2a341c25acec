"""What one provider knows: its applications, people, consents, codes and tokens. In memory; the seed decides over ids."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from customhouse_sandbox.clock import Clock
from customhouse_sandbox.faults import Faults
from customhouse_sandbox.limits import Limit
from customhouse_sandbox.outgoing import Outgoing

_NEVER: Final = float("inf")


class Kind(StrEnum):
    """What a token is for."""

    ACCESS = "access"
    REFRESH = "refresh"


class End(StrEnum):
    """Why a grant is over."""

    REVOKED = "revoked"
    REPLACED = "replaced by a newer authorization"
    REUSED = "a spent token was shown again"
    CODE_REUSED = "a spent code was shown again"
    DEAUTHORIZED = "the person removed the application"
    ADMIN = "an administrator switched it off"
    OWNER_GONE = "the person's account is gone"
    LIMIT = "too many refresh tokens"


@dataclass(frozen=True, slots=True)
class Application:
    """One registration: what the operator of the service would have filled in at the provider."""

    key: str
    """The integration that it is for."""
    id: str
    secret: str = field(repr=False)
    redirects: tuple[str, ...]
    """Compared as whole strings."""
    scopes: tuple[str, ...]
    """What it may ask for."""
    project: str = ""
    """Applications of one project share a person's consent, where the provider counts so."""
    webhook_secret: str = field(default="", repr=False)
    webhook_url: str = ""
    """Where its webhooks go; empty: nowhere."""
    disabled: bool = False
    testing: bool = False
    """Not published yet."""
    optional: tuple[str, ...] = ()
    """Those of its scopes that a person may be asked for besides what it requires of everybody, where the provider tells them apart."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account."""

    login: str
    id: str
    organisation: str
    email: str
    given: str
    family: str

    @property
    def name(self) -> str:
        """The whole name."""
        return f"{self.given} {self.family}"


@dataclass(slots=True)
class Grant:
    """What one person gave one application, once."""

    id: str
    application: str
    project: str
    person: str
    scopes: tuple[str, ...]
    made_at: float
    ended: End | None = None


@dataclass(slots=True)
class Token:
    """One access or refresh token."""

    value: str = field(repr=False)
    kind: Kind
    grant: Grant
    scopes: tuple[str, ...]
    number: int
    """Of its kind, within the grant: 1 is the first."""
    expires_at: float = _NEVER
    ends_at: float = _NEVER
    """However much it is used."""
    used_at: float = 0.0
    spent: bool = False
    revoked: bool = False
    outlives: bool = False
    """It carries its own proof: it opens what it opens until it expires, whatever becomes of its grant."""

    def is_live(self, now: float) -> bool:
        """Tell whether it still opens something."""
        stands = self.grant.ended is None or self.outlives
        return stands and not self.spent and not self.revoked and now < self.expires_at


@dataclass(slots=True)
class Code:
    """One authorization code."""

    value: str = field(repr=False)
    application: str
    person: str
    redirect: str
    scopes: tuple[str, ...]
    expires_at: float
    challenge: str
    method: str
    offline: bool
    nonce: str
    grant: Grant | None = None
    """What it was exchanged for; a code is good once."""
    verifiers: list[str] = field(default_factory=list, repr=False)
    """What was shown with it."""


class Mint:
    """Makes ids and tokens: the same ones for the same seed, in the same order."""

    def __init__(self, seed: str) -> None:
        """Take the seed."""
        self._seed = seed
        self._counts: dict[str, int] = {}

    def next(self, label: str, length: int = 43) -> str:
        """Return the next text of a kind: letters, digits, `-` and `_`."""
        count = self._counts[label] = self._counts.get(label, 0) + 1
        return fixed(f"{self._seed}:{label}:{count}", length)


def fixed(text: str, length: int) -> str:
    """Return letters, digits, `-` and `_` that follow from a text."""
    digest = b"".join(hashlib.sha256(f"{part}:{text}".encode()).digest() for part in range(length // 42 + 1))
    return base64.urlsafe_b64encode(digest).decode()[:length]


@dataclass(slots=True)
class Realm:
    """One provider's whole state."""

    name: str
    base: str
    """Where it is: `http://127.0.0.1:PORT/NAME`."""
    clock: Clock
    mint: Mint
    facts: dict[str, str]
    """How the facts stand that nobody has confirmed."""
    faults: Faults = field(default_factory=Faults)
    limit: Limit | None = None
    """How many API calls are let through; None: any number."""
    applications: dict[str, Application] = field(default_factory=dict)
    people: dict[str, Person] = field(default_factory=dict)
    grants: list[Grant] = field(default_factory=list)
    codes: dict[str, Code] = field(default_factory=dict, repr=False)
    tokens: dict[str, Token] = field(default_factory=dict, repr=False)
    post: Callable[[Outgoing], None] = field(default=lambda _outgoing: None, repr=False)
    """Sends a webhook, soon."""
    secrets: list[str] = field(default_factory=list, repr=False)
    """What it told somebody once and nobody else may know, besides tokens and codes."""
    store: dict[str, Any] = field(default_factory=dict, repr=False)
    """What the provider's API holds for its people."""

    def now(self) -> float:
        """Return the sandbox's time."""
        return self.clock.now()

    def application(self, client_id: str) -> Application | None:
        """Return a registration by its client id."""
        return next((found for found in self.applications.values() if found.id == client_id), None)

    def change(self, key: str, **values: Any) -> Application:
        """Change a registration.

        Raises:
            KeyError: there is none of this key.
        """
        self.applications[key] = replace(self.applications[key], **values)
        return self.applications[key]

    def grant(self, application: Application, person: str, scopes: Iterable[str]) -> Grant:
        """Write down a consent."""
        made = Grant(self.mint.next("grant", 12), application.key, application.project, person, tuple(scopes), self.now())
        self.grants.append(made)
        return made

    def issue(self, grant: Grant, kind: Kind, scopes: tuple[str, ...], lifetime: float | None, value: str | None = None) -> Token:
        """Make a token."""
        number = 1 + sum(token.grant is grant and token.kind is kind for token in self.tokens.values())
        now = self.now()
        text = value or f"sandbox-{self.name}-{kind}-{self.mint.next(kind)}"
        token = Token(text, kind, grant, scopes, number, _NEVER if lifetime is None else now + lifetime, used_at=now)
        self.tokens[text] = token
        return token

    def live(self, application: str, person: str) -> Iterator[Grant]:
        """Yield what stands between an application and a person."""
        return (grant for grant in self.grants if (grant.application, grant.person) == (application, person) and grant.ended is None)

    def of_project(self, project: str, person: str) -> Iterator[Grant]:
        """Yield what stands between all applications of a project and a person."""
        return (grant for grant in self.grants if (grant.project, grant.person) == (project, person) and grant.ended is None)

    def held(self, token: Token) -> Person | None:
        """Return whose token it is; None when that account is gone."""
        return self.people.get(token.grant.person)
