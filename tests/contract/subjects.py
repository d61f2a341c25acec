"""What the contract is tried on: the catalogue with its recordings, and providers that are good until one thing is broken."""

from __future__ import annotations

from pathlib import Path

from customhouse.providers.contract.recordings import Recording, recording, standard
from customhouse.providers.contract.subject import Subject
from customhouse.providers.declared import read
from customhouse.providers.manifest import Provider
from customhouse.types import Secret

ROOT = Path(__file__).parents[2]
FOLDERS = ROOT / "tests" / "providers"
ACME = b"""
[acme]
kind = "oauth2"
name = "Acme"
authorize_url = "https://id.acme.example/auth"
token_url = "https://id.acme.example/token"
revoke_url = "https://id.acme.example/revoke"
identity_url = "https://id.acme.example/me"
api_base = "https://api.acme.example"
hosts = ["id.acme.example", "api.acme.example"]
scopes.observe = [{name = "read", why = "read your records"}]
scopes.act = [{name = "write", why = "change your records"}]
not_requested = ["admin"]
"""


def recordings(provider_id: str) -> tuple[Recording, ...]:
    """Return what was recorded of a built-in provider."""
    return tuple(recording(path.stem, path.read_bytes()) for path in sorted((FOLDERS / provider_id).glob("*.json")))


def acme() -> Provider:
    """Return a provider of an operator's own, which keeps the contract."""
    return read(ACME, lambda _: Secret(b"unused"), https_required=True).get("acme")


def sound() -> Subject:
    """Return it with the replies that the RFCs let one expect."""
    return Subject(acme(), standard(acme()))
