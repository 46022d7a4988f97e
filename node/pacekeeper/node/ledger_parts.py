"""What the ledger is made of: jobs, runs with what their jobs used, and signed statements.

Only the ledger's fold (ledger.py, adoption.py) changes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pacekeeper.node.parts import Mark
from pacekeeper.node.records import Delivered, TurnedDown
from pacekeeper.v1 import statements_pb2 as pb


@dataclass(slots=True)
class Figure:
    """What one job used within one period so far, and the marks of how it came to that (parts.py)."""

    flop: int = 0
    steps: int = 0
    chip_ms: int = 0
    marks: list[Mark] = field(default_factory=list, compare=False, repr=False)

    def raise_to(self, flop: int, steps: int, chip_ms: int, as_of_ms: int) -> bool:
        """Take the larger of each figure; whether anything went up. Reports are cumulative, so none is ever lowered."""
        if flop <= self.flop and steps <= self.steps and chip_ms <= self.chip_ms:
            if not self.marks or as_of_ms > self.marks[-1].as_of_ms:  # so much, and until then no more
                self.marks.append(Mark(as_of_ms, self.flop, self.steps, self.chip_ms))
            return False
        self.flop, self.steps, self.chip_ms = max(flop, self.flop), max(steps, self.steps), max(chip_ms, self.chip_ms)
        if self.marks:
            as_of_ms = max(as_of_ms, self.marks[-1].as_of_ms)
        self.marks.append(Mark(as_of_ms, self.flop, self.steps, self.chip_ms))
        return True


@dataclass(slots=True)
class Job:
    """A training process as it announced itself."""

    id: str
    run: str
    chips: int
    pool: str
    method: int
    margin_ppm: int
    opened_ms: int
    last_ms: int  # when it last said something new
    closed: bool = False
    last_period: int = -1
    notes: tuple[str, ...] = ()  # what it could not count
    uncounted_since: int | None = None  # the period from which its count is incomplete

    def counted_whole(self, period: int) -> bool:
        """Whether its count leaves nothing out that is known of, in a period."""
        return self.uncounted_since is None or period < self.uncounted_since


@dataclass(slots=True)
class Run:
    """A run of this lab: whether it is declared, and what its jobs used, by period and job."""

    name: str
    declared: bool = False
    initial_state: int = pb.INITIAL_STATE_UNSPECIFIED
    initial_digest: bytes = b""
    usage: dict[int, dict[str, Figure]] = field(default_factory=dict)
    recorded_steps: int = -1  # of the last checkpoint record; -1 before the first
    recorded_period: int = -1
    recorded_id: bytes = b""


@dataclass(slots=True)
class Statement:
    """A signed statement. envelope is dropped once the receipt is stored; the journal keeps both."""

    id: bytes
    kind: str
    sequence: int
    envelope: bytes
    signed_ms: int
    about: str
    delivered: Delivered | None = None
    turned_down: TurnedDown | None = None

    @property
    def pending(self) -> bool:
        """Whether it is still to be delivered."""
        return self.delivered is None and self.turned_down is None
