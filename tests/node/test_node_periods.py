"""Periods on the bench: what a lab attests, when, and what becomes of what it missed, against a log that replays."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab_bench import LAB, Bench, digest, job_id, job_plan

from pacekeeper.node.desk import Reported
from pacekeeper.protocol.replay import ViolationKind
from pacekeeper.v1 import statements_pb2 as pb

GIGA = 10**9


def use(bench: Bench, period: int, flop: int, *, number: int = 1, chip_ms: int = 1_000, steps: int = 1) -> None:
    """Report a job's usage of one period."""
    bench.book.write(*bench.desk.report(job_id(number), [Reported(period, flop, steps, chip_ms)], closing=False))


def times(account: pb.PeriodAccount) -> dict[int, int]:
    return {item.category: item.chip_ms for item in account.time}


async def test_lab_attests_each_period_before_its_deadline(tmp_path: Path) -> None:
    """SPEC node-4: sequences go 1, 2, 3. SPEC node-5: the times add up. SPEC node-7: links and as_of hold."""
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1"))
        for period in range(3):
            use(bench, period, (period + 1) * GIGA + 1, steps=period + 1)
            await bench.run_to(bench.end(period) + 2_500)
        assert bench.lab.attested == 3
        assert bench.lab.late == 0
        assert bench.log.state.violations == []
        attested = bench.log.mine(pb.ComputeAttestation)
        assert [item.link.sequence for item in attested] == [1, 2, 3]
        assert [item.link.as_of for item in attested] == sorted(item.link.as_of for item in attested)
        assert attested[-1].link.as_of > attested[0].link.as_of
        for period, item in enumerate(attested):
            [figure] = item.account.figures
            assert (figure.run, figure.steps, figure.chip_ms) == ("run-1", period + 1, 1_000)
            count, chips = figure.estimates
            assert (count.method, count.amount, count.margin_ppm) == (1, period + 2, 20_000)
            assert (chips.method, chips.amount, chips.margin_ppm) == (2, 40, 600_000)
            assert sum(use.chip_ms for use in item.account.time) == 8 * 10_000
            assert times(item.account) == {pb.CATEGORY_TRAINING: 1_000, pb.CATEGORY_IDLE: 79_000}


async def test_declaration_reaches_the_log_before_the_account_that_names_its_run(tmp_path: Path) -> None:
    """SPEC node-15: the queue is one, in the order of signing."""
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1", title="First run"))
        use(bench, 0, GIGA)
        await bench.run_to(bench.end(0) + 3_000, deliver=False)
        assert [item.kind for item in bench.outbox.waiting()] == ["declaration", "attestation"]
        await bench.work()
        assert bench.log.state.lineage.runs[f"{LAB}/run-1"].title == "First run"
        assert bench.lab.attested == 1


