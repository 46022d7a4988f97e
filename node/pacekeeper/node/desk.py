"""The desk: what the daemon does with what training processes tell it, over the socket or through the spool.

Every figure is checked for shape and range before it is written, every request may be repeated, and nothing that a
process says can lower a figure. Live requests are also asked whether they may run: a run must be declared, and the
accelerators must be there. The spool tells of what has run already, so it is recorded in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pacekeeper.node.book import Book
from pacekeeper.node.claims import MAX_FLOP, JobPlan, Reported
from pacekeeper.node.clock import Clock
from pacekeeper.node.config import LabSettings
from pacekeeper.node.ledger import Figure, Job
from pacekeeper.node.meters.spool import MAX_NOTES
from pacekeeper.node.parts import PROMPT_MS
from pacekeeper.node.records import (
    CHECKPOINT,
    DECLARATION,
    AnyRecord,
    CheckpointTaken,
    JobClosed,
    JobOpened,
    Pool,
    Uncounted,
    Usage,
)
from pacekeeper.node.runs import RunPlan, foreign_origin, make_checkpoint_record, make_declaration
from pacekeeper.node.terms import Terms
from pacekeeper.protocol import limits
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import statements_pb2 as pb

__all__ = ["MAX_FLOP", "MAX_OPEN_JOBS", "MAX_REPORTED", "Desk", "JobPlan", "Reported"]

MAX_OPEN_JOBS: Final = 4_096  # processes that can be at work at one time; beyond that something is looping
MAX_REPORTED: Final = 100_000  # figures in one report: a year of five-minute periods
_WHOLE_REPORT: Final = 1_000  # figures; a meter tells more in several reports


class Desk:
    """Takes jobs, usage and checkpoints into the book."""

    def __init__(self, book: Book, settings: LabSettings, terms: Terms, clock: Clock) -> None:
        self._book = book
        self._ledger = book.ledger
        self._settings = settings
        self._terms = terms
        self._clock = clock
        self._reported: dict[str, int] = {}  # job -> when it last told all that it had used
        now_ms, monotonic_ms = clock.now_ms(), clock.monotonic_ms()
        # Jobs that were at work when the daemon last stopped may still be: they count as heard at its start.
        watched_ms = self._ledger.up[-1][1] if self._ledger.up else now_ms
        self._heard = {
            job.id: (now_ms, monotonic_ms)
            for job in self._ledger.jobs.values()
            if not job.closed and job.last_ms >= watched_ms - settings.job_timeout_ms
        }

    @property
    def _agreement(self) -> Agreement:
        return self._terms.agreement

    def open_job(self, job: JobPlan) -> None:
        """Take a live job, and declare its run if need be. Refused: it may not run like this.

        SPEC node-14: a job MUST be refused that asks for more accelerators than the inventory has free, whose run is
        neither declared nor to be declared by itself, or whose margin is wider than the agreement takes.
        """
        known = self._ledger.jobs.get(job.job)
        if known is not None:
            self._check_same(known, job)
            self._hear(job.job)
            return
        self._check_margin(job)
        run = self._ledger.runs.get(job.plan.run)
        if (run is None or not run.declared) and not self._settings.auto_declare:
            raise Refused(Code.UNKNOWN_RUN, f'run "{job.plan.run}" is not declared; declare it first')
        origin = foreign_origin(self._ledger, job.plan)
        if origin is not None:
            raise Refused(
                Code.RUN_EXISTS, f'run "{job.plan.run}" exists and cannot start from run "{origin}"; name a new run'
            )
        self._check_room(job)
        pool = self._find_pool(job.chips)
        if pool is None:
            raise Refused(Code.INVENTORY_EXCEEDED, self._no_room(job.chips))
        self._enter(job, pool.model)
        self._hear(job.job)

    def take_past_job(self, job: JobPlan) -> str | None:
        """Take a job that the spool tells of, whatever it does to the inventory; return what is wrong with it."""
        if job.job in self._ledger.jobs:
            self._check_same(self._ledger.jobs[job.job], job)
            return None
        counted = job.margin_ppm <= self._agreement.margins.get(job.method, -1)
        if not counted and pb.METHOD_CHIP_TIME not in self._agreement.margins:
            raise Refused(Code.MARGIN_TOO_WIDE, f"the agreement takes no estimate that job {job.job[:8]} could make")
        self._check_room(job)
        origin = foreign_origin(self._ledger, job.plan)
        pool = self._find_pool(job.chips)
        fastest = max(self._settings.pools, key=lambda pool: pool.peak_gflop_per_s * pool.utilisation_ppm)
        self._enter(job, (pool or fastest).model)
        if origin is not None:
            return f'job {job.job[:8]} of run "{job.plan.run}" started from a checkpoint of run "{origin}"'
        return None if pool is not None else f"job {job.job[:8]} ran on accelerators that the inventory does not have"

    def report(
        self,
        job_id: str,
        usage: Sequence[Reported],
        notes: Sequence[str] = (),
        *,
        closing: bool,
        live: bool = True,
        as_of_ms: int = 0,
    ) -> list[AnyRecord]:
        """Return the records of what a report adds, to be committed. Refused(not-found) for an unknown job.

        notes: all that the job could not count so far. live: whether the process itself says it now, which shows that
        it runs. as_of_ms: until when the figures speak, if that is not now.
        """
        job = self._job(job_id)
        if live:
            self._hear(job_id)
        records = self._added(job, usage, notes, as_of_ms)
        if live and len(usage) < _WHOLE_REPORT:
            self._reported[job_id] = self._clock.now_ms()
        if closing and not job.closed:
            records.append(JobClosed(self._clock.now_ms(), job_id))
        return records

    def take_checkpoint(
        self,
        job_id: str,
        digest: bytes,
        usage: Sequence[Reported],
        notes: Sequence[str] = (),
        *,
        live: bool = True,
        as_of_ms: int = 0,
    ) -> bool:
        """Record a saved model checkpoint; whether the log will hold a record of its own for it.

        Refused(margin-too-wide) where the run has no measure; its usage is recorded nevertheless.
        A digest that the run has recorded before is the same checkpoint. One saved without a step since the last record
        stands on the log as that record, and is known here by its own digest too.
        """
        job = self._job(job_id)
        if len(digest) != 32:
            raise Refused(Code.BAD_FIELD, "a checkpoint's digest has 32 bytes")
        if live:
            self._hear(job_id)
        self._book.write(*self._added(job, usage, notes, as_of_ms))
        now_ms, run = self._clock.now_ms(), self._ledger.runs[job.run]
        if any(taken.run == run.name for taken in self._ledger.digests.get(digest, ())):
            return True
        period = max((item.period for item in usage), default=max(0, self._agreement.period_of(now_ms)))
        statement = make_checkpoint_record(self._ledger, self._agreement, self._settings.lab.id, run, digest, period)
        if statement is None:
            self._book.write(CheckpointTaken(now_ms, job_id, run.name, digest, run.recorded_id))
            return False
        signed, statement_id = self._book.seal(CHECKPOINT, statement)
        self._book.write(signed, CheckpointTaken(now_ms, job_id, run.name, digest, statement_id))
        return True

    def declare(self, plan: RunPlan) -> None:
        """Declare a run ahead of its first job. Refused(run-exists) if it is declared with another initial state."""
        run = self._ledger.runs.get(plan.run)
        if run is not None and run.declared:
            if run.initial_digest != plan.initial_digest:
                raise Refused(Code.RUN_EXISTS, f'run "{plan.run}" is declared already, with another initial state')
            return
        self._book.sign(DECLARATION, make_declaration(self._ledger, self._agreement, self._settings.lab.id, plan))

    def settled(self, end_ms: int) -> bool:
        """Whether every running job has reported since a period ended, so that its account is complete."""
        return all(self._heard[job.id][0] >= end_ms for job in self.running())

    def running(self) -> list[Job]:
        """Jobs that are open and have been heard of within the job timeout."""
        oldest = self._clock.monotonic_ms() - self._settings.job_timeout_ms
        jobs = self._ledger.jobs
        self._heard = {job: heard for job, heard in self._heard.items() if heard[1] >= oldest and not jobs[job].closed}
        return [jobs[job] for job in self._heard]

    def _job(self, job_id: str) -> Job:
        job = self._ledger.jobs.get(job_id)
        if job is None:
            raise Refused(Code.NOT_FOUND, "no such job; open it again")
        return job

    def _hear(self, job_id: str) -> None:
        if not self._ledger.jobs[job_id].closed:
            self._heard[job_id] = (self._clock.now_ms(), self._clock.monotonic_ms())

    def _added(self, job: Job, usage: Sequence[Reported], notes: Sequence[str], as_of_ms: int) -> list[AnyRecord]:
        """What a report adds, its notes first: a crash between two records never leaves a figure without its note."""
        raised = self._raised(job, usage, as_of_ms)
        return [*self._noted(job, notes, raised), *raised]

    def _noted(self, job: Job, notes: Sequence[str], raised: Sequence[Usage]) -> Iterable[Uncounted]:
        """SPEC node-25: incomplete from the first period that the report raises; if it raises none, the job's last."""
        if len(notes) > MAX_NOTES or any(len(note) > limits.MAX_TEXT_CHARS for note in notes):
            raise Refused(Code.TOO_LARGE, f"over {MAX_NOTES} notes, or one over {limits.MAX_TEXT_CHARS} characters")
        if not notes:
            return []
        since = min((item.period for item in raised), default=max(0, job.last_period))
        news = tuple(note for note in dict.fromkeys(notes) if note not in job.notes)[: MAX_NOTES - len(job.notes)]
        if not news and not job.counted_whole(since):
            return []
        return [Uncounted(self._clock.now_ms(), job.id, since, news)]

    def _raised(self, job: Job, usage: Sequence[Reported], as_of_ms: int) -> list[Usage]:
        if len(usage) > MAX_REPORTED:
            raise Refused(Code.TOO_LARGE, f"over {MAX_REPORTED} figures in one report")
        now_ms = self._clock.now_ms()
        latest = self._agreement.period_of(now_ms + self._agreement.timing.tolerance_ms) + 1
        known = self._ledger.runs[job.run].usage
        records: list[Usage] = []
        for item in usage:
            if item.period > latest:
                raise Refused(Code.BAD_FIELD, f"period {item.period} has not begun; check this machine's clock")
            if item.flop and job.method != pb.METHOD_FRAMEWORK_COUNT:
                raise Refused(Code.BAD_FIELD, "a job that counts chip-time reports no operations")
            before = known.get(item.period, {}).get(job.id, Figure())
            if item.flop > before.flop or item.steps > before.steps or item.chip_ms > before.chip_ms:
                flop = item.flop.to_bytes((item.flop.bit_length() + 7) // 8, "big")
                spoken_ms = min(as_of_ms, now_ms)
                records.extend(self._unchanged(job, item.period, before))
                records.append(Usage(now_ms, job.id, item.period, flop, item.steps, item.chip_ms, spoken_ms))
        return records

    def _unchanged(self, job: Job, period: int, figure: Figure) -> Iterable[Usage]:
        """SPEC node-39: how long a figure had not grown by the job's own word MUST be known before it grows again."""
        told_ms, start_ms = self._reported.get(job.id, 0), self._agreement.period_start_ms(period)
        since_ms = figure.marks[-1].as_of_ms if figure.marks else max(job.opened_ms, start_ms)
        if since_ms + PROMPT_MS < told_ms < self._agreement.period_end_ms(period):
            flop = figure.flop.to_bytes((figure.flop.bit_length() + 7) // 8, "big")
            yield Usage(self._clock.now_ms(), job.id, period, flop, figure.steps, figure.chip_ms, told_ms)

    def _enter(self, job: JobPlan, pool: str) -> None:
        records: list[AnyRecord] = []
        run = self._ledger.runs.get(job.plan.run)
        if run is None or not run.declared:
            # SPEC node-15: a run's declaration MUST be queued before anything that names the run.
            declaration = make_declaration(self._ledger, self._agreement, self._settings.lab.id, job.plan)
            records.append(self._book.seal(DECLARATION, declaration)[0])
        now_ms = self._clock.now_ms()
        records.append(JobOpened(now_ms, job.job, job.plan.run, job.chips, pool, job.method, job.margin_ppm))
        self._book.write(*records)

    def _check_same(self, known: Job, job: JobPlan) -> None:
        if (known.run, known.chips, known.method) != (job.plan.run, job.chips, job.method):
            raise Refused(Code.BAD_FIELD, f"job {job.job[:8]} was opened with another run, method or number of chips")
        if known.margin_ppm != job.margin_ppm:
            raise Refused(Code.BAD_FIELD, f"job {job.job[:8]} was opened with another margin")

    def _check_margin(self, job: JobPlan) -> None:
        allowed = self._agreement.margins.get(job.method)
        if allowed is None:
            raise Refused(Code.MARGIN_TOO_WIDE, "the agreement takes no figure of that method")
        if job.method == pb.METHOD_FRAMEWORK_COUNT and job.margin_ppm > allowed:
            raise Refused(Code.MARGIN_TOO_WIDE, f"the agreement takes a margin of at most {allowed} parts per million")

    def _check_room(self, job: JobPlan) -> None:
        if len(self.running()) >= MAX_OPEN_JOBS:
            raise Refused(Code.OVERLOADED, f"{MAX_OPEN_JOBS} jobs are open")
        now = self._agreement.period_of(self._clock.now_ms())
        runs = {job.plan.run, *self._ledger.runs_in.get(now, ()), *(running.run for running in self.running())}
        if len(runs) > limits.MAX_FIGURES:
            raise Refused(Code.OVERLOADED, f"an account has room for {limits.MAX_FIGURES} runs in one period")

    def _free(self) -> dict[str, int]:
        free = {pool.model: pool.count for pool in self._settings.pools}
        for job in self.running():
            if job.pool in free:
                free[job.pool] -= job.chips
        return free

    def _find_pool(self, chips: int) -> Pool | None:
        free = self._free()
        return next((pool for pool in self._settings.pools if free[pool.model] >= chips), None)

    def _no_room(self, chips: int) -> str:
        free = ", ".join(f"{max(0, count)} of {model}" for model, count in self._free().items())
        return f"the job asks for {chips} accelerators of one model; free are {free}"
