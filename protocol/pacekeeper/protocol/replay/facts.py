"""Facts that a replay derives: violations, and entries that it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pacekeeper.protocol.compute.bounds import Bounds
from pacekeeper.protocol.errors import Code


class ViolationKind(StrEnum):
    """What the replay can find a participant guilty of. Stable codes, as refusals are."""

    PERIOD_MISSING = "period-missing"  # no account of a period at its deadline
    RUN_CAP = "run-cap-exceeded"  # a run with its ancestors used more than the cap
    LAB_CAP = "lab-cap-exceeded"  # a lab used more within one window than the cap
    PARTY_CAP = "party-cap-exceeded"  # the labs of a party used more within one window than the cap
    UNRESOLVED = "cap-unresolved"  # an interval around a cap was not narrowed in time
    PAUSE = "pause-breached"  # a run above a pause's limit trained on while the pause held
    RATE = "rate-exceeded"  # a lab trained faster than a slow-down allows
    GROWTH = "growth-exceeded"  # a lab used more in a window than a growth limit allows
    GROWTH_UNRESOLVED = "growth-unresolved"  # an interval around a growth limit, not narrowed before its window closed
    UNSPLIT = "constraint-unresolved"  # compute across a constraint's boundary was not split in time
    UNDERSTATED = "checkpoint-understated"  # a checkpoint record below what was attested for the time before it


@dataclass(frozen=True, slots=True)
class Violation:
    """A fact about a lab or a party, with the log position at which it became known.

    subject: id of the lab or party, or "lab/run". period: the calendar period that it is about. index: leaf index of
    the entry whose replay derived it. time_ms: when it became a fact (a deadline's time, or the entry's). limit and
    bounds in gigaFLOP, where a cap is concerned. sources: the runs that a lineage adds up, ancestors first.
    """

    kind: ViolationKind
    subject: str
    period: int
    index: int
    time_ms: int
    cap: str = ""
    limit: int = 0
    bounds: Bounds | None = None
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VoidEntry:
    """An entry that the log let in and the replay refuses: evidence against the log."""

    index: int
    code: Code
    message: str
