"""Runs an unmodified command and accounts for the time of the accelerators that it occupies.

This is the physical estimate: chips times wall time, from before the command starts until it has ended. The daemon
makes operations of it by the declared peak and utilisation; the meter itself reports none. The command's process group
gets the signals that this process gets. When the daemon orders a hold it gets SIGUSR1, by which it may save, and
SIGTERM once the time for that is over: then the exit status is 75. Or, if the caller chose so, all its processes are
stopped when that time is over, and go on when the hold is lifted (stopping.py). While the daemon only has to find out,
or is away and the policy says hold, it is stopped and continued.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from types import FrameType
from typing import Final

from pacekeeper.node.meters.meter import CHIP_TIME, Meter
from pacekeeper.node.meters.settings import (
    POLICY_VARIABLE,
    SOCKET_VARIABLE,
    SPOOL_VARIABLE,
    MeterSettings,
    resolve_settings,
)
from pacekeeper.node.meters.stopping import ProcessTree

EXIT_HELD: Final = 75  # a pause holds the job; it may be started again later
CHIP_TIME_MARGIN_PPM: Final = 600_000  # utilisation is declared, not measured
_FORWARDED: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCONT,
)
_ENDING: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
_POLL_S: Final = 0.05
_LOOK_S: Final = 0.5  # how often it is seen whether all that is stopped stands still
_DRAIN_S: Final = 3.0  # what accelerators were given before goes on for a moment, and counts
_STOP_PATIENCE_S: Final = 10.0  # a command that does not come to stand still is ended instead


class OnPause(StrEnum):
    """What becomes of a command that a pause holds once its time for saving is over."""

    TERMINATE = "terminate"
    STOP = "stop"


def run_metered(
    command: Sequence[str],
    run: str,
    *,
    chips: int = 1,
    title: str = "",
    margin_ppm: int = CHIP_TIME_MARGIN_PPM,
    grace_s: float = 30.0,
    on_pause: OnPause = OnPause.TERMINATE,
    settings: MeterSettings | None = None,
) -> int:
    """Run the command to its end and return its exit status: its own, 128 + n after signal n, 75 if a hold ended it.

    Call it from the main thread. It waits, before starting, while the run is held. grace_s: how long the command may
    take to end after SIGTERM, and how long what it left behind may, before SIGKILL. on_pause: STOP is for commands all
    of whose processes run on this machine, below this process; OSError where they cannot be watched.
    SPEC metering-17: nothing of the command outlives it: its process group is ended with it, and, on Linux, it is told
    to end if this process is killed.
    """
    if not command:
        raise ValueError("there is no command to run")
    chosen = settings or resolve_settings()
    tree = ProcessTree() if on_pause is OnPause.STOP else None
    with Meter.open(run, chips=chips, title=title, method=CHIP_TIME, margin_ppm=margin_ppm, settings=chosen) as meter:
        child = _start(command, chosen)
        with _forwarding(child.pid) as ending, _terminal_for(child.pid):
            standstill = Standstill(tree, meter, ending) if tree is not None else None
            held = _watch(child.pid, meter, grace_s, standstill)
            if tree is not None:
                tree.go_on()  # what it leaves in other groups is not left stopped
            _end_group(child, grace_s)
    if held:
        return EXIT_HELD
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _start(command: Sequence[str], settings: MeterSettings) -> subprocess.Popen[bytes]:
    environment: Mapping[str, str] = {
        **os.environ,
        SOCKET_VARIABLE: str(settings.socket),
        SPOOL_VARIABLE: str(settings.spool),
        POLICY_VARIABLE: str(settings.on_daemon_down),
    }
    leash = [sys.executable, "-m", "pacekeeper.node.meters.leash", str(os.getpid())]
    return subprocess.Popen([*leash, *command], env=environment, process_group=0)


class Standstill:
    """A command that is stopped for a pause, and the time for which it was seen to stand still."""

    def __init__(self, tree: ProcessTree, meter: Meter, ending: list[int]) -> None:
        self._tree, self._meter, self._ending = tree, meter, ending
        self._began: float | None = None
        self._stood: float | None = None  # since when all have been seen to stand
        self._looked = 0.0
        self.failed = False

    def keep(self) -> None:
        """Stop what moves, look whether all stand still, and have time counted only where they do not.

        SPEC metering-25: chip time MUST be left out only between two looks that found everything stopped and no
        processor time used, and not before what the accelerators had been given is done.
        """
        now = time.monotonic()
        if self._ending:  # it was told to end, which it can do only if it moves
            self.failed = True
            self.lift()
            return
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        self._began = self._began or now
        self._tree.stop()
        if not self._tree.stands_still():
            self._stood = None
            self._meter.moves()
            self.failed = now - self._began > _STOP_PATIENCE_S
            if self.failed:
                self.lift()
            return
        self._began = now
        self._stood = self._stood or now
        if now - self._stood >= _DRAIN_S:
            self._meter.seen_still()

    def lift(self) -> None:
        """Let all go on."""
        if self._began is None:
            return
        self._began = self._stood = None
        self._meter.moves()
        self._tree.go_on()


def _watch(pid: int, meter: Meter, grace_s: float, standstill: Standstill | None) -> bool:
    """Wait until the command has ended, without reaping it; whether that was under an ordered hold.

    SPEC metering-22: a command that is ordered to hold MUST get SIGUSR1, then SIGTERM when its time to save is over.
    """
    stopped = warned = False
    kill_at: float | None = None
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if kill_at is not None:
            if time.monotonic() >= kill_at:
                _signal_group(pid, signal.SIGKILL)
        elif meter.ordered is not None and not meter.stand_by:
            if standstill is not None and not standstill.failed:
                if meter.save_s <= 0:
                    standstill.keep()
            elif not warned:
                _signal_group(pid, signal.SIGUSR1)
                _signal_group(pid, signal.SIGCONT)
                warned, stopped = True, False
            elif meter.save_s <= 0:
                _signal_group(pid, signal.SIGTERM)
                kill_at = time.monotonic() + grace_s
        else:
            warned = False  # lifted before its time was over: the command goes on as if nothing had been
            if standstill is not None:
                standstill.lift()
            if stopped != (meter.held is not None):
                stopped = not stopped
                _signal_group(pid, signal.SIGSTOP if stopped else signal.SIGCONT)
        time.sleep(_POLL_S)
    return warned


def _end_group(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """End what the command left behind, and reap it. Until it is reaped its group's number is not given again."""
    _signal_group(child.pid, signal.SIGTERM)
    child.wait()
    give_up = time.monotonic() + grace_s
    while _signal_group(child.pid, 0) and time.monotonic() < give_up:
        time.sleep(_POLL_S)
    _signal_group(child.pid, signal.SIGKILL)


def _signal_group(group: int, number: int) -> bool:
    """Whether there was anyone to signal."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False  # what is left runs as someone else, and is theirs to end
    return True


@contextmanager
def _forwarding(pid: int) -> Iterator[list[int]]:
    """Hand signals on; yields those so far that ask for an end."""
    ending: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        if number in _ENDING:
            ending.append(number)
        _signal_group(pid, number)

    handler: Callable[[int, FrameType | None], None] = forward
    before = {number: signal.signal(number, handler) for number in _FORWARDED}
    try:
        yield ending
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def _terminal_for(pid: int) -> Iterator[None]:
    """Give the command the terminal while it runs, as a shell does: it may read it, and Ctrl-C is its."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        if os.tcgetpgrp(terminal) != os.getpgrp():
            yield  # this process is in the background itself
            return
        was = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        try:
            os.tcsetpgrp(terminal, pid)
            _signal_group(pid, signal.SIGCONT)  # it may have been stopped for reading too early
            yield
        finally:
            os.tcsetpgrp(terminal, os.getpgrp())
            signal.signal(signal.SIGTTOU, was)
    finally:
        os.close(terminal)
