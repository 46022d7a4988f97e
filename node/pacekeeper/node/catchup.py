"""Catching up: what jobs left in the spool goes into the journal, so that nothing metered is lost by an absence.

Files are read at the start and every few seconds, and read again only when they change. Figures are cumulative and the
larger one stands, so a file may be read any number of times, before, after or while its job reports over the socket.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pacekeeper.node.book import Book
from pacekeeper.node.clock import Clock
from pacekeeper.node.config import LabSettings
from pacekeeper.node.desk import Desk, JobPlan, Reported
from pacekeeper.node.meters.spool import MAX_NOTES, SpooledJob, read_spool_file, remove_spool_file, spool_files
from pacekeeper.node.meters.usage import PeriodCalendar, PeriodFigure
from pacekeeper.node.runs import RunPlan
from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.text import printable

# A job writes its file before it can have been admitted over the socket; only when that does not come is it taken here.
PATIENCE_MS: Final = 10_000
# A file that is not rewritten for so long is of a killed job; once all of it is journalled it has nothing to add.
ABANDONED_MS: Final = 60_000


class CatchUp:
    """Reads a spool directory into the book. problems: what could not be taken, by file name."""

    def __init__(self, book: Book, desk: Desk, settings: LabSettings, clock: Clock) -> None:
        self._book = book
        self._desk = desk
        self._spool = settings.spool
        calendar = settings.agreement.calendar
        self._calendar = PeriodCalendar(calendar.epoch_ms, calendar.period_ms)
        self._clock = clock
        self._started_ms = clock.now_ms()
        self._read: dict[Path, tuple[int, int, int]] = {}
        self.problems: dict[str, str] = {}

    def scan(self) -> None:
        """Take in every file that is new or has changed. Raises Refused(unsafe-state) only for the journal.

        SPEC node-20: the spool MUST be read before the first signature after a start, and a file that cannot be read
        MUST be left where it is and named in the status.
        """
        try:
            paths = list(spool_files(self._spool))
        except OSError as error:
            self.problems[str(self._spool)] = f"the spool cannot be read: {error.strerror}"
            return
        self.problems.pop(str(self._spool), None)
        self._read = {path: stamp for path, stamp in self._read.items() if path in set(paths)}
        self.problems = {name: text for name, text in self.problems.items() if (self._spool / name) in set(paths)}
        for path in paths:
            try:
                self._scan_file(path)
            except FileNotFoundError:
                continue  # its job has just been told that all of it arrived
            except OSError as error:
                self.problems[path.name] = f"{printable(str(path))} cannot be read: {error.strerror}"
            except Refused as refused:
                if self._book.broken is not None:
                    raise
                self.problems[path.name] = refused.message

    def _scan_file(self, path: Path) -> None:
        status = path.stat()
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if self._read.get(path) == stamp:
            if self._clock.now_ms() - status.st_mtime_ns // 1_000_000 > ABANDONED_MS and path.name not in self.problems:
                path.unlink(missing_ok=True)
            return
        spooled = read_spool_file(path)
        if not self._is_ripe(spooled):
            return
        problem = self._take(spooled)
        self._read[path] = stamp
        if problem is not None:
            self.problems[path.name] = problem
            return
        self.problems.pop(path.name, None)
        if spooled.closed:
            remove_spool_file(self._spool, spooled.opening.job)

    def _is_ripe(self, spooled: SpooledJob) -> bool:
        known = spooled.opening.job in self._book.ledger.jobs
        late = spooled.opened_ms <= self._started_ms or self._clock.now_ms() - spooled.opened_ms > PATIENCE_MS
        return known or late or spooled.closed

    def _take(self, spooled: SpooledJob) -> str | None:
        """Take a job in; return what a person should know about it."""
        opening = spooled.opening
        job, short = opening.job, opening.job[:8]
        if spooled.calendar != self._calendar:
            raise Refused(Code.WRONG_AGREEMENT, f"job {short} was metered by another agreement's calendar")
        title = printable(opening.title)[: limits.MAX_TEXT_CHARS]
        plan = RunPlan(opening.run, title, opening.initial_state, opening.initial_digest)
        problem = self._desk.take_past_job(JobPlan(job, plan, opening.chips, opening.method, opening.margin_ppm))
        notes, as_of_ms = spooled.notes[:MAX_NOTES], spooled.updated_ms
        for checkpoint in spooled.checkpoints:
            try:
                usage = _reported(checkpoint.usage)
                self._desk.take_checkpoint(job, checkpoint.digest, usage, notes, live=False, as_of_ms=as_of_ms)
            except Refused as refused:  # the usage is taken in any case: one refused checkpoint mutes nothing else
                if refused.code is not Code.MARGIN_TOO_WIDE:
                    raise
                problem = refused.message
        usage = _reported(spooled.usage)
        records = self._desk.report(job, usage, notes, closing=spooled.closed, live=False, as_of_ms=as_of_ms)
        self._book.write(*records)
        return problem


def _reported(figures: Iterable[PeriodFigure]) -> list[Reported]:
    return [Reported(item.period, item.flop, item.steps, item.chip_ms) for item in figures]
