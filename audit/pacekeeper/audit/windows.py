"""How those who are bound stand in the windows of a growth limit or under the caps of a commitment, in sentences.

It follows from the replayed state: what was used by the accounts on the log, of what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator

from pacekeeper.protocol.commitments.standing import Standing
from pacekeeper.protocol.commitments.wording import format_measure
from pacekeeper.protocol.compute.bounds import Bounds, Outcome
from pacekeeper.protocol.documents.commitment_model import CapLimits, Growth
from pacekeeper.protocol.replay.growth import open_windows
from pacekeeper.protocol.replay.state import State
from pacekeeper.protocol.units import format_flop


def tell_windows(state: State, standing: Standing) -> Iterator[str]:
    """Yield what a growth limit or caps allow, and how everybody stands whom they were applied to; else nothing.

    SPEC commitments-67: what is limited, and how each lab or run stands by it, MUST be told.
    """
    measure = standing.terms.measure
    if isinstance(measure, CapLimits):
        for cap, sentence in zip(measure.caps, format_measure(measure), strict=True):
            yield f"{sentence}: {_counts(state, f'{standing.terms.id}/{cap.id}')}"
            yield from _not_within(state, f"{standing.terms.id}/{cap.id}")
    elif isinstance(measure, Growth):
        yield from format_measure(measure)
        yield from _growth(state, standing)


def _counts(state: State, cap_id: str) -> str:
    found = [status.outcome for (known, _), status in state.cap_status.items() if known == cap_id]
    return ", ".join(f"{found.count(outcome)} {outcome}" for outcome in Outcome)


def _not_within(state: State, cap_id: str) -> Iterator[str]:
    for (known, subject), status in sorted(state.cap_status.items()):
        if known == cap_id and status.outcome is not Outcome.WITHIN:
            yield f"{subject}: {status.outcome}, {format_bounds(status.bounds)}"


def _growth(state: State, standing: Standing) -> Iterator[str]:
    commitment = standing.terms.id
    for lab, courses in sorted(state.courses.items()):
        course = courses.get(commitment)
        if course is None or not course.used:
            continue
        *_, window = open_windows(state, state.labs[lab], commitment, course, max(course.used))
        yield (
            f"{lab}, periods {window.first} to {window.end - 1}: {format_bounds(window.used)} used of "
            f"{format_bounds(window.allowance)}, {window.outcome}"
        )


def format_bounds(bounds: Bounds) -> str:
    """Write an interval of gigaFLOP."""
    if bounds.low == bounds.high:
        return format_flop(bounds.low)
    return f"{format_flop(bounds.low)} to {format_flop(bounds.high)}"
