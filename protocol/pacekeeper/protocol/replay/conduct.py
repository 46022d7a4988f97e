"""Conduct: whether what a lab attests keeps to the pauses and slow-downs that bind it.

An account is split at every moment at which a constraint began, bit or ended, so that each part lies on one side of it:
what was lawful before a pause stays lawful, and what came after is seen. Only what certainly was too much convicts, and
a part that lies across a boundary is left undecided for as long as an interval around a cap may be.

A breach is established once the period is closed, since until then the account can be corrected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from pacekeeper.protocol.commitments.constraints import Span
from pacekeeper.protocol.compute.bounds import Bounds
from pacekeeper.protocol.compute.lineage import Run
from pacekeeper.protocol.documents.commitment_model import Exemption, Pause, SlowDown
from pacekeeper.protocol.replay import commitments
from pacekeeper.protocol.replay.facts import Violation, ViolationKind
from pacekeeper.protocol.replay.state import Conduct, LabState, State

_UNDECIDED: Final = "conduct "
_BREACH: Final = "breach "
_TRAINING: Final = "training"


class Part(NamedTuple):
    """What one run did in one part of a period: [start_ms, end_ms), and the bounds of its compute in gigaFLOP."""

    run: Run
    start_ms: int
    end_ms: int
    low: int
    high: int


def judge_conduct(
    state: State,
    lab: LabState,
    period: int,
    splits: Sequence[int],
    figures: Sequence[tuple[Run, int, int]],
    parts: Sequence[int],
    found: list[Violation],
) -> None:
    """Judge an account under every commitment that constrained the lab in its period.

    figures: run, lower and upper bound of each figure; parts: the part that each is about, none where there are no
    splits.
    """
    if not state.commitments.standings():
        return
    start_ms, end_ms = state.agreement.period_start_ms(period), state.agreement.period_end_ms(period)
    spans = state.commitments.spans(lab.id, start_ms, end_ms)
    if not spans:
        return
    edges = (start_ms, *(start_ms + split for split in splits), end_ms)
    pieces = [
        Part(run, edges[part], edges[part + 1], low, high)
        for (run, low, high), part in zip(figures, parts or [0] * len(figures), strict=True)
    ]
    for span in spans:
        _judge_span(state, lab, period, span, end_ms, pieces, found)


def _judge_span(
    state: State, lab: LabState, period: int, span: Span, end_ms: int, pieces: list[Part], found: list[Violation]
) -> None:
    """SPEC conduct-1: compute in parts that lie wholly where a constraint bites MUST be within what it allows."""
    start_ms = state.agreement.period_start_ms(period)
    from_ms, until_ms = max(span.enforced_ms, start_ms), min(end_ms, span.until_ms or end_ms)
    if from_ms >= until_ms:
        return
    held = [part for part in pieces if _is_held(state, span, part.run)]
    inside = [part for part in held if from_ms <= part.start_ms and part.end_ms <= until_ms]
    across = [part for part in held if part.start_ms < until_ms and part.end_ms > from_ms and part not in inside]
    low = sum(part.low for part in inside)
    high = sum(part.high for part in (*inside, *across))
    conduct = state.conduct.setdefault((span.commitment, lab.id), Conduct())
    allowed = _allowance(span, until_ms - from_ms)
    conduct.spent[period] = max(0, low - allowed)
    over = _over_budget(conduct, period, span.exemptions)
    conduct.undecided.discard(period)
    if over:
        _convict(state, lab, period, span, Bounds(low, high), allowed, {part.run.name for part in inside}, found)
    else:
        conduct.exceeding.discard(period)
        if across and high > allowed:
            _leave_undecided(state, lab, period, span, conduct)


def _is_held(state: State, span: Span, run: Run) -> bool:
    """SPEC conduct-2: a pause MUST count against runs whose compute, with their ancestors', certainly is above it."""
    measure = span.measure
    return not isinstance(measure, Pause) or state.lineage.cumulative(run).low > measure.above_gflop


def _allowance(span: Span, duration_ms: int) -> int:
    """What a measure allows for so long, rounded up: nothing under a pause."""
    measure = span.measure
    return -(-measure.rate_gflop_per_s * duration_ms // 1_000) if isinstance(measure, SlowDown) else 0


def _over_budget(conduct: Conduct, period: int, exemptions: Iterable[Exemption]) -> bool:
    """Whether what goes beyond the measure goes beyond every budget for training as well.

    SPEC conduct-3: an exemption for training MUST allow its budget besides, in each of its windows or in all.
    """
    if not conduct.spent[period]:
        return False
    budgets = [exemption for exemption in exemptions if exemption.category == _TRAINING]
    if not budgets:
        return True
    return any(_spent(conduct, period, budget.window) > budget.budget_gflop for budget in budgets)


def _spent(conduct: Conduct, period: int, window: int) -> int:
    return sum(spent for when, spent in conduct.spent.items() if not window or period - window < when <= period)


def _convict(
    state: State,
    lab: LabState,
    period: int,
    span: Span,
    bounds: Bounds,
    allowed: int,
    runs: Iterable[str],
    found: list[Violation],
) -> None:
    conduct = state.conduct[span.commitment, lab.id]
    conduct.exceeding.add(period)
    if period in conduct.convicted:
        return
    conduct.convicted.add(period)
    kind = ViolationKind.PAUSE if isinstance(span.measure, Pause) else ViolationKind.RATE
    found.append(
        Violation(
            kind,
            lab.id,
            period,
            state.size,
            state.last_time_ms,
            span.commitment,
            allowed,
            bounds,
            tuple(sorted(runs)),
        )
    )
    state.push_deadline(_BREACH + span.commitment, lab.id, period, state.agreement.fill_in_ms(period))


def _leave_undecided(state: State, lab: LabState, period: int, span: Span, conduct: Conduct) -> None:
    """SPEC conduct-4: a part across a boundary MUST be split by a correction in time, or it counts as a violation."""
    conduct.undecided.add(period)
    agreement = state.agreement
    begins = max(period, agreement.period_of(state.last_time_ms) - 1)
    due_ms = agreement.due_ms(begins + agreement.indeterminate_periods)
    state.push_deadline(_UNDECIDED + span.commitment, lab.id, period, due_ms)


def fall_due(
    state: State, kind: str, subject: str, period: int, due_ms: int, index: int, found: list[Violation]
) -> None:
    """A matter left undecided is over, or a breach is established."""
    if kind.startswith(_BREACH):
        commitment = kind.removeprefix(_BREACH)
        # SPEC conduct-5: a breach MUST be established when its period closes, unless the account in force clears it.
        if period in state.conduct[commitment, subject].exceeding:
            state.commitments.breach(subject, index, due_ms, commitment)
            commitments.take_deadlines(state)
        return
    commitment = kind.removeprefix(_UNDECIDED)
    conduct = state.conduct[commitment, subject]
    if period in conduct.undecided:
        conduct.undecided.discard(period)
        conduct.convicted.add(period)
        found.append(Violation(ViolationKind.UNSPLIT, subject, period, index, due_ms, commitment))


def boundaries(state: State, lab: str, period: int) -> Iterator[int]:
    """Yield where a lab has to split its account of a period, as offsets in milliseconds from its start."""
    start_ms, end_ms = state.agreement.period_start_ms(period), state.agreement.period_end_ms(period)
    for time_ms in state.commitments.boundaries(lab, start_ms, end_ms):
        yield time_ms - start_ms
