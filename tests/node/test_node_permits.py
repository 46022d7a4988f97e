"""What jobs may do as commitments come, bite and go, on the bench: a real log, the replay, and hand-moved clocks."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab_bench import Bench, digest, job_id, job_plan
from lab_commitments import enact, lift, pause_document, slow_down_document

from pacekeeper.node.desk import Reported
from pacekeeper.node.gate import END_MS, ENDING_MS, LEAD_MS, Decision, Hold, Proceed, Throttle, decide
from pacekeeper.protocol.commitments.constraints import Constraints, RateLimit
from pacekeeper.protocol.commitments.constraints import Hold as Pause
from pacekeeper.protocol.documents import commitment_lint
from pacekeeper.protocol.documents.commitment_model import Lease

GIGA = 10**9


def use(bench: Bench, flop: int, *, number: int = 1) -> None:
    """Report that a job has made so many operations in the present period."""
    period = bench.agreement.period_of(bench.clock.now_ms())
    bench.book.write(*bench.desk.report(job_id(number), [Reported(period, flop, 1, 1_000)], closing=False))


def told(bench: Bench, number: int = 1) -> Decision:
    return bench.permits.decide(job_id(number))


def paused(from_ms: int, enforced_ms: int, above: int = 10) -> Constraints:
    return Constraints(0, holds=(Pause(above, from_ms, enforced_ms, ("p",)),))


def judge(constraints: Constraints, now_ms: int, *, log_ms: int = 0, gflop: int = 11, jobs: int = 1) -> Decision:
    return decide(constraints, now_ms, log_ms=log_ms, cumulative_gflop=gflop, jobs=jobs)


def test_a_pause_holds_from_its_beginning_and_never_later_than_a_lead_before_it_bites() -> None:
    """SPEC node-29."""
    assert judge(paused(50_000, 90_000), 49_999) == Proceed()
    hold = judge(paused(50_000, 90_000), 50_000)
    assert isinstance(hold, Hold)
    assert (hold.save_by_ms, hold.stand_by) == (90_000 - LEAD_MS, False)
    assert isinstance(judge(paused(50_000, 50_000), 50_000 - LEAD_MS), Hold)
    assert judge(paused(50_000, 50_000), 49_999 - LEAD_MS) == Proceed()
    assert judge(paused(50_000, 90_000), 60_000, gflop=10) == Proceed()


def test_past_the_lease_all_hold_or_all_go_on_as_last_known() -> None:
    """SPEC node-30: runs below a pause's limit too, and never under no constraint."""
    for hold, expected in ((True, Hold), (False, Proceed)):
        constraints = Constraints(0, lease=Lease(20_000, hold))
        assert judge(constraints, 120_000, log_ms=100_000) == Proceed()
        assert isinstance(judge(constraints, 120_001, log_ms=100_000), expected)
    leased = Constraints(0, holds=paused(0, 0).holds, lease=Lease(20_000, False))
    assert isinstance(judge(leased, 10**9, log_ms=0), Hold)


def test_a_rate_is_shared_and_what_cannot_slow_down_holds() -> None:
    """SPEC node-31."""
    slow = Constraints(0, rate=RateLimit(100, ("s",)))
    shares = [judge(slow, 0, jobs=jobs) for jobs in (1, 4)]
    assert [share.flop_per_s for share in shares if isinstance(share, Throttle)] == [98 * GIGA, 98 * GIGA // 4]
    assert isinstance(judge(Constraints(0, rate=RateLimit(0, ("s",))), 0), Hold)
    kept = decide(slow, 0, log_ms=0, cumulative_gflop=0, jobs=1, fixed_gflop_per_s=98)
    held = decide(slow, 0, log_ms=0, cumulative_gflop=0, jobs=1, fixed_gflop_per_s=99)
    assert isinstance(kept, Throttle)
    assert isinstance(held, Hold)


async def test_a_pause_holds_the_runs_above_its_limit_until_it_is_lifted(tmp_path: Path) -> None:
    """SPEC node-29: by what is in the journal, attested or not. SPEC node-28: a restart while held goes on holding."""
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("large", 1))
        bench.desk.open_job(job_plan("small", 2))
        use(bench, 6 * GIGA, number=1)
        use(bench, 3 * GIGA, number=2)
        await bench.work()
        assert told(bench) == Proceed()
        ident = enact(bench.log, pause_document())
        await bench.run_to(bench.clock.wall_ms + 9_000)
        assert told(bench) == Proceed(), "the delay runs"
        await bench.run_to(bench.clock.wall_ms + 2_000)
        hold = told(bench)
        assert isinstance(hold, Hold)
        assert hold.reason.startswith("pause: runs above 5e9 FLOP pause")
        assert told(bench, 2) == Proceed()
        since_ms = bench.permits.told(job_id(1))
        await bench.run_to(bench.clock.wall_ms + 15_000)
        assert isinstance(told(bench), Hold)
        assert since_ms is not None
        assert bench.permits.told(job_id(1)).since_ms == since_ms.since_ms  # type: ignore[union-attr]
        await bench.crash()
        bench.start()
        again = told(bench)
        assert isinstance(again, Hold)
        assert again.stand_by, "before the log has been read it is not known who is held"
        assert isinstance(told(bench, 2), Hold)
        await bench.read_all()
        assert isinstance(told(bench), Hold)
        assert told(bench, 2) == Proceed()
        use(bench, 6 * GIGA, number=2)
        assert isinstance(told(bench, 2), Hold), "it has come to be above the limit"
        lift(bench.log, ident)
        await bench.read_all()
        assert (told(bench), told(bench, 2)) == (Proceed(), Proceed())


