"""Plans: what will tighten for a job at a known time, told ahead, so that it does although its daemon is away. Pure.

Only what follows without another word from the log is in a plan: a pause or slow-down that is fixed already, the end
of a lease, the end of what a budget lets a job do unheard. A plan never loosens anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from pacekeeper.node.gate import Decision, Hold, Throttle
from pacekeeper.protocol.commitments.constraints import Span
from pacekeeper.protocol.documents.commitment_model import Lease

MAX_PLANNED: Final = 8  # of one job; what comes after them is told in time
_CONSIDERED: Final = 32  # moments looked at for one answer


class Planned(NamedTuple):
    """A decision, and from when on it holds unless another one was told before."""

    at_ms: int
    decision: Decision


def moments(spans: Iterable[Span], lease: Lease | None, now_ms: int, log_ms: int, ahead_ms: int) -> list[int]:
    """Return the times after now at which something that is known begins, is to be obeyed ahead, or runs out."""
    times = {time_ms for span in spans for time_ms in (span.from_ms, span.enforced_ms - ahead_ms)}
    if lease is not None:
        ends_ms = log_ms + lease.lease_ms + 1
        times |= {ends_ms, ends_ms - ahead_ms}
    return sorted(time_ms for time_ms in times if time_ms > now_ms)[:_CONSIDERED]


def tightening(told: Decision, later: Iterable[Planned]) -> Sequence[Planned]:
    """Return those of later decisions, ascending in time, that are stricter than all before them.

    SPEC node-37: a plan MUST NOT loosen anything.
    """
    found: list[Planned] = []
    strictest = _strictness(told)
    for planned in later:
        if _strictness(planned.decision) > strictest and len(found) < MAX_PLANNED:
            strictest = _strictness(planned.decision)
            found.append(planned)
    return found


def _strictness(decision: Decision) -> tuple[int, int]:
    match decision:
        case Hold():
            return 2, 0
        case Throttle(flop_per_s=rate):
            return 1, -rate
        case _:
            return 0, 0
