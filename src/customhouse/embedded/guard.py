"""The process between the service and an embedded PostgreSQL: it starts the server, starts it again, and ends it in time.

It is run from its file with nothing but the standard library, so that it starts quickly and holds nothing of the service. The users of the
server are the processes that hold the FIFO `users` open for writing; the kernel closes it for them however they die. With the last
one gone the guard stops the server: fast, then immediately, then by force. Nothing else ends it: it ignores Ctrl-C and SIGTERM, which
a terminal or a service manager sends to the whole group while the service still finishes its work. If the guard itself is
killed, Linux ends the server (`PR_SET_PDEATHSIG`); elsewhere the next start does.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

LOG_LIMIT: Final = 4 << 20
"""Bytes after which the log is renamed to `postgresql.log.1`; two files are kept."""
_RESTARTS: Final = 5
_RESTART_WINDOW: Final = 60.0
_SERVER_LOCK_PATIENCE: Final = 60.0
_STOPS: Final = ((signal.SIGINT, 25.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": "/"}
_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class Abandoned(Exception):
    """The last user is gone."""


class Failed(Exception):
    """The server cannot be run; the text goes into its log."""


class Job(NamedTuple):
    """What the service asks for, as JSON on standard input."""

    directory: str
    binaries: str
    users: int
    """The FIFO's reading end."""
    initdb: list[str]
    sql: str
    """Statements for a fresh cluster, one a line; they hold SCRAM verifiers, no password."""
    hba: str
    parameters: list[str]
    owner: list[int] | None
    """uid and gid of the server, where the service is root."""
    maker: list[int] | None
    """uid and gid of initdb, which insists on a user with a name."""
    disposable: bool
    """Whether to remove the folder at the end."""


def server_status(data: Path) -> tuple[int, int, str] | None:
    """Return pid, port and status from `postmaster.pid`; None when it is missing or still being written."""
    try:
        lines = data.joinpath("postmaster.pid").read_text("utf-8", "replace").splitlines()
        return int(lines[0]), int(lines[3]), lines[7].strip()
    except (OSError, IndexError, ValueError):
        return None


def free_port(preferred: int) -> int:
    """Return a port of 127.0.0.1 that nobody listens on: the preferred one if possible (0: none is preferred)."""
    for port in filter(None, (preferred, 0 if preferred else None)):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


