"""The spool: one JSON file per job on the local disk, so that nothing metered is lost while the daemon is away.

The meter rewrites its job's file before it could lose more than about a second, and at close; the daemon reads the same
files to catch up.
Figures are cumulative, so reading a file twice, or after the same figures came over the socket, changes nothing. A
damaged file is refused by name, never half read. specs/metering.md has the format.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pacekeeper.node.meters import spool_format
from pacekeeper.node.meters.usage import PeriodCalendar, PeriodFigure
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.text import printable

CALENDAR_NAME: Final = "calendar.json"
MAX_NOTES: Final = 64  # a job that cannot count names some of the reasons, not each step's
MAX_SPOOL_BYTES: Final = 64 * 1024 * 1024  # a year of one-minute periods takes about 40 MB
_NAME: Final = re.compile(r"[0-9a-f]{32}\.json")


@dataclass(frozen=True, slots=True)
class SpooledCheckpoint:
    """A model checkpoint that the daemon has not acknowledged: its digest, and the job's usage when it was taken."""

    digest: bytes
    usage: tuple[PeriodFigure, ...]


@dataclass(frozen=True, slots=True)
class Opening:
    """What OpenJob says of a job; initial_state and method are numbers of the protocol's enumerations."""

    job: str
    run: str
    title: str
    initial_state: int
    initial_digest: bytes
    chips: int
    method: int
    margin_ppm: int


@dataclass(frozen=True, slots=True)
class SpooledJob:
    """One job's whole state: what OpenJob, ReportUsage and RecordCheckpoint would say."""

    opening: Opening
    calendar: PeriodCalendar
    opened_ms: int
    updated_ms: int
    closed: bool
    notes: tuple[str, ...]
    usage: tuple[PeriodFigure, ...]
    checkpoints: tuple[SpooledCheckpoint, ...]

    @property
    def complete(self) -> bool:
        """Whether the meter counted all that it saw: each note names something that it could not count."""
        return not self.notes


def spool_path(directory: Path, job: str) -> Path:
    """Where a job's file lies."""
    return directory / f"{job}.json"


def write_spool_file(directory: Path, spooled: SpooledJob) -> Path:
    """Replace the job's file, durably, and return its path. OSError if the disk does not take it.

    SPEC metering-6: the file is replaced whole: written beside, synced, renamed, and the directory synced.
    """
    path = spool_path(directory, spooled.opening.job)
    _replace(path, spool_format.format_job(_to_record(spooled)))
    return path


def read_spool_file(path: Path) -> SpooledJob:
    """Return the job that a spool file holds. Refused(unsafe-state) naming the file if it is damaged.

    SPEC metering-7: a file that is cut, altered, of another format or self-contradictory is refused whole.
    FileNotFoundError passes through: a meter removes its file once the daemon has acknowledged everything.
    """
    if _NAME.fullmatch(path.name) is None:
        raise Refused(Code.UNSAFE_STATE, f"{_named(path)} is not the name of a spool file")
    try:
        spooled = _from_record(spool_format.parse_job(_read(path)))
    except ValueError as error:
        raise Refused(Code.UNSAFE_STATE, f"spool file {_named(path)} is damaged: {printable(str(error))}") from None
    if f"{spooled.opening.job}.json" != path.name:
        raise Refused(Code.UNSAFE_STATE, f"spool file {_named(path)} holds another job")
    return spooled


def spool_files(directory: Path) -> Iterator[Path]:
    """Every job's file in a spool directory, by name; whatever else lies there is passed over."""
    for path in sorted(directory.iterdir()):
        if _NAME.fullmatch(path.name) is not None:
            yield path


def remove_spool_file(directory: Path, job: str) -> None:
    """Remove a job's file; only after everything in it is acknowledged."""
    spool_path(directory, job).unlink(missing_ok=True)


def write_calendar(directory: Path, calendar: PeriodCalendar) -> None:
    """Leave the agreement's calendar in the spool, so that a job may start while the daemon is down."""
    _replace(
        directory / CALENDAR_NAME,
        spool_format.format_calendar(spool_format.CalendarRecord(calendar.epoch_ms, calendar.period_ms)),
    )


def read_calendar(directory: Path) -> PeriodCalendar | None:
    """Return the calendar that the daemon left, or None if it left none. Refused(unsafe-state) if it is damaged."""
    path = directory / CALENDAR_NAME
    try:
        record = spool_format.parse_calendar(_read(path))
        return PeriodCalendar(record.epoch_ms, record.period_ms)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Refused(Code.UNSAFE_STATE, f"calendar {_named(path)} is damaged: {printable(str(error))}") from None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_SPOOL_BYTES + 1)
    if len(data) > MAX_SPOOL_BYTES:
        raise ValueError(f"over {MAX_SPOOL_BYTES} bytes")
    return data


def _replace(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _named(path: Path) -> str:
    return f'"{printable(str(path))}"'


def _to_record(spooled: SpooledJob) -> spool_format.JobRecord:
    return spool_format.JobRecord(
        job=spooled.opening.job,
        run=spooled.opening.run,
        title=spooled.opening.title,
        initial_state=spooled.opening.initial_state,
        initial_digest=spooled.opening.initial_digest.hex(),
        chips=spooled.opening.chips,
        method=spooled.opening.method,
        margin_ppm=spooled.opening.margin_ppm,
        calendar=spool_format.PeriodsRecord(spooled.calendar.epoch_ms, spooled.calendar.period_ms),
        opened_ms=spooled.opened_ms,
        updated_ms=spooled.updated_ms,
        closed=spooled.closed,
        notes=list(spooled.notes),
        usage=_figures_out(spooled.usage),
        checkpoints=[
            spool_format.CheckpointRecord(item.digest.hex(), _figures_out(item.usage)) for item in spooled.checkpoints
        ],
    )


def _from_record(record: spool_format.JobRecord) -> SpooledJob:
    if record.updated_ms < record.opened_ms:
        raise ValueError("updated before it was opened")
    opening = Opening(
        job=record.job,
        run=record.run,
        title=record.title,
        initial_state=record.initial_state,
        initial_digest=bytes.fromhex(record.initial_digest),
        chips=record.chips,
        method=record.method,
        margin_ppm=record.margin_ppm,
    )
    return SpooledJob(
        opening=opening,
        calendar=PeriodCalendar(record.calendar.epoch_ms, record.calendar.period_ms),
        opened_ms=record.opened_ms,
        updated_ms=record.updated_ms,
        closed=record.closed,
        notes=tuple(record.notes),
        usage=_figures_in(record.usage),
        checkpoints=tuple(
            SpooledCheckpoint(bytes.fromhex(item.digest), _figures_in(item.usage)) for item in record.checkpoints
        ),
    )


def _figures_out(figures: tuple[PeriodFigure, ...]) -> list[spool_format.FigureRecord]:
    return [spool_format.FigureRecord(item.period, str(item.flop), item.steps, item.chip_ms) for item in figures]


def _figures_in(records: list[spool_format.FigureRecord]) -> tuple[PeriodFigure, ...]:
    figures = tuple(PeriodFigure(item.period, int(item.flop), item.steps, item.chip_ms) for item in records)
    if any(left.period >= right.period for left, right in itertools.pairwise(figures)):
        raise ValueError("periods do not ascend")
    return figures
