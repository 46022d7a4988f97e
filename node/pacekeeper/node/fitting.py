"""Fits an account in parts into the limit of figures without changing anything that is judged by it.

Pauses and slow-downs are judged by sums over the parts in which they bite (specs/conduct.md). So parts in which the
same ones bite are one to the judge; a part in which a run did nothing needs no figure; and among runs to which every
pause is the same (none is about them, or all their compute of the period is above its limit) it is the sum of a part
that counts, and not which of them it was. Within such a group, runs and parts are filled in turn, the "north-west
corner rule" of transport problems: every run keeps its sum, every part keeps its sum, and R runs in P parts take at
most R + P - 1 figures instead of R x P. The largest runs are told exactly for as long as there is room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, TypeAlias

from pacekeeper.protocol.commitments.constraints import Span
from pacekeeper.protocol.compute.bounds import NOTHING, Bounds, interval
from pacekeeper.protocol.documents.commitment_model import Pause, SlowDown
from pacekeeper.protocol.units import PPM
from pacekeeper.v1 import statements_pb2 as pb

_SHARES: Final = (0, 25, 50, 75, 100)  # per cent of the runs, the smallest, whose parts are told together

# A run's compute with its ancestors' before the period, as the log has it; None if the log does not know it yet.
Before: TypeAlias = Callable[[str], Bounds | None]


@dataclass(slots=True)
class Cell:
    """What a run did in one part: steps, chip-milliseconds, and amount and margin by method."""

    steps: int = 0
    chip_ms: int = 0
    estimates: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def amount(self) -> int:
        """GigaFLOP by the estimate that counts."""
        return self.estimates[min(self.estimates)][0]

    def add(self, other: Cell) -> None:
        """Add what another cell of the same methods says."""
        self.steps += other.steps
        self.chip_ms += other.chip_ms
        for method, (amount, margin_ppm) in other.estimates.items():
            mine, mine_ppm = self.estimates.get(method, (0, 0))
            width = mine * mine_ppm + amount * margin_ppm
            total = mine + amount
            self.estimates[method] = (total, min(PPM, -(-width // total)) if total else 0)


Row: TypeAlias = dict[int, Cell]  # by part


def fit_parts(
    figures: Iterable[pb.RunFigure], edges: Sequence[int], spans: Sequence[Span], before: Before, room: int
) -> list[pb.RunFigure] | None:
    """Return figures that say the same to every judge and are at most room many, or None if there are none.

    edges: the moments between which the parts lie, in ascending order; spans: what binds the lab in the period.
    SPEC node-48: each run's sum, and each part's sum within the runs that are judged alike, MUST stay what they were.
    """
    rows: dict[str, Row] = {}
    for figure in figures:
        rows.setdefault(figure.run, {})[figure.part] = _cell(figure)
    groups = _same_parts(edges, spans)
    folded = {name: _fold(row, groups) for name, row in rows.items()}
    kinds = {name: _kind(row, spans, before(name)) for name, row in folded.items()}
    by_size = sorted(folded, key=lambda name: (_total(folded[name]), name))
    for share in _SHARES:
        together = by_size[: len(by_size) * share // 100]
        told = folded | _transport({name: folded[name] for name in together}, kinds)
        if sum(map(len, told.values())) <= room:
            return [_figure(name, part, told[name][part]) for name in sorted(told) for part in sorted(told[name])]
    return None


def _same_parts(edges: Sequence[int], spans: Sequence[Span]) -> list[int]:
    """Return for each part the first one in which the same constraints bite."""
    first: dict[tuple[bool, ...], int] = {}
    found = []
    for part, (start_ms, end_ms) in enumerate(pairwise(edges)):
        signature = []
        for span in spans:
            judged = isinstance(span.measure, Pause | SlowDown)
            for from_ms in (span.enforced_ms,) if judged else (span.from_ms, span.enforced_ms):
                until_ms = end_ms if span.until_ms is None else span.until_ms
                signature += [from_ms <= start_ms and end_ms <= until_ms, from_ms < end_ms and start_ms < until_ms]
        found.append(first.setdefault(tuple(signature), part))
    return found


def _fold(row: Row, groups: Sequence[int]) -> Row:
    """Put together parts that are one to the judge, and those in which nothing was done with one of the others."""
    if len({tuple(cell.estimates) for cell in row.values()}) > 1:
        return row  # another method counts in some of them
    told: Row = {}
    for part, cell in sorted(row.items()):
        told.setdefault(groups[part], Cell()).add(cell)
    idle = [part for part, cell in told.items() if not cell.amount]
    busy = [part for part in told if part not in idle]
    home = min(busy or idle)
    for part in idle:
        if part != home:
            told[home].add(told.pop(part))
    return told


def _kind(row: Row, spans: Sequence[Span], before: Bounds | None) -> tuple[object, ...] | None:
    """Return what a run has in common with those that are judged alike; None if it is judged by itself.

    A pause is the same to two runs if it is about neither, up to the end of the period, or if all their compute of the
    period is above its limit.
    """
    margins = {cell.estimates[min(cell.estimates)][1] for cell in row.values() if cell.amount}
    methods = {tuple(cell.estimates) for cell in row.values()}
    if before is None or len(margins) > 1 or len(methods) > 1:
        return None
    own = NOTHING
    for cell in row.values():
        own = own.plus(interval(*cell.estimates[min(cell.estimates)]))
    above = []
    for span in spans:
        if isinstance(span.measure, Pause):
            limit = span.measure.above_gflop
            if before.low < limit < before.high + own.high:
                return None
            above.append(before.low >= limit)
    return (*above, *sorted(margins), *methods)


def _transport(rows: Mapping[str, Row], kinds: Mapping[str, tuple[object, ...] | None]) -> dict[str, Row]:
    """Fill parts and runs in turn, in each group of runs that are judged alike."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name in sorted(rows):
        kind = kinds[name]
        if kind is not None and _total(rows[name]):
            groups.setdefault(kind, []).append(name)
    told: dict[str, Row] = {}
    for names in groups.values():
        parts = sorted({part for name in names for part in rows[name]})
        left = {part: sum(rows[name][part].amount for name in names if part in rows[name]) for part in parts}
        for name in names:
            need = _total(rows[name])
            amounts: dict[int, int] = {}
            for part in parts:
                taken = min(need, left[part])
                if taken:
                    amounts[part] = taken
                    left[part] -= taken
                    need -= taken
            told[name] = _spread(rows[name], amounts)
    return told


