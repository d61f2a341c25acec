"""A running embedded server, and how a process comes by one: attach to the one that runs, else start it."""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import os
import pwd
import secrets
import select
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, Literal

from customhouse.embedded import locks
from customhouse.embedded.binaries import binaries, for_other_users, major_version
from customhouse.embedded.job import Job
from customhouse.embedded.options import APP, DATABASE, HBA, OWNER, Options, initdb_arguments, server_parameters
from customhouse.embedded.passwords import Passwords, load_or_create, roles_sql
from customhouse.errors import DatabaseUnavailable, SettingsError

_PRIVATE_UIDS: Final = range(60578, 61184)
"""Numbers that neither distributions nor systemd hand out (systemd's UIDS-GIDS table: "unused")."""
# Earlier programs leave the folder that they are started in, and could not come back through folders closed to them.
_OLDEST: Final = 16
# The packages are given empty: their own `__init__` would load much that the guard does not need.
_GUARD: Final = """
import sys
from types import ModuleType
for name, folder in (("customhouse", sys.argv[1]), ("customhouse.embedded", sys.argv[2])):
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__path__ = [folder]
from customhouse.embedded.guard import main
main()
"""
_STOP_PATIENCE: Final = 45.0
_PAUSE: Final = 0.01
_TAIL: Final = 600


class Cluster:
    """A running server that this process uses. It runs until its last user has stopped, ended or been killed."""

    __slots__ = ("_passwords", "_pid", "_users", "directory", "owned", "port")

    def __init__(self, directory: Path, port: int, passwords: Passwords, users: int, *, owned: bool) -> None:
        self.directory = directory
        self.port = port
        """Of 127.0.0.1."""
        self.owned = owned
        """False: another process had started it."""
        self._passwords = passwords
        self._users: int | None = users
        self._pid = os.getpid()
        atexit.register(self.stop)

    def __repr__(self) -> str:
        return f"Cluster({str(self.directory)!r}, port={self.port}, owned={self.owned})"

    def dsn(self, user: Literal["owner", "app"] = "app", database: str = DATABASE) -> str:
        """Return the connection URL with the password in it: for the driver only, never for a log."""
        role, password = (OWNER, self._passwords.owner) if user == "owner" else (APP, self._passwords.app)
        return f"postgresql://{role}:{password.reveal().decode('ascii')}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def stop(self) -> None:
        """Let the server go; with no other user left, wait until it has ended. May be called twice."""
        # A forked child shares the descriptor, but not the right to end its parent's use.
        if self._users is None or self._pid != os.getpid():
            return
        users, self._users = self._users, None
        atexit.unregister(self.stop)
        # Every user holds this lock in shared mode, so it can be had alone by the last one only.
        last = locks.try_lock(users)
        os.close(users)
        end = time.monotonic() + _STOP_PATIENCE
        # A folder that was removed meanwhile has nothing left to wait for.
        with contextlib.suppress(FileNotFoundError):
            while last and time.monotonic() < end:
                time.sleep(_PAUSE)
                guarded = _join(self.directory)
                if guarded is None:
                    return
                last = locks.try_lock(guarded)
                os.close(guarded)


def open_cluster(directory: Path, options: Options | None = None) -> Cluster:
    """Attach to the server that runs on `directory`, else make the cluster when it is new and start it. Blocks until it is ready.

    `options` count for whoever starts the server. The server ends with its last user, whatever way that one ends.

    Raises:
        SettingsError: this machine, user or folder cannot run one; the text says what to do.
        DatabaseUnavailable: the server did not start; the text ends with its last words.
    """
    options = options or Options()
    folder = options.binaries or binaries()
    directory = Path(os.path.abspath(directory))  # noqa: PTH100 - `resolve` would follow links that the user means to keep
    _prepare(directory)
    start = locks.acquire(directory / "start.lock", options.start_timeout)
    try:
        users = _join(directory)
        if users is not None:
            # A guard that dies before it is ready, perhaps with the process that started it, leaves the start to us.
            with contextlib.suppress(_GuardGone):
                return _attach(directory, users, options.start_timeout, owned=False)
        return _attach(directory, _start(directory, options, folder), options.start_timeout, owned=True)
    finally:
        os.close(start)


class _GuardGone(DatabaseUnavailable):
    """The server's guard has ended before the server was ready."""


def _attach(directory: Path, users: int, timeout: float, *, owned: bool) -> Cluster:
    """Wait for the server that belongs to the guard at the other end of `users`, which this process holds from now on."""
    try:
        while not locks.try_lock(users, shared=True):
            # Somebody who stops is just looking whether he is the last.
            time.sleep(_PAUSE)
        port = _await_ready(directory, users, timeout)
        return Cluster(directory, port, load_or_create(directory / "secrets", create=False), users, owned=owned)
    except BaseException:
        os.close(users)
        raise


