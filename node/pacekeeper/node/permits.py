"""Permits: what each running job may do now. The gate's decisions (gate.py), with what they are made from.

A run's compute is what the log has of it and its ancestors, at most, and what the journal has beyond that: periods that
are not attested yet and usage that came after its period's account. Nothing here is remembered but since when a job has
been told the same, for the status: after a restart the log says it all again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pacekeeper.node.allowances import Metered, metered, restrict, run_bounds
from pacekeeper.node.book import Book
from pacekeeper.node.budgets import Budgets, training_budgets
from pacekeeper.node.clock import Clock
from pacekeeper.node.config import LabSettings
from pacekeeper.node.desk import MAX_FLOP, Desk
from pacekeeper.node.gate import LEAD_MS, SAVE_MS, Decision, Hold, Proceed, Throttle, decide, lead_ms
from pacekeeper.node.ledger import Job, Run
from pacekeeper.node.plans import Planned, moments, tightening
from pacekeeper.node.reader import Reader
from pacekeeper.node.terms import Terms
from pacekeeper.protocol.commitments.constraints import Constraints, Span, strictest
from pacekeeper.protocol.commitments.registry import Registry
from pacekeeper.protocol.compute.bounds import NOTHING
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.limits import MAX_TIME_MS
from pacekeeper.protocol.replay import State
from pacekeeper.protocol.units import PPM
from pacekeeper.v1 import statements_pb2 as pb

_COUNT_EVERY_MS: Final = 200  # how often the jobs that share a rate are counted again


@dataclass(frozen=True, slots=True)
class Standing:
    """What a job was told, and since when, by the lab's clock."""

    decision: Decision
    since_ms: int


