"""The parent's loop: start processes, replace those that die, hand signals on, end when all have ended. One thread, no event loop."""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from customhouse.clock import Clock
from customhouse.supervisor.journal import Journal
from customhouse.supervisor.member import Command, Member
from customhouse.supervisor.sockets import Sockets
from customhouse.supervisor.tallies import Tallies

READY: Final = b"r"
_STEADY_SECONDS: Final = 60.0
"""A process that lived this long after it was ready did not die of its start."""
_FIRST_PAUSE: Final = 1.0
_LAST_PAUSE: Final = 30.0
_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


def pause_before(deaths: int) -> float:
    """Return the seconds to wait before a process is started that died `deaths` times in a row: none after the first, then 1 to 30."""
    return 0.0 if deaths <= 1 else min(_FIRST_PAUSE * 2.0 ** min(deaths - 2, 16), _LAST_PAUSE)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    command: Command
    program: tuple[str, ...]
    """What is started; it gets `Member.argument` as its last argument."""
    processes: int
    drain_seconds: float
    """How long a process may take to end after SIGTERM before it is killed."""
    reload_on_hangup: bool
    """SIGHUP replaces one process after the other; False: it ends them all, as a closed terminal means."""


class _Process:
    """One process."""

    __slots__ = ("channel", "kill_at", "number", "popen", "ready_at", "started_at")

    def __init__(self, number: int, popen: subprocess.Popen[bytes], channel: socket.socket, started_at: float) -> None:
        self.number = number
        self.popen = popen
        self.channel = channel
        self.started_at = started_at
        self.ready_at: float | None = None
        self.kill_at: float | None = None
        """Set once it was told to end."""