def _prepare(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
        if status.st_uid != os.geteuid():
            name = _name_of(status.st_uid) or f"user {status.st_uid}"
            raise SettingsError(f"{directory} belongs to {name}: run Customhouse as that user, or choose another DATA_DIR")
        if stat.S_IMODE(status.st_mode) != stat.S_IRWXU:
            directory.chmod(stat.S_IRWXU)
        users = directory / "users"
        if users.exists() and not users.is_fifo():
            users.unlink()
        with contextlib.suppress(FileExistsError):
            os.mkfifo(users, 0o600)
    except OSError as error:
        raise SettingsError(f"{directory} cannot be used for the database ({error.strerror}): choose another DATA_DIR") from error


def _name_of(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _join(directory: Path) -> int | None:
    """Return the writing end of `users` when a guard reads it."""
    try:
        return os.open(directory / "users", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise


def _start(directory: Path, options: Options, folder: Path) -> int:
    """Start a guard; return the writing end of `users`."""
    data = directory / "pgdata"
    major = major_version(folder)
    if major < _OLDEST:
        raise SettingsError(
            f"an embedded server needs PostgreSQL {_OLDEST} or later, and {folder} is {major}: set DATABASE_URL to a server of it"
        )
    _check_version(data, major)
    passwords = load_or_create(directory / "secrets", create=not data.exists())
    owner = maker = None
    if os.geteuid() == 0:
        if sys.platform != "linux":
            raise SettingsError("embedded PostgreSQL does not run as root on this system: run as another user, or set DATABASE_URL")
        folder = for_other_users(folder)
        owner = _server_user(data)
        maker = None if data.exists() else _maker()
    elif not data.exists() and _name_of(os.geteuid()) is None:
        raise SettingsError(
            f"initdb needs a user with a name, and user {os.geteuid()} has none in /etc/passwd: add one, or set DATABASE_URL"
        )
    reader = os.open(directory / "users", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        job = Job(
            directory=str(directory),
            binaries=str(folder),
            users=reader,
            initdb=initdb_arguments(options, major),
            sql=roles_sql(passwords),
            hba=HBA,
            parameters=server_parameters(options, major),
            owner=owner,
            disposable=options.disposable,
            maker=maker,
        )
        users = _join(directory)
        if users is None:
            raise DatabaseUnavailable("the embedded server's FIFO has lost its reader")
        # What a killed guard has left behind; no other can write it now.
        directory.joinpath("ready").unlink(missing_ok=True)
        here = Path(__file__).parent
        try:
            subprocess.run(  # noqa: S603 - our own file
                [sys.executable, "-I", "-c", _GUARD, str(here.parent), str(here), "guard"],
                input=json.dumps(job._asdict()).encode(),  # noqa: TID251 - a note to our own child, not a document
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(reader,),
                start_new_session=True,
                check=True,
                timeout=60,
            )
        except (OSError, subprocess.SubprocessError) as error:
            os.close(users)
            raise DatabaseUnavailable(f"the embedded server's guard did not start ({type(error).__name__})") from error
    finally:
        os.close(reader)
    return users


def _check_version(data: Path, major: int) -> None:
    try:
        found = data.joinpath("PG_VERSION").read_text("ascii").strip()
    except FileNotFoundError:
        return
    if found != str(major):
        todo = "dump it with the release of Customhouse that made it, then restore it"
        raise SettingsError(f"{data} was made by PostgreSQL {found}, and this is {major}: {todo}")


def _server_user(data: Path) -> list[int]:
    """Return uid and gid for the server when we are root: the cluster's own, or numbers that no other process on this machine runs as."""
    if data.exists() and data.stat().st_uid != 0:
        return [data.stat().st_uid, data.stat().st_gid]
    while True:
        number = secrets.choice(_PRIVATE_UIDS)
        if _name_of(number) is None:
            return [number, number]


def _maker() -> list[int]:
    """Return uid and gid of `nobody`: initdb runs for users with a name only. The files change hands before any server uses them."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise SettingsError("initdb cannot run as root, and there is no user `nobody`: run as another user, or set DATABASE_URL") from None
    return [entry.pw_uid, entry.pw_gid]


def _await_ready(directory: Path, users: int, timeout: float) -> int:
    end = time.monotonic() + timeout
    guarded = select.poll()
    guarded.register(users, select.POLLERR)
    pause = 0.0
    while time.monotonic() < end:
        if guarded.poll(pause):
            raise _GuardGone(f"the embedded server did not start; {_last_words(directory)}")
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int(directory.joinpath("ready").read_text("ascii"))
        pause = _PAUSE * 1000
    raise DatabaseUnavailable(f"the embedded server was not ready after {timeout:.0f} s; {_last_words(directory)}")


def _last_words(directory: Path) -> str:
    log = directory / "postgresql.log"
    try:
        text = log.read_bytes()[-_TAIL:].decode("utf-8", "replace").strip()
    except OSError:
        text = ""
    return f"{log} ends with: {text}" if text else f"{log} is empty"
