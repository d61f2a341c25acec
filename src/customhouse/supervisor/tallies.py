"""What several processes count, added up: each writes what it shows at `/metrics` into a folder, and whoever is asked adds.

What a process counted stays in the sum when it ends: a sum that falls reads as a restart of them all, and every rate after it is wrong.
A process that is killed takes what it counted since its last writing with it, `WRITE_SECONDS` at most.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from customhouse.errors import SettingsError

WRITE_SECONDS: Final = 5.0
"""How often a process writes down what it counts."""
_ENDED: Final = "ended"
_LOCK: Final = "lock"
_SUFFIX: Final = ".prom"
_LASTING: Final = frozenset({"counter", "histogram"})
# What each process reads off the same thing; the rest is a part of a whole, and is summed.
_LATEST: Final = frozenset({"customhouse_queue_depth", "customhouse_build_info"})
_LEAST: Final = frozenset({"process_start_time_seconds", "process_max_fds"})
_CREATED: Final = "_created"


@dataclass(slots=True)
class _Family:
    """One metric: its `# HELP` and `# TYPE` lines, and its samples by name and labels."""

    name: str
    kind: str = ""
    header: list[str] = field(default_factory=list)
    samples: dict[str, float] = field(default_factory=dict)


def add(texts: Iterable[str]) -> str:
    """Add up expositions in Prometheus' text format (version 0.0.4), the latest last; without timestamps and escapes of line ends.

    Counters, histograms and most gauges are summed. Of what every process reads off the same thing (the queue) the latest counts, of
    moments of birth the first.
    """
    whole: dict[str, _Family] = {}
    for text in texts:
        for name, family in _read(text).items():
            into = whole.setdefault(name, _Family(name, family.kind, family.header))
            for sample, value in family.samples.items():
                before = into.samples.get(sample)
                into.samples[sample] = value if before is None else _both(name, before, value)
    return _written(whole.values())


def lasting(text: str) -> str:
    """Return the part of an exposition that outlives its process: counters and histograms."""
    return _written(family for family in _read(text).values() if family.kind in _LASTING)


def _both(name: str, before: float, value: float) -> float:
    if name in _LATEST:
        return value
    return min(before, value) if name in _LEAST or name.endswith(_CREATED) else before + value


def _read(text: str) -> dict[str, _Family]:
    found: dict[str, _Family] = {}
    present = _Family("")
    for line in text.splitlines():
        if line.startswith("# "):
            _, word, name, rest = (*line.split(" ", 3), "")[:4]
            present = found.setdefault(name, _Family(name))
            present.header.append(line)
            if word == "TYPE":
                present.kind = rest
        elif line:
            sample, _, value = line.rpartition(" ")
            present.samples[sample] = float(value)
    return found


def _written(families: Iterable[_Family]) -> str:
    lines = [line for one in families for line in (*one.header, *(f"{sample} {value!r}" for sample, value in one.samples.items()))]
    return "".join(f"{line}\n" for line in lines)


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _put(path: Path, text: str) -> None:
    """Replace a file at once, so that nobody reads half of it."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, "utf-8")
    draft.replace(path)


class Share:
    """The share of one process."""

    def __init__(self, folder: Path) -> None:
        """Take the folder of the group."""
        self._folder = folder
        self._path = folder / f"{os.getpid()}{_SUFFIX}"

    def write(self, text: str) -> None:
        """Write down what this process counts. A full disk, or a folder that is gone with its group, costs counts and never the work."""
        with contextlib.suppress(OSError):
            _put(self._path, text)

    def whole(self, text: str) -> str:
        """Return what the group counts, with `text` as what this process counts now."""
        self.write(text)
        try:
            with _locked(self._folder, fcntl.LOCK_SH):
                return add([*_texts(self._folder, but=self._path), text])
        except OSError:
            return text


def _texts(folder: Path, but: Path) -> list[str]:
    """Return what the ended and the other processes have written, the latest last."""
    ended = folder / _ENDED
    others = sorted((path for path in folder.glob(f"*{_SUFFIX}") if path != but), key=lambda path: path.stat().st_mtime_ns)
    return [path.read_text("utf-8") for path in ((ended, *others) if ended.exists() else others)]


class Tallies:
    """The folder, as the parent keeps it."""

    def __init__(self) -> None:
        """Make it, for this user alone.

        Raises:
            SettingsError: there is no folder for temporary files.
        """
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="customhouse-tallies-"))
        except OSError as error:
            raise SettingsError(
                f"Several processes need a folder for temporary files ({error.strerror}): set TMPDIR to one, or run one process."
            ) from error
        self._ended: set[int] = set()

    def retire(self, pid: int) -> None:
        """Keep what an ended process counted, and forget the process."""
        self._ended.add(pid)
        self.settle()

    def settle(self) -> None:
        """Do what could not be done while somebody was reading, or the disk was full."""
        if not self._ended:
            return
        with contextlib.suppress(OSError), _locked(self.folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            for pid in sorted(self._ended):
                self._keep(self.folder / f"{pid}{_SUFFIX}")
            self._ended.clear()

    def _keep(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            left = lasting(path.read_text("utf-8"))
            ended = self.folder / _ENDED
            _put(ended, add([ended.read_text("utf-8") if ended.exists() else "", left]))
            path.unlink()

    def remove(self) -> None:
        """Remove the folder."""
        remove(self.folder)


def remove(folder: Path) -> None:
    """Remove the folder of a group that has ended."""
    shutil.rmtree(folder, ignore_errors=True)