class Guard:
    """Carries out one job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._directory = Path(job.directory)
        self._data = self._directory / "pgdata"
        self._port_file = self._directory / "port"
        self._ready_file = self._directory / "ready"
        self._log = Log(self._directory / "postgresql.log")
        self._selector = selectors.DefaultSelector()
        self._output: int | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._wake, write = os.pipe()
        for end in (self._wake, write, job.users):
            os.set_blocking(end, False)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._selector.register(job.users, selectors.EVENT_READ)
        # Empty handlers and not SIG_IGN, which the server would inherit.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def run(self) -> None:
        """Make the cluster when there is none, then serve until the last user is gone."""
        abandoned = False
        try:
            if not self._data.exists():
                self._initialise()
            self._adopt()
            self._serve()
        except Abandoned:
            abandoned = True
        except Failed as error:
            self._log.say(str(error))
        except Exception as error:  # noqa: BLE001 - the log is the only place where somebody will look
            self._log.say(f"{type(error).__name__}: {error}")
        finally:
            self._stop()
            self._ready_file.unlink(missing_ok=True)
            if abandoned and self._job.disposable:
                shutil.rmtree(self._directory, ignore_errors=True)

    # Waiting

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
            return os.read(self._job.users, 4096) == b""
        except BlockingIOError:
            return False

    def _wait(self, child: subprocess.Popen[bytes] | None, timeout: float | None, *, users: bool = True) -> int | None:
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
                    self._selector.unregister(self._job.users)
            if child is not None and child.poll() is not None:
                self._drain(16)
                return child.returncode
            if end is not None and time.monotonic() >= end:
                return None

    def _drain(self, pieces: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._output is not None and pieces > 0:
                data = os.read(self._output, 65536)
                self._log.write(data)
                pieces -= 1
                if not data:
                    self._forget_output()

    def _forget_output(self) -> None:
        if self._output is not None:
            self._selector.unregister(self._output)
            os.close(self._output)
            self._output = None

    def _spawn(self, program: str, arguments: list[str], where: Path, who: list[int] | None, **more: Any) -> subprocess.Popen[bytes]:
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
                [str(Path(self._job.binaries, program)), *(here if part == "HERE" else part for part in arguments)],
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

    # A fresh cluster

    def _initialise(self) -> None:
        """Make the cluster beside its place and rename it when whole: a half-made one is never taken for a cluster."""
        for leftover in self._directory.glob("pgdata.new-*"):
            _discard(leftover)
        draft = self._directory / f"pgdata.new-{os.getpid()}"
        try:
            draft.mkdir(mode=0o700)
            if self._job.maker is not None:
                os.chown(draft, *self._job.maker)
            self._step(draft, "initdb", ["-D", "HERE", *self._job.initdb], b"")
            single = ["--single", "-D", "HERE", *self._job.parameters, "-c", "exit_on_error=on", "template1"]
            self._step(draft, "postgres", single, self._job.sql.encode())
            access = draft / "pg_hba.conf"
            access.unlink()
            access.write_text(self._job.hba, "ascii")
            _sync(access)
            self._own(draft)
            _sync(draft)
            draft.rename(self._data)
            _sync(self._directory)
        except BaseException:
            _discard(draft)
            raise

    def _step(self, draft: Path, program: str, arguments: list[str], text: bytes) -> None:
        read, write = os.pipe()
        # The statements are far smaller than a pipe's buffer, so this never blocks.
        os.write(write, text)
        os.close(write)
        try:
            child = self._spawn(program, arguments, draft, self._job.maker, stdin=read, process_group=0)
        finally:
            os.close(read)
        try:
            status = self._wait(child, None)
        except Abandoned:
            # The programs that initdb runs belong to its group.
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise
        if status:
            raise Failed(f"{program} ended with status {status} while making the cluster")

    def _adopt(self) -> None:
        """Give a cluster that belongs to root (restored from an archive) to the server's user."""
        if self._job.owner is not None and self._data.stat().st_uid == 0:
            self._own(self._data)

    def _own(self, tree: Path) -> None:
        if self._job.owner is None:
            return
        for _, folders, files, descriptor in os.fwalk(tree, follow_symlinks=False):
            for name in (*folders, *files):
                if name in files and os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_nlink != 1:
                    raise Failed(f"{name} in {tree} has a second name: refusing to change its owner")
                os.chown(name, *self._job.owner, dir_fd=descriptor, follow_symlinks=False)
        os.chown(tree, *self._job.owner)

    # Serving

    def _serve(self) -> None:
        ends: list[float] = []
        port = self._saved_port()
        served = False
        while True:
            # Users keep the port that they were told; before the first of them it may still change.
            port = port if served else free_port(port)
            lock = self._server_lock()
            try:
                self._remove_stale_pid()
                arguments = ["-D", "HERE", "-c", f"port={port}", *self._job.parameters]
                self._server = self._spawn("postgres", arguments, self._data, self._job.owner, stdin=subprocess.DEVNULL, pass_fds=(lock,))
            finally:
                # From here on the lock lives as long as any process of the server.
                os.close(lock)
            ready, status = self._until_end(self._server, port)
            served = served or ready
            self._ready_file.unlink(missing_ok=True)
            self._log.say(f"the server ended with status {status} while it was in use")
            ends = [*(moment for moment in ends if moment > time.monotonic() - _RESTART_WINDOW), time.monotonic()]
            # A fresh start that fails twice will fail again, unless another program took its port meanwhile.
            if len(ends) >= (_RESTARTS if served else 2) and (served or free_port(port) == port):
                raise Failed(f"the server ended {len(ends)} times within {_RESTART_WINDOW:.0f} s: giving up")

    def _until_end(self, child: subprocess.Popen[bytes], port: int) -> tuple[bool, int | None]:
        """Write the port down when the server is ready: `port` for the next start, `ready` while it holds.

        Return whether it ever was, and its exit status.
        """
        while (status := self._wait(child, 0.01)) is None:
            seen = server_status(self._data)
            if seen is not None and seen[0] == child.pid and seen[2] == "ready":
                for path in (self._port_file, self._ready_file):
                    draft = path.with_name(path.name + ".new")
                    draft.write_text(f"{port}\n", "ascii")
                    draft.replace(path)
                return True, self._wait(child, None)
        return False, status

    def _saved_port(self) -> int:
        try:
            port = int(self._port_file.read_text("ascii"))
        except (OSError, ValueError):
            return 0
        return port if 0 < port < 1 << 16 else 0

    def _server_lock(self) -> int:
        """Return the lock that only a server of this folder holds, so that two can never run on the same files."""
        end = time.monotonic() + _SERVER_LOCK_PATIENCE
        lock = os.open(self._directory / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._end_orphan()
                if time.monotonic() > end:
                    os.close(lock)
                    raise Failed("processes of an earlier server do not end") from None
                try:
                    self._wait(None, 0.02)
                except Abandoned:
                    os.close(lock)
                    raise
            else:
                return lock

    def _end_orphan(self) -> None:
        """Ask a server whose guard was killed to end (Linux has done so already)."""
        seen = server_status(self._data)
        if seen is not None and sys.platform != "linux":
            with contextlib.suppress(OSError):
                os.kill(seen[0], signal.SIGINT)

    def _remove_stale_pid(self) -> None:
        """Remove the pid file of a server that is gone: its number may belong to another process by now, and PostgreSQL would refuse."""
        path = self._data / "postmaster.pid"
        try:
            pid = int(path.read_text("ascii", "replace").split("\n", 1)[0])
        except FileNotFoundError:
            return
        except ValueError:
            pid = 0
        if pid > 0 and _works_in(pid, self._data):
            raise Failed(f"process {pid} is a server on these files that Customhouse did not start: end it first")
        path.unlink(missing_ok=True)

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is None or server.poll() is not None:
            return
        for number, patience in _STOPS:
            server.send_signal(number)
            if self._wait(server, patience, users=False) is not None:
                return


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False


def _die_with_parent(parent: int, number: signal.Signals) -> Callable[[], None] | None:
    if _libc is None:
        return None

    def arm() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arm


def _discard(folder: Path) -> None:
    """Remove a folder in which a killed process may still be finishing its last write."""
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.02)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main() -> NoReturn:
    """Read the job, let the caller go on, and carry it out in a process that belongs to nobody."""
    job = Job(**json.load(sys.stdin.buffer))
    os.umask(0o077)
    os.chdir(job.directory)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    Guard(job).run()
    sys.exit(0)
