"""Which scopes are asked for, and what a grant is worth against that. Pure; decides alone whether a connection may come into being."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from customhouse.providers.manifest import Provider, Scope
from customhouse.providers.vocabulary import Mode


class Verdict(StrEnum):
    """What a comparison comes to; the worst that holds."""

    SAME = "same"
    FEWER = "fewer"
    """Some are missing: the connection works with less, and is `degraded`."""
    UNKNOWN = "unknown"
    """The provider did not say: never taken for "as requested"."""
    WIDER = "wider"
    """More was granted than was asked for: refused and revoked."""
    FORBIDDEN = "forbidden"
    """Something that is never asked for was granted, by name or inside another: refused and revoked."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Granted against requested scopes, in the provider's own spelling of today."""

    granted: tuple[str, ...]
    missing: tuple[str, ...]
    wider: tuple[str, ...]
    """Granted and not asked for; the forbidden ones too."""
    forbidden: tuple[str, ...]
    """Granted, and on the deny-list or holding something that is."""
    known: bool = True
    """False: the provider did not say what it granted."""

    @property
    def verdict(self) -> Verdict:
        """The worst that holds."""
        if self.forbidden:
            return Verdict.FORBIDDEN
        if self.wider:
            return Verdict.WIDER
        if not self.known:
            return Verdict.UNKNOWN
        return Verdict.FEWER if self.missing else Verdict.SAME

    @property
    def acceptable(self) -> bool:
        """Whether the grant may be kept at all."""
        return self.verdict not in {Verdict.WIDER, Verdict.FORBIDDEN}


def requested(provider: Provider, mode: Mode) -> tuple[Scope, ...]:
    """Return the scopes that a connection in this mode asks for, in the manifest's order: for `act` the union.

    Raises:
        ValueError: the provider has no such mode.
    """
    if mode not in provider.modes:
        raise ValueError(f"{provider.id} has no mode {mode}")
    return tuple(scope for scope in provider.scopes if mode is Mode.ACT or scope.mode is Mode.OBSERVE)


def names(scopes: Iterable[Scope]) -> tuple[str, ...]:
    """Return the names of scopes."""
    return tuple(scope.name for scope in scopes)


def added(provider: Provider, mode: Mode, held: Iterable[str]) -> tuple[Scope, ...]:
    """Return what this mode asks for beyond the scopes that are `held`: what a page for a new consent highlights."""
    have = set(held)
    return tuple(scope for scope in requested(provider, mode) if scope.name not in have)


def normalise(provider: Provider, spelled: Iterable[str]) -> tuple[str, ...]:
    """Return scopes in the manifest's spelling: aliases resolved, prefix and blanks removed, known names whatever their case; each once.

    What the manifest does not know stays as it was spelled.
    """
    found: dict[str, None] = {}
    spellings = _spellings(provider)
    for text in spelled:
        name = text.strip()
        if provider.scope_prefix and name.casefold().startswith(provider.scope_prefix.casefold()):
            name = name[len(provider.scope_prefix) :]
        if name:
            found.update(dict.fromkeys(spellings.get(name.casefold(), (name,))))
    return tuple(found)


def closure(provider: Provider, held: Iterable[str]) -> frozenset[str]:
    """Return the scopes and everything that they hold in themselves."""
    holds = {implied.name: implied.holds for implied in provider.implied}
    reached: set[str] = set()
    waiting = list(held)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting.extend(holds.get(name, ()))
    return frozenset(reached)


def forbidden(provider: Provider, name: str) -> bool:
    """Tell whether a scope is on the deny-list, or holds one that is."""
    patterns = [_pattern(never.pattern) for never in provider.not_requested]
    return any(pattern.fullmatch(one) for one in closure(provider, (name,)) for pattern in patterns)


def compare(provider: Provider, mode: Mode, granted: Sequence[str] | None) -> Comparison:
    """Compare what was granted with what this mode asks for.

    Args:
        provider: the manifest.
        mode: of the connection.
        granted: as the provider spelled it; None: it did not say.

    Raises:
        ValueError: the provider has no such mode.
    """
    wanted = requested(provider, mode)
    asked = names(wanted)
    # Spelled as it came as well: an alias must not hide a name that the deny-list knows.
    spelled = tuple(name for text in granted or () if (name := text.strip()))
    got = normalise(provider, spelled)
    harmless = {one.name.casefold() for one in provider.harmless}
    held = closure(provider, got)
    refused = [name for name in got if forbidden(provider, name)]
    refused += [name for name in spelled if name not in got and name not in refused and forbidden(provider, name)]
    return Comparison(
        granted=got,
        missing=tuple(scope.name for scope in wanted if scope.name not in held and not (scope.unsaid and granted is not None)),
        wider=tuple(dict.fromkeys([*(name for name in got if name not in asked and name.casefold() not in harmless), *refused])),
        forbidden=tuple(refused),
        known=granted is not None,
    )


@lru_cache(maxsize=256)
def _spellings(provider: Provider) -> dict[str, tuple[str, ...]]:
    """Return the manifest's names by their spellings in lower case."""
    known = {scope.name.casefold(): (scope.name,) for scope in provider.scopes}
    for implied in provider.implied:
        known.setdefault(implied.name.casefold(), (implied.name,))
        for name in implied.holds:
            known.setdefault(name.casefold(), (name,))
    return known | {alias.spelling.casefold(): alias.stands_for for alias in provider.aliases}


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.split("*")), re.IGNORECASE | re.DOTALL)