async def test_lab_that_was_down_attests_every_missed_period_and_calls_none_of_it_idle(tmp_path: Path) -> None:
    """SPEC node-6: time that nobody watched is unaccounted, never idle."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000)
        await bench.crash()
        bench.pass_unwatched(30_000)
        bench.start()
        await bench.run_to(bench.end(4) + 2_000)
        attested = bench.log.mine(pb.ComputeAttestation)
        assert [item.account.period for item in attested] == [0, 1, 2, 3, 4]
        assert times(attested[2].account) == {pb.CATEGORY_UNACCOUNTED: 80_000}
        assert times(attested[4].account) == {pb.CATEGORY_IDLE: 64_000, pb.CATEGORY_UNACCOUNTED: 16_000}
        assert bench.lab.late == 2
        assert [item.period for item in bench.log.state.violations] == [1, 2]


async def test_lab_that_joins_late_accounts_from_the_founding_period_on(tmp_path: Path) -> None:
    async with Bench.open(tmp_path, late_ms=57_000) as bench:
        await bench.run_to(bench.end(6) + 2_000)
        assert [item.account.period for item in bench.log.mine(pb.ComputeAttestation)] == [5, 6]


async def test_periods_too_old_for_an_account_become_one_gap(tmp_path: Path) -> None:
    """SPEC node-11: after due and fill-in are over the chain goes on with a gap."""
    async with Bench.open(tmp_path, fill_in="40 s") as bench:
        await bench.crash()
        bench.pass_unwatched(100_000)
        bench.start()
        await bench.run_to(bench.clock.wall_ms + 3_000)
        [gap] = bench.log.mine(pb.Gap)
        assert (gap.first_period, gap.last_period, gap.reason) == (0, 5, pb.GAP_REASON_UNACCOUNTED)
        assert [item.account.period for item in bench.log.mine(pb.ComputeAttestation)] == [6, 7, 8, 9]
        assert bench.book.ledger.owed == set()


async def test_usage_that_arrives_after_its_account_is_attested_by_a_correction(tmp_path: Path) -> None:
    """SPEC node-12: nothing metered is left out, however late it comes."""
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1"))
        use(bench, 0, GIGA)
        await bench.run_to(bench.end(0) + 3_000)
        assert bench.lab.attested == 1
        use(bench, 0, 5 * GIGA, chip_ms=4_000)
        await bench.run_to(bench.clock.wall_ms + 3_000)
        [correction] = bench.log.mine(pb.Correction)
        assert correction.account.figures[0].estimates[0].amount == 5
        assert times(correction.account)[pb.CATEGORY_TRAINING] == 4_000
        assert bench.lab.corrections == 1
        assert bench.log.state.labs[LAB].accounts[0].bounds()["run-1"].high == 6
        await bench.run_to(bench.end(1) + 3_000)
        assert len(bench.log.mine(pb.Correction)) == 1


async def test_account_waits_for_running_jobs_but_never_until_the_deadline(tmp_path: Path) -> None:
    async with Bench.open(tmp_path, due="8 s") as bench:
        bench.desk.open_job(job_plan("run-1"))
        await bench.run_to(bench.end(0) - 500)
        use(bench, 0, GIGA)
        await bench.run_to(bench.end(0) + 2_000)
        assert bench.lab.attested == 0, "the job has not reported since the period's end"
        use(bench, 0, 2 * GIGA)
        await bench.run_to(bench.end(0) + 2_500)
        assert bench.log.mine(pb.ComputeAttestation)[0].account.figures[0].estimates[0].amount == 2
        await bench.run_to(bench.end(1) + 4_500)
        assert bench.lab.attested == 2, "a job that went silent holds nothing up past half the time"
        assert bench.lab.late == 0


async def test_drill_withholds_an_account_past_its_deadline_and_goes_on_after_a_gap(tmp_path: Path) -> None:
    """SPEC node-24: a held period is reported missing, declared late, and filled in when the next is attested."""
    async with Bench.open(tmp_path, more="[drill]\nhold_periods = [1]\n") as bench:
        bench.desk.open_job(job_plan("run-1"))
        for period in range(4):
            use(bench, period, GIGA)
            await bench.run_to(bench.end(period) + 4_000)
        await bench.run_to(bench.end(3) + 6_000)
        [missing] = [item for item in bench.log.state.violations if item.kind is ViolationKind.PERIOD_MISSING]
        assert (missing.subject, missing.period) == (LAB, 1)
        [gap] = bench.log.mine(pb.Gap)
        assert (gap.first_period, gap.last_period, gap.reason) == (1, 1, pb.GAP_REASON_LATE)
        attested = [item.account.period for item in bench.log.mine(pb.ComputeAttestation)]
        assert sorted(attested) == [0, 1, 2, 3]
        assert bench.lab.late == 1
        assert bench.lab.gaps == set()


async def test_drill_can_leave_the_gap_open(tmp_path: Path) -> None:
    async with Bench.open(tmp_path, more="[drill]\nhold_periods = [0]\nfill_in = false\n") as bench:
        await bench.run_to(bench.end(1) + 6_000)
        assert [item.account.period for item in bench.log.mine(pb.ComputeAttestation)] == [1]
        assert bench.lab.gaps == {0}


@pytest.mark.parametrize("jump_ms", [3_600_000, 366 * 86_400_000])
async def test_clock_that_jumps_ahead_signs_nothing_for_the_future(tmp_path: Path, jump_ms: int) -> None:
    """SPEC node-9: log time holds the lab's clock; after the jump is undone the chain goes on as if nothing was."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 3_000)
        log_now, bench.log._now_ms = bench.log._now_ms, lambda: bench.log.state.last_time_ms
        bench.clock.wall_ms += jump_ms
        for _ in range(20):
            await bench.work()
        assert bench.book.ledger.next_period in (1, 2)
        bench.clock.wall_ms -= jump_ms
        bench.log._now_ms = log_now
        await bench.run_to(bench.end(3) + 3_000)
        assert [item.account.period for item in bench.log.mine(pb.ComputeAttestation)] == [0, 1, 2, 3]
        assert bench.log.mine(pb.Gap) == []
        assert "set or slept" in bench.keeper.clock_problem


