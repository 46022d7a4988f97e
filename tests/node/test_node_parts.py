"""Accounts split where constraints began, bit or ended: nothing is lost by it, and a pause that was kept is seen so."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from agreements import build_document
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_bench import Bench, job_id, job_plan
from lab_commitments import enact, lift, pause_document, slow_down_document

from pacekeeper.node.accounts import build_account, run_total
from pacekeeper.node.desk import Reported
from pacekeeper.node.gate import Hold
from pacekeeper.node.ledger import Ledger
from pacekeeper.node.parts import KEPT_MS, MAX_MARKS, Mark, split_usage, thin
from pacekeeper.node.records import Inventory, JobOpened, Opened, Pool, Split, Usage
from pacekeeper.protocol.documents.agreement import Agreement, compile_agreement
from pacekeeper.protocol.readings import read_account
from pacekeeper.protocol.replay import ViolationKind
from pacekeeper.v1 import statements_pb2 as pb

GIGA = 10**9
PERIOD_MS = 10_000


@cache
def agreement() -> Agreement:
    return compile_agreement(build_document(period="10 s")[0])


def at(offset_ms: int) -> int:
    return agreement().calendar.epoch_ms + offset_ms


def build(pools: tuple[Pool, ...], jobs: int) -> Ledger:
    """A lab's ledger with jobs of two runs in turn."""
    ledger = Ledger()
    ledger.apply(Opened(1, agreement().fingerprint, "borealis", b"k" * 32))
    ledger.apply(Inventory(at(0), pools, 600_000))
    for number in range(jobs):
        ledger.apply(JobOpened(at(0), job_id(number), f"run-{number % 2}", 1, "model-0", 1, 0))
    return ledger


growth = st.tuples(st.integers(0, 3_000), st.integers(0, 10**12), st.integers(0, 9), st.integers(0, 5_000))
histories = st.lists(growth, min_size=1, max_size=12)
moments = st.lists(st.integers(1, PERIOD_MS - 1), unique=True, max_size=4).map(sorted)


def usage_of(job: int, history: list[tuple[int, int, int, int]]) -> list[Usage]:
    """A job's reports in period 0: each some time after the one before, with what was added."""
    records, now, flop, steps, chip_ms = [], 0, 0, 0, 0
    for later, more_flop, more_steps, more_ms in history:
        now, flop, steps, chip_ms = now + later, flop + more_flop, steps + more_steps, chip_ms + more_ms
        records.append(Usage(at(now), job_id(job), 0, flop.to_bytes(13, "big"), steps, chip_ms))
    return records


def fill(ledger: Ledger, jobs: list[list[tuple[int, int, int, int]]], splits: list[int]) -> Ledger:
    for offset_ms in splits:
        ledger.apply(Split(at(0), 0, at(offset_ms)))
    for job, history in enumerate(jobs):
        for record in usage_of(job, history):
            ledger.apply(record)
    return ledger


@settings(max_examples=150, deadline=None)
@given(st.lists(histories, min_size=1, max_size=3), moments)
def test_parts_add_up_to_the_account_without_splits(
    jobs: list[list[tuple[int, int, int, int]]], splits: list[int]
) -> None:
    """SPEC node-32, SPEC node-33: steps and times exactly, compute but for what rounding up each part adds."""
    pools = (Pool("model-0", 2, 1_000, 500_000),)
    whole = build_account(fill(build(pools, len(jobs)), jobs, []), agreement(), 0)
    ledger = fill(build(pools, len(jobs)), jobs, splits)
    account = build_account(ledger, agreement(), 0)
    read_account(account, account.ByteSize())
    assert list(account.splits_ms) == splits
    assert account.time == whole.time
    if not splits:
        assert account.SerializeToString() == whole.SerializeToString()
    for figure in whole.figures:
        parts = [part for part in account.figures if part.run == figure.run]
        assert sum(part.steps for part in parts) == figure.steps
        assert sum(part.chip_ms for part in parts) == figure.chip_ms
        total = run_total(ledger, agreement(), ledger.runs[figure.run], (0,))
        for estimate in figure.estimates:
            amounts = [item.amount for part in parts for item in part.estimates if item.method == estimate.method]
            assert 0 <= sum(amounts) - estimate.amount <= 2 * len(splits)
            assert total.measures[estimate.method].amount == sum(amounts), "checkpoint records add up in the same way"
    assert {part.run for part in account.figures} == {figure.run for figure in whole.figures}