class Permits:
    """Decides for each job whenever it asks."""

    def __init__(self, book: Book, desk: Desk, reader: Reader, settings: LabSettings, clock: Clock) -> None:
        self._ledger = book.ledger
        self._desk = desk
        self._reader = reader
        self._terms = Terms(settings, reader)
        self._lab = settings.lab.id
        self._clock = clock
        self._budgets = Budgets(book.ledger, self._terms, settings.lab.id)
        self._told: dict[str, Standing] = {}
        self._counted_ms = -_COUNT_EVERY_MS
        self._sharing: set[str] = set()
        self._metered_ms = -_COUNT_EVERY_MS
        self._metered: Metered = {}
        self._given: dict[str, int] = {}  # of a rate, by job
        self._room: frozenset[str] = frozenset()  # commitments that left the job that asked last alone

    @property
    def _agreement(self) -> Agreement:
        return self._terms.agreement

    def decide(self, job_id: str) -> Decision:
        """Return what a job of the ledger may do now."""
        now_ms = self.now_ms()
        decision = self._decide(self._ledger.jobs[job_id], now_ms)
        told = self._told.get(job_id)
        if told is not None and _is_same(told.decision, decision):
            decision = _save_as_before(told.decision, decision)
        if told is None or not _is_same(told.decision, decision):
            self._told[job_id] = Standing(decision, self._clock.now_ms())
        else:
            self._told[job_id] = Standing(decision, told.since_ms)
        return decision

    def plan(self, job_id: str, told: Decision) -> Sequence[Planned]:
        """Return what will tighten for a job by what is known now, though nothing more is heard of the log.

        SPEC node-37: a job MUST be told ahead what tightens at a known time, so that it does without its daemon.
        """
        state, job = self._reader.state, self._ledger.jobs[job_id]
        if state is None or not self._reader.caught_up or isinstance(told, Hold):
            return ()
        now_ms, log_ms, registry = self.now_ms(), self._reader.log_ms, state.commitments
        spans = registry.spans(self._lab, now_ms, MAX_TIME_MS)
        lease = registry.constraints_on(self._lab, now_ms).lease
        if not spans and lease is None:
            return ()
        run, fixed = self._ledger.runs[job.run], self._fixed_rate(job)
        ahead_ms = lead_ms(fixed)
        times = moments(spans, lease, now_ms, log_ms, ahead_ms)
        if any(span.from_ms <= now_ms + LEAD_MS and training_budgets(span) for span in spans):
            # What a job may do unheard within a budget is what is kept back for it: LEAD_MS at its peak.
            times = sorted({now_ms + LEAD_MS, *times})
        # Of a run whose ancestors are not known, nothing is known to be below a limit.
        cumulative = MAX_FLOP if self._awaits_declaration(state, run) else self.cumulative_gflop(state, run)
        later = []
        for at_ms in times:
            binding = [span for span in spans if at_ms >= now_ms + LEAD_MS or span.commitment not in self._room]
            constraints = replace(strictest(binding, at_ms + ahead_ms), lease=lease)
            jobs = len(self._sharing_with(job, constraints))
            decision = decide(
                constraints,
                at_ms,
                log_ms=log_ms,
                cumulative_gflop=cumulative,
                jobs=jobs,
                own_flop_per_s=self._given.get(job_id, 0),
                fixed_gflop_per_s=fixed,
            )
            later.append(Planned(at_ms, decision))
        return tightening(told, later)

    def told(self, job_id: str) -> Standing | None:
        """What a job was told last; None if it has not asked since the daemon's start."""
        return self._told.get(job_id)

    def now_ms(self) -> int:
        """The later of the lab's clock and the log's time, which goes on while the log is silent.

        SPEC node-29: what tightens does so by the clock that is further, so that none that stands still holds it up.
        """
        elapsed_ms = max(0, self._clock.monotonic_ms() - self._reader.heard_ms)
        return max(self._clock.now_ms(), self._reader.log_ms + elapsed_ms)

    def _decide(self, job: Job, now_ms: int) -> Decision:
        state = self._reader.state
        # SPEC node-28: before the commitments have been read up to the log's head, no step MUST be taken.
        if state is None or not self._reader.caught_up:
            return Hold("the lab daemon is still reading the log", now_ms, stand_by=True)
        constraints, used_up = self._constraints(state, job, now_ms)
        windowed = constraints.growth or constraints.caps
        if not (constraints.holds or constraints.rate or constraints.lease or windowed):
            return Proceed()
        run = self._ledger.runs[job.run]
        if (constraints.holds or constraints.caps) and self._awaits_declaration(state, run):
            return Hold("a pause or cap binds the lab, and the log does not have this run yet", now_ms, stand_by=True)
        cumulative = self.cumulative_gflop(state, run)
        spent: Hold | None = None
        if windowed:
            more = self._beyond_the_log(state, now_ms)
            constraints, spent = restrict(constraints, state, self._lab, more, cumulative, now_ms)
        sharing = self._sharing_with(job, constraints)
        self._given = {other: rate for other, rate in self._given.items() if other in sharing}
        own = self._given.pop(job.id, 0)
        decision = decide(
            constraints,
            now_ms,
            log_ms=self._reader.log_ms,
            cumulative_gflop=cumulative + self._budgets.reserve(job) * used_up,
            jobs=len(sharing),
            own_flop_per_s=own,
            others_flop_per_s=sum(self._given.values()),
            fixed_gflop_per_s=self._fixed_rate(job),
            spent=spent,
        )
        if isinstance(decision, Throttle):
            self._given[job.id] = decision.flop_per_s
        if isinstance(decision, Hold) and used_up and not decision.stand_by:
            # The budget ends at no time that was known before, so saving begins now.
            decision = replace(decision, save_by_ms=max(decision.save_by_ms, now_ms + SAVE_MS))
        return decision

    def _constraints(self, state: State, job: Job, now_ms: int) -> tuple[Constraints, bool]:
        """What binds a job as far ahead of now as it has to be told, without the commitments that leave it room within
        a budget; and whether any has one that is used up."""
        at_ms, registry = now_ms + lead_ms(self._fixed_rate(job)), state.commitments
        lease = registry.constraints_on(self._lab, at_ms).lease
        spans = self._spans(registry, now_ms)
        exempt = [span for span in spans if span.from_ms <= at_ms and training_budgets(span)]
        self._room = frozenset()
        if not exempt:
            return replace(strictest(spans, at_ms), lease=lease), False
        self._room = room = self._budgets.open_to(
            job,
            state,
            exempt,
            total_of=lambda name: self._total(state, name),
            running=self._desk.running(),
            own_ms=self._clock.now_ms(),
            now_ms=now_ms,
            monotonic_ms=self._clock.monotonic_ms(),
        )
        left = [span for span in spans if span.commitment not in room or span.from_ms > at_ms]
        used_up = any(span.commitment not in room for span in exempt)
        return replace(strictest(left, at_ms), lease=lease), used_up

    def _spans(self, registry: Registry, now_ms: int) -> list[Span]:
        """What binds the lab or will. What has ended on the log binds until it has by the lab's own clock as well.

        SPEC node-29: else what a job does next would be told as done before the end, since it has that clock.
        """
        own_ms = max(self._clock.now_ms(), now_ms - self._agreement.timing.tolerance_ms)
        spans = registry.spans(self._lab, own_ms, MAX_TIME_MS)
        return [replace(span, until_ms=None) if span.until_ms is not None else span for span in spans]

    def _total(self, state: State, name: str) -> int | None:
        run = self._ledger.runs[name]
        return None if self._awaits_declaration(state, run) else self.cumulative_gflop(state, run)

    def cumulative_gflop(self, state: State, run: Run) -> int:
        """Return how much a run has at most, its ancestors included: attested, or in the journal and not yet attested.

        SPEC node-29: what is not attested yet MUST count, rounded up.
        """
        lab = state.labs[self._lab]
        known = lab.runs.get(run.name)
        total = state.lineage.cumulative(known).high if known is not None else 0
        latest = self._agreement.period_of(self._clock.now_ms() + self._agreement.timing.tolerance_ms) + 1
        open_periods = [period for period in range(lab.next_period, latest + 1) if period in run.usage]
        for period in (*open_periods, *(lab.gaps & run.usage.keys())):
            total += self._at_most(run, period)
        for period in self._ledger.touched.keys() & lab.accounts.keys() & run.usage.keys():
            attested = lab.accounts[period].bounds().get(run.name, NOTHING).high
            total += max(0, self._at_most(run, period) - attested)
        return total

    def _at_most(self, run: Run, period: int) -> int:
        return run_bounds(self._ledger, self._agreement, run, period).high

    def _beyond_the_log(self, state: State, now_ms: int) -> Metered:
        """What all runs used that the log does not have; counted as often as the jobs are."""
        monotonic_ms = self._clock.monotonic_ms()
        if monotonic_ms - self._metered_ms >= _COUNT_EVERY_MS:
            self._metered = metered(self._ledger, self._agreement, state, self._lab, now_ms)
            self._metered_ms = monotonic_ms
        return self._metered

    def _awaits_declaration(self, state: State, run: Run) -> bool:
        """Whether what a run descends from is known only once its declaration is on the log."""
        on_log = f"{self._lab}/{run.name}" in state.lineage.runs
        return not on_log and run.initial_state == pb.INITIAL_STATE_CHECKPOINT

    def _fixed_rate(self, job: Job) -> int | None:
        """GigaFLOP per second that a job counts by its chips' time alone, rounded up; None if it can slow down."""
        period = self._agreement.period_of(self._clock.now_ms())
        if job.method == pb.METHOD_FRAMEWORK_COUNT and job.counted_whole(period):
            return None
        pools = self._ledger.inventories[-1].pools
        rates = {pool.model: pool.peak_gflop_per_s * pool.utilisation_ppm for pool in pools}
        rate = rates.get(job.pool, max(rates.values(), default=0))
        return -(-job.chips * rate // PPM)

    def _sharing_with(self, job: Job, constraints: Constraints) -> set[str]:
        """Jobs that run and are not held: those that a rate is divided among, the asking one included."""
        if constraints.rate is None:
            return {job.id}
        monotonic_ms = self._clock.monotonic_ms()
        if monotonic_ms - self._counted_ms >= _COUNT_EVERY_MS:
            running = {other.id for other in self._desk.running()}
            self._told = {known: told for known, told in self._told.items() if known in running}
            self._sharing = running - {known for known, told in self._told.items() if _is_held(told.decision)}
            self._counted_ms = monotonic_ms
        return self._sharing | {job.id}


def _is_held(decision: Decision) -> bool:
    """Whether a job takes no part in a rate; one that stands by for its share does."""
    return isinstance(decision, Hold) and not decision.stand_by


def _is_same(one: Decision, other: Decision) -> bool:
    """Whether a decision goes on as it was, whatever its figures have become meanwhile."""
    if isinstance(one, Throttle) and isinstance(other, Throttle):
        return True
    if isinstance(one, Hold) and isinstance(other, Hold):
        return one.stand_by == other.stand_by
    return type(one) is type(other)


def _save_as_before(told: Decision, decision: Decision) -> Decision:
    """A hold that goes on: its time for saving does not begin again."""
    if isinstance(told, Hold) and isinstance(decision, Hold) and not decision.stand_by:
        return replace(decision, save_by_ms=min(told.save_by_ms, decision.save_by_ms))
    return decision
