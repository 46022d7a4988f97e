"""Plays statements and deadlines against a registry in the order of time, as a replay of a log would.

For foresight and for tests: the rules are the registry's own. Statements of one time come in the order given, after
the deadlines of that time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pacekeeper.protocol import limits
from pacekeeper.protocol.commitments.pledges import Alternatives
from pacekeeper.protocol.commitments.registry import Registry
from pacekeeper.protocol.commitments.triggers import Report
from pacekeeper.protocol.errors import Refused


@dataclass(frozen=True, slots=True)
class Step:
    """One statement at a time. action: "pledge", "withdraw", "lift", "extend", "report", "breach" or "clean"."""

    time_ms: int
    action: str
    who: str = ""
    commitment: str = ""
    alternatives: Alternatives = ()
    reason: str = ""
    report: Report | None = None
    periods: int = 0


class Player:
    """A registry with its queue of deadlines and a count of entries."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.index = 0
        self.now_ms = 0
        self._queue: list[tuple[int, str, str]] = []

    def next_deadline_ms(self) -> int | None:
        """When the earliest deadline is due."""
        self._take()
        return self._queue[0][0] if self._queue else None

    def advance(self, time_ms: int) -> None:
        """Let everything fall due up to a time."""
        for _ in range(limits.MAX_SIMULATED):
            due = self.next_deadline_ms()
            if due is None or due > time_ms:
                break
            due_ms, kind, subject = heapq.heappop(self._queue)
            self.registry.fire(kind, subject, due_ms, self.index)
        self.now_ms = time_ms

    def put(self, time_ms: int, act: Callable[[int, int], object]) -> Refused | None:
        """Enter one statement: act(index, time_ms), whose refusal is returned. Time must not run back (ValueError)."""
        if time_ms < self.now_ms:
            raise ValueError("time cannot run back")
        self.advance(time_ms)
        self.index += 1
        try:
            act(self.index - 1, time_ms)
        except Refused as refusal:
            return refusal
        return None

    def play(self, step: Step) -> Refused | None:
        """Enter a step."""
        return self.put(step.time_ms, lambda index, time_ms: self._perform(step, index, time_ms))

    def _perform(self, step: Step, index: int, time_ms: int) -> None:
        registry = self.registry
        match step.action:
            case "pledge":
                registry.pledge(step.who, step.commitment, step.alternatives, index, time_ms)
            case "withdraw":
                registry.withdraw(step.who, step.commitment, step.reason, index, time_ms)
            case "lift":
                registry.lift(step.who, step.commitment, index, time_ms)
            case "extend":
                registry.extend(step.who, step.commitment, index, time_ms)
            case "breach":
                registry.breach(step.who, index, time_ms, step.commitment or None, armed=True)
            case "clean":
                registry.set_clean_periods(step.who, step.periods)
            case "report" if step.report is not None:
                registry.report(step.report, index, time_ms)
            case _:
                raise ValueError(f'no action "{step.action}"')

    def play_all(self, steps: Sequence[Step]) -> list[tuple[Step, Refused]]:
        """Enter steps in the order of their times; return those refused."""
        refused = []
        for step in sorted(steps, key=lambda step: step.time_ms):
            refusal = self.play(step)
            if refusal is not None:
                refused.append((step, refusal))
        return refused

    def _take(self) -> None:
        for deadline in self.registry.deadlines():
            heapq.heappush(self._queue, (deadline.time_ms, deadline.kind, deadline.subject))
