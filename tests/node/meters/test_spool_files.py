"""Spool files read back what was written, and refuse every damage by name."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from pacekeeper.node.meters.spool import (
    Opening,
    SpooledCheckpoint,
    SpooledJob,
    read_calendar,
    read_spool_file,
    spool_files,
    write_calendar,
    write_spool_file,
)
from pacekeeper.node.meters.usage import PeriodCalendar, PeriodFigure
from pacekeeper.protocol.errors import Code, Refused

USAGE = (PeriodFigure(4, 10**21, 7, 9_000), PeriodFigure(6, 0, 0, 100))
JOB = SpooledJob(
    opening=Opening("ab" * 16, "run-1", "A title: ünïcode", 1, bytes(range(32)), 8, 1, 10_000),
    calendar=PeriodCalendar(1_000, 60_000),
    opened_ms=250_000,
    updated_ms=260_000,
    closed=False,
    notes=("no formula for fft",),
    usage=USAGE,
    checkpoints=(SpooledCheckpoint(b"\7" * 32, USAGE[:1]),),
)


def test_a_job_reads_back_as_it_was_written(tmp_path: Path) -> None:
    """SPEC metering-5, SPEC metering-6: the file holds the whole job, replaced whole; nothing else is left there."""
    path = write_spool_file(tmp_path, replace(JOB, closed=True))
    assert write_spool_file(tmp_path, JOB) == path
    assert read_spool_file(path) == JOB
    assert not JOB.complete
    assert list(tmp_path.iterdir()) == [path] == list(spool_files(tmp_path))


def test_every_flipped_byte_and_every_cut_is_refused_by_name(tmp_path: Path) -> None:
    """SPEC metering-7: a damaged file is refused whole, naming the file."""
    path = write_spool_file(tmp_path, JOB)
    good = path.read_bytes()
    seed = 20260101
    chance = random.Random(seed)
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(bad))
        with pytest.raises(Refused, match=path.name) as refusal:
            read_spool_file(path)
        assert refusal.value.code is Code.UNSAFE_STATE, f"byte {position}, seed {seed}"
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(Refused, match=path.name):
            read_spool_file(path)
    path.write_bytes(good + b"\n")
    with pytest.raises(Refused, match=path.name):
        read_spool_file(path)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("chips", 0),
        ("chips", 1.0),
        ("run", "Run/1"),
        ("initial_digest", "abcd"),
        ("method", 3),
        ("opened_ms", -1),
        ("usage", [{"chip_ms": 1, "flop": "-1", "period": 1, "steps": 1}]),
        ("usage", [{"chip_ms": 1, "flop": "01", "period": 1, "steps": 1}]),
        ("usage", [{"chip_ms": 1, "flop": 1, "period": 1, "steps": 1}]),
        ("format", "pacekeeper-spool-2"),
        ("surprise", 1),
    ],
)
def test_a_well_checksummed_file_with_a_wrong_member_is_refused(tmp_path: Path, member: str, value: object) -> None:
    """SPEC metering-7: a checksum does not make a wrong figure right."""
    path = write_spool_file(tmp_path, JOB)
    members = json.loads(path.read_text())
    members[member] = value
    write_with_checksum(path, members)
    with pytest.raises(Refused, match=path.name):
        read_spool_file(path)


def write_with_checksum(path: Path, members: dict[str, object]) -> None:
    """As specs/metering.md says, by the standard library alone."""
    import hashlib

    del members["checksum"]
    text = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    members["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    text = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    path.write_text(text + "\n")


def test_another_program_can_write_the_format(tmp_path: Path) -> None:
    """SPEC metering-5: sorted members, no spaces, checksum of the rest: plain JSON tools suffice."""
    path = write_spool_file(tmp_path, JOB)
    good = path.read_bytes()
    write_with_checksum(path, json.loads(good))
    assert path.read_bytes() == good


def test_contradictions_are_refused(tmp_path: Path) -> None:
    """SPEC metering-7: periods that do not ascend, a job of another name, an end before the beginning."""
    for wrong in (replace(JOB, usage=USAGE[::-1]), replace(JOB, updated_ms=JOB.opened_ms - 1)):
        path = write_spool_file(tmp_path, wrong)
        with pytest.raises(Refused, match="damaged"):
            read_spool_file(path)
    path = write_spool_file(tmp_path, JOB)
    other = path.with_name("cd" * 16 + ".json")
    path.rename(other)
    with pytest.raises(Refused, match="another job"):
        read_spool_file(other)
    with pytest.raises(Refused, match="not the name"):
        read_spool_file(tmp_path / "notes.json")
    with pytest.raises(FileNotFoundError):
        read_spool_file(path)


def test_deeply_nested_and_enormous_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / ("ab" * 16 + ".json")
    path.write_bytes(b"[" * 200_000)
    with pytest.raises(Refused, match="damaged"):
        read_spool_file(path)
    with path.open("wb") as file:
        file.truncate(65 * 1024 * 1024)
    with pytest.raises(Refused, match="over"):
        read_spool_file(path)


def test_the_calendar_is_read_back_absent_or_refused(tmp_path: Path) -> None:
    """SPEC metering-7: a damaged calendar is refused; an absent one is None."""
    assert read_calendar(tmp_path) is None
    write_calendar(tmp_path, PeriodCalendar(5, 60_000))
    assert read_calendar(tmp_path) == PeriodCalendar(5, 60_000)
    path = tmp_path / "calendar.json"
    path.write_bytes(path.read_bytes().replace(b"60000", b"60001"))
    with pytest.raises(Refused, match=r"calendar\.json"):
        read_calendar(tmp_path)
    assert list(spool_files(tmp_path)) == []
