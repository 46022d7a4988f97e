"""Runs an unmodified command and accounts for the time of the accelerators that it occupies.

This is the physical estimate: chips times wall time, from before the command starts until it has ended. The daemon
makes operations of it by the declared peak and utilisation; the meter itself reports none. The command's process group
gets the signals that this process gets. When the daemon orders a hold it gets SIGUSR1, by which it may save, and
SIGTERM once the time for that is over: then the exit status is 75. While the daemon only has to find out, or is away
and the policy says hold, it is stopped and continued.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
_POLL_S: Final = 0.05


def run_metered(
    command: Sequence[str],
    run: str,
    *,
    chips: int = 1,
    title: str = "",
    margin_ppm: int = CHIP_TIME_MARGIN_PPM,
    grace_s: float = 30.0,
    settings: MeterSettings | None = None,
) -> int:
    """Run the command to its end and return its exit status: its own, 128 + n after signal n, 75 if a hold ended it.

    Call it from the main thread. It waits, before starting, while the run is held. grace_s: how long the command may
    take to end after SIGTERM, and how long what it left behind may, before SIGKILL.
    SPEC metering-17: nothing of the command outlives it: its process group is ended with it, and, on Linux, it is told
    to end if this process is killed.
    """
    if not command:
        raise ValueError("there is no command to run")
    chosen = settings or resolve_settings()
    with Meter.open(run, chips=chips, title=title, method=CHIP_TIME, margin_ppm=margin_ppm, settings=chosen) as meter:
        child = _start(command, chosen)
        with _forwarding(child.pid), _terminal_for(child.pid):
            held = _watch(child.pid, meter, grace_s)
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


def _watch(pid: int, meter: Meter, grace_s: float) -> bool:
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
            if not warned:
                _signal_group(pid, signal.SIGUSR1)
                _signal_group(pid, signal.SIGCONT)
                warned, stopped = True, False
            elif meter.save_s <= 0:
                _signal_group(pid, signal.SIGTERM)
                kill_at = time.monotonic() + grace_s
        else:
            warned = False  # lifted before its time was over: the command goes on as if nothing had been
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
def _forwarding(pid: int) -> Iterator[None]:
    def forward(number: int, frame: FrameType | None) -> None:
        _signal_group(pid, number)

    handler: Callable[[int, FrameType | None], None] = forward
    before = {number: signal.signal(number, handler) for number in _FORWARDED}
    try:
        yield
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
