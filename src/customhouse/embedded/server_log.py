"""The server's log, which the guard writes. Standard library only."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

LOG_LIMIT: Final = 4 << 20
"""Bytes after which the log is renamed to `postgresql.log.1`; two files are kept."""


class Log:
    """The server's log: bounded, mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = self._open()

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def write(self, data: bytes) -> None:
        """Append; a full disk loses the line, never the server."""
        with contextlib.suppress(OSError):
            if os.fstat(self._descriptor).st_size + len(data) > LOG_LIMIT:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                os.close(self._descriptor)
                self._descriptor = self._open()
            os.write(self._descriptor, data)

    def say(self, text: str) -> None:
        """Append a line of the guard's own."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        self.write(f"{stamp} [guard] {text}\n".encode("utf-8", "replace"))
