"""What is judged, and in what words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from customhouse.providers import calls
from customhouse.providers.contract.recordings import Recording
from customhouse.providers.manifest import Provider
from customhouse.types import Secret

DEMANDS: Final[dict[str, str]] = {
    "pkce": "The code is bound to the browser's flow by PKCE with S256 (RFC 7636).",
    "scopes in request": "The authorization request names exactly the scopes of its mode.",
    "revocation": "A disconnect ends the grant at the provider.",
}
"""The demands that an `Exempt` may name."""

CLIENT: Final = calls.Client("test-client", Secret(b"canary-client-secret"))
SHOWN: Final = Secret(b"canary-refresh-shown")
VERIFIERS: Final = (Secret(b"v" * 43), Secret(b"w" * 43))
STATES: Final = ("s" * 43, "t" * 43)
REDIRECT: Final = "https://customs.example.com/oauth/callback/"

Details: TypeAlias = "Iterator[tuple[str, str]]"
"""What is wrong, each with the demand that is not met, or an empty text."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged."""

    provider: Provider
    recordings: tuple[Recording, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """A check that does not hold."""

    number: int
    """Of the check."""
    detail: str
    demand: str = ""
    """The demand that was not met, where an exemption from it is possible."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check."""

    number: int
    title: str
    judge: Callable[[Subject], Details]
