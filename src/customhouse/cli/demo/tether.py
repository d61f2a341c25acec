"""`customhouse …` in a child process that cannot outlive the demo: when standard input ends, it is told to end as by SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
import threading

from customhouse.cli.main import run


def _follow() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_follow, name="tether", daemon=True).start()
    sys.exit(run(sys.argv[1:]))
