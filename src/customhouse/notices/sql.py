"""The queries of this room."""

from __future__ import annotations

from typing import Final

from customhouse.db import queries

SQL: Final = queries(__package__)
