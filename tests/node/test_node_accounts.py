"""Accounts, property-based: whatever jobs report and however the daemon came and went, they add up and lose nothing."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from agreements import build_document, signing_key
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_bench import job_id

from pacekeeper.client.successors import KeyFiles
from pacekeeper.node.accounts import build_account, run_total
from pacekeeper.node.agenda import next_step
from pacekeeper.node.book import Book
from pacekeeper.node.journal import Journal
from pacekeeper.node.ledger import Figure, Ledger
from pacekeeper.node.records import (
    AnyRecord,
    Beat,
    Inventory,
    JobClosed,
    JobOpened,
    LogSeen,
    Opened,
    Pool,
    Up,
    Usage,
    decode_record,
    encode_record,
)
from pacekeeper.node.runs import make_checkpoint_record
from pacekeeper.node.signer import LabKeys
from pacekeeper.protocol.documents.agreement import Agreement, compile_agreement
from pacekeeper.protocol.readings import read_account
from pacekeeper.v1 import statements_pb2 as pb

PERIODS = 3
PERIOD_MS = 10_000


@cache
def agreement() -> Agreement:
    return compile_agreement(build_document(period="10 s")[0])


def at(offset_ms: int) -> int:
    return agreement().calendar.epoch_ms + offset_ms


pools = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 10**6), st.integers(1, 10**6)), min_size=1, max_size=3
).map(lambda items: tuple(Pool(f"model-{n}", *item) for n, item in enumerate(items)))
jobs = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from([1, 2]), st.integers(0, 100_000)),
    min_size=1,
    max_size=4,
)
usages = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, PERIODS - 1),
        st.integers(0, 2**100) | st.integers(0, 10**10),
        st.integers(0, 1000),
        st.integers(0, 60_000),
    ),
    max_size=25,
)
watches = st.lists(st.tuples(st.integers(-20_000, 40_000), st.integers(0, 30_000)), max_size=5)


def build(pools: tuple[Pool, ...], jobs: list[tuple[int, int, int, int]], watches: list[tuple[int, int]]) -> Ledger:
    ledger = Ledger()
    ledger.apply(Opened(1, agreement().fingerprint, "borealis", b"k" * 32))
    ledger.apply(Inventory(at(0), pools, 600_000))
    for number, (run, pool, method, margin_ppm) in enumerate(jobs):
        ledger.apply(JobOpened(at(0), job_id(number), f"run-{run}", 1, f"model-{pool}", method, margin_ppm))
    for start, length in watches:
        ledger.apply(Up(at(start)))
        ledger.apply(Beat(at(start + length)))
    return ledger


def usage_records(jobs: list[tuple[int, int, int, int]], usages: list[tuple[int, int, int, int, int]]) -> list[Usage]:
    return [
        Usage(at(0), job_id(job), period, (flop if jobs[job][2] == 1 else 0).to_bytes(13, "big"), steps, chip_ms)
        for job, period, flop, steps, chip_ms in usages
        if job < len(jobs)
    ]


@settings(max_examples=120, deadline=None)
@given(pools, jobs, usages, watches)
def test_every_account_adds_up_and_has_the_shape_of_a_statement(
    pools: tuple[Pool, ...],
    jobs: list[tuple[int, int, int, int]],
    usages: list[tuple[int, int, int, int, int]],
    watches: list[tuple[int, int]],
) -> None:
    """SPEC node-5: training, idle and unaccounted time add up to the inventory. SPEC node-6: idle was watched."""
    ledger = build(pools, jobs, watches)
    for record in usage_records(jobs, usages):
        ledger.apply(record)
    count = sum(pool.count for pool in pools)
    for period in range(PERIODS):
        account = build_account(ledger, agreement(), period)
        read_account(account, account.ByteSize())
        times = {item.category: item.chip_ms for item in account.time}
        assert sum(times.values()) == count * PERIOD_MS
        assert times.get(pb.CATEGORY_TRAINING, 0) == sum(figure.chip_ms for figure in account.figures)
        start, end = period * PERIOD_MS, (period + 1) * PERIOD_MS
        watched = sum(any(first <= ms < first + length for first, length in watches) for ms in range(start, end, 50))
        assert times.get(pb.CATEGORY_IDLE, 0) <= count * (watched + 2 * len(watches)) * 50
        margins = agreement().margins
        for figure in account.figures:
            assert all(item.margin_ppm <= margins[item.method] for item in figure.estimates)


@settings(max_examples=80, deadline=None)
@given(pools, jobs, usages)
def test_no_operation_is_lost_to_rounding_or_to_the_order_of_reports(
    pools: tuple[Pool, ...], jobs: list[tuple[int, int, int, int]], usages: list[tuple[int, int, int, int, int]]
) -> None:
    records = usage_records(jobs, usages)
    forwards, backwards = build(pools, jobs, []), build(pools, jobs, [])
    for record in records:
        forwards.apply(record)
    for record in [*reversed(records), *records]:
        backwards.apply(record)
    for period in range(PERIODS):
        account = build_account(forwards, agreement(), period)
        assert account == build_account(backwards, agreement(), period)
        for figure in account.figures:
            by_method = {item.method: item.amount for item in figure.estimates}
            flop = sum(
                max((int.from_bytes(r.flop, "big") for r in records if r.job == job and r.period == period), default=0)
                for job in {job_id(n) for n, plan in enumerate(jobs) if f"run-{plan[0]}" == figure.run}
            )
            if pb.METHOD_FRAMEWORK_COUNT in by_method:
                amount = min(-(-flop // 10**9), 2**64 - 1)
                assert by_method[pb.METHOD_FRAMEWORK_COUNT] == amount
            assert pb.METHOD_CHIP_TIME in by_method


@settings(max_examples=80, deadline=None)
@given(pools, jobs, usages)
def test_checkpoint_record_is_the_sum_of_the_runs_accounts(
    pools: tuple[Pool, ...], jobs: list[tuple[int, int, int, int]], usages: list[tuple[int, int, int, int, int]]
) -> None:
    ledger = build(pools, jobs, [])
    for record in usage_records(jobs, usages):
        ledger.apply(record)
    for run in ledger.runs.values():
        total = run_total(ledger, agreement(), run, sorted(run.usage))
        for method, measure in total.measures.items():
            attested = 0
            for period in run.usage:
                for figure in build_account(ledger, agreement(), period).figures:
                    if figure.run == run.name:
                        attested += sum(item.amount for item in figure.estimates if item.method == method)
            assert measure.amount >= attested
            if measure.amount < 2**64:
                assert measure.amount == attested
        stated = make_checkpoint_record(ledger, agreement(), "borealis", run, b"d" * 32, PERIODS)
        assert stated is not None
        assert stated.steps == total.steps
        assert len(stated.estimates) >= 1


def test_larger_of_each_figure_stands_whatever_order_reports_come_in() -> None:
    ledger = build((Pool("model-0", 2, 1000, 10**6),), [(0, 0, 1, 0)], [])
    for flop, steps, chip_ms in ((5, 1, 0), (0, 2, 3), (4, 0, 9), (1, 1, 1)):
        ledger.apply(Usage(at(0), job_id(0), 0, bytes([flop]), steps, chip_ms))
    assert ledger.runs["run-0"].usage[0][job_id(0)] == Figure(5, 2, 9)


def test_count_of_half_a_runs_jobs_is_not_stated_for_the_run() -> None:
    ledger = build((Pool("model-0", 2, 1000, 10**6),), [(0, 0, 1, 0), (0, 0, 2, 600_000)], [])
    ledger.apply(Usage(at(0), job_id(0), 0, (10**9).to_bytes(8, "big"), 1, 1_000))
    [figure] = build_account(ledger, agreement(), 0).figures
    assert [item.method for item in figure.estimates] == [1, 2]
    ledger.apply(Usage(at(0), job_id(1), 0, b"", 1, 2_000))
    [figure] = build_account(ledger, agreement(), 0).figures
    assert [(item.method, item.amount) for item in figure.estimates] == [(2, 3_000)]


def test_job_with_a_margin_over_the_agreements_counts_by_chip_time_only() -> None:
    ledger = build((Pool("model-0", 2, 1000, 10**6),), [(0, 0, 1, 50_001)], [])
    ledger.apply(Usage(at(0), job_id(0), 0, (10**9).to_bytes(8, "big"), 1, 1_500))
    [figure] = build_account(ledger, agreement(), 0).figures
    assert [(item.method, item.amount) for item in figure.estimates] == [(2, 1_500)]


def test_account_keeps_the_inventory_of_its_own_period() -> None:
    ledger = build((Pool("model-0", 2, 1000, 10**6),), [], [])
    ledger.apply(Inventory(at(15_000), (Pool("model-0", 4, 1000, 10**6),), 600_000))
    assert [build_account(ledger, agreement(), period).pools[0].count for period in range(3)] == [2, 4, 4]


def test_ledger_is_a_pure_fold_over_what_the_journal_holds() -> None:
    key = signing_key("/lab/borealis")
    records: list[AnyRecord] = [
        Inventory(at(0), (Pool("model-0", 2, 1000, 10**6),), 600_000),
        Up(at(0)),
        LogSeen(at(1), 1, (b"h" * 32,), at(0), at(0)),
        JobOpened(at(1), job_id(0), "run-0", 1, "model-0", 1, 0),
        Usage(at(2), job_id(0), 0, b"\x01\x00", 3, 4),
        JobClosed(at(3), job_id(0)),
        Beat(at(20_000)),
    ]
    assert [decode_record(encode_record(record)) for record in records] == records

    class Still:
        def now_ms(self) -> int:
            return at(20_000)

        def monotonic_ms(self) -> int:
            return 0

        async def sleep(self, duration_ms: int) -> None:
            raise AssertionError(duration_ms)

    async def scenario(path: Path) -> None:
        journal, ledger = Journal(path), Ledger()
        assert list(journal.recover()) == []
        book = Book(journal, ledger, LabKeys(KeyFiles([key]), key.key_id), Still())
        book.write(Opened(1, agreement().fingerprint, "borealis", key.key_id), *records)
        step = next_step(ledger, agreement(), at(20_000), settled=lambda end: True)
        book.close()
        reopened, again = Journal(path), Ledger()
        for _, payload in reopened.recover():
            again.apply(decode_record(payload))
        reopened.close()
        assert build_account(again, agreement(), 0) == build_account(ledger, agreement(), 0)
        assert next_step(again, agreement(), at(20_000), settled=lambda end: True) == step is not None

    with TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder) / "journal"))
