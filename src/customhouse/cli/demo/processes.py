"""The processes of the story: the service and the customer's receiver. They end with the demo, whatever way it ends."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from customhouse.canonical import dump, parse_object
from customhouse.cli.loopback import HOST, NoAnswer
from customhouse.cli.platform_key import FILE_NAME
from customhouse.config import PREFIX
from customhouse.errors import CustomhouseError
from customhouse.types import Secret

_START_SECONDS: Final = 120.0
_END_SECONDS: Final = 45.0
_LINE: Final = 4 * 1024 * 1024


def _environment(**settings: str) -> dict[str, str]:
    """Return our own surroundings with these settings alone."""
    ours = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}  # noqa: TID251 - handed on, not read
    return ours | {PREFIX + name: value for name, value in settings.items()}


async def _run(module: str, *arguments: str, environment: dict[str, str], stderr: int) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdin=PIPE,
        stdout=PIPE,
        stderr=stderr,
        env=environment,
        limit=_LINE,
        # Ctrl-C is for the demo, which then ends them in order.
        start_new_session=True,
    )


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


async def _end(process: Process) -> int:
    """Close standard input, which is the order to end; kill what does not. Returns the exit code."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_END_SECONDS):
            return await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        return await process.wait()


class Service:
    """`customhouse serve` on a database of its own."""

    def __init__(self, directory: Path) -> None:
        """Take the folder for its data and its log."""
        self.directory = directory
        self.data_dir = directory / "data"
        self.log = directory / "service.log"
        self.port = free_port()
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def public_url(self) -> str:
        """Under what address browsers know it."""
        return f"http://{HOST}:{self.port}"

    async def start(self, providers: Path) -> None:
        """Start it and wait until it listens.

        Args:
            providers: the file with its registrations at providers.

        Raises:
            NoAnswer: it ended, or did not come up in time; the text says where its log is.
        """
        environment = _environment(
            ENVIRONMENT="dev",
            DATA_DIR=str(self.data_dir),
            LISTEN=f"{HOST}:{self.port}",
            PUBLIC_URL=self.public_url,
            PROVIDERS_FILE=str(providers),
            EGRESS_ALLOW="127.0.0.0/8",
            PROCESSES="1",
        )
        self._process = await _run("customhouse.cli.demo.tether", "serve", environment=environment, stderr=asyncio.subprocess.STDOUT)
        self._reading = asyncio.get_running_loop().create_task(self._read(self._process))
        try:
            async with asyncio.timeout(_START_SECONDS):
                await asyncio.shield(self._listening)
        except TimeoutError:
            raise NoAnswer(f"The service was not ready after {_START_SECONDS:.0f} s.") from None

    def platform_key(self) -> Secret:
        """Return the key that the service wrote at its first start."""
        return Secret((self.data_dir / FILE_NAME).read_bytes().strip())

    @property
    def process_id(self) -> int:
        """The number of the process."""
        return self._process.pid if self._process is not None else 0

    async def stop(self) -> int:
        """End it in order; returns its exit code."""
        if self._process is None:
            return 0
        code = await _end(self._process)
        if self._reading is not None:
            await self._reading
        return code

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None  # it is a pipe
        last = ""
        with self.log.open("ab") as log:
            async for line in process.stdout:
                log.write(line)
                log.flush()
                last = line.decode("utf-8", "replace").strip() or last
                if b'"listening"' in line and not self._listening.done():
                    with suppress(CustomhouseError):
                        self._listening.set_result(int(parse_object(line)["port"]))  # type: ignore[arg-type]  # our own line
        if not self._listening.done():
            self._listening.set_exception(NoAnswer(f"The service ended before it was ready. Its last words: {last}"))


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the receiver saw it, and what it answered."""

    status: int
    answer: dict[str, Any]
    headers: tuple[tuple[str, str], ...]
    body: bytes
    event: dict[str, Any] | None
    """The envelope, where the receiver verified it and worked on it."""

    @property
    def event_id(self) -> str | None:
        """Of the verified event."""
        return None if self.event is None else str(self.event["event_id"])


class ReceiverProcess:
    """The customer's receiver; may be killed and started again on the same port."""

    def __init__(self) -> None:
        """Choose a port."""
        self.port = free_port()
        self.seen: list[Seen] = []
        self._secrets: dict[str, str] = {}
        self._news = asyncio.Condition()
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()

    async def start(self, secrets: dict[str, str] | None = None) -> None:
        """Start it with these secrets, or with those of the last time.

        Raises:
            NoAnswer: it did not come up.
        """
        self._secrets = secrets or self._secrets
        self._listening.clear()
        self._process = await _run("customhouse.cli.demo.receiver", environment=_environment(), stderr=DEVNULL)
        assert self._process.stdin is not None  # it is a pipe
        self._process.stdin.write(dump({"port": self.port, "secrets": self._secrets}) + b"\n")
        self._reading = asyncio.get_running_loop().create_task(self._read(self._process))
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._listening.wait()
        except TimeoutError:
            raise NoAnswer("The receiver did not come up.") from None

    async def kill(self) -> None:
        """End it without a word, as a crash would."""
        if self._process is not None and self._reading is not None:
            self._process.kill()
            await self._process.wait()
            await self._reading

    async def stop(self) -> None:
        """End it in order."""
        if self._process is not None and self._reading is not None:
            await _end(self._process)
            await self._reading

    async def wait_for(self, holds: Callable[[list[Seen]], bool], within: float) -> bool:
        """Wait until what was seen is as wanted; False where that takes longer than `within` seconds."""
        try:
            async with asyncio.timeout(within), self._news:
                await self._news.wait_for(lambda: holds(self.seen))
        except TimeoutError:
            return False
        return True

    def verified(self) -> dict[str, int]:
        """Return how many times each event was verified and worked on."""
        counts: dict[str, int] = {}
        for one in self.seen:
            if one.event_id is not None:
                counts[one.event_id] = counts.get(one.event_id, 0) + 1
        return counts

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None  # it is a pipe
        async for line in process.stdout:
            note: dict[str, Any] = parse_object(line)
            if "listening" in note:
                self._listening.set()
                continue
            headers = tuple((str(name), str(value)) for name, value in note["headers"])
            one = Seen(note["status"], note["answer"], headers, base64.b64decode(note["body"]), note.get("event"))
            async with self._news:
                self.seen.append(one)
                self._news.notify_all()
