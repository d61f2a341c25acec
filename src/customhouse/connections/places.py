"""Where grants and tokens lie sealed under the keys of their connections, for the rotation of these keys."""

from __future__ import annotations

from typing import Final

from customhouse.db import queries
from customhouse.vault.moving import NO_QUERY, SealedTable

_SQL: Final = queries(__package__, "moving.sql")

GRANTS: Final = (
    SealedTable("integration_tokens", ("access_sealed", "refresh_sealed"), _SQL["find_tokens"], _SQL["put_tokens"], _SQL["left_tokens"]),
    SealedTable("connection_grants", ("account_sealed", "user_sealed"), _SQL["find_grants"], _SQL["put_grants"], _SQL["left_grants"]),
    SealedTable("pending_grants", ("account_sealed", "tokens_sealed"), _SQL["find_pending"], _SQL["put_pending"], _SQL["left_pending"]),
    SealedTable("revocation_escrow", ("tokens_sealed",), NO_QUERY, NO_QUERY, _SQL["left_escrow"]),
)

HELD_TENANT_KEYS: Final = _SQL["held_tenant_keys"]
"""What tells which tenant keys wrap a key outside the keyring."""
