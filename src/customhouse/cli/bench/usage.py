"""What processes use, as Linux tells it under /proc: CPU and memory of the service, all of its processes together, and of PostgreSQL.

Where there is no /proc, everything is 0.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_TICK: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PARENT, _OWN, _ENDED = 1, (11, 12), (13, 14)
"""Places in `/proc/PID/stat` after the name: the parent, the ticks of a process (user, system), and of its children that ended."""


def cpu_of_service(pid: int, data: Path) -> float:
    """Return the CPU seconds of the process `pid`, its children, and the guard of the embedded database in `data`."""
    return sum(_ticks(_stat(one), *_OWN) for one in processes_of_service(pid, data)) / _TICK


def memory_of_service(pid: int, data: Path) -> tuple[float, float]:
    """Return the resident bytes of the same processes: with shared pages counted for each, and divided by those who share them."""
    ours = processes_of_service(pid, data)
    return sum(map(_resident, ours)), sum(map(_proportional, ours))


def processes_of_service(pid: int, data: Path) -> list[int]:
    """Return the process, its children, and the guard: the database server's parent, which belongs to nobody."""
    server = _postmaster(data)
    guard = [] if server is None else [int(parent) for parent in _stat(server)[_PARENT : _PARENT + 1]]
    return [pid, *_children(pid), *guard]


def cpu_of_postgres(data: Path) -> float:
    """Return the CPU seconds of the embedded server: its postmaster, its children that live, and those that ended."""
    server = _postmaster(data)
    if server is None:
        return 0.0
    return (_ticks(_stat(server), *_OWN, *_ENDED) + sum(_ticks(_stat(one), *_OWN) for one in _children(server))) / _TICK


def _postmaster(data: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, StopIteration, IndexError):
        return int(next((data / "postgres").rglob("postmaster.pid")).read_text().splitlines()[0])
    return None


def _children(pid: int) -> Iterator[int]:
    for path in _PROC.glob("[0-9]*"):
        fields = _stat(int(path.name))
        if fields and fields[_PARENT] == str(pid):
            yield int(path.name)


def _stat(pid: int) -> list[str]:
    # The name stands in parentheses and may hold anything.
    with contextlib.suppress(OSError):
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return []


def _ticks(fields: list[str], *places: int) -> int:
    return sum(int(fields[place]) for place in places) if fields else 0


def _resident(pid: int) -> float:
    with contextlib.suppress(OSError):
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * float(_PAGE)
    return 0.0


def _proportional(pid: int) -> float:
    with contextlib.suppress(OSError, IndexError, ValueError):
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        return sum(float(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return 0.0
