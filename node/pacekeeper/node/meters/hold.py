"""Whether training may take its next step: a flag that costs a step nothing, and the wait behind it.

Two things hold training: the daemon's decision, and, where the policy says so, the daemon's absence. A decision to
hold stays until the daemon itself says proceed; going away does not lift it.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref

log = logging.getLogger("pacekeeper.meter")


class HoldFlag:
    """Shared by the training thread, which reads `raised` at each step, and the courier, which sets and clears it."""

    def __init__(self) -> None:
        self.raised = False
        self.forked = False
        self._ordered: str | None = None
        self._away: str | None = None
        self._broken: BaseException | None = None
        self._closed = False
        self._condition = threading.Condition()
        _flags.add(self)

    @property
    def ordered(self) -> str | None:
        """The daemon's reason to hold, or None."""
        return self._ordered

    @property
    def away(self) -> str | None:
        """Why the daemon's absence holds training, or None."""
        return self._away

    def order(self, reason: str | None) -> None:
        """Take the daemon's decision: a reason holds, None proceeds. Either way the daemon is there."""
        if reason is not None and reason != self._ordered:
            log.warning("training is held: %s", reason)
        if reason is None and self.raised:
            log.warning("training may go on")
        self._set(reason, None)

    def miss(self, reason: str) -> None:
        """Hold because the daemon is away; what it last decided stays."""
        self._set(self._ordered, reason)

    def fail(self, error: BaseException) -> None:
        """Make every later step raise: the meter itself no longer works."""
        with self._condition:
            self._broken = self._broken or error
            self.raised = True
            self._condition.notify_all()

    def close(self) -> None:
        """Make every later step raise: the job is closed."""
        with self._condition:
            self._closed = True
            self.raised = True
            self._condition.notify_all()

    def _set(self, ordered: str | None, away: str | None) -> None:
        if (ordered, away) == (self._ordered, self._away):
            return  # what nearly every answer says
        with self._condition:
            self._ordered, self._away = ordered, away
            self.raised = self._closed or self._broken is not None or ordered is not None or away is not None
            self._condition.notify_all()

    def wait(self) -> None:
        """Return once training may go on. RuntimeError if the meter is closed, broken or in a forked child."""
        # SPEC metering-12: a meter is of the process that opened it; a fork has neither its threads nor its socket.
        if self.forked:
            raise RuntimeError(
                f"this meter was opened in another process: process {os.getpid()} is its fork. "
                "Open the meter after forking, or start workers with the spawn method"
            )
        with self._condition:
            while not self._closed and self._broken is None and (self._ordered is not None or self._away is not None):
                self._condition.wait()
            if self._broken is not None:
                raise RuntimeError(f"the meter stopped: {self._broken}") from self._broken
            if self._closed:
                raise RuntimeError("the meter is closed: open a new one for another job")


_flags: weakref.WeakSet[HoldFlag] = weakref.WeakSet()


def _after_fork() -> None:
    for flag in list(_flags):
        flag.forked = True
        flag.raised = True


os.register_at_fork(after_in_child=_after_fork)
