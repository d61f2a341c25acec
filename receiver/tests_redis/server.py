"""A Redis server of the tests' own: a child process on a free port of loopback, without files."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from typing import Optional


class Server:
    """`redis-server`, started and stopped as a test wants it; the port stays the same."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            raise RuntimeError("redis-server is not installed; on Debian: apt-get install redis-server")
        self._program = program
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: Optional[subprocess.Popen[str]] = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        self._process = process = subprocess.Popen([self._program, *options], stdout=subprocess.PIPE, text=True)
        said = []
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if "Ready to accept connections" in line:
                return
        raise RuntimeError("".join(said))

    def stop(self) -> None:
        """Kill it, as a machine that is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
