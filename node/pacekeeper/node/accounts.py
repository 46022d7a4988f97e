"""A period's account, from what the journal knows. Pure: the same ledger gives the same account, to the byte.

Framework counts are rounded up to gigaFLOP per run and period. Chip-time is an upper-rounded product of time, peak and
utilisation, with the margin that the configuration states. The categories of time add up to the whole inventory:
training is what jobs reported, idle is what the daemon saw unused, and what it did not see is unaccounted.

Where a constraint on the lab began, bit or ended inside the period, figures are split there, each part rounded up by
itself (parts.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pacekeeper.node.fitting import Before, fit_parts
from pacekeeper.node.ledger import Figure, Job, Ledger, Run
from pacekeeper.node.parts import split_usage
from pacekeeper.node.records import Inventory
from pacekeeper.protocol import limits
from pacekeeper.protocol.commitments.constraints import Span
from pacekeeper.protocol.compute.bounds import interval
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.units import PPM, UINT64_MAX, flop_to_unit
from pacekeeper.v1 import statements_pb2 as pb

_MAX_ACCOUNT_BYTES: Final = limits.MAX_ATTESTATION_BYTES - 1_000  # room for what else the statement says
_MS_PPM: Final = 1_000 * PPM  # milliseconds times parts per million, per second


@dataclass(slots=True)
class Measure:
    """One method's amount, and the half-width of its interval times PPM, so that sums stay exact."""

    amount: int = 0
    width_ppm: int = 0

    def add(self, amount: int, margin_ppm: int) -> None:
        self.amount += amount
        self.width_ppm += amount * margin_ppm


@dataclass(slots=True)
class RunTotal:
    """What a run used, if anything: steps, chip-time, and a measure for each method that covers all of it."""

    used: bool = False
    steps: int = 0
    chip_ms: int = 0
    measures: dict[int, Measure] = field(default_factory=dict)


