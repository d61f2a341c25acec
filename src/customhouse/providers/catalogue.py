"""The closed list of providers, and what an installation made of it: its registrations, overrides, and providers of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from customhouse.errors import NotFound, ProviderNotConfigured
from customhouse.providers import (
    gmail,
    google_calendar,
    google_drive,
    google_meet,
    hubspot,
    microsoft_teams,
    pipedrive,
    slack,
    stripe,
    zoom,
)
from customhouse.providers.calls import Client
from customhouse.providers.manifest import OAuth2, Provider, RestrictedKey
from customhouse.types import Secret

BUILT_IN: Final[tuple[Provider, ...]] = (
    zoom.PROVIDER,
    google_meet.PROVIDER,
    google_calendar.PROVIDER,
    gmail.PROVIDER,
    google_drive.PROVIDER,
    slack.PROVIDER,
    microsoft_teams.PROVIDER,
    stripe.PROVIDER,
    hubspot.PROVIDER,
    pipedrive.PROVIDER,
)
"""In the order of the source documents' map, then the partners."""

RESERVED: Final = frozenset({"webhook"})
"""Kinds of connections that are no provider's."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The providers of one installation. Without a providers file: the built-in ones, none of them registered."""

    providers: tuple[Provider, ...] = BUILT_IN
    clients: Mapping[str, Client] = field(default_factory=dict)
    """Our registrations, by provider."""
    webhook_secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)
    """What providers with one webhook URL per application sign with, by provider."""

    def get(self, provider_id: str) -> Provider:
        """Return a provider.

        Raises:
            NotFound: there is none of this id.
        """
        for provider in self.providers:
            if provider.id == provider_id:
                return provider
        raise NotFound("There is no such provider.")

    def client(self, provider_id: str) -> Client:
        """Return our registration with a provider.

        Raises:
            NotFound: there is no such provider.
            ProviderNotConfigured: the providers file names no client for it.
        """
        provider = self.get(provider_id)
        if provider.id not in self.clients:
            raise ProviderNotConfigured(f"{provider.name} is not set up here: the providers file names no client for it.")
        return self.clients[provider.id]

    @property
    def by_key(self) -> frozenset[str]:
        """The providers that are connected by a key that the customer makes."""
        return frozenset(provider.id for provider in self.providers if isinstance(provider.auth, RestrictedKey))

    def is_set_up(self, provider: Provider) -> bool:
        """Tell whether users can connect it: this installation is registered, or the provider needs no registration."""
        return provider.id in self.clients or not isinstance(provider.auth, OAuth2)

    def shared_projects(self) -> tuple[tuple[str, str], ...]:
        """Return pairs of providers whose grants would be counted as one: the same client, or clients of one project.

        A token of the one could then carry what was granted to the other, and revoking one would end both.
        """
        places: dict[tuple[str, str], str] = {}
        pairs: list[tuple[str, str]] = []
        for provider in self.providers:
            client = self.clients.get(provider.id)
            if client is None:
                continue
            found = re.fullmatch(provider.project, client.id) if provider.project else None
            place = (provider.endpoints.token_url, found[1] if found else client.id)
            if place in places:
                pairs.append((places[place], provider.id))
            places.setdefault(place, provider.id)
        return tuple(pairs)