async def test_time_over_which_the_clock_was_set_does_not_count_as_watched(tmp_path: Path) -> None:
    """SPEC node-23: a step of the wall clock against the monotonic one ends a watch."""
    async with Bench.open(tmp_path, tolerance="30 s") as bench:
        await bench.run_to(bench.end(0) - 5_000)
        bench.clock.wall_ms += 4_000
        await bench.run_to(bench.end(0) + 3_000)
        [attested] = bench.log.mine(pb.ComputeAttestation)
        unwatched = times(attested.account)[pb.CATEGORY_UNACCOUNTED]
        assert 8 * 4_000 <= unwatched <= 8 * 5_000


async def test_clock_set_back_makes_nothing_late(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 3_000)
        log_ms = bench.clock.wall_ms
        bench.log._now_ms = lambda: log_ms
        bench.clock.wall_ms -= 3_600_000
        for _ in range(30):
            log_ms += 500
            bench.clock.advance(500)
            await bench.work()
        assert bench.lab.attested == 2
        assert bench.lab.late == 0


async def test_checkpoints_are_recorded_with_the_runs_compute_and_name_parents(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("base"))
        use(bench, 0, 3 * GIGA, steps=10)
        await bench.run_to(bench.end(0) + 3_000)
        bench.desk.take_checkpoint(job_id(1), digest("half"), [Reported(1, 2 * GIGA, 5, 900)])
        bench.desk.take_checkpoint(job_id(1), digest("half"), [Reported(1, 2 * GIGA, 5, 900)])
        assert bench.desk.take_checkpoint(job_id(1), digest("half, other precision"), []) is False
        await bench.work()
        [record] = bench.log.mine(pb.CheckpointRecord)
        assert (record.run, record.period, record.steps, record.digest) == ("base", 1, 15, digest("half"))
        assert [(item.method, item.amount) for item in record.estimates] == [(1, 5), (2, 40 + 36)]
        for number, name in enumerate(["half", "half, other precision"]):
            child = job_plan(f"child-{number}", 2 + number, initial_state=2, initial_digest=digest(name))
            bench.desk.open_job(child)
        await bench.work()
        [index] = bench.log.state.lineage.records
        assert [item.parents for item in bench.log.mine(pb.RunDeclaration)] == [[], [index], [index]]
        await bench.run_to(bench.end(1) + 3_000)
        assert bench.log.state.violations == []
        assert bench.lab.attested == 2


async def test_checkpoint_before_the_first_step_is_on_the_log_too(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("base"))
        bench.desk.take_checkpoint(job_id(1), digest("start"), [])
        use(bench, 0, 3 * GIGA, steps=10)
        bench.desk.take_checkpoint(job_id(1), digest("later"), [])
        await bench.work()
        assert [item.steps for item in bench.log.mine(pb.CheckpointRecord)] == [0, 10]