def build_account(
    ledger: Ledger,
    agreement: Agreement,
    period: int,
    spans: Sequence[Span] = (),
    before: Before = lambda _: None,
) -> pb.PeriodAccount:
    """Return the account of a period that is over, and in which no run is without a measure.

    spans, before: what binds the lab in the period, and each run's compute before it; looked at only if the account
    would be too large (fitting.py).
    SPEC node-33: it MUST be split at each boundary inside its period that is known, unless it would be too large so.
    """
    splits = splits_in(ledger, period)
    account = _build_account(ledger, agreement, period, splits)
    if not splits or _fits(account):
        return account
    edges = (agreement.period_start_ms(period), *splits, agreement.period_end_ms(period))
    for room in (limits.MAX_FIGURES, limits.MAX_FIGURES // 2):  # fewer where names and figures are long
        fitted = fit_parts(account.figures, edges, spans, before, room)
        if fitted is None:
            break
        del account.figures[:]
        account.figures.extend(fitted)
        if _fits(account):
            return account
    return _build_account(ledger, agreement, period, ())


def _fits(account: pb.PeriodAccount) -> bool:
    return len(account.figures) <= limits.MAX_FIGURES and account.ByteSize() <= _MAX_ACCOUNT_BYTES


def splits_in(ledger: Ledger, period: int) -> Sequence[int]:
    """Return the moments at which a period's figures are split, ascending."""
    return ledger.splits.get(period, ())[: limits.MAX_SPLITS]


def _build_account(ledger: Ledger, agreement: Agreement, period: int, splits: Sequence[int]) -> pb.PeriodAccount:
    """Build it with these splits.

    SPEC node-5: training, idle and unaccounted time MUST add up to the pools' count times the period.
    SPEC node-6: time that the daemon did not watch MUST NOT be called idle.
    """
    inventory = inventory_for(ledger, agreement.period_end_ms(period))
    totals = {name: run_total(ledger, agreement, ledger.runs[name], (period,)) for name in _runs_in(ledger, period)}
    used = {name: total for name, total in totals.items() if _is_used(total)}
    count = sum(pool.count for pool in inventory.pools)
    capacity = count * agreement.calendar.period_ms
    chip_ms = _fit({name: total.chip_ms for name, total in used.items()}, capacity)
    training = sum(chip_ms.values())
    start, end = agreement.period_start_ms(period), agreement.period_end_ms(period)
    # Whether training fell into the daemon's watch or outside is not known, so all of it is taken off the watched time.
    idle = max(0, count * _watched_ms(ledger.up, start, end) - training)
    times = (
        (pb.CATEGORY_TRAINING, training),
        (pb.CATEGORY_IDLE, idle),
        (pb.CATEGORY_UNACCOUNTED, capacity - training - idle),
    )
    return pb.PeriodAccount(
        period=period,
        figures=[
            figure
            for name, total in sorted(used.items())
            for figure in _figures(ledger, agreement, ledger.runs[name], period, splits, total, chip_ms[name])
        ],
        time=[pb.CategoryTime(category=category, chip_ms=spent) for category, spent in times if spent],
        pools=[
            pb.AcceleratorPool(model=pool.model, count=pool.count, peak_gflop_per_s=pool.peak_gflop_per_s)
            for pool in sorted(inventory.pools, key=lambda pool: pool.model)
        ],
        splits_ms=[split - start for split in splits],
    )


def _figures(
    ledger: Ledger,
    agreement: Agreement,
    run: Run,
    period: int,
    splits: Sequence[int],
    whole: RunTotal,
    fitted_ms: int,
) -> list[pb.RunFigure]:
    """A run's figure, or one for each part in which it was at work. Chip-time that was made to fit adds up to that."""
    figures = []
    upto_ms = given_ms = 0
    for part, usage in enumerate(_parts(ledger, agreement, run, period, splits)):
        total = RunTotal()
        measures = _part_measures(ledger, agreement, usage, period, total) or {}
        upto_ms += total.chip_ms
        chip_ms = (fitted_ms * upto_ms // whole.chip_ms if whole.chip_ms else 0) - given_ms
        given_ms += chip_ms
        for method, (amount, margin_ppm) in measures.items():
            total.measures.setdefault(method, Measure()).add(amount, margin_ppm)
        if _is_used(total):
            figures.append(
                pb.RunFigure(
                    run=run.name,
                    steps=min(total.steps, UINT64_MAX),
                    chip_ms=chip_ms,
                    estimates=to_estimates(total.measures),
                    part=part,
                )
            )
    return figures


def _parts(
    ledger: Ledger, agreement: Agreement, run: Run, period: int, splits: Sequence[int]
) -> list[Mapping[str, Figure]]:
    """What each job of a run used, in each part of a period."""
    usage = run.usage.get(period, {})
    if not splits:
        return [usage]
    parts: list[dict[str, Figure]] = [{} for _ in range(len(splits) + 1)]
    start_ms, end_ms = agreement.period_start_ms(period), agreement.period_end_ms(period)
    for job_id, figure in usage.items():
        shares = split_usage(figure.marks, ledger.jobs[job_id].opened_ms, start_ms, end_ms, splits)
        for part, (flop, steps, chip_ms) in zip(parts, shares, strict=True):
            part[job_id] = Figure(flop, steps, chip_ms)
    return list(parts)


def run_total(ledger: Ledger, agreement: Agreement, run: Run, periods: Iterable[int]) -> RunTotal:
    """Add up a run over periods, each part rounded up by itself, exactly as the attestations of those periods are.

    A method is stated only if it covers every job with usage in every period: a count of half the jobs says nothing
    about the run.
    """
    total = RunTotal()
    covering: set[int] | None = None
    for period in periods:
        for usage in _parts(ledger, agreement, run, period, splits_in(ledger, period)):
            measures = _part_measures(ledger, agreement, usage, period, total)
            if measures is None:
                continue
            total.used = True
            covering = set(measures) if covering is None else covering & set(measures)
            for method, (amount, margin_ppm) in measures.items():
                total.measures.setdefault(method, Measure()).add(amount, margin_ppm)
    total.measures = {method: total.measures[method] for method in sorted(covering or ())}
    return total


def parts_at_most(ledger: Ledger, agreement: Agreement, run: Run, period: int) -> list[int]:
    """Return the gigaFLOP that a run made at most in each part of a period, by the estimate that counts."""
    return [
        _at_most(_part_measures(ledger, agreement, usage, period, RunTotal()), usage)
        for usage in _parts(ledger, agreement, run, period, splits_in(ledger, period))
    ]


def _at_most(measures: Mapping[int, tuple[int, int]] | None, usage: Mapping[str, Figure]) -> int:
    if measures is None:
        return 0
    if not measures:  # what no method that the agreement takes covers counts as it was reported
        return flop_to_unit(sum(figure.flop for figure in usage.values()))
    return interval(*measures[min(measures)]).high


def _part_measures(
    ledger: Ledger, agreement: Agreement, usage: Mapping[str, Figure], period: int, total: RunTotal
) -> dict[int, tuple[int, int]] | None:
    """Add the jobs' steps and time to total; return their amount and margin by method, or None without usage."""
    inventory = inventory_for(ledger, agreement.period_end_ms(period))
    flop = margin_ppm = spent = 0
    counted = used = False
    rates = {pool.model: pool.peak_gflop_per_s * pool.utilisation_ppm for pool in inventory.pools}
    fastest = max(rates.values(), default=0)
    framework = True
    for job_id, figure in usage.items():
        if not (figure.flop or figure.steps or figure.chip_ms):
            continue
        job = ledger.jobs[job_id]
        used = True
        total.steps += figure.steps
        total.chip_ms += figure.chip_ms
        spent += figure.chip_ms * rates.get(job.pool, fastest)
        if _is_counted(job, agreement.margins, period):
            counted = True
            flop += figure.flop
            margin_ppm = max(margin_ppm, job.margin_ppm)
        else:
            framework = False
    if not used:
        return None
    measures: dict[int, tuple[int, int]] = {}
    if counted and framework:
        measures[pb.METHOD_FRAMEWORK_COUNT] = (flop_to_unit(flop), margin_ppm)
    if _takes_chip_time(inventory, agreement):
        measures[pb.METHOD_CHIP_TIME] = (-(-spent // _MS_PPM), inventory.chip_time_margin_ppm)
    return measures


def _takes_chip_time(inventory: Inventory, agreement: Agreement) -> bool:
    """Whether the agreement takes that method with the margin that the lab's configuration states."""
    return inventory.chip_time_margin_ppm <= agreement.margins.get(pb.METHOD_CHIP_TIME, -1)


def _is_counted(job: Job, margins: Mapping[int, int], period: int) -> bool:
    """Whether the agreement takes the job's own count, with the margin that the job states.

    SPEC node-25: a job that could not count everything MUST count by chip-time only, from the period in which that
    began.
    """
    counts = job.method == pb.METHOD_FRAMEWORK_COUNT and job.margin_ppm <= margins.get(job.method, -1)
    return counts and job.counted_whole(period)


def runs_without_measure(ledger: Ledger, agreement: Agreement, period: int) -> list[str]:
    """Runs that were at work in a period and for which no method that the agreement takes covers all of their jobs.

    Chip-time covers every job, so there are none where the agreement takes it.
    """
    if _takes_chip_time(inventory_for(ledger, agreement.period_end_ms(period)), agreement):
        return []
    runs = [ledger.runs[name] for name in _runs_in(ledger, period)]
    return [
        run.name
        for run in runs
        if any(
            _part_measures(ledger, agreement, usage, period, RunTotal()) == {}
            for usage in _parts(ledger, agreement, run, period, splits_in(ledger, period))
        )
    ]


def to_estimates(measures: Mapping[int, Measure]) -> list[pb.Estimate]:
    """Write measures as estimates: ascending by method, margins rounded up, amounts at most 64 bits."""
    return [
        pb.Estimate(
            method=pb.Method.ValueType(method),
            amount=min(measure.amount, UINT64_MAX),
            margin_ppm=min(PPM, -(-measure.width_ppm // measure.amount)) if measure.amount else 0,
        )
        for method, measure in sorted(measures.items())
    ]


def inventory_for(ledger: Ledger, end_ms: int) -> Inventory:
    """Return the inventory that was in force when a period ended; before the first one, the first."""
    before = [inventory for inventory in ledger.inventories if inventory.at_ms < end_ms]
    return before[-1] if before else ledger.inventories[0]


def _runs_in(ledger: Ledger, period: int) -> list[str]:
    return sorted(ledger.runs_in.get(period, ()))


def _is_used(total: RunTotal) -> bool:
    return bool(total.measures) and bool(total.steps or total.chip_ms or any(m.amount for m in total.measures.values()))


def _watched_ms(intervals: Iterable[tuple[int, int]], start: int, end: int) -> int:
    return sum(max(0, min(last, end) - max(first, start)) for first, last in _disjoint(intervals))


def _disjoint(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge intervals: they overlap where the machine's clock was set back."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(intervals):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _fit(chip_ms: Mapping[str, int], capacity: int) -> dict[str, int]:
    """Scale chip-time down where jobs reported more than the inventory has; their estimates keep the full figure."""
    total = sum(chip_ms.values())
    if total <= capacity:
        return dict(chip_ms)
    return {name: spent * capacity // total for name, spent in chip_ms.items()}
