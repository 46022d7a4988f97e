"""One job's account while it runs: what it used, what the daemon has acknowledged, and the file that holds both.

Three threads meet here, under one lock: the training thread (checkpoints, close), the recorder (samples), the courier
(acknowledgements). The training thread's steps touch none of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pacekeeper.node.meters.spool import (
    MAX_NOTES,
    Opening,
    SpooledCheckpoint,
    SpooledJob,
    remove_spool_file,
    write_spool_file,
)
from pacekeeper.node.meters.usage import PeriodFigure, UsageLedger

log = logging.getLogger("pacekeeper.meter")


class JobClock:
    """The wall time at open, carried on by a clock that neither jumps nor stops: what a job's time is measured by."""

    def __init__(self) -> None:
        # CLOCK_BOOTTIME goes on while the machine sleeps, as the accelerators' owner does.
        self._source: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        self._offset_ns = time.time_ns() - time.clock_gettime_ns(self._source)

    def now_ms(self) -> int:
        return (time.clock_gettime_ns(self._source) + self._offset_ns) // 1_000_000


@dataclass(frozen=True, slots=True)
class Outstanding:
    """What the daemon has not acknowledged yet, and every note: what the figures lack, as of the same moment."""

    sampled_ms: int
    figures: tuple[PeriodFigure, ...]
    checkpoints: tuple[SpooledCheckpoint, ...]
    notes: tuple[str, ...]
    closing: bool


class JobRecord:
    """The job as it stands, its ledger, and its spool file."""

    def __init__(
        self,
        job: SpooledJob,
        clock: JobClock,
        spool: Path,
        totals: Callable[[], tuple[int, int]],
    ) -> None:
        self.calendar = job.calendar
        self._job = job
        self._clock = clock
        self._spool = spool
        self._totals = totals
        self._ledger = UsageLedger(job.calendar, job.opening.chips, job.opened_ms)
        self._lock = threading.Lock()
        self._disk = threading.Lock()  # writes to the file happen in the order of the states written
        self._acknowledged: dict[int, PeriodFigure] = {}
        self._acknowledged_notes = 0
        self._acknowledged_close = False
        self._still = False
        self._disk_failed = False
        self._safe_ms = job.opened_ms

    @property
    def opening(self) -> Opening:
        """What OpenJob says of this job."""
        return self._job.opening

    @property
    def safe_ms(self) -> int:
        """Up to when everything counted is in the file or with the daemon, in milliseconds of now_ms()."""
        return self._safe_ms

    def now_ms(self) -> int:
        """The job's time, in milliseconds since the Unix epoch."""
        return self._clock.now_ms()

    def next_boundary_ms(self) -> int:
        """When the current period ends, in milliseconds of now_ms()."""
        now_ms = self._clock.now_ms()
        return now_ms + self._ledger.ms_to_boundary(now_ms)

    def sample(self) -> None:
        """Take the running totals into the ledger, unless the job is closed."""
        with self._lock:
            self._sample()

    def seen_still(self) -> None:
        """All of the job was seen to stand still; time since the last call, if there was one, is not counted."""
        with self._lock:
            if self._still:
                self._ledger.skip(self._clock.now_ms())
            else:
                self._sample()
            self._still = True

    def moves(self) -> None:
        """It stands still no more, or was not seen to: what came after the last call of seen_still() counts."""
        with self._lock:
            self._still = False
            self._sample()

    def note(self, text: str) -> bool:
        """Record that something was not counted, before the figures that lack it; whether that is news."""
        with self._lock:
            if text in self._job.notes or len(self._job.notes) >= MAX_NOTES:
                return False
            self._job = replace(self._job, notes=(*self._job.notes, text))
            return True

    @property
    def complete(self) -> bool:
        """Whether nothing was noted as uncounted."""
        return self._job.complete

    def checkpoint(self, digest: bytes) -> None:
        """Take down a model checkpoint with the usage up to now; it is on disk when this returns."""
        with self._lock:
            self._sample()
            taken = SpooledCheckpoint(digest, self._ledger.figures())
            self._job = replace(self._job, checkpoints=(*self._job.checkpoints, taken))
        self.write()

    def close(self) -> None:
        """Take the last sample; nothing is counted from here on. The final state is on disk when this returns."""
        with self._lock:
            self._still = False
            self._sample()
            self._job = replace(self._job, closed=True)
        self.write()

    def write(self) -> None:
        """Rewrite the spool file. A disk that refuses is said once, and tried again at the next write.

        SPEC metering-5: the file holds the job's whole state as of now.
        """
        with self._disk:
            with self._lock:
                self._sample()
                sampled_ms = self._ledger.sampled_ms
                state = replace(self._job, usage=self._ledger.figures(), updated_ms=self._clock.now_ms())
            try:
                write_spool_file(self._spool, state)
            except OSError as error:
                if not self._disk_failed:
                    log.error("the spool in %s does not take the job's account: %s", self._spool, error)
                self._disk_failed = True
            else:
                self._disk_failed = False
                self._is_safe(sampled_ms)

    def remove(self) -> None:
        """Remove the spool file of a closed job, once the daemon has it all."""
        with self._disk:
            remove_spool_file(self._spool, self._job.opening.job)

    @property
    def on_disk(self) -> bool:
        """Whether the last write of the spool file succeeded."""
        return not self._disk_failed

    def outstanding(self) -> Outstanding:
        """What is to be sent as of now: figures that changed since they were acknowledged, checkpoints, the close."""
        with self._lock:
            self._sample()
            changed = tuple(item for item in self._ledger.figures() if self._acknowledged.get(item.period) != item)
            closing = self._job.closed and not self._acknowledged_close
            return Outstanding(self._ledger.sampled_ms, changed, self._job.checkpoints, self._job.notes, closing)

    def acknowledge(
        self, figures: tuple[PeriodFigure, ...], notes: tuple[str, ...] = (), *, closing: bool = False
    ) -> None:
        """The daemon has these figures and notes."""
        with self._lock:
            self._acknowledged.update((item.period, item) for item in figures)
            self._acknowledged_notes = max(self._acknowledged_notes, len(notes))
            self._acknowledged_close = self._acknowledged_close or closing

    def acknowledge_all(self, sent: Outstanding) -> None:
        """The daemon has all of what was outstanding; each part was acknowledged before."""
        self._is_safe(sent.sampled_ms)

    def acknowledge_checkpoint(self, checkpoint: SpooledCheckpoint) -> None:
        """The daemon has this checkpoint."""
        with self._lock:
            kept = tuple(item for item in self._job.checkpoints if item is not checkpoint)
            self._job = replace(self._job, checkpoints=kept)

    def forget_acknowledgements(self) -> None:
        """Send everything again: the daemon was away and may have come back without it."""
        with self._lock:
            self._acknowledged.clear()

    def delivered(self) -> bool:
        """Whether the daemon has everything, the close included."""
        with self._lock:
            told = self._acknowledged_notes >= len(self._job.notes)
            return self._acknowledged_close and told and not self._job.checkpoints

    def _is_safe(self, until_ms: int) -> None:
        with self._lock:
            self._safe_ms = max(self._safe_ms, until_ms)

    def _sample(self) -> None:
        if not self._job.closed and not self._still:
            flop, steps = self._totals()
            self._ledger.advance(self._clock.now_ms(), flop, steps)
