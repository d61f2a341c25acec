"""What the guard waits for: its users, its child, and the child's output. Standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from customhouse.embedded.job import Job
from customhouse.embedded.server_log import Log

_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": "/"}
_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class Abandoned(Exception):
    """The last user is gone."""


class Failed(Exception):
    """The server cannot be run; the text goes into its log."""


class Watch:
    """One process's view of its users and of one child at a time."""

    def __init__(self, job: Job) -> None:
        self.log = Log(Path(job.directory, "postgresql.log"))
        self._directory = Path(job.directory)
        self._binaries = job.binaries
        self._users = job.users
        self._selector = selectors.DefaultSelector()
        self._output: int | None = None
        self._wake, write = os.pipe()
        for end in (self._wake, write, job.users):
            os.set_blocking(end, False)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._selector.register(job.users, selectors.EVENT_READ)
        # Empty handlers and not SIG_IGN, which the server would inherit.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def _users_are_gone(self) -> bool:
        """Decide whether to end. From True on this process holds `start.lock`, so nobody can attach until it has ended."""
        if not self._at_end():
            return False
        lock = os.open(self._directory / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Somebody is just attaching; look again in a moment.
            os.close(lock)
            time.sleep(0.01)
            return False
        if self._at_end():
            return True
        os.close(lock)
        return False

    def _at_end(self) -> bool:
        try:
            return os.read(self._users, 4096) == b""
        except BlockingIOError:
            return False

    def wait(self, child: subprocess.Popen[bytes] | None, timeout: float | None, *, users: bool = True) -> int | None:
        """Return the child's exit status, or None after `timeout` seconds; keep its output flowing into the log meanwhile.

        Raises:
            Abandoned: the last user is gone (not with `users=False`).
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            for key, _ in self._selector.select(left):
                if key.fd == self._wake:
                    os.read(self._wake, 4096)
                elif key.fd == self._output:
                    # One piece at a time, so that a talkative server cannot keep us from our users.
                    self._drain(1)
                elif users and self._users_are_gone():
                    raise Abandoned
                elif not users:
                    self._selector.unregister(self._users)
            if child is not None and child.poll() is not None:
                self._drain(16)
                return child.returncode
            if end is not None and time.monotonic() >= end:
                return None

    def _drain(self, pieces: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._output is not None and pieces > 0:
                data = os.read(self._output, 65536)
                self.log.write(data)
                pieces -= 1
                if not data:
                    self._forget_output()

    def _forget_output(self) -> None:
        if self._output is not None:
            self._selector.unregister(self._output)
            os.close(self._output)
            self._output = None

    def spawn(self, program: str, arguments: list[str], where: Path, who: list[int] | None, **more: Any) -> subprocess.Popen[bytes]:
        """Start a program in the folder `where` as user and group `who` (None: as ourselves); `HERE` in its arguments is that folder.

        Raises:
            Failed: it could not be started.
        """
        self._forget_output()
        self._output, write = os.pipe()
        os.set_blocking(self._output, False)
        self._selector.register(self._output, selectors.EVENT_READ)
        # The working folder is entered before the user changes. `/proc/self/cwd` leads back to it without asking the
        # folders above, so these may be closed to the server's user, contain any characters and be of any length.
        here = "/proc/self/cwd" if Path("/proc/self/cwd").exists() else str(where)
        identity: dict[str, Any] = {} if who is None else {"user": who[0], "group": who[1], "extra_groups": []}
        try:
            return subprocess.Popen(  # noqa: S603 - our own files
                [str(Path(self._binaries, program)), *(here if part == "HERE" else part for part in arguments)],
                cwd=where,
                env=_ENVIRONMENT,
                stderr=write,
                stdout=subprocess.DEVNULL,
                preexec_fn=_die_with_parent(os.getpid(), signal.SIGINT if program == "postgres" else signal.SIGKILL),  # noqa: PLW1509 - one thread
                **identity,
                **more,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Failed(f"{program} could not be started: {error}") from error
        finally:
            os.close(write)


def _die_with_parent(parent: int, number: signal.Signals) -> Callable[[], None] | None:
    if _libc is None:
        return None

    def arm() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arm
