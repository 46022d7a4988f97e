"""The bytes of a spool file: strict JSON with a checksum, so that a damaged file never reads as a smaller figure.

One object on one line, members sorted, no spaces; the member "checksum" is the SHA-256, in hexadecimal, of the object
without it, written the same way. Operations are decimal text because they may pass 2^53; other numbers do not.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, TypeVar

import msgspec

SPOOL_FORMAT: Final = "pacekeeper-spool-1"
CALENDAR_FORMAT: Final = "pacekeeper-calendar-1"

Uint = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
Id = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}\Z")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^(?:[0-9a-f]{64})?\Z")]
FlopText = Annotated[str, msgspec.Meta(pattern=r"^(?:0|[1-9][0-9]{0,99})\Z")]


class FigureRecord(msgspec.Struct, forbid_unknown_fields=True):
    period: Uint
    flop: FlopText
    steps: Uint
    chip_ms: Uint


class CheckpointRecord(msgspec.Struct, forbid_unknown_fields=True):
    digest: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    usage: list[FigureRecord]


class PeriodsRecord(msgspec.Struct, forbid_unknown_fields=True):
    epoch_ms: Uint
    period_ms: Positive


class CalendarRecord(PeriodsRecord, forbid_unknown_fields=True):
    format: str = CALENDAR_FORMAT
    checksum: str = ""


class JobRecord(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    format: str = SPOOL_FORMAT
    job: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
    run: Id
    title: Annotated[str, msgspec.Meta(max_length=400)]
    initial_state: Annotated[int, msgspec.Meta(ge=1, le=3)]
    initial_digest: Digest
    chips: Positive
    method: Annotated[int, msgspec.Meta(ge=1, le=2)]
    margin_ppm: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
    calendar: PeriodsRecord
    opened_ms: Uint
    updated_ms: Uint
    closed: bool
    notes: list[Annotated[str, msgspec.Meta(max_length=400)]]
    usage: list[FigureRecord]
    checkpoints: list[CheckpointRecord]
    checksum: str = ""


_Record = TypeVar("_Record", JobRecord, CalendarRecord)


def format_job(record: JobRecord) -> bytes:
    """Write a job's record, with its checksum and a final newline."""
    return _format(record)


def parse_job(data: bytes) -> JobRecord:
    """Read what format_job wrote. ValueError with a sentence otherwise."""
    return _parse(data, JobRecord, SPOOL_FORMAT)


def format_calendar(record: CalendarRecord) -> bytes:
    """Write a calendar, with its checksum and a final newline."""
    return _format(record)


def parse_calendar(data: bytes) -> CalendarRecord:
    """Read what format_calendar wrote. ValueError with a sentence otherwise."""
    return _parse(data, CalendarRecord, CALENDAR_FORMAT)


def _format(record: _Record) -> bytes:
    members: dict[str, object] = msgspec.to_builtins(record)
    del members["checksum"]
    members["checksum"] = hashlib.sha256(msgspec.json.encode(members, order="sorted")).hexdigest()
    return msgspec.json.encode(members, order="sorted") + b"\n"


def _parse(data: bytes, kind: type[_Record], name: str) -> _Record:
    try:
        record = msgspec.json.decode(data, type=kind, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if record.format != name:
        raise ValueError(f"format is not {name}")
    if _format(record) != data:
        raise ValueError("its checksum or its form is wrong")
    return record
