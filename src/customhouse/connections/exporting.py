"""Handing out an access token: where the operator allows it, and never one that opens more than reading, or more than we read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from customhouse.connections.reading import Asker, Held, Reader, Reading
from customhouse.errors import TokenNotExportable
from customhouse.providers.manifest import OAuth2, Provider
from customhouse.providers.scopes import closure
from customhouse.types import TenantId

_WORDS: Final = {
    "export_off": "This installation hands out no tokens (TOKEN_EXPORT); call the provider through the proxy.",
    "pasted_key": "A key that was pasted is never handed out; call the provider through the proxy.",
    "scopes_unknown": "The provider does not say what the token may do, so it is not handed out; call the provider through the proxy.",
    "writing_scope": "The grant holds a scope with which something can be changed; call the provider through the proxy.",
    "narrowed_scope": "The token opens more than the consent page says that is read; call the provider through the proxy.",
}


async def export(reader: Reader, tenant: TenantId, connection_id: UUID, asker: Asker, *, allowed: bool) -> Reading:
    """Return the access token of a connection.

    Args:
        reader: reads it.
        tenant: whose.
        connection_id: which connection.
        asker: who reads.
        allowed: the operator's setting.

    Raises:
        TokenNotExportable: it is not handed out; else as `Reader.look` and `Reader.open`.
    """
    held = await reader.look(tenant, connection_id, asker)
    reason = _hindrance(held) if allowed else "export_off"
    if reason is not None:
        await reader.refuse(held, asker, "export", reason)
        raise TokenNotExportable(_WORDS[reason])
    return await reader.open(held, asker, "export")


def _hindrance(held: Held) -> str | None:
    if not isinstance(held.provider.auth, OAuth2):
        return "pasted_key"
    if not held.scopes_known:
        return "scopes_unknown"
    return unexportable(held.provider, held.granted, held.requested)


def unexportable(provider: Provider, granted: Iterable[str], requested: Iterable[str]) -> str | None:
    """Return why a grant's token is not handed out; None: it may be. What the manifest does not know counts as writing.

    Args:
        provider: the manifest.
        granted: in the manifest's spelling.
        requested: the scopes of the consent: one that replies leave out was granted all the same.
    """
    unsaid = {scope.name for scope in provider.scopes if scope.unsaid}
    held = closure(provider, granted) | (unsaid & set(requested))
    known = {scope.name: scope for scope in provider.scopes}
    harmless = {one.name.casefold() for one in provider.harmless}
    if any(known[name].writes if name in known else name.casefold() not in harmless for name in held):
        return "writing_scope"
    return "narrowed_scope" if any(known[name].narrowed for name in held if name in known) else None