class Group:
    """Runs a plan to its end."""

    def __init__(self, plan: Plan, clock: Clock, journal: Journal, tallies: Tallies, api: Sockets | None, metrics: Sockets | None) -> None:
        """Take the parts; nothing starts yet."""
        self._plan = plan
        self._clock = clock
        self._journal = journal
        self._tallies = tallies
        self._sockets = [one for one in (api, metrics) if one is not None]
        self._api = api
        self._metrics = metrics
        self._present: list[_Process | None] = [None] * plan.processes
        """Who works under each number."""
        self._leaving: list[_Process] = []
        """Told to end; their number may be somebody else's by now."""
        self._coming: _Process | None = None
        """The successor of one that still works (SIGHUP)."""
        self._deaths = [0] * plan.processes
        self._start_at: list[float | None] = [None] * plan.processes
        """When to start a process under this number again."""
        self._to_renew: list[int] = []
        self._complete = False
        self._ending = False
        self._failed = False
        self._asked: list[int] = []
        self._selector = selectors.DefaultSelector()

    def run(self, on_ready: Callable[[], None] = lambda: None) -> int:
        """Run until a signal or a failed start ends it; return the exit code.

        The first process starts alone: it migrates an embedded database, and what is wrong with the settings is said once. One
        that cannot start ends the group; one that dies later is replaced, however often.

        Args:
            on_ready: called once, when all are ready for the first time.
        """
        with self._hearing() as wake:
            self._begin(0)
            while self._alive() or not self._ending:
                for key, _ in self._selector.select(self._patience()):
                    if key.fileobj is wake:
                        with contextlib.suppress(BlockingIOError):
                            wake.recv(4096)
                    else:
                        self._hear(key.data)
                self._obey()
                self._reap()
                self._hasten()
                self._tallies.settle()
                if not self._ending:
                    self._start_due()
                    self._renew_next()
                    if not self._complete and all(one is not None and one.ready_at is not None for one in self._present):
                        self._complete = True
                        self._journal.say("info", "all_ready", count=len(self._present))
                        on_ready()
        self._journal.say("info", "all_ended")
        return int(self._failed)

    # Processes ----------------------------------------------------------------------------------------------------------

    def _spawn(self, number: int, *, replaces: bool) -> _Process:
        ours, theirs = socket.socketpair()
        api = None if self._api is None else self._api.of(number).fileno()
        metrics = None if self._metrics is None else self._metrics.of(number).fileno()
        member = Member(
            command=self._plan.command,
            jobs=number == 0,
            replaces=replaces,
            channel=theirs.fileno(),
            api=api,
            metrics=metrics,
            tallies=str(self._tallies.folder),
        )
        handed = [one for one in (theirs.fileno(), api, metrics) if one is not None]
        try:
            popen = subprocess.Popen(  # noqa: S603 - our own module
                [*self._plan.program, member.argument()],
                stdin=subprocess.DEVNULL,
                pass_fds=handed,
                # Ctrl-C is for the parent, which then ends them in order.
                process_group=0,
            )
        finally:
            theirs.close()
        ours.setblocking(False)  # noqa: FBT003 - as the socket module has it
        process = _Process(number, popen, ours, self._clock.monotonic())
        self._selector.register(ours, selectors.EVENT_READ, process)
        self._journal.say("info", "process_started", process_id=popen.pid)
        return process

    def _begin(self, number: int) -> None:
        """Start a process under a number that nobody has."""
        self._start_at[number] = None
        try:
            self._present[number] = self._spawn(number, replaces=self._deaths[number] > 0)
        except OSError:
            # No memory or no descriptors left, perhaps for a moment.
            self._journal.say("error", "process_not_started")
            self._vacate(number)

    def _hear(self, process: _Process) -> None:
        """Take note that a process is ready. The end of its channel says nothing that its exit status does not say."""
        try:
            said = process.channel.recv(64)
        except (BlockingIOError, ConnectionError):
            return
        if not said:
            self._selector.unregister(process.channel)
            return
        if process.ready_at is not None:
            return
        process.ready_at = self._clock.monotonic()
        self._journal.say("info", "process_ready", process_id=process.popen.pid)
        if process is self._coming:
            self._coming = None
            before, self._present[process.number] = self._present[process.number], process
            self._start_at[process.number] = None
            if before is not None:
                self._end(before)
        elif not self._complete and process.number == 0 and not self._ending:
            for number, other in enumerate(self._present):
                if other is None and self._start_at[number] is None:
                    self._begin(number)

    def _reap(self) -> None:
        """Take note of those that have ended."""
        for process in self._alive():
            status = process.popen.poll()
            if status is None:
                continue
            with contextlib.suppress(KeyError):
                self._selector.unregister(process.channel)
            process.channel.close()
            self._tallies.retire(process.popen.pid)
            if process in self._leaving:
                self._leaving.remove(process)
                self._left(process, status)
            elif process is self._coming:
                # The one that it was to follow goes on.
                self._coming = None
                self._to_renew.clear()
                self._journal.say("error", "replacement_failed", process_id=process.popen.pid, exit_status=status)
            else:
                self._present[process.number] = None
                self._died(process, status)

    def _left(self, process: _Process, status: int) -> None:
        # SIGTERM before it had handlers is an end in order, too.
        in_order = status == 0 or (status == -signal.SIGTERM and process.ready_at is None)
        if not in_order:
            self._journal.say("error", "process_ended_badly", process_id=process.popen.pid, exit_status=status)
            self._failed = self._failed or self._ending

    def _died(self, process: _Process, status: int) -> None:
        number = process.number
        self._journal.say("error", "process_died", process_id=process.popen.pid, exit_status=status)
        if process.ready_at is None:
            # It has said why on standard error.
            self._vacate(number)
        else:
            self._vacate(number, lived=self._clock.monotonic() - process.ready_at)

    def _vacate(self, number: int, *, lived: float | None = None) -> None:
        """Plan the next start under a number whose process died, `lived` seconds after it was ready; before all are ready, give up."""
        if lived is None and not self._complete:
            self._failed = True
            self._end_all()
            return
        self._deaths[number] = 1 if lived is not None and lived >= _STEADY_SECONDS else self._deaths[number] + 1
        pause = pause_before(self._deaths[number])
        self._start_at[number] = self._clock.monotonic() + pause
        if pause:
            for sockets in self._sockets:
                sockets.renew(number)

    def _start_due(self) -> None:
        for number, moment in enumerate(self._start_at):
            if moment is not None and moment <= self._clock.monotonic() and not self._ending:
                self._begin(number)

    def _renew_next(self) -> None:
        """Replace the next process that works by a fresh one on the same socket: it comes before the other goes."""
        if not self._to_renew or self._coming is not None or self._leaving:
            return
        number = self._to_renew.pop(0)
        if self._present[number] is None:
            return
        try:
            self._coming = self._spawn(number, replaces=False)
        except OSError:
            self._to_renew.clear()
            self._journal.say("error", "process_not_started")

    # Ends ---------------------------------------------------------------------------------------------------------------

    def _end(self, process: _Process) -> None:
        """Tell a process to end in order."""
        process.kill_at = self._clock.monotonic() + self._plan.drain_seconds
        self._leaving.append(process)
        process.popen.terminate()

    def _end_all(self) -> None:
        if self._ending:
            return
        self._ending = True
        self._journal.say("info", "ending", count=len(self._alive()))
        here = [process for process in (*self._present, self._coming) if process is not None]
        self._present = [None] * len(self._present)
        self._coming = None
        # Nobody is started any more: a moment that has passed would keep the loop from resting.
        self._start_at = [None] * len(self._start_at)
        # New connections are refused rather than kept waiting by a copy of ours.
        for sockets in self._sockets:
            sockets.close()
        for process in here:
            self._end(process)

    def _hasten(self) -> None:
        """Kill what does not end: what it held is found again when its leases run out."""
        for process in self._leaving:
            if process.kill_at is not None and process.kill_at <= self._clock.monotonic():
                process.kill_at = None
                self._journal.say("error", "process_killed", process_id=process.popen.pid)
                process.popen.kill()

    def _alive(self) -> list[_Process]:
        return [process for process in (*self._present, self._coming, *self._leaving) if process is not None]

    # Signals and time ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _hearing(self) -> Iterator[socket.socket]:
        wake, write = socket.socketpair()
        wake.setblocking(False)  # noqa: FBT003 - as the socket module has it
        write.setblocking(False)  # noqa: FBT003
        self._selector.register(wake, selectors.EVENT_READ)
        numbers = [*_ENDING, signal.SIGCHLD]
        # Under nohup it is ignored, and stays so.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, lambda sent, _frame: self._asked.append(sent)) for number in numbers}
        wakeup = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        try:
            yield wake
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            wake.close()
            write.close()

    def _obey(self) -> None:
        asked, self._asked = self._asked, []
        hangup = signal.SIGHUP in asked
        if any(number in asked for number in _ENDING) or (hangup and not self._plan.reload_on_hangup):
            self._end_all()
        elif hangup and not self._ending:
            self._journal.say("info", "replacing_all", count=len(self._present))
            self._to_renew = list(range(len(self._present)))

    def _patience(self) -> float | None:
        """Return how long nothing is to be done but wait for signals and channels."""
        moments = [moment for moment in (*self._start_at, *(process.kill_at for process in self._leaving)) if moment is not None]
        return max(0.0, min(moments) - self._clock.monotonic()) if moments else None


def default_program(executable: str, module: str) -> tuple[str, ...]:
    """Return the command line of a module of ours, whatever the working folder holds."""
    return (executable, "-P", "-m", module)
