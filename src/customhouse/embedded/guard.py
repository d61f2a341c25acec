"""The process between the service and an embedded PostgreSQL: it starts the server, starts it again, and ends it in time.

It loads the standard library and its neighbours `job`, `server_log`, `watch` and `fresh` alone, so that it starts quickly and holds
nothing of the service. The users of the
server are the processes that hold the FIFO `users` open for writing; the kernel closes it for them however they die. With the last
one gone the guard stops the server: fast, then immediately, then by force. Nothing else ends it: it ignores Ctrl-C and SIGTERM, which
a terminal or a service manager sends to the whole group while the service still finishes its work. If the guard itself is
killed, Linux ends the server (`PR_SET_PDEATHSIG`); elsewhere the next start does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

from customhouse.embedded.fresh import adopt_cluster, make_cluster
from customhouse.embedded.job import Job
from customhouse.embedded.watch import Abandoned, Failed, Watch

_RESTARTS: Final = 5
_RESTART_WINDOW: Final = 60.0
_SERVER_LOCK_PATIENCE: Final = 60.0
_STOPS: Final = ((signal.SIGINT, 25.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))


def server_status(data: Path) -> tuple[int, int, str] | None:
    """Return pid, port and status from `postmaster.pid`; None when it is missing or still being written."""
    try:
        lines = data.joinpath("postmaster.pid").read_text("utf-8", "replace").splitlines()
        return int(lines[0]), int(lines[3]), lines[7].strip()
    except (OSError, IndexError, ValueError):
        return None


def free_port(preferred: int) -> int:
    """Return a port of 127.0.0.1 that nobody listens on: the preferred one if possible (0: none is preferred)."""
    if preferred:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", preferred))
            return preferred
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Guard:
    """Carries out one job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._directory = Path(job.directory)
        self._data = self._directory / "pgdata"
        self._port_file = self._directory / "port"
        self._ready_file = self._directory / "ready"
        self._watch = Watch(job)
        self._server: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Make the cluster when there is none, then serve until the last user is gone."""
        abandoned = False
        try:
            if not self._data.exists():
                make_cluster(self._job, self._watch)
            adopt_cluster(self._job)
            self._serve()
        except Abandoned:
            abandoned = True
        except Failed as error:
            self._watch.log.say(str(error))
        except Exception as error:  # noqa: BLE001 - the log is the only place where somebody will look
            self._watch.log.say(f"{type(error).__name__}: {error}")
        finally:
            self._stop()
            self._ready_file.unlink(missing_ok=True)
            if abandoned and self._job.disposable:
                shutil.rmtree(self._directory, ignore_errors=True)

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
                self._server = self._watch.spawn(
                    "postgres", arguments, self._data, self._job.owner, stdin=subprocess.DEVNULL, pass_fds=(lock,)
                )
            finally:
                # From here on the lock lives as long as any process of the server.
                os.close(lock)
            ready, status = self._until_end(self._server, port)
            served = served or ready
            self._ready_file.unlink(missing_ok=True)
            self._watch.log.say(f"the server ended with status {status} while it was in use")
            ends = [*(moment for moment in ends if moment > time.monotonic() - _RESTART_WINDOW), time.monotonic()]
            # A fresh start that fails twice will fail again, unless another program took its port meanwhile.
            if len(ends) >= (_RESTARTS if served else 2) and (served or free_port(port) == port):
                raise Failed(f"the server ended {len(ends)} times within {_RESTART_WINDOW:.0f} s: giving up")

    def _until_end(self, child: subprocess.Popen[bytes], port: int) -> tuple[bool, int | None]:
        """Write the port down when the server is ready: `port` for the next start, `ready` while it holds.

        Return whether it ever was, and its exit status.
        """
        while (status := self._watch.wait(child, 0.01)) is None:
            seen = server_status(self._data)
            if seen is not None and seen[0] == child.pid and seen[2] == "ready":
                for path in (self._port_file, self._ready_file):
                    draft = path.with_name(path.name + ".new")
                    draft.write_text(f"{port}\n", "ascii")
                    draft.replace(path)
                return True, self._watch.wait(child, None)
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
                    self._watch.wait(None, 0.02)
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
            if self._watch.wait(server, patience, users=False) is not None:
                return


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False


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