async def test_a_clock_that_stands_still_holds_no_pause_up_and_one_ahead_ends_none(tmp_path: Path) -> None:
    """SPEC node-29: tighter by whichever clock is further; looser by the log's alone."""
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("large"))
        use(bench, 6 * GIGA)
        await bench.work()
        enact(bench.log, pause_document(more={"term": {"length": "60 s"}}))
        await bench.read_all()
        bench.clock.steady_ms += 12_000
        assert isinstance(told(bench), Hold), "the wall clock stands still"
        bench.clock.wall_ms += 600_000
        assert isinstance(told(bench), Hold), "its end is no fact on the log yet"
        bench.clock.wall_ms -= 600_000 - 12_000
        await bench.run_to(bench.clock.wall_ms + 80_000)
        assert told(bench) == Proceed()


async def test_an_end_on_the_log_counts_when_the_labs_own_clock_has_passed_it(tmp_path: Path) -> None:
    """SPEC node-29: a clock that is behind would tell what is done after the end as done before; by at most what clocks
    may differ."""
    async with Bench.open(tmp_path, tolerance="5 s") as bench:
        bench.desk.open_job(job_plan("large"))
        use(bench, 6 * GIGA)
        ident = enact(bench.log, pause_document())
        await bench.run_to(bench.clock.wall_ms + 30_000)
        bench.log.ahead_ms = 2_000
        lift(bench.log, ident)
        await bench.read_all()
        assert isinstance(told(bench), Hold)
        bench.clock.advance(1_999)
        assert isinstance(told(bench), Hold)
        bench.clock.advance(1)
        assert told(bench) == Proceed()
    far = tmp_path / "far"
    far.mkdir()
    async with Bench.open(far, tolerance="5 s") as bench:
        bench.desk.open_job(job_plan("large"))
        use(bench, 6 * GIGA)
        ident = enact(bench.log, pause_document())
        await bench.run_to(bench.clock.wall_ms + 30_000)
        bench.log.ahead_ms = 600_000
        lift(bench.log, ident)
        await bench.read_all()
        bench.clock.advance(5_001)
        assert told(bench) == Proceed(), "the lab's clock is wrong by more than it may be"


async def test_a_job_that_has_to_be_ended_is_told_a_minute_ahead(tmp_path: Path) -> None:
    """SPEC node-29, SPEC node-30: it counts until it has ended; a loop is told at the pause's beginning."""
    async with Bench.open(tmp_path, tolerance="1 s") as bench:
        bench.desk.open_job(job_plan("large", 1, method=2, margin_ppm=600_000))
        bench.desk.open_job(job_plan("loop", 2))
        use(bench, 6 * GIGA, number=2)
        bench.book.write(*bench.desk.report(job_id(1), [Reported(0, 0, 0, 5_000)], closing=False))
        entry = {"delay": "100 s"}
        enact(bench.log, pause_document(wind_down="20 s", entry=entry))
        bites_ms = bench.clock.wall_ms + 120_000
        await bench.run_to(bites_ms - ENDING_MS - 500)
        assert (told(bench), told(bench, 2)) == (Proceed(), Proceed())
        await bench.run_to(bites_ms - ENDING_MS)
        hold = told(bench)
        assert isinstance(hold, Hold)
        assert hold.save_by_ms == bites_ms - LEAD_MS - END_MS
        assert told(bench, 2) == Proceed()
    assert ENDING_MS == commitment_lint.ENDING_MS, "what the linter warns of is what the gate gives"
    lease = Constraints(0, lease=Lease(100_000, hold=True))
    for now_ms, expected in ((100_000 - ENDING_MS, Proceed), (100_001 - ENDING_MS, Hold)):
        decision = decide(lease, now_ms, log_ms=0, cumulative_gflop=0, jobs=1, fixed_gflop_per_s=1)
        assert isinstance(decision, expected)
        assert judge(lease, now_ms) == Proceed()