def test_what_was_added_between_two_reports_counts_in_the_part_of_the_earlier_one() -> None:
    """SPEC node-32: and in proportion to time where they are further apart than reports are."""
    marks = [Mark(900, 10, 1, 900), Mark(1_900, 30, 3, 1_900), Mark(2_900, 30, 3, 2_900)]
    assert split_usage(marks, 0, 0, 10_000, [1_000]) == [[30, 3, 1_900], [0, 0, 1_000]]
    assert split_usage(marks, 0, 0, 10_000, [900]) == [[10, 1, 900], [20, 2, 2_000]]
    told_late = [Mark(9_000, 900, 9, 9_000)]
    assert split_usage(told_late, 0, 0, 10_000, [3_000, 6_000]) == [[300, 3, 3_000], [300, 3, 3_000], [300, 3, 3_000]]
    assert split_usage(told_late, 5_000, 0, 10_000, [3_000]) == [[0, 0, 0], [900, 9, 9_000]], "it began after it"
    assert split_usage(told_late, 99_000, 0, 10_000, [4_500]) == [[450, 4, 4_500], [450, 5, 4_500]]


@settings(max_examples=100, deadline=None)
@given(histories, moments)
def test_dropping_marks_changes_no_part(history: list[tuple[int, int, int, int]], splits: list[int]) -> None:
    """SPEC node-32: what is dropped is what no boundary needs, of reports that came in time."""
    marks: list[Mark] = []
    now = flop = 0
    for later, more, _, _ in history:
        now, flop = now + later % 2_000, flop + more
        marks.append(Mark(now, flop, flop, flop))
    before = split_usage(marks, 0, 0, 60_000, splits)
    thin(marks, splits, 10**9)
    after = split_usage(marks, 0, 0, 60_000, splits)
    assert before == after
    assert len(marks) <= 2 + 3 * len(splits)


def test_a_day_of_reports_keeps_few_marks_and_finds_a_known_boundary() -> None:
    """SPEC node-33: a boundary that is known in time stays exact, however long the period."""
    ledger = build((Pool("model-0", 2, 1_000, 500_000),), 1)
    boundary = 3_000_500
    for second in range(1, 20_000):
        if second == 2_998:
            ledger.apply(Split(at(second * 1_000), 0, at(boundary)))
        flop = min(second, 3_000) * GIGA
        ledger.apply(Usage(at(second * 1_000), job_id(0), 0, flop.to_bytes(13, "big"), 1, second * 1_000))
    marks = ledger.runs["run-0"].usage[0][job_id(0)].marks
    assert len(marks) <= MAX_MARKS + 1
    assert marks[-1].as_of_ms - marks[-600].as_of_ms <= KEPT_MS
    before, after = split_usage(marks, at(0), at(0), at(10**9), ledger.splits[0])
    assert (before[0], after[0]) == (3_000 * GIGA, 0)


async def train(bench: Bench, until_ms: int, gflop: int, *, obey: bool = True) -> None:
    """A job that reports every half second, makes so much between two reports, and holds when it is told to."""
    used: dict[int, list[int]] = {}
    for period, figures in bench.book.ledger.runs["run-1"].usage.items():
        used[period] = [figures[job_id(1)].flop, figures[job_id(1)].steps, figures[job_id(1)].chip_ms]
    while bench.clock.wall_ms < until_ms:
        held = isinstance(bench.permits.decide(job_id(1)), Hold)
        await bench.run_to(bench.clock.wall_ms + 500)
        figure = used.setdefault(bench.agreement.period_of(bench.clock.wall_ms - 1), [0, 0, 0])
        figure[2] += 500
        if not (held and obey):
            figure[0], figure[1] = figure[0] + gflop * GIGA, figure[1] + 1
        reported = [Reported(period, *values) for period, values in used.items()]
        bench.book.write(*bench.desk.report(job_id(1), reported, closing=False))