def _spread(row: Row, amounts: Mapping[int, int]) -> Row:
    """Spread what a run did over parts with these amounts, all else in proportion and with nothing lost."""
    whole = Cell()
    for cell in row.values():
        whole.add(cell)
    counting, total = min(whole.estimates), sum(amounts.values())
    told: Row = {}
    done = 0
    for part, amount in amounts.items():
        before, done = done, done + amount

        def share(value: int, before: int = before, done: int = done) -> int:
            return value * done // total - value * before // total

        estimates = {
            method: (amount if method == counting else share(other), margin_ppm)
            for method, (other, margin_ppm) in whole.estimates.items()
        }
        told[part] = Cell(share(whole.steps), share(whole.chip_ms), estimates)
    return told


def _total(row: Row) -> int:
    return sum(cell.amount for cell in row.values())


def _cell(figure: pb.RunFigure) -> Cell:
    estimates = {int(each.method): (each.amount, each.margin_ppm) for each in figure.estimates}
    return Cell(figure.steps, figure.chip_ms, estimates)


def _figure(run: str, part: int, cell: Cell) -> pb.RunFigure:
    return pb.RunFigure(
        run=run,
        steps=cell.steps,
        chip_ms=cell.chip_ms,
        estimates=[
            pb.Estimate(method=pb.Method.ValueType(method), amount=amount, margin_ppm=margin_ppm if amount else 0)
            for method, (amount, margin_ppm) in sorted(cell.estimates.items())
        ],
        part=part,
    )
