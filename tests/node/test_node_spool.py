"""Catching up from the spool: what was metered while the daemon was away is attested, once, and damage is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lab_bench import LAB, Bench, digest, job_id, job_plan

from pacekeeper.node.desk import Reported
from pacekeeper.node.meters.spool import Opening, SpooledCheckpoint, SpooledJob, spool_path, write_spool_file
from pacekeeper.node.meters.usage import PeriodCalendar, PeriodFigure
from pacekeeper.v1 import statements_pb2 as pb

GIGA = 10**9


def spooled(bench: Bench, figures: dict[int, int], number: int = 1, **changed: Any) -> SpooledJob:
    """A job's file: gigaFLOP by period, one step and a second of chip-time in each."""
    opening = {
        "job": job_id(number),
        "run": "run-1",
        "title": "",
        "initial_state": 1,
        "initial_digest": digest("run-1/fresh"),
        "chips": 1,
        "method": 1,
        "margin_ppm": 20_000,
    }
    opening |= {key: changed.pop(key) for key in list(changed) if key in opening}
    calendar = bench.agreement.calendar
    fields: dict[str, Any] = {
        "opening": Opening(**opening),  # type: ignore[arg-type]
        "calendar": PeriodCalendar(calendar.epoch_ms, calendar.period_ms),
        "opened_ms": calendar.epoch_ms,
        "updated_ms": calendar.epoch_ms + 1,
        "closed": False,
        "notes": (),
        "usage": tuple(PeriodFigure(k, flop * GIGA, 1, 1_000) for k, flop in sorted(figures.items())),
        "checkpoints": (),
    }
    return SpooledJob(**(fields | changed))


def amounts(bench: Bench) -> dict[int, int]:
    """What stands attested at the end, in gigaFLOP by period."""
    attested = {}
    for applied in bench.log.applied:
        if isinstance(applied.statement, pb.ComputeAttestation | pb.Correction):
            account = applied.statement.account
            attested[account.period] = sum(figure.estimates[0].amount for figure in account.figures)
    return attested


