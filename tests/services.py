"""The service as its operator runs it: `customhouse serve`, a process of its own, on real parts."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx
import psutil


def free_port() -> int:
    """Return a port of loopback that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Service:
    """One service at a time, of one process unless its settings say otherwise; `environ` are its settings."""

    environ: dict[str, str]
    directory: Path
    command: str = "serve"
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    _log: IO[bytes] | None = None

    @property
    def base(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Everything that it has printed so far."""
        path = self.directory / "service.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    async def start(self, **extra: str) -> None:
        """Start it and wait until it is ready, or has died at an armed failpoint; any other end is a failure that shows the log."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CUSTOMHOUSE_")}
        # Without an API, it answers on the listener for metrics.
        listener = "CUSTOMHOUSE_METRICS_LISTEN" if self.command == "work" else "CUSTOMHOUSE_LISTEN"
        settings = {listener: f"127.0.0.1:{self.port}", "CUSTOMHOUSE_PROCESSES": "1", **self.environ, **extra}
        if self._log is not None:
            self._log.close()
        self._log = (self.directory / "service.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "customhouse.cli", self.command],
            env={**inherited, **settings},
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
            cwd=self.directory,
        )
        async with asyncio.timeout(60), httpx.AsyncClient(trust_env=False) as client:
            while self.process.poll() is None:
                try:
                    if (await client.get(f"{self.base}/readyz")).status_code == httpx.codes.OK:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)
        assert self.process.poll() == -signal.SIGKILL, self.log[-4000:]

    async def logged(self, text: str, count: int = 1, within: float = 60.0) -> None:
        """Wait until a text was logged so many times."""
        async with asyncio.timeout(within):
            while self.log.count(text) < count:
                assert self.process is not None
                assert self.process.poll() is None, self.log[-4000:]
                await asyncio.sleep(0.02)

    def children(self) -> list[psutil.Process]:
        """Return the processes of its group, the oldest first."""
        assert self.process is not None
        return sorted(psutil.Process(self.process.pid).children(), key=lambda one: one.create_time())

    async def died(self, within: float = 60.0) -> int:
        """Wait until it has ended; return its exit code (negative: the signal)."""
        assert self.process is not None
        async with asyncio.timeout(within):
            while (code := self.process.poll()) is None:
                await asyncio.sleep(0.01)
        return code

    def kill(self) -> None:
        """SIGKILL: nothing is flushed."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and wait."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(40)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            if self._log is not None:
                self._log.close()
