"""One sandbox: the providers on one port, what is ordered of them, and a list of what they were asked."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets as randomness
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from customhouse_sandbox import google, hubspot, microsoft, oauth, pipedrive, slack, stripe, zoom
from customhouse_sandbox.clock import Clock
from customhouse_sandbox.faults import Fault, FaultKind, Operation, check
from customhouse_sandbox.http import HOST
from customhouse_sandbox.limits import Limit
from customhouse_sandbox.outgoing import Delivery, Outgoing, send
from customhouse_sandbox.routing import Vendor
from customhouse_sandbox.state import Application, End, Grant, Kind, Mint, Realm, Token

VENDORS: Final[tuple[Vendor, ...]] = (
    zoom.VENDOR,
    google.VENDOR,
    slack.VENDOR,
    microsoft.VENDOR,
    stripe.VENDOR,
    hubspot.VENDOR,
    pipedrive.VENDOR,
)
_VENDOR: Final = {vendor.name: vendor for vendor in VENDORS}
PUBLIC_URL: Final = "http://127.0.0.1:8300"
"""Where the service is unless it says otherwise: its callbacks are registered below it."""
_MOST_CALLS: Final = 100_000
_MOST_TIMES: Final = 100


@dataclass(frozen=True, slots=True)
class Call:
    """One call that came, without anything secret."""

    number: int
    at: float
    provider: str
    operation: str
    method: str
    path: str
    """As the route has it, with `{names}`."""
    application: str
    person: str
    grant: str
    token: int
    """Which token of its kind and grant was shown: 1 is the first; 0: none that is known."""
    status: int
    """0: the connection was cut."""


class Sandbox:
    """The providers, while they run."""

    def __init__(self, *, public_url: str = PUBLIC_URL, seed: str = "sandbox") -> None:
        """Prepare a sandbox.

        Args:
            public_url: of the service; its callbacks are registered as redirect URIs.
            seed: the same one gives the same codes and tokens, in the same order. Registrations and people are always the same ones.
        """
        self.base = ""
        """Where it listens."""
        self.clock = Clock()
        self.calls: list[Call] = []
        self.deliveries: list[Delivery] = []
        """Webhooks that were sent."""
        self.outbox: asyncio.Queue[Outgoing] = asyncio.Queue()
        self.realms: dict[str, Realm] = {}
        self._public_url = public_url.rstrip("/")
        self._seed = seed
        self._orders = 0
        self._released = asyncio.Event()
        self._held: set[str] = set()
        self._news = asyncio.Condition()

    def open(self, port: int) -> None:
        """Begin, below a port of this machine: every provider as it is on its first day."""
        self.base = f"http://{HOST}:{port}"
        for vendor in VENDORS:
            facts = {fact.name: fact.choices[0] for fact in vendor.facts}
            realm = Realm(vendor.name, f"{self.base}/{vendor.name}", self.clock, Mint(f"{self._seed}:{vendor.name}"), facts)
            realm.post = self.outbox.put_nowait
            vendor.begin(realm, self._public_url)
            self.realms[vendor.name] = realm

    def providers_file(self, folder: Path | None = None) -> str:
        """Return a ready `PROVIDERS_FILE`: endpoints and registrations of every integration that is imitated.

        Secrets never stand in such a file: they are named as variables (`environ`), or with a folder as files in it (`write`).
        """
        lines: list[str] = []
        for realm, overrides in zip(self.realms.values(), self.overrides(), strict=True):
            for key, urls in overrides.items():
                application = realm.applications[key]
                said = {"client_id": application.id, **urls}
                # Without an id there is nothing that an operator registers.
                lines += [f"[{key}]", *(f'{name} = "{value}"' for name, value in said.items() if value)]
                for name in _secrets_of(application):
                    variable = _variable(key, name)
                    place = f'env = "{variable}"' if folder is None else f'file = "{(folder / variable.lower()).as_posix()}"'
                    lines.append(f"{name} = {{{place}}}")
                lines.append("")
        return "\n".join(lines)

    def overrides(self) -> list[dict[str, dict[str, str]]]:
        """Return the endpoints that stand in for a provider's, by integration, for each provider."""
        return [vendor.overrides(self.realms[vendor.name]) for vendor in VENDORS]

    def environ(self) -> dict[str, str]:
        """Return the variables that `providers_file` names, with their secrets."""
        applications = [one for realm in self.realms.values() for one in realm.applications.values()]
        return {_variable(one.key, name): value for one in applications for name, value in _secrets_of(one).items()}

    def write(self, folder: Path) -> Path:
        """Write `providers.toml` and the secrets that it names into a folder; return the file's path.

        Raises:
            OSError: it cannot be written.
        """
        folder = folder.resolve()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, value in self.environ().items():
            _write(folder / name.lower(), value)
        return _write(folder / "providers.toml", self.providers_file(folder))

    def realm_of(self, application: str) -> Realm:
        """Return the provider that an integration belongs to, by the integration's or the provider's name.

        Raises:
            ValueError: neither is known.
        """
        for realm in self.realms.values():
            if application == realm.name or application in realm.applications:
                return realm
        raise ValueError(f"There is no provider or integration {application!r} here.")

    def order(self, target: str, kind: FaultKind, operation: Operation = Operation.ANY, *, times: int | None = 1, **values: Any) -> Fault:
        """Order a fault for the next calls of a provider, or of one integration.

        Raises:
            ValueError: there is no such provider, or a value is missing.
        """
        realm = self.realm_of(target)
        check(kind, operation, times, values)
        self._orders += 1
        fault = Fault(f"fault-{self._orders}", kind, operation, target if target in realm.applications else "", times, values)
        realm.faults.waiting.append(fault)
        return fault

    def clear(self) -> None:
        """Forget all faults that wait, and let held calls go on."""
        for realm in self.realms.values():
            realm.faults.waiting.clear()
        self.release()

    def release(self) -> None:
        """Let the calls that are held go on."""
        self._released.set()
        self._released = asyncio.Event()

    async def hold(self, fault: Fault) -> None:
        """Keep a call until the calls that are held are let go."""
        released = self._released
        self._held.add(fault.id)
        async with self._news:
            self._news.notify_all()
        await released.wait()

    async def holding(self, fault: Fault, within: float = 30.0) -> None:
        """Wait until a call is held by an order."""
        async with asyncio.timeout(within), self._news:
            await self._news.wait_for(lambda: fault.id in self._held)

    def notify(self, application: str, person: str, event: str, *, url: str = "", times: int = 1) -> int:
        """Send the webhooks of an event, each so many times over; return how many that are.

        Args:
            application: the integration.
            person: whom it concerns, by login.
            event: in the provider's words.
            url: where to; unset: where the registration says.
            times: more than once are retries, with the same body and signature.

        Raises:
            ValueError: something of it does not exist, or the address is not on this machine.
        """
        realm = self.realm_of(application)
        if application not in realm.applications or person not in realm.people:
            raise ValueError("There is no such integration or person here.")
        if not 1 <= times <= _MOST_TIMES:
            raise ValueError(f"times is 1 to {_MOST_TIMES}")
        registered = realm.applications[application]
        made = _VENDOR[realm.name].notify(realm, registered, realm.people[person], event, url or registered.webhook_url)
        for attempt in range(times):
            for outgoing in made:
                self.outbox.put_nowait(outgoing.again(attempt))
        return len(made) * times

    async def deliver(self) -> None:
        """Send what has to be sent, in order, for as long as this runs."""
        while True:
            await self.send(await self.outbox.get())

    async def send(self, outgoing: Outgoing) -> bool:
        """Send a webhook now, and write it down; return whether the answer was the right one."""
        status, body, kind = await send(outgoing)
        taken = outgoing.accepts(status, body) and outgoing.answers in {"", kind}
        self.deliveries.append(Delivery(len(self.deliveries) + 1, outgoing.provider, outgoing.event, outgoing.url, status, accepted=taken))
        async with self._news:
            self._news.notify_all()
        return taken

    async def delivered(self, count: int, within: float = 30.0) -> list[Delivery]:
        """Wait until so many webhooks were sent, and return them."""
        async with asyncio.timeout(within), self._news:
            await self._news.wait_for(lambda: len(self.deliveries) >= count)
        return self.deliveries

    def set_fact(self, provider: str, name: str, value: str) -> None:
        """Say how an open question stands.

        Raises:
            ValueError: there is no such question, or no such answer.
        """
        realm = self.realm_of(provider)
        fact = next((fact for fact in _VENDOR[realm.name].facts if fact.name == name), None)
        if fact is None or value not in fact.choices:
            raise ValueError(f"{realm.name} has no open question {name!r} with the answer {value!r}.")
        realm.facts[name] = value

    def limit(self, provider: str, calls: int | None, seconds: float = 1.0) -> None:
        """Let so many API calls through in so many seconds, counted as the provider does; None: any number.

        Raises:
            ValueError: there is no such provider, or a number is out of its range.
        """
        if calls is not None and (calls < 1 or not seconds > 0):
            raise ValueError("calls is at least 1, and seconds more than 0")
        self.realm_of(provider).limit = None if calls is None else Limit(calls, seconds)

    def expire(self, target: str, kind: Kind = Kind.ACCESS) -> int:
        """Let all tokens of a kind expire now; return how many were live."""
        realm = self.realm_of(target)
        now = realm.now()
        found = [token for token in self.tokens(target) if token.kind is kind and token.is_live(now)]
        for token in found:
            token.expires_at = now
        return len(found)

    def withdraw(self, application: str, person: str, why: End = End.DEAUTHORIZED) -> int:
        """End what a person gave to an application, from the provider's side; return how many consents that were.

        Raises:
            ValueError: there is no such application or person.
        """
        realm = self.realm_of(application)
        if application not in realm.applications or person not in realm.people:
            raise ValueError("There is no such integration or person here.")
        vendor, registered = _VENDOR[realm.name], realm.applications[application]
        ended = oauth.end(vendor.shared(realm, registered, realm.people[person], why), why)
        if ended and vendor.withdrawn and (vendor.subscribes or registered.webhook_url):
            self.notify(application, person, vendor.withdrawn)
        return ended

    def remove_person(self, provider: str, person: str) -> None:
        """Let an account vanish.

        Raises:
            ValueError: there is none.
        """
        realm = self.realm_of(provider)
        if realm.people.pop(person, None) is None:
            raise ValueError("There is no such person here.")
        oauth.end((grant for grant in realm.grants if grant.person == person), End.OWNER_GONE)

    def tokens(self, target: str) -> list[Token]:
        """Return every token that was ever issued to an integration, or by a provider."""
        realm = self.realm_of(target)
        return [token for token in realm.tokens.values() if target in {realm.name, token.grant.application}]

    def grants(self, target: str) -> list[Grant]:
        """Return every consent that was ever given to an integration, or at a provider."""
        realm = self.realm_of(target)
        return [grant for grant in realm.grants if target in {realm.name, grant.application}]

    def is_live(self, value: str) -> bool:
        """Tell whether a token, whosever it is, opens anything."""
        found = [realm.tokens[value] for realm in self.realms.values() if value in realm.tokens]
        return any(token.is_live(self.clock.now()) for token in found)

    def secrets(self) -> Iterable[str]:
        """Yield every token, code, verifier and client secret of this sandbox: none of them may be found anywhere else."""
        for realm in self.realms.values():
            yield from realm.tokens
            yield from realm.codes
            yield from realm.secrets
            for code in realm.codes.values():
                yield from code.verifiers
            for application in realm.applications.values():
                if application.secret:
                    yield application.secret

    async def note(self, call: Call) -> None:
        """Write down a call that was answered."""
        if len(self.calls) < _MOST_CALLS:
            self.calls.append(call)
        async with self._news:
            self._news.notify_all()

    async def called(self, operation: Operation, count: int = 1, within: float = 30.0) -> list[Call]:
        """Wait until so many calls of a kind were answered, and return them."""
        async with asyncio.timeout(within), self._news:
            await self._news.wait_for(lambda: sum(call.operation == operation for call in self.calls) >= count)
        return [call for call in self.calls if call.operation == operation]


def _secrets_of(application: Application) -> dict[str, str]:
    found = {"client_secret": application.secret, "webhook_secret": application.webhook_secret}
    return {name: value for name, value in found.items() if value}


def _variable(key: str, name: str) -> str:
    return f"sandbox_{key}_{name}".upper().replace("-", "_")


def _write(path: Path, text: str) -> Path:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path


def described(token: Token, now: float) -> dict[str, Any]:
    """Return what may be told about a token: everything but its value."""
    return {
        "sha256": hashlib.sha256(token.value.encode()).hexdigest(),
        "kind": token.kind,
        "application": token.grant.application,
        "person": token.grant.person,
        "grant": token.grant.id,
        "number": token.number,
        "scopes": list(token.scopes),
        "live": token.is_live(now),
        "spent": token.spent,
        "ended": token.grant.ended,
    }


def as_dict(call: Call) -> dict[str, Any]:
    """Return a call for JSON."""
    return asdict(call)


def random_seed() -> str:
    """Return a seed that no other sandbox has."""
    return randomness.token_hex(8)
