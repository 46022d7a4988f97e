"""Permits: what each running job may do now. The gate's decisions (gate.py), with what they are made from.

A run's compute is what the log has of it and its ancestors, at most, and what the journal has beyond that: periods that
are not attested yet and usage that came after its period's account. Nothing here is remembered but since when a job has
been told the same, for the status: after a restart the log says it all again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pacekeeper.node.allowances import Metered, metered, restrict, run_bounds
from pacekeeper.node.book import Book
from pacekeeper.node.clock import Clock
from pacekeeper.node.config import LabSettings
from pacekeeper.node.desk import Desk
from pacekeeper.node.gate import LEAD_MS, Decision, Hold, Proceed, Throttle, decide
from pacekeeper.node.ledger import Job, Run
from pacekeeper.node.reader import Reader
from pacekeeper.node.terms import Terms
from pacekeeper.protocol.commitments.constraints import Constraints
from pacekeeper.protocol.compute.bounds import NOTHING
from pacekeeper.protocol.documents.agreement import Agreement
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
        self._told: dict[str, Standing] = {}
        self._counted_ms = -_COUNT_EVERY_MS
        self._sharing: set[str] = set()
        self._metered_ms = -_COUNT_EVERY_MS
        self._metered: Metered = {}
        self._given: dict[str, int] = {}  # of a rate, by job

    @property
    def _agreement(self) -> Agreement:
        return self._terms.agreement

    def decide(self, job_id: str) -> Decision:
        """Return what a job of the ledger may do now."""
        now_ms = self.now_ms()
        decision = self._decide(self._ledger.jobs[job_id], now_ms)
        told = self._told.get(job_id)
        if told is None or not _is_same(told.decision, decision):
            self._told[job_id] = Standing(decision, self._clock.now_ms())
        else:
            self._told[job_id] = Standing(decision, told.since_ms)
        return decision

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
        constraints = state.commitments.constraints_on(self._lab, now_ms + LEAD_MS)
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
            cumulative_gflop=cumulative,
            jobs=len(sharing),
            own_flop_per_s=own,
            others_flop_per_s=sum(self._given.values()),
            fixed_gflop_per_s=self._fixed_rate(job),
            spent=spent,
        )
        if isinstance(decision, Throttle):
            self._given[job.id] = decision.flop_per_s
        return decision

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
