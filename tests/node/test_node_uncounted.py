"""A job that could not count everything: no figure of its run ever states a framework count that is too low."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from lab_bench import Bench, digest, job_id, job_plan

from pacekeeper.node.desk import Reported
from pacekeeper.node.meters.meter import Meter
from pacekeeper.node.meters.settings import MeterSettings
from pacekeeper.node.meters.spool import MAX_NOTES
from pacekeeper.node.records import Uncounted, decode_record, encode_record
from pacekeeper.node.status import describe_uncounted
from pacekeeper.node.training_gate import TrainingGate, start_gate
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.units import parse_time
from pacekeeper.v1 import statements_pb2 as pb

GIGA = 10**9
COUNTED, BY_TIME = pb.METHOD_FRAMEWORK_COUNT, pb.METHOD_CHIP_TIME


def report(bench: Bench, figures: dict[int, int], *notes: str, number: int = 1, closing: bool = False) -> int:
    """Report gigaFLOP by period, one step and a second in each; how many records that made."""
    usage = [Reported(period, flop * GIGA, 1, 1_000) for period, flop in figures.items()]
    records = bench.desk.report(job_id(number), usage, notes, closing=closing)
    bench.book.write(*records)
    return len(records)


def stated(bench: Bench) -> dict[int, list[int]]:
    """The methods that stand on the log for all runs, by period."""
    methods: dict[int, list[int]] = {}
    for applied in bench.log.applied:
        if isinstance(applied.statement, pb.ComputeAttestation | pb.Correction):
            account = applied.statement.account
            methods[account.period] = [item.method for figure in account.figures for item in figure.estimates]
    return methods


async def test_run_is_stated_by_time_from_the_period_of_the_first_note_on(tmp_path: Path) -> None:
    """SPEC node-25: before it the count stands, after it never again, across a restart, whatever else the run does."""
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1", 1))
        bench.desk.open_job(job_plan("run-1", 2))
        for number in (1, 2):
            report(bench, {0: 3}, number=number)
        await bench.run_to(bench.end(0) + 3_000)
        report(bench, {1: 4}, "a kernel", number=1)
        report(bench, {1: 4}, number=2)
        await bench.crash()
        bench.start()
        await bench.run_to(bench.end(1) + 3_000)
        report(bench, {2: 5}, number=1)
        await bench.run_to(bench.end(2) + 3_000)
        assert stated(bench) == {0: [COUNTED, BY_TIME], 1: [BY_TIME], 2: [BY_TIME]}
        assert bench.log.mine(pb.Correction) == []


async def test_checkpoint_after_a_note_is_recorded_by_time(tmp_path: Path) -> None:
    """SPEC node-25: the note that comes with a checkpoint holds for its record, with all that the run did before."""
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1"))
        assert bench.desk.take_checkpoint(job_id(1), digest("first"), [Reported(0, GIGA, 1, 1_000)])
        usage = [Reported(0, 2 * GIGA, 2, 2_000)]
        assert bench.desk.take_checkpoint(job_id(1), digest("second"), usage, ["a kernel"])
        await bench.run_to(bench.end(0) + 3_000)
        records = bench.log.mine(pb.CheckpointRecord)
        assert [[item.method for item in record.estimates] for record in records] == [[COUNTED, BY_TIME], [BY_TIME]]


@pytest.mark.parametrize(("figures", "corrected"), [({}, {1}), ({0: 4}, {0, 1}), ({2: 1}, set())])
async def test_note_about_attested_periods_is_a_correction(
    tmp_path: Path, figures: dict[int, int], corrected: set[int]
) -> None:
    """SPEC node-12, SPEC node-25: from the first period that the report raises, else from the job's last one."""
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1"))
        report(bench, {0: 3, 1: 3})
        await bench.run_to(bench.end(1) + 3_000)
        report(bench, figures, "a kernel")
        await bench.run_to(bench.end(2) + 3_000)
        assert {item.account.period for item in bench.log.mine(pb.Correction)} == corrected
        for period, methods in stated(bench).items():
            whole = period < min([*corrected, 2])
            assert methods == ([COUNTED, BY_TIME] if whole else [BY_TIME] if period < 2 or figures == {2: 1} else [])


async def test_earlier_period_in_a_later_note_counts_and_repetition_writes_nothing(tmp_path: Path) -> None:
    """SPEC node-25: the notes are journalled once, before the figures."""
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1"))
        await bench.run_to(bench.end(1))
        assert report(bench, {1: 3}, "a kernel") == 2
        assert report(bench, {1: 3}, "a kernel") == 0
        assert report(bench, {1: 3}, "a kernel", "another") == 1
        records = bench.desk.report(job_id(1), [Reported(0, 1, 1, 1)], ["another"], closing=True)
        assert [type(record).__name__ for record in records] == ["Uncounted", "Usage", "JobClosed"]
        bench.book.write(*records)
        job = bench.book.ledger.jobs[job_id(1)]
        assert (job.notes, job.uncounted_since) == (("a kernel", "another"), 0)
        assert decode_record(encode_record(records[0])) == records[0] == Uncounted(bench.clock.wall_ms, job.id, 0, ())


