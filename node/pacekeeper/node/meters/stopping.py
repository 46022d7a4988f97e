"""Stops all processes of a wrapped command, and sees that they stand still.

A stopped process computes nothing, so a pause can be kept by it, and its chips are free of work for as long. That is
only said of time between two looks at /proc in which every process below this one was stopped or dead and none used
any processor time. What cannot be seen from here (workers on other machines, containers that a daemon started) is not
stopped: such a command is to be ended instead.

Example: tree = ProcessTree(); tree.stop(); tree.stands_still(); tree.go_on()
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36
_STANDING: Final = frozenset("TtX")  # stopped, stopped by a tracer, dead
_ROUNDS: Final = 5  # a process may have been forked while its parent was being stopped


@dataclass(frozen=True, slots=True)
class Process:
    """A line of /proc: state as the kernel writes it, ticks of processor time of all its threads."""

    pid: int
    parent: int
    state: str
    ticks: int
    threads: int

    @property
    def stands(self) -> bool:
        """Whether it can do nothing. A zombie whose other threads live is none."""
        return self.state in _STANDING or (self.state == "Z" and self.threads <= 1)


class ProcessTree:
    """The processes that descend from this one, orphans included."""

    def __init__(self) -> None:
        """Have orphans come to this process. OSError where that or /proc is not to be had."""
        if sys.platform != "linux":
            raise OSError("stopping a command and seeing that it stands still needs Linux")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "orphans of the command cannot be kept")
        self._seen: dict[int, int] | None = None

    def stop(self) -> None:
        """Send SIGSTOP to all that do not stand yet, and to what they forked meanwhile."""
        for _ in range(_ROUNDS):
            moving = [process for process in descendants(os.getpid()) if not process.stands]
            for process in moving:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, signal.SIGSTOP)
            if not moving:
                return

    def stands_still(self) -> bool:
        """Whether all stand, and have done no work since the last call that found all standing."""
        found = descendants(os.getpid())
        ticks = {process.pid: process.ticks for process in found}
        before = self._seen
        self._seen = ticks if all(process.stands for process in found) else None
        # Processes may end or be killed meanwhile; none may have been born or have worked.
        return self._seen is not None and before is not None and ticks.items() <= before.items()

    def go_on(self) -> None:
        """Send SIGCONT to all."""
        self._seen = None
        for process in descendants(os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signal.SIGCONT)


def descendants(root: int) -> list[Process]:
    """Return all processes below one, as /proc has them now."""
    children: dict[int, list[Process]] = {}
    for process in _processes():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [root]
    while waiting:
        below = children.pop(waiting.pop(), [])
        found += below
        waiting += [process.pid for process in below]
    return found


def _processes() -> Iterator[Process]:
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path("/proc", entry, "stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended just now
        fields = text.rsplit(")", 1)[1].split()  # the name before it may hold anything
        yield Process(int(entry), int(fields[1]), fields[0], int(fields[11]) + int(fields[12]), int(fields[17]))
