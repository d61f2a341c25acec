"""A cluster for tests: in a temporary folder, without fsync, gone at the end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from customhouse.embedded.cluster import Cluster, open_cluster
from customhouse.embedded.options import Options


@contextmanager
def throwaway_cluster(settings: Mapping[str, str] | None = None, *, binaries: Path | None = None) -> Iterator[Cluster]:
    """Run a fresh cluster for the length of a `with` block.

    Args:
        settings: server parameters over ours.
        binaries: another PostgreSQL's `bin` folder.
    """
    directory = Path(tempfile.mkdtemp(prefix="customhouse-"))
    try:
        cluster = open_cluster(directory, Options(fsync=False, disposable=True, settings=settings or {}, binaries=binaries))
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
