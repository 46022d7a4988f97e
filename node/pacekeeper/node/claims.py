"""What a training process says of itself and of its usage, as checked values: one that exists is within its range."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pacekeeper.node.runs import RunPlan
from pacekeeper.protocol import units
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import statements_pb2 as pb

MAX_FLOP: Final = 2**56 * units.FLOP_PER_UNIT  # of one job in one period: 7e25, months of the largest clusters
MAX_COUNT: Final = 2**53 - 1  # steps, chip-milliseconds

_JOB: Final = re.compile(r"[0-9a-f]{32}\Z")


@dataclass(frozen=True)
class JobPlan:
    """What a job says of itself. Valid by construction, else Refused(bad-field)."""

    job: str
    plan: RunPlan
    chips: int
    method: int
    margin_ppm: int

    def __post_init__(self) -> None:
        if _JOB.match(self.job) is None:
            raise Refused(Code.BAD_FIELD, "a job's id is 16 bytes in lower-case hexadecimal")
        if not 1 <= self.chips <= MAX_COUNT:
            raise Refused(Code.BAD_FIELD, "a job occupies at least one accelerator")
        if self.method not in (pb.METHOD_FRAMEWORK_COUNT, pb.METHOD_CHIP_TIME):
            raise Refused(Code.BAD_FIELD, "method is unspecified or unknown")
        if not 0 <= self.margin_ppm <= units.PPM:
            raise Refused(Code.BAD_FIELD, "a margin is at most 100 %")


@dataclass(frozen=True)
class Reported:
    """A job's usage in one period, cumulative within it. Valid by construction, else Refused(bad-field)."""

    period: int
    flop: int
    steps: int
    chip_ms: int

    def __post_init__(self) -> None:
        # SPEC node-13: figures outside what one job can do in one period MUST be refused, none MUST be cut to fit.
        if not 0 <= self.flop <= MAX_FLOP:
            raise Refused(Code.BAD_FIELD, "more operations than one job can make in a period")
        if not (0 <= self.steps <= MAX_COUNT and 0 <= self.chip_ms <= MAX_COUNT and 0 <= self.period <= MAX_COUNT):
            raise Refused(Code.BAD_FIELD, "a period, steps or chip-time over 2^53")
