"""Advisory locks that the kernel drops when their last holder dies, however it dies."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

from customhouse.errors import DatabaseUnavailable, SettingsError

_PAUSE = 0.02


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock of an open file without waiting; say whether it was free.

    Raises:
        SettingsError: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise SettingsError("the file system of DATA_DIR has no file locks: choose a local disk, or set DATABASE_URL") from error
        raise
    return True


def open_lock(path: Path) -> int:
    """Return a descriptor of the lock file, made when missing; close it to let the lock go."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def acquire(path: Path, timeout: float) -> int:
    """Wait at most `timeout` seconds for the lock of the file at `path`; return its descriptor, to be closed.

    Raises:
        DatabaseUnavailable: another process kept it too long.
    """
    descriptor = open_lock(path)
    end = time.monotonic() + timeout
    try:
        while not (mine := try_lock(descriptor)) and time.monotonic() < end:
            time.sleep(_PAUSE)
    except BaseException:
        os.close(descriptor)
        raise
    if not mine:
        os.close(descriptor)
        raise DatabaseUnavailable(f"another process has kept {path} locked for {timeout:.0f} s")
    return descriptor


def is_free(path: Path) -> bool:
    """Say whether nobody holds the lock of the file at `path`."""
    descriptor = open_lock(path)
    try:
        return try_lock(descriptor)
    finally:
        os.close(descriptor)
