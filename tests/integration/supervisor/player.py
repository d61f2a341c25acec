"""A group of processes that only play their part: `python player.py group FOLDER` is the parent, `… child FOLDER MEMBER` one of them.

Files in the folder are the stage directions: `fail` (do not start), `deaf` (do not end when told to), `slow` (end when told to once
there is a file `leave`), `hangup-ends`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

from customhouse.clock import SystemClock
from customhouse.supervisor.group import READY, Group, Plan
from customhouse.supervisor.journal import Journal
from customhouse.supervisor.member import member_of
from customhouse.supervisor.tallies import Tallies


def group(folder: Path) -> int:
    plan = Plan(
        command="work",
        program=(sys.executable, __file__, "child", str(folder)),
        processes=3,
        drain_seconds=0.2 if (folder / "deaf").exists() else 60.0,
        reload_on_hangup=not (folder / "hangup-ends").exists(),
    )
    tallies = Tallies()
    try:
        return Group(plan, SystemClock(), Journal(SystemClock(), "info"), tallies, None, None).run()
    finally:
        tallies.remove()


def child(folder: Path, argument: str) -> int:
    member = member_of(argument)
    assert member.channel is not None
    channel = socket.socket(fileno=member.channel)
    if (folder / "fail").exists():
        return 3

    def end(*_: object) -> None:
        while (folder / "slow").exists() and not (folder / "leave").exists():
            time.sleep(0.05)
        os._exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if (folder / "deaf").exists() else end)
    channel.send(READY)
    while channel.recv(64):
        pass
    return 0


if __name__ == "__main__":
    part, place, *rest = sys.argv[1:]
    sys.exit(group(Path(place)) if part == "group" else child(Path(place), *rest))
