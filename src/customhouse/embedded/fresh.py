"""How the guard makes a cluster, and whom it gives it to. Standard library only."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from customhouse.embedded.job import Job
from customhouse.embedded.watch import Abandoned, Failed, Watch


def make_cluster(job: Job, watch: Watch) -> None:
    """Make the cluster beside its place and rename it when whole: a half-made one is never taken for a cluster.

    Raises:
        Abandoned: the last user is gone; nothing is left behind.
        Failed: a program ended with an error.
    """
    directory = Path(job.directory)
    for leftover in directory.glob("pgdata.new-*"):
        _discard(leftover)
    draft = directory / f"pgdata.new-{os.getpid()}"
    try:
        draft.mkdir(mode=0o700)
        if job.maker is not None:
            os.chown(draft, *job.maker)
        _step(job, watch, draft, "initdb", ["-D", "HERE", *job.initdb], b"")
        single = ["--single", "-D", "HERE", *job.parameters, "-c", "exit_on_error=on", "template1"]
        _step(job, watch, draft, "postgres", single, job.sql.encode())
        access = draft / "pg_hba.conf"
        access.unlink()
        access.write_text(job.hba, "ascii")
        _sync(access)
        _own(job, draft)
        _sync(draft)
        draft.rename(directory / "pgdata")
        _sync(directory)
    except BaseException:
        _discard(draft)
        raise


def _step(job: Job, watch: Watch, draft: Path, program: str, arguments: list[str], text: bytes) -> None:
    read, write = os.pipe()
    # The statements are far smaller than a pipe's buffer, so this never blocks.
    os.write(write, text)
    os.close(write)
    try:
        child = watch.spawn(program, arguments, draft, job.maker, stdin=read, process_group=0)
    finally:
        os.close(read)
    try:
        status = watch.wait(child, None)
    except Abandoned:
        # The programs that initdb runs belong to its group.
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    if status:
        raise Failed(f"{program} ended with status {status} while making the cluster")


def adopt_cluster(job: Job) -> None:
    """Give a cluster that belongs to root (restored from an archive) to the server's user.

    Raises:
        Failed: one of its files has a second name.
    """
    data = Path(job.directory, "pgdata")
    if job.owner is not None and data.stat().st_uid == 0:
        _own(job, data)


def _own(job: Job, tree: Path) -> None:
    if job.owner is None:
        return
    for _, folders, files, descriptor in os.fwalk(tree, follow_symlinks=False):
        for name in (*folders, *files):
            if name in files and os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_nlink != 1:
                raise Failed(f"{name} in {tree} has a second name: refusing to change its owner")
            os.chown(name, *job.owner, dir_fd=descriptor, follow_symlinks=False)
    os.chown(tree, *job.owner)


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