async def test_real_meters_note_ends_in_the_attestation_and_in_the_checkpoints_record(tmp_path: Path) -> None:
    """SPEC node-25, SPEC metering-18: the whole way, over the socket."""
    path = tmp_path / "gate.sock"

    def train() -> None:
        with Meter.open("run-1", settings=MeterSettings(path, bench.settings.spool)) as meter:
            meter.note_uncounted("a kernel")
            meter.step(3 * GIGA)
            meter.checkpoint(digest("saved"))
        with Meter.open("run-2", settings=MeterSettings(path, bench.settings.spool)) as meter:
            meter.note_uncounted("another")
            meter.step(GIGA)

    now_ms, epoch_ms = time.time_ns() // 1_000_000, parse_time("2026-01-01T00:00:00Z")
    async with Bench.open(tmp_path, late_ms=now_ms - epoch_ms, period="60 s") as bench:
        server = await start_gate(
            path, TrainingGate(bench.desk, bench.book, bench.permits, bench.changes, bench.agreement)
        )
        await asyncio.to_thread(train)
        await server.stop(0)
        assert [job.notes for job in bench.book.ledger.jobs.values()] == [("a kernel",), ("another",)]
        period = bench.agreement.period_of(now_ms)
        await bench.run_to(bench.end(period + 1) + 3_000, step_ms=5_000)
        [record] = bench.log.mine(pb.CheckpointRecord)
        assert [item.method for item in record.estimates] == [BY_TIME]
        methods = stated(bench)
        assert any(BY_TIME in item for item in methods.values())
        assert not any(COUNTED in item for item in methods.values())


@pytest.mark.parametrize("notes", [["x"] * (MAX_NOTES + 1), ["x" * 401]])
async def test_flood_of_notes_is_refused_whole(tmp_path: Path, notes: list[str]) -> None:
    """SPEC node-13: a report is taken whole or not at all."""
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1"))
        with pytest.raises(Refused) as refused:
            report(bench, {0: 1}, *notes)
        assert refused.value.code is Code.TOO_LARGE
        assert bench.book.ledger.runs["run-1"].usage == {}


async def test_longest_notes_fit_into_the_journal_and_are_not_gathered_without_end(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1"))
        for part in range(3):
            report(bench, {0: 1 + part}, *(f"{part}/{n} ".ljust(400, "\U0001d540") for n in range(MAX_NOTES)))
        assert len(bench.book.ledger.jobs[job_id(1)].notes) == MAX_NOTES


async def test_status_names_it_until_a_later_period_is_attested(tmp_path: Path) -> None:
    """SPEC node-25: also after a restart, and not for ever."""
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1"))
        report(bench, {0: 1}, "a kernel", closing=True)
        await bench.crash()
        bench.start()
        [problem] = describe_uncounted(bench.book.ledger)
        assert "run run-1 could not count everything from period 0 on: a kernel" in problem
        await bench.run_to(bench.end(0) + 3_000)
        assert describe_uncounted(bench.book.ledger) == [problem]
        await bench.run_to(bench.end(1) + 3_000)
        assert describe_uncounted(bench.book.ledger) == []


async def open_without_chip_time(bench: Bench) -> None:
    bench.desk.open_job(job_plan("run-1"))
    report(bench, {0: 3})
    await bench.run_to(bench.end(0) + 3_000)


async def test_period_without_a_true_account_is_a_gap_where_only_counts_are_taken(tmp_path: Path) -> None:
    """SPEC node-26: nothing is attested for it, its checkpoint is refused, and the chain goes on."""
    async with Bench.open(tmp_path, chip_time=False) as bench:
        await open_without_chip_time(bench)
        report(bench, {1: 4}, "a kernel")
        with pytest.raises(Refused, match="no chip-time"):
            bench.desk.take_checkpoint(job_id(1), digest("saved"), [Reported(1, 5 * GIGA, 2, 2_000)])
        await bench.run_to(bench.end(2) + 3_000)
        [gap] = bench.log.mine(pb.Gap)
        assert (gap.first_period, gap.last_period, gap.reason) == (1, 1, pb.GAP_REASON_UNACCOUNTED)
        assert stated(bench) == {0: [COUNTED], 2: []}
        assert bench.log.mine(pb.CheckpointRecord) == []


async def test_attested_period_that_no_statement_can_mend_stays_owed_and_named(tmp_path: Path) -> None:
    """SPEC node-26: a correction without the run would be one more figure that is too low."""
    async with Bench.open(tmp_path, chip_time=False) as bench:
        await open_without_chip_time(bench)
        report(bench, {0: 4}, "a kernel", closing=True)
        await bench.run_to(bench.end(2) + 3_000)
        assert bench.log.mine(pb.Correction) == []
        assert list(bench.book.ledger.touched) == [0]
        assert len(describe_uncounted(bench.book.ledger)) == 1


async def test_late_gap_is_not_filled_in_with_a_figure_that_is_too_low(tmp_path: Path) -> None:
    """SPEC node-26."""
    more: Any = "[drill]\nhold_periods = [0]\n"
    async with Bench.open(tmp_path, chip_time=False, pools=_POOL_THEN + more) as bench:
        bench.desk.open_job(job_plan("run-1"))
        report(bench, {0: 3}, "a kernel", closing=True)
        await bench.run_to(bench.end(2) + 3_000)
        assert [item.reason for item in bench.log.mine(pb.Gap)] == [pb.GAP_REASON_LATE]
        assert stated(bench) == {1: [], 2: []}
        assert bench.book.ledger.owed == {0}


_POOL_THEN = '[[pools]]\nmodel = "test-chip"\ncount = 8\npeak = "100e9 FLOP/s"\n\n'
