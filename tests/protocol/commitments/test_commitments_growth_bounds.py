"""Growth limits between bounds, against exact windows and an independent model."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from slow_measures import growth_overruns

from pacekeeper.protocol.commitments.growth import growth_windows
from pacekeeper.protocol.commitments.growth_bounds import NOTHING_CARRIED, BoundedWindow, bounded_windows, excess
from pacekeeper.protocol.compute.bounds import NOTHING, Bounds, Outcome
from pacekeeper.protocol.documents.commitment_model import Growth

FIRST, LAST = 5, 20
MEASURES = st.builds(
    Growth,
    window=st.integers(1, 4),
    baseline=st.integers(1, 5),
    growth_ppm=st.integers(0, 10**6),
    floor_gflop=st.integers(1, 100),
    banking_ppm=st.integers(0, 10**6),
    debt_ppm=st.integers(0, 2 * 10**6),
)
USED = st.dictionaries(st.integers(0, LAST), st.integers(0, 200))


def bounded(measure: Growth, used: dict[int, Bounds], last: int = LAST) -> list[BoundedWindow]:
    inside = {period: bounds for period, bounds in used.items() if period >= FIRST}
    return list(
        bounded_windows(
            lambda first, end: measure, lambda period: used.get(period, NOTHING), inside, FIRST, NOTHING_CARRIED, last
        )
    )


@settings(deadline=None)
@given(MEASURES, USED)
def test_with_exact_figures_they_are_the_exact_windows(measure: Growth, used: dict[int, int]) -> None:
    """SPEC commitments-44, SPEC conduct-6."""
    found = bounded(measure, {period: Bounds(amount, amount) for period, amount in used.items()})
    exact = growth_windows(measure, used, FIRST, LAST)
    assert [(w.first, w.end, w.carried, w.allowance, w.used) for w in found] == [
        (w.first, w.end, (w.carried,) * 2, (w.allowance,) * 2, (w.used,) * 2) for w in exact
    ]
    assert [w.outcome is Outcome.EXCEEDED for w in found] == [w.overrun > 0 for w in exact]
    assert all(w.outcome is not Outcome.INDETERMINATE for w in found)


@settings(deadline=None)
@given(MEASURES, USED, st.data())
def test_whatever_the_truth_is_it_lies_between_the_bounds(
    measure: Growth, used: dict[int, int], data: st.DataObject
) -> None:
    """SPEC conduct-6: so nothing convicts that may have been lawful, and nothing is within that may have been too
    much."""
    margins = {period: data.draw(st.tuples(st.integers(0, 30), st.integers(0, 30))) for period in used}
    between = {p: Bounds(max(0, amount - margins[p][0]), amount + margins[p][1]) for p, amount in used.items()}
    for window, truth in zip(bounded(measure, between), growth_windows(measure, used, FIRST, LAST), strict=True):
        assert window.carried.low <= truth.carried <= window.carried.high
        assert window.allowance.low <= truth.allowance <= window.allowance.high
        assert window.used.low <= truth.used <= window.used.high
        assert window.outcome is not Outcome.EXCEEDED or truth.overrun
        assert window.outcome is not Outcome.WITHIN or not truth.overrun
        beyond = excess(window, between)
        assert sum(b.low for b in beyond.values()) <= truth.overrun <= sum(b.high for b in beyond.values())


@settings(deadline=None)
@given(MEASURES, USED, st.sets(st.integers(FIRST, LAST)))
def test_an_independent_model_finds_the_same(measure: Growth, used: dict[int, int], under: set[int]) -> None:
    """SPEC commitments-44, SPEC commitments-63: also where the limit was not in force in some periods."""
    totals = {period: Bounds(amount, amount) for period, amount in used.items()}
    inside = {period: bounds for period, bounds in totals.items() if period in under}
    found = bounded_windows(
        lambda first, end: measure, lambda period: totals.get(period, NOTHING), inside, FIRST, NOTHING_CARRIED, LAST
    )
    overruns = [(w.first, w.allowance.low, sum(bounds.low for bounds in excess(w, inside).values())) for w in found]
    assert overruns == growth_overruns(
        window=measure.window,
        baseline=measure.baseline,
        growth_ppm=measure.growth_ppm,
        floor_gflop=measure.floor_gflop,
        banking_ppm=measure.banking_ppm,
        debt_ppm=measure.debt_ppm,
        totals=used,
        under=under,
        first=FIRST,
        last=LAST,
    )