async def test_a_pause_that_is_kept_convicts_nobody_and_one_that_is_not_does(tmp_path: Path) -> None:
    """SPEC node-33: what was made before a pause and after its lift stands in parts of its own."""
    for obey in (True, False):
        folder = tmp_path / str(obey)
        folder.mkdir()
        async with Bench.open(folder) as bench:
            bench.desk.open_job(job_plan("run-1"))
            await train(bench, bench.end(0) + 3_000, 3)
            ident = enact(bench.log, pause_document(wind_down="6 s"))
            await train(bench, bench.end(3) + 2_700, 3, obey=obey)
            lift(bench.log, ident)
            await train(bench, bench.end(5) + 3_000, 3)
            split = [item.account for item in bench.log.mine(pb.ComputeAttestation) if item.account.splits_ms]
            assert {account.period for account in split} >= {2, 4}
            assert all(list(account.splits_ms) == sorted(set(account.splits_ms)) for account in split)
            kinds = [violation.kind for violation in bench.log.state.violations]
            if obey:
                assert kinds == []
                [lifted] = [account for account in split if account.period == 4]
                assert lifted.figures[0].estimates[0].amount == 0
                assert [figure.part for figure in lifted.figures] == [0, 1]
            else:
                assert ViolationKind.PAUSE in kinds


async def test_a_command_that_was_stopped_for_a_pause_did_nothing_in_it(tmp_path: Path) -> None:
    """SPEC node-39: nothing is added while it stands still, and what comes after the lift is not spread over the pause,
    in the period in which it was stopped or in a later one."""
    async with Bench.open(tmp_path, period="20 s") as bench:
        bench.desk.open_job(job_plan("run-1", method=2, margin_ppm=600_000))
        used: dict[int, int] = {}

        async def work(until_ms: int, *, stopped: bool = False) -> None:
            while bench.clock.wall_ms < until_ms:
                await bench.run_to(bench.clock.wall_ms + 500)
                period = bench.agreement.period_of(bench.clock.wall_ms - 1)
                used[period] = used.get(period, 0) + 500 * (not stopped)
                changed = [] if stopped else [Reported(period, 0, 0, used[period])]
                bench.book.write(*bench.desk.report(job_id(1), changed, closing=False))

        await work(bench.end(0) + 2_000)
        ident = enact(bench.log, pause_document(wind_down="5 s", above="20e9 FLOP"))
        await work(bench.end(0) + 15_000)
        assert isinstance(bench.permits.decide(job_id(1)), Hold)
        await work(bench.end(2) - 6_000, stopped=True)
        lift(bench.log, ident)
        await work(bench.end(2) + 3_000)
        accounts = {item.account.period: item.account for item in bench.log.mine(pb.ComputeAttestation)}
        assert list(accounts[2].splits_ms) == [14_000]
        assert [(figure.part, figure.chip_ms) for figure in accounts[2].figures] == [(1, 6_000)]
        assert bench.log.state.violations == []


async def test_a_boundary_that_becomes_known_after_the_account_splits_it_by_a_correction(tmp_path: Path) -> None:
    """SPEC node-33."""
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1"))
        await train(bench, bench.end(0) + 3_000, 3)
        [account] = [item.account for item in bench.log.mine(pb.ComputeAttestation)]
        assert not account.splits_ms
        now_ms = bench.clock.now_ms()
        bench.book.write(Split(now_ms, 0, bench.end(0) - 4_000), Split(now_ms, 0, bench.end(0) - 4_000))
        await train(bench, bench.end(0) + 6_000, 3)
        [correction] = bench.log.mine(pb.Correction)
        assert list(correction.account.splits_ms) == [6_000]
        assert [figure.part for figure in correction.account.figures] == [0, 1]
        assert sum(figure.steps for figure in correction.account.figures) == account.figures[0].steps


async def test_a_rate_that_is_kept_convicts_nobody(tmp_path: Path) -> None:
    """SPEC node-31, SPEC node-33: the part before it bites has its own figures."""
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1"))
        await train(bench, bench.end(0) + 3_000, 3)
        enact(bench.log, slow_down_document(rate="1e9 FLOP/s", wind_down="5 s"))
        await train(bench, bench.end(2) - 2_000, 3)
        await train(bench, bench.end(3) + 4_000, 0)
        accounts = {item.account.period: item.account for item in bench.log.mine(pb.ComputeAttestation)}
        assert list(accounts[2].splits_ms) == [3_000, 8_000]
        assert [figure.estimates[0].amount for figure in accounts[2].figures] == [18, 30, 0]
        assert bench.log.state.violations == []
