"""What wraps the keys of tenants: the key service, and how its context becomes associated data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from customhouse.types import Secret


class KeyService(Protocol):
    """A root key that never leaves its house: it makes data keys and opens them again, in the same context only."""

    @property
    def name(self) -> str:
        """Which root key this is, as stored beside what it wrapped and shown by `doctor`; no secret."""
        ...

    async def generate(self, context: Mapping[str, str]) -> tuple[Secret, bytes]:
        """Return a fresh 32-byte key, and the same key wrapped for this context.

        Raises:
            KeyServiceUnavailable: the service cannot or may not do it now; the detail says what to do.
            CustomhouseError: the context is empty.
        """
        ...

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> Secret:
        """Return the key in `wrapped`.

        Raises:
            Unsealable: another root key, another context, an empty one, or altered bytes.
            KeyServiceUnavailable: the service cannot or may not do it now; the detail says what to do.
        """
        ...

    async def check(self) -> None:
        """Wrap and unwrap once.

        Raises:
            KeyServiceUnavailable: it did not work; the detail says what to do.
        """
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """The encryption context of a wrapped key, as the associated data of an envelope."""

    pairs: Mapping[str, str]

    def associated_data(self) -> bytes:
        """Return the pairs in order of their names, each text behind its length; empty where a name, a value or every pair is missing."""
        if not self.pairs or not all(name and value for name, value in self.pairs.items()):
            return b""
        text = "".join(f"{len(name)}:{name}{len(value)}:{value}" for name, value in sorted(self.pairs.items()))
        return f"context:{text}".encode("utf-8", "surrogatepass")


def check_context(environment: str) -> dict[str, str]:
    """Return the context in which `check` wraps: it names all that the policies of `deploy/aws` ask for."""
    return {"environment": environment, "purpose": "check", "tenant_id": "_platform"}
