"""Where addresses, headers, client certificates and signing keys lie sealed under the keys of their connections."""

from __future__ import annotations

from typing import Final

from customhouse.db import queries
from customhouse.vault.moving import SealedTable

_SQL: Final = queries(__package__, "moving.sql")

ENDPOINTS: Final = (
    SealedTable(
        "connections",
        ("url_sealed", "headers_sealed", "client_certificate_sealed", "client_key_sealed"),
        _SQL["find_connections"],
        _SQL["put_connections"],
        _SQL["left_connections"],
    ),
    SealedTable("connection_secrets", ("sealed",), _SQL["find_secrets"], _SQL["put_secrets"], _SQL["left_secrets"]),
)
