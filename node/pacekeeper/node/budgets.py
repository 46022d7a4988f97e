"""Budgets: what a commitment lets training have besides, how much of it is used, and whether there is room to go on.

The same is counted as what convicts (specs/conduct.md), but at most instead of at least: what stands in the journal,
attested or not, and for each job that goes on what it may still do before it can be stopped. A period that takes no
account any more counts as the replay has it.

    budgets.open_to(job, state, spans, ...)  ->  ids of the commitments that leave the job alone for now
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Protocol

from pacekeeper.node.accounts import parts_at_most, splits_in
from pacekeeper.node.gate import ENDING_MS, LEAD_MS
from pacekeeper.node.ledger import Job, Ledger
from pacekeeper.protocol.commitments.constraints import Span
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.documents.commitment_model import Exemption, Pause, SlowDown
from pacekeeper.protocol.replay import State
from pacekeeper.protocol.units import PPM, flop_to_unit
from pacekeeper.v1 import statements_pb2 as pb

_TRAINING: Final = "training"
_STEPS_UNDER_WAY: Final = 3  # one not told yet, one that was begun before the answer came, one that was not looked at
_FIRST_STEP_MS: Final = 60_000  # what a job's step may take that has not shown one yet
_TURN_MS: Final = 1_000  # how far a meter's clock may be behind ours when a new window begins
_RECOUNT_EVERY_MS: Final = 200
_MARKS: Final = 8  # of a job's newest reports, looked at again with each count


# A run's compute with its ancestors', at most, in gigaFLOP; None where the log does not know its ancestors yet.
Total = Callable[[str], int | None]


class InForce(Protocol):
    """What is needed of Terms."""

    @property
    def agreement(self) -> Agreement: ...


def training_budgets(span: Span) -> list[Exemption]:
    """Return the budgets within which training goes on under a span; none where it does not."""
    if not isinstance(span.measure, Pause | SlowDown):
        return []
    return [exemption for exemption in span.exemptions if exemption.category == _TRAINING]


@dataclass(slots=True)
class _Tally:
    """One commitment's count. spent: period -> gigaFLOP beyond its measure, at most. going: jobs that went on by it;
    they stay until they are gone, since a step may be under way. used_up: job -> the period in which it was told so."""

    spent: dict[int, int] = field(default_factory=dict)
    going: set[str] = field(default_factory=set)
    used_up: dict[str, int] = field(default_factory=dict)


class Budgets:
    """Counts what is used of budgets for training. The jobs and runs of a lab share them."""

    def __init__(self, ledger: Ledger, terms: InForce, lab: str) -> None:
        self._ledger = ledger
        self._terms = terms
        self._lab = lab
        self._tallies: dict[str, _Tally] = {}
        self._counted_ms: int | None = None
        self._reserves: dict[str, int] = {}
        self._strides: dict[str, int] = {}  # job -> the most operations that it ever added between two reports

    @property
    def _agreement(self) -> Agreement:
        return self._terms.agreement

    def open_to(
        self,
        job: Job,
        state: State,
        spans: Iterable[Span],
        *,
        total_of: Total,
        running: Sequence[Job],
        own_ms: int,
        now_ms: int,
        monotonic_ms: int,
    ) -> frozenset[str]:
        """Return the commitments among those of the spans whose budgets have room for the job to go on.

        own_ms: the lab's clock; now_ms: the later of it and the log's time.
        SPEC node-47: under an exemption for training, runs MUST go on until a budget is used up, and only until then.
        """
        exempt = {span.commitment: span for span in spans if training_budgets(span)}
        if not exempt:
            return frozenset()
        if self._counted_ms is None or monotonic_ms - self._counted_ms >= _RECOUNT_EVERY_MS:
            self._recount(state, exempt, total_of, running, own_ms)
            self._counted_ms = monotonic_ms
        if job.id not in self._reserves:
            self._reserves[job.id] = self._reserve(job)
        first = self._agreement.period_of(own_ms - _TURN_MS)
        ends = range(first, self._agreement.period_of(now_ms + LEAD_MS) + 1)
        return frozenset(
            commitment
            for commitment, span in exempt.items()
            if _leaves_alone(span, total_of(job.run), self._reserves[job.id]) or self._has_room(job, state, span, ends)
        )

    def reserve(self, job: Job) -> int:
        """GigaFLOP that a job may still count between being told to go on and standing still; 0 if nobody asked."""
        return self._reserves.get(job.id, 0)

    def _has_room(self, job: Job, state: State, span: Span, ends: range) -> bool:
        tally = self._tallies[span.commitment]
        if tally.used_up.get(job.id, -1) >= ends[0]:
            return False
        spent = self._spent(state, span.commitment)
        kept = sum(self._reserves.get(other, 0) for other in tally.going | {job.id})
        for budget in training_budgets(span):
            for end in ends:
                used = sum(
                    each for when, each in spent.items() if not budget.window or end - budget.window < when <= end
                )
                # SPEC node-47: what each job can still do before it stands still MUST fit as well.
                if used + kept > budget.budget_gflop:
                    if isinstance(span.measure, SlowDown):  # what a rate leaves unused would make room again and again
                        tally.used_up[job.id] = ends[-1]
                    return False
        tally.going.add(job.id)
        return True

    def _spent(self, state: State, commitment: str) -> dict[int, int]:
        """What is spent by period: as the replay has it once nothing can change it any more, else as counted here."""
        spent = self._tallies[commitment].spent
        known = state.conduct.get((commitment, self._lab))
        if known is None:
            return spent
        return {**{when: each for when, each in known.spent.items() if state.is_closed(when)}, **spent}

    def _recount(
        self,
        state: State,
        exempt: Iterable[str],
        total_of: Total,
        running: Sequence[Job],
        own_ms: int,
    ) -> None:
        """Count again what has changed, and what time has changed: the present period and the one before."""
        self._reserves = {job.id: self._reserve(job) for job in running}
        agreement, ledger = self._agreement, self._ledger
        latest = max(ledger.runs_in, default=0)
        changed, ledger.changed = ledger.changed, set()
        changed |= {period for period in (latest, latest - 1) if period in ledger.runs_in}
        for commitment in exempt:
            if commitment not in self._tallies:
                self._tallies[commitment] = _Tally()
                changed |= ledger.runs_in.keys()
        open_ones = {period for period in changed if not state.is_closed(period)}
        for tally in self._tallies.values():
            tally.going &= self._reserves.keys()
            tally.spent = {when: each for when, each in tally.spent.items() if not state.is_closed(when)}
        left: dict[str, int | None] = {}
        for period in range(latest, min(open_ones, default=latest + 1) - 1, -1):
            runs = ledger.runs_in.get(period, ())
            parts = {name: parts_at_most(ledger, agreement, ledger.runs[name], period) for name in runs}
            left |= {name: total_of(name) for name in runs if name not in left}
            if period in open_ones:
                start_ms, end_ms = agreement.period_start_ms(period), agreement.period_end_ms(period)
                spans = state.commitments.spans(self._lab, start_ms, end_ms)
                for commitment, tally in self._tallies.items():
                    own = [span for span in spans if span.commitment == commitment and training_budgets(span)]
                    beyond = [self._beyond(span, period, parts, left, own_ms) for span in own]
                    tally.spent[period] = max(beyond, default=0)
            for name, highs in parts.items():
                total = left.get(name)
                if total is not None:
                    left[name] = total - sum(highs)

    def _beyond(
        self, span: Span, period: int, parts: dict[str, list[int]], totals: dict[str, int | None], own_ms: int
    ) -> int:
        """What a period has beyond a measure, at most (conduct-1, conduct-2). totals: by run, to the period's end."""
        start_ms, end_ms = self._agreement.period_start_ms(period), self._agreement.period_end_ms(period)
        from_ms, until_ms = max(span.enforced_ms, start_ms), min(end_ms, span.until_ms or end_ms)
        if from_ms >= until_ms:
            return 0
        edges = pairwise((start_ms, *splits_in(self._ledger, period), end_ms))
        touching = [part for part, (first_ms, last_ms) in enumerate(edges) if first_ms < until_ms and last_ms > from_ms]
        used = 0
        for name, highs in parts.items():
            high = sum(highs[part] for part in touching)
            total = totals.get(name)
            if isinstance(span.measure, Pause) and total is not None:
                high = min(high, max(0, total - span.measure.above_gflop))
            used += high
        if isinstance(span.measure, SlowDown):
            elapsed_ms = max(0, min(own_ms, until_ms) - from_ms)
            used = max(0, used - span.measure.rate_gflop_per_s * elapsed_ms // 1_000)
        return used

    def _reserve(self, job: Job) -> int:
        """GigaFLOP that a job may still count, at most, between being told to go on and standing still."""
        inventory = self._ledger.inventories[-1]
        pools = {pool.model: pool for pool in inventory.pools}
        pool = pools.get(job.pool) or max(inventory.pools, key=lambda pool: pool.peak_gflop_per_s)
        period = max(0, job.last_period)
        if job.method != pb.METHOD_FRAMEWORK_COUNT or not job.counted_whole(period):
            counted_ppm = pool.utilisation_ppm * (PPM + inventory.chip_time_margin_ppm) // PPM + 1
            return -(-job.chips * pool.peak_gflop_per_s * counted_ppm * ENDING_MS // (PPM * 1_000)) + 2
        stride = self._stride(job, period)
        busy_ms = LEAD_MS if stride else _FIRST_STEP_MS
        by_peak = -(-job.chips * pool.peak_gflop_per_s * busy_ms // 1_000)
        most = max(by_peak, flop_to_unit(_STEPS_UNDER_WAY * stride))
        return -(-most * (PPM + job.margin_ppm) // PPM) + 2

    def _stride(self, job: Job, period: int) -> int:
        """The most operations that a job added between two reports, as far as the journal's marks tell."""
        figure = self._ledger.runs[job.run].usage.get(period, {}).get(job.id)
        largest = self._strides.get(job.id, 0)
        if figure is None or not figure.marks:
            return largest
        marks = figure.marks if job.id not in self._strides else figure.marks[-_MARKS:]
        before = marks[0].flop if len(marks) < len(figure.marks) else 0
        for mark in marks:
            largest = max(largest, mark.flop - before)
            before = mark.flop
        self._strides[job.id] = largest
        return largest


def _leaves_alone(span: Span, total: int | None, reserve: int) -> bool:
    """Whether a pause is not about a run, nor will be by what its job can do before it is asked again."""
    return isinstance(span.measure, Pause) and total is not None and total + reserve <= span.measure.above_gflop
