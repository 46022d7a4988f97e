"""Accounts of many runs and several boundaries: they fit, and every judge comes to what it came to before."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_bench import Bench, job_id, job_plan
from lab_commitments import enact, lift, pause_document, slow_down_document

from pacekeeper.node.desk import Reported
from pacekeeper.node.fitting import fit_parts
from pacekeeper.node.gate import Hold, Throttle
from pacekeeper.protocol import limits
from pacekeeper.protocol.commitments.constraints import Span
from pacekeeper.protocol.compute.bounds import Bounds
from pacekeeper.protocol.documents.commitment_model import Pause, SlowDown
from pacekeeper.v1 import statements_pb2 as pb

GIGA = 10**9
EDGES = (0, 10, 20, 30, 40)
MANY_CHIPS = '[[pools]]\nmodel = "c"\ncount = 999\npeak = "1e9 FLOP/s"\n'

moments = st.sampled_from(EDGES)
measures = st.one_of(
    st.builds(Pause, st.integers(1, 300), st.just(0)), st.builds(SlowDown, st.integers(1, 9), st.just(0))
)
spans = st.lists(
    st.builds(
        lambda measure, times: Span("c", measure, (), times[0], times[1], times[2] if times[2] > times[1] else None),
        measures,
        st.tuples(moments, moments, moments).map(sorted),
    ),
    min_size=1,
    max_size=3,
)
cells = st.dictionaries(st.integers(0, 3), st.integers(0, 60), min_size=1, max_size=4)
runs = st.lists(st.tuples(cells, st.integers(0, 400)), min_size=1, max_size=14)


def figure(run: str, part: int, amount: int) -> pb.RunFigure:
    estimates = [
        pb.Estimate(method=pb.METHOD_FRAMEWORK_COUNT, amount=amount),
        pb.Estimate(method=pb.METHOD_CHIP_TIME, amount=3 * amount + part, margin_ppm=9),
    ]
    return pb.RunFigure(run=run, part=part, steps=amount % 7, chip_ms=10 + part, estimates=estimates)


def judged(figures: list[pb.RunFigure], span: Span, before: dict[str, int]) -> tuple[int, int]:
    """What conduct-1 and conduct-2 make of figures without margins: for certain inside, and at most."""
    sums = []
    until_ms = span.until_ms or EDGES[-1]
    for touching in (False, True):
        found: dict[str, int] = {}
        for each in figures:
            start_ms, end_ms = list(pairwise(EDGES))[each.part]
            inside = span.enforced_ms <= start_ms and end_ms <= until_ms
            if inside or (touching and span.enforced_ms < end_ms and start_ms < until_ms):
                found[each.run] = found.get(each.run, 0) + each.estimates[0].amount
        for run, amount in found.items():
            if isinstance(span.measure, Pause):
                total = before[run] + sum(each.estimates[0].amount for each in figures if each.run == run)
                found[run] = min(amount, max(0, total - span.measure.above_gflop))
        sums.append(sum(found.values()))
    return sums[0], sums[1]


@settings(max_examples=400, deadline=None)
@given(runs, spans, st.booleans())
def test_what_is_judged_stays_what_it_was(
    rows: list[tuple[dict[int, int], int]], bound: list[Span], unknown: bool
) -> None:
    """SPEC node-48: in few figures or many; no run and no part that counts has more or less than before."""
    names = [f"run-{number:02}" for number in range(len(rows))]
    before = {name: total for name, (_, total) in zip(names, rows, strict=True)}
    figures = [
        figure(name, part, amount)
        for name, (parts, _) in zip(names, rows, strict=True)
        for part, amount in sorted(parts.items())
    ]

    def known(name: str) -> Bounds | None:
        return None if unknown and name == "run-00" else Bounds(before[name], before[name])

    for room in range(len(rows), len(figures) + 1, 3):
        fitted = fit_parts(figures, EDGES, bound, known, room)
        if fitted is None:
            continue
        assert len(fitted) <= room
        assert [(each.run, each.part) for each in fitted] == sorted({(each.run, each.part) for each in fitted})
        for span in bound:
            assert judged(fitted, span, before) == judged(figures, span, before)
        for name in names:
            told = [[each for each in some if each.run == name] for some in (figures, fitted)]
            assert len({sum(one.steps for one in some) for some in told}) == 1
            assert len({sum(one.chip_ms for one in some) for some in told}) == 1
            assert len({sum(one.estimates[1].amount for one in some) for some in told}) == 1


async def work(bench: Bench, numbers: range, used: dict[int, dict[int, list[int]]], until_ms: int) -> int:
    """Jobs that make a gigaFLOP in each half second in which they may; returns how many half-seconds that were."""
    worked = 0
    while bench.clock.wall_ms < until_ms:
        told = [bench.permits.decide(job_id(number)) for number in numbers]
        await bench.run_to(bench.clock.wall_ms + 500)
        period = bench.agreement.period_of(bench.clock.wall_ms - 1)
        for number, decision in zip(numbers, told, strict=True):
            figures = used.setdefault(number, {}).setdefault(period, [0, 0, 0])
            figures[2] += 500
            if not isinstance(decision, Hold):
                made = decision.flop_per_s * 9 // 20 if isinstance(decision, Throttle) else GIGA
                figures[0], figures[1] = figures[0] + made, figures[1] + 1
                worked += 1
            reported = [Reported(when, *values) for when, values in used[number].items() if when >= period - 1]
            bench.book.write(*bench.desk.report(job_id(number), reported, closing=False))
    return worked


@pytest.mark.parametrize("measure", ["pause", "slow-down"])
async def test_a_lab_of_many_runs_keeps_a_commitment_that_comes_and_goes_in_one_period(
    tmp_path: Path, measure: str
) -> None:
    """SPEC node-48, SPEC conduct-4: 150 runs in four parts are 600 figures; the account has 256 and convicts nobody."""
    numbers = range(1, 151)
    async with Bench.open(tmp_path, pools=MANY_CHIPS, period="60 s") as bench:
        for number in numbers:
            bench.desk.open_job(job_plan(f"run-{number}", number))
        used: dict[int, dict[int, list[int]]] = {}
        await work(bench, numbers, used, bench.end(0) + 5_000)
        if measure == "pause":
            document = pause_document(wind_down="6 s", above="20e9 FLOP")
        else:
            document = slow_down_document(wind_down="6 s", rate="90e9 FLOP/s")
        ident = enact(bench.log, document)
        await work(bench, numbers, used, bench.end(0) + 28_000)
        held = [isinstance(bench.permits.decide(job_id(number)), Hold) for number in numbers]
        lift(bench.log, ident)
        await bench.read_all()
        assert await work(bench, numbers, used, bench.end(0) + 40_000) > 150
        for number in numbers:
            bench.book.write(*bench.desk.report(job_id(number), [], closing=True))
        await bench.run_to(bench.end(1) + 5_000)
        [account] = [item.account for item in bench.log.mine(pb.ComputeAttestation) if item.account.period == 1]
        assert len(account.splits_ms) == 3
        assert all(held) == (measure == "pause")
        assert len(account.figures) <= limits.MAX_FIGURES
        made = sum(of_period[1][0] for of_period in used.values())
        assert 0 <= sum(each.estimates[0].amount for each in account.figures) * GIGA - made <= 4 * len(numbers) * GIGA
        assert bench.log.state.violations == []
        assert not any(conduct.undecided for conduct in bench.log.state.conduct.values())
