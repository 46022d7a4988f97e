"""Conduct: whether what a lab attests keeps to the pauses and slow-downs that bind it.

An account is split at every moment at which a constraint began, bit or ended, so that each part lies on one side of it:
what was lawful before a pause stays lawful, and what came after is seen. Only what certainly was too much convicts, and
a part that lies across a boundary is left undecided for as long as an interval around a cap may be.

A breach is established once the period is closed, since until then the account can be corrected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from pacekeeper.protocol.commitments.constraints import Span
from pacekeeper.protocol.commitments.coverage import is_planned
from pacekeeper.protocol.compute.bounds import NOTHING, Bounds
from pacekeeper.protocol.compute.lineage import Run
from pacekeeper.protocol.documents.commitment_model import Exemption, Pause, SlowDown
from pacekeeper.protocol.replay import commitments
from pacekeeper.protocol.replay.commitment_caps import BREACH, is_exceeded
from pacekeeper.protocol.replay.facts import Violation, ViolationKind
from pacekeeper.protocol.replay.judgements import Conduct
from pacekeeper.protocol.replay.labs import LabState
from pacekeeper.protocol.replay.state import State

_UNDECIDED: Final = "conduct "
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
    start_ms, end_ms = state.agreement.period_start_ms(period), state.agreement.period_end_ms(period)
    spans = state.commitments.spans(lab.id, start_ms, end_ms)
    if not spans:
        return
    edges = (start_ms, *(start_ms + split for split in splits), end_ms)
    pieces = [
        Part(run, edges[part], edges[part + 1], low, high)
        for (run, low, high), part in zip(figures, parts or [0] * len(figures), strict=True)
    ]
    # SPEC conduct-10: from version 3 on, what is only planned MUST NOT convict: a silence has put off its beginning.
    planned_too = state.agreement.rules_version < 3
    for span in spans:
        if isinstance(span.measure, Pause | SlowDown) and (planned_too or not is_planned(state.commitments, span)):
            _judge_span(state, lab, period, span, end_ms, pieces, found)


def _judge_span(
    state: State, lab: LabState, period: int, span: Span, end_ms: int, pieces: list[Part], found: list[Violation]
) -> None:
    """SPEC conduct-1: compute in parts that lie wholly where a constraint bites MUST be within what it allows."""
    start_ms = state.agreement.period_start_ms(period)
    from_ms, until_ms = max(span.enforced_ms, start_ms), min(end_ms, span.until_ms or end_ms)
    if from_ms >= until_ms:
        return
    inside = [part for part in pieces if from_ms <= part.start_ms and part.end_ms <= until_ms]
    touching = [part for part in pieces if part.start_ms < until_ms and part.end_ms > from_ms]
    certain, possible = _restrained(state, span, period, inside), _restrained(state, span, period, touching)
    low = sum(bounds.low for bounds in certain.values())
    high = sum(bounds.high for bounds in possible.values())
    conduct = state.conduct.setdefault((span.commitment, lab.id), Conduct())
    allowed = _allowance(span, until_ms - from_ms)
    conduct.spent[period] = max(0, low - allowed)
    conduct.undecided.discard(period)
    if _over_budget(conduct, period, span.exemptions):
        runs = [run for run, bounds in certain.items() if bounds.low]
        _convict(state, lab, period, span, Bounds(low, high), allowed, runs, found)
        return
    conduct.exceeding.discard(period)
    if len(touching) > len(inside) and high > allowed:
        _leave_undecided(state, lab, period, span, conduct)


def _restrained(state: State, span: Span, period: int, parts: list[Part]) -> dict[str, Bounds]:
    """What of some parts a measure is about, by run: all of it, or under a pause only what lies above its limit.

    SPEC conduct-2: a pause MUST count only what goes beyond its limit of a run's compute, its ancestors' included, up
    to the end of the period.
    """
    found: dict[str, Bounds] = {}
    runs = {part.run.name: part.run for part in parts}
    for part in parts:
        found[part.run.name] = found.get(part.run.name, NOTHING).plus(Bounds(part.low, part.high))
    measure = span.measure
    if not isinstance(measure, Pause):
        return found
    for name, bounds in found.items():
        total = state.lineage.inherited(runs[name]).plus(state.attested_before(runs[name], period + 1))
        low, high = (max(0, value - measure.above_gflop) for value in total)
        found[name] = Bounds(min(bounds.low, low), min(bounds.high, high))
    return found


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
    index, time_ms, sources = state.size, state.last_time_ms, tuple(sorted(runs))
    found.append(Violation(kind, lab.id, period, index, time_ms, span.commitment, allowed, bounds, sources))
    state.push_deadline(BREACH + span.commitment, lab.id, period, state.agreement.fill_in_ms(period))


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
    if kind.startswith(BREACH):
        commitment = kind.removeprefix(BREACH)
        # SPEC conduct-5: a breach MUST be established when its period closes, unless the account in force clears it.
        conduct = state.conduct.get((commitment, subject))
        stands = is_exceeded(state, commitment, subject, period) if conduct is None else period in conduct.exceeding
        if stands:
            armed = state.agreement.rules_version > 2
            state.commitments.breach(subject, index, due_ms, commitment, armed=armed)
            commitments.follow_up(state)
        return
    commitment = kind.removeprefix(_UNDECIDED)
    conduct = state.conduct[commitment, subject]
    if period in conduct.undecided:
        conduct.undecided.discard(period)
        conduct.convicted.add(period)
        found.append(Violation(ViolationKind.UNSPLIT, subject, period, index, due_ms, commitment))