async def test_what_was_metered_while_the_daemon_was_down_is_attested(tmp_path: Path) -> None:
    """SPEC node-20: the spool is read before the first signature after a start."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000)
        await bench.crash()
        bench.pass_unwatched(25_000)
        checkpoint = SpooledCheckpoint(digest("saved"), (PeriodFigure(1, 3 * GIGA, 1, 1_000),))
        write_spool_file(bench.settings.spool, spooled(bench, {1: 5, 2: 7}, closed=True, checkpoints=(checkpoint,)))
        bench.start()
        await bench.run_to(bench.end(3) + 3_000)
        assert amounts(bench) == {0: 0, 1: 5, 2: 7, 3: 0}
        assert bench.log.mine(pb.Correction) == []
        assert f"{LAB}/run-1" in bench.log.state.lineage.runs
        assert len(bench.log.mine(pb.CheckpointRecord)) == 1
        assert not spool_path(bench.settings.spool, job_id(1)).exists(), "a closed job has nothing to add"


async def test_spool_and_socket_telling_the_same_count_once(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1"))
        bench.book.write(*bench.desk.report(job_id(1), [Reported(0, 4 * GIGA, 1, 1_000)], closing=False))
        for _ in range(3):
            write_spool_file(bench.settings.spool, spooled(bench, {0: 3}))
            bench.catchup.scan()
        write_spool_file(bench.settings.spool, spooled(bench, {0: 6}))
        bench.catchup.scan()
        bench.catchup.scan()
        await bench.run_to(bench.end(0) + 3_000)
        assert amounts(bench) == {0: 6}


async def test_spooled_usage_of_an_attested_period_is_mended_by_a_correction(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(1) + 2_000)
        write_spool_file(bench.settings.spool, spooled(bench, {0: 2, 1: 3}))
        bench.catchup.scan()
        await bench.run_to(bench.end(2) + 3_000)
        assert amounts(bench) == {0: 2, 1: 3, 2: 0}
        assert len(bench.log.mine(pb.Correction)) == 2


async def test_job_that_the_socket_has_not_seen_yet_is_left_to_it_for_a_while(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0))
        write_spool_file(
            bench.settings.spool,
            spooled(bench, {1: 1}, opened_ms=bench.clock.wall_ms, updated_ms=bench.clock.wall_ms),
        )
        bench.catchup.scan()
        assert bench.book.ledger.jobs == {}
        await bench.run_to(bench.end(1) + 500)
        bench.catchup.scan()
        assert job_id(1) in bench.book.ledger.jobs


async def test_file_of_a_killed_job_is_cleared_once_it_is_journalled(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench:
        path = write_spool_file(bench.settings.spool, spooled(bench, {0: 3}))
        changed_s = bench.clock.wall_ms // 1000 - 61
        os.utime(path, (changed_s, changed_s))
        bench.catchup.scan()
        assert path.exists(), "it has only just been read"
        bench.catchup.scan()
        assert not path.exists()
        await bench.run_to(bench.end(0) + 3_000)
        assert amounts(bench) == {0: 3}


async def test_past_job_beyond_the_inventory_is_counted_in_full_and_named(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench:
        usage = (PeriodFigure(0, 9 * GIGA, 1, 500_000),)
        write_spool_file(bench.settings.spool, spooled(bench, {}, chips=50, usage=usage))
        bench.catchup.scan()
        await bench.run_to(bench.end(0) + 3_000)
        [attested] = bench.log.mine(pb.ComputeAttestation)
        [figure] = attested.account.figures
        assert figure.chip_ms == 80_000
        assert [item.amount for item in figure.estimates] == [9, 500 * 40]
        assert any("inventory" in text for text in bench.catchup.problems.values())


async def test_damaged_and_foreign_files_are_named_and_left_alone(tmp_path: Path) -> None:
    """SPEC node-20: a file that cannot be read stays where it is, and the others are taken in."""
    async with Bench.open(tmp_path) as bench:
        folder = bench.settings.spool
        good = write_spool_file(folder, spooled(bench, {0: 1}, 1))
        cut = write_spool_file(folder, spooled(bench, {0: 1}, 2))
        cut.write_bytes(cut.read_bytes()[:-20])
        other = PeriodCalendar(bench.agreement.calendar.epoch_ms, 7_000)
        foreign = write_spool_file(folder, spooled(bench, {0: 1}, 3, calendar=other))
        future = write_spool_file(folder, spooled(bench, {4_000: 1}, 4))
        (folder / "notes.txt").write_text("not a job")
        bench.catchup.scan()
        assert set(bench.catchup.problems) == {cut.name, foreign.name, future.name}
        assert list(bench.book.ledger.jobs) == [job_id(1), job_id(4)]
        assert good.exists()
        assert cut.exists()
        cut.unlink()
        bench.catchup.scan()
        assert cut.name not in bench.catchup.problems


async def test_spooled_job_that_could_not_count_everything_is_counted_by_time(tmp_path: Path) -> None:
    """SPEC node-25: in its accounts and its checkpoint's record, and its file goes once the notes are journalled."""
    async with Bench.open(tmp_path) as bench:
        checkpoint = SpooledCheckpoint(digest("saved"), (PeriodFigure(0, GIGA, 1, 1_000),))
        job = spooled(bench, {0: 1}, notes=("an unknown operator",) * 70, checkpoints=(checkpoint,), closed=True)
        path = write_spool_file(bench.settings.spool, job)
        bench.catchup.scan()
        assert bench.book.ledger.jobs[job_id(1)].notes == ("an unknown operator",)
        assert not path.exists()
        await bench.run_to(bench.end(0) + 3_000)
        [attested], [record] = bench.log.mine(pb.ComputeAttestation), bench.log.mine(pb.CheckpointRecord)
        by_time = [pb.Estimate(method=pb.METHOD_CHIP_TIME, amount=40, margin_ppm=600_000)]
        assert list(attested.account.figures[0].estimates) == by_time == list(record.estimates)


async def test_refused_checkpoint_in_the_spool_mutes_no_usage(tmp_path: Path) -> None:
    """SPEC node-26: where the agreement takes no chip-time there is no record of it; what was used is journalled."""
    async with Bench.open(tmp_path, chip_time=False) as bench:
        checkpoint = SpooledCheckpoint(digest("saved"), (PeriodFigure(0, GIGA, 1, 1_000),))
        job = spooled(bench, {0: 1, 1: 2}, notes=("a kernel",), checkpoints=(checkpoint,), closed=True)
        path = write_spool_file(bench.settings.spool, job)
        bench.catchup.scan()
        assert bench.book.ledger.runs["run-1"].usage[1][job_id(1)].flop == 2 * GIGA
        assert "no chip-time" in bench.catchup.problems[path.name]
        assert path.exists(), "its checkpoint is not on the log"
