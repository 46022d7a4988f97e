"""Whether training may take its next step: a flag that costs a step nothing, and the wait behind it.

Two things hold training: the daemon's decision, and, where the policy says so, the daemon's absence. A decision to
hold stays until the daemon itself says proceed; going away does not lift it. A rate stays in the same way. What the
daemon told ahead comes into effect at its time, whether or not the daemon is there.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from typing import Final

from pacekeeper.node.meters.orders import PROCEED, Order
from pacekeeper.node.meters.pace import Pace

log = logging.getLogger("pacekeeper.meter")
_SOURCE: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # which goes on while the machine sleeps
_EARLIER_S: Final = 0.05  # each answer counts to a planned time anew, and never quite the same


class HoldFlag:
    """Shared by the training thread, which reads `raised` at each step, and the courier, which sets and clears it."""

    def __init__(self) -> None:
        self.raised = False
        self.forked = False
        self._order = PROCEED
        self._save_by = 0.0
        self._pace = Pace()
        self._away: str | None = None
        self._broken: BaseException | None = None
        self._closed = False
        self._condition = threading.Condition()
        self._ordering = threading.Lock()
        self._plan: list[tuple[float, Order]] = []  # by _SOURCE
        self.planned_earlier = threading.Event()  # set when advance() is to be called sooner than it last said
        _flags.add(self)

    @property
    def ordered(self) -> str | None:
        """The daemon's reason to hold, or None."""
        return self._order.hold

    @property
    def stand_by(self) -> bool:
        """Whether the daemon's hold may be over at any moment."""
        return self._order.stand_by

    @property
    def flop_per_s(self) -> int | None:
        """The rate at which training may go on, or None without one."""
        return self._order.flop_per_s

    @property
    def save_s(self) -> float:
        """How long a held job still has for saving, in seconds; 0 if that is over."""
        return max(0.0, self._save_by - time.monotonic())

    @property
    def away(self) -> str | None:
        """Why the daemon's absence holds training, or None."""
        return self._away

    def order(self, order: Order) -> None:
        """Take the daemon's decision, and what it plans. Whatever it is, the daemon is there."""
        with self._ordering:
            self._take(order, None)
            now_s = time.clock_gettime(_SOURCE)
            before_s = self._plan[0][0] if self._plan else float("inf")
            self._plan = [(now_s + in_s, planned) for in_s, planned in order.planned]
            earlier = bool(self._plan) and self._plan[0][0] < before_s - _EARLIER_S
        if earlier:
            self.planned_earlier.set()

    def advance(self) -> float | None:
        """Let what was planned for by now come into effect; return in how many seconds the next comes, if any does.

        SPEC metering-23: what the daemon told ahead MUST tighten at its time without another word, and never loosen.
        """
        with self._ordering:
            now_s = time.clock_gettime(_SOURCE)
            while self._plan and self._plan[0][0] <= now_s:
                _, planned = self._plan.pop(0)
                if planned.is_stricter(self._order):
                    self._take(planned, self._away)
            return self._plan[0][0] - now_s if self._plan else None

    def _take(self, order: Order, away: str | None) -> None:
        before = self._order
        if order.hold is not None and order.hold != before.hold:
            log.warning("training is held: %s", order.hold)
        elif order.flop_per_s is not None and order.flop_per_s != before.flop_per_s:
            log.warning("training may go on at %.4g FLOP/s", order.flop_per_s)
        elif order == PROCEED and self.raised:
            log.warning("training may go on")
        self._set(order, away)

    def miss(self, reason: str) -> None:
        """Hold because the daemon is away; what it last decided stays."""
        self._set(self._order, reason)

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

    def _set(self, order: Order, away: str | None) -> None:
        if (order, away) == (self._order, self._away):
            return  # what nearly every answer says
        with self._condition:
            self._order, self._away = order, away
            self._save_by = time.monotonic() + order.save_s
            self._pace.set_rate(order.flop_per_s)
            free = order == PROCEED and away is None
            self.raised = not free or self._closed or self._broken is not None
            self._condition.notify_all()

    def _is_held(self) -> bool:
        return self._order.hold is not None or self._away is not None

    def pace(self, total: int) -> bool:
        """Wait until the rate, if there is one, allows a job with this total of operations its next step.

        False if it has come to be held meanwhile. RuntimeError as wait.
        SPEC metering-19: operations MUST NOT be made faster than the rate that the daemon gave the job.
        """
        with self._condition:
            while not self._closed and self._broken is None and not self._is_held():
                pause_s = self._pace.wait_s(total)
                if pause_s <= 0:
                    return True
                self._condition.wait(pause_s)
        return False

    def wait(self) -> None:
        """Return once training is not held. RuntimeError if the meter is closed, broken or in a forked child."""
        # SPEC metering-12: a meter is of the process that opened it; a fork has neither its threads nor its socket.
        if self.forked:
            raise RuntimeError(
                f"this meter was opened in another process: process {os.getpid()} is its fork. "
                "Open the meter after forking, or start workers with the spawn method"
            )
        with self._condition:
            while not self._closed and self._broken is None and self._is_held():
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