async def test_a_lease_counts_from_the_pledge_on(tmp_path: Path) -> None:
    """SPEC node-30: out of reach it cannot be known whether the commitment has come into force meanwhile."""
    async with Bench.open(tmp_path, tolerance="1 s") as bench:
        bench.desk.open_job(job_plan("small"))
        enact(bench.log, pause_document(more={"lease": {"lease": "5 s", "on_lease_end": "hold"}}))
        await bench.read_all()
        assert told(bench) == Proceed()
        bench.clock.advance(5_001)
        assert isinstance(told(bench), Hold)


@pytest.mark.parametrize(("at_end", "expected"), [("hold", Hold), ("continue", Proceed)])
async def test_log_out_of_reach_past_the_lease(tmp_path: Path, at_end: str, expected: type) -> None:
    """SPEC node-30: hold, or go on under the last known constraints and never under none."""
    async with Bench.open(tmp_path, tolerance="1 s") as bench:
        bench.desk.open_job(job_plan("large", 1))
        bench.desk.open_job(job_plan("small", 2))
        use(bench, 6 * GIGA)
        lease = {"lease": "15 s", "on_lease_end": at_end}
        enact(bench.log, pause_document(more={"lease": lease}))
        await bench.run_to(bench.clock.wall_ms + 25_000)
        assert isinstance(told(bench), Hold)
        assert told(bench, 2) == Proceed()
        bench.clock.advance(14_000)
        assert told(bench, 2) == Proceed()
        bench.clock.advance(2_000)
        assert isinstance(told(bench), Hold)
        assert isinstance(told(bench, 2), expected)
        await bench.work()
        assert told(bench, 2) == Proceed(), "the log is there again"


async def test_a_rate_is_divided_again_as_jobs_come_and_go(tmp_path: Path) -> None:
    """SPEC node-31: among jobs that run and are not held; silent and closed ones count no more."""
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1", 1))
        await bench.work()
        enact(bench.log, slow_down_document())
        await bench.run_to(bench.clock.wall_ms + 15_000)
        assert told(bench) == Proceed(), "in force, and not biting yet"
        await bench.run_to(bench.clock.wall_ms + 3_000)
        use(bench, GIGA)
        whole = 98 * GIGA // 100
        assert told(bench) == Throttle(whole, "slow: 1e9 FLOP/s for the lab, shared among 1")
        bench.desk.open_job(job_plan("run-2", 2))
        bench.clock.advance(300)
        wait = told(bench, 2)
        assert isinstance(wait, Hold)
        assert wait.stand_by, "the first job has all of the rate until it reports"
        bench.clock.advance(300)
        shares = [told(bench), told(bench, 2)]
        assert [share.flop_per_s for share in shares if isinstance(share, Throttle)] == [whole // 2] * 2
        bench.book.write(*bench.desk.report(job_id(2), [], closing=True))
        bench.clock.advance(300)
        share = told(bench)
        assert isinstance(share, Throttle)
        assert share.flop_per_s == whole


async def test_a_run_from_a_checkpoint_stands_by_until_the_log_knows_what_it_descends_from(tmp_path: Path) -> None:
    """SPEC node-29: ancestors count."""
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("base"))
        use(bench, 6 * GIGA)
        bench.desk.take_checkpoint(job_id(1), digest("saved"), [])
        enact(bench.log, pause_document())
        await bench.run_to(bench.clock.wall_ms + 12_000)
        bench.desk.open_job(job_plan("child", 2, initial_state=2, initial_digest=digest("saved")))
        hold = told(bench, 2)
        assert isinstance(hold, Hold)
        assert hold.stand_by
        await bench.work()
        await bench.read_all()
        hold = told(bench, 2)
        assert isinstance(hold, Hold)
        assert not hold.stand_by
