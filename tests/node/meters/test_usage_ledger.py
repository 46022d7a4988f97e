"""The ledger splits by period exactly and loses nothing to rounding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacekeeper.node.meters.usage import PeriodCalendar, PeriodFigure, UsageLedger

CALENDAR = PeriodCalendar(epoch_ms=1_000, period_ms=10_000)


def test_chip_time_is_split_exactly_at_period_ends() -> None:
    """SPEC metering-1: chips times wall time, split where a period ends."""
    ledger = UsageLedger(CALENDAR, chips=3, opened_ms=9_000)
    ledger.advance(24_500, flop=0, steps=0)
    assert ledger.figures() == (
        PeriodFigure(0, 0, 0, 3 * 2_000),
        PeriodFigure(1, 0, 0, 3 * 10_000),
        PeriodFigure(2, 0, 0, 3 * 3_500),
    )


def test_work_between_two_samples_is_spread_over_the_time_between_them() -> None:
    """SPEC metering-2: the module's own example."""
    ledger = UsageLedger(PeriodCalendar(0, 10_000), chips=1, opened_ms=8_000)
    ledger.advance(14_000, flop=600, steps=3)
    assert ledger.figures() == (PeriodFigure(0, 200, 1, 2_000), PeriodFigure(1, 400, 2, 4_000))


def test_a_sample_at_a_boundary_belongs_to_the_period_that_ended() -> None:
    ledger = UsageLedger(CALENDAR, chips=1, opened_ms=1_000)
    ledger.advance(11_000, flop=5, steps=1)
    assert ledger.figures() == (PeriodFigure(0, 5, 1, 10_000),)


def test_operations_may_pass_64_bits() -> None:
    ledger = UsageLedger(CALENDAR, chips=1, opened_ms=1_000)
    ledger.advance(2_000, flop=10**30, steps=1)
    assert ledger.figures()[0].flop == 10**30


_samples = st.lists(
    st.tuples(st.integers(0, 50_000), st.integers(0, 10**25), st.integers(0, 1_000)), min_size=1, max_size=30
)


@given(_samples, st.integers(1, 10_000))
def test_however_it_is_sampled_nothing_is_lost_and_nothing_is_added(
    samples: list[tuple[int, int, int]], chips: int
) -> None:
    """SPEC metering-2: the sums over periods are the totals, and chip time does not depend on when it was sampled."""
    ledger = UsageLedger(CALENDAR, chips, opened_ms=5_000)
    now, flop, steps = 5_000, 0, 0
    for elapsed, more_flop, more_steps in samples:
        now, flop, steps = now + elapsed, flop + more_flop, steps + more_steps
        before = {item.period: item for item in ledger.figures()}
        ledger.advance(now, flop, steps)
        for item in ledger.figures():
            old = before.get(item.period, PeriodFigure(item.period, 0, 0, 0))
            assert item.flop >= old.flop
            assert item.steps >= old.steps
    figures = ledger.figures()
    assert sum(item.flop for item in figures) == flop
    assert sum(item.steps for item in figures) == steps
    once = UsageLedger(CALENDAR, chips, opened_ms=5_000)
    once.advance(now, 0, 0)
    timed = {item.period: item.chip_ms for item in figures if item.chip_ms}
    assert timed == {item.period: item.chip_ms for item in once.figures()}


def test_a_clock_that_runs_back_takes_no_time_away() -> None:
    ledger = UsageLedger(CALENDAR, chips=1, opened_ms=5_000)
    ledger.advance(9_000, flop=10, steps=1)
    ledger.advance(7_000, flop=20, steps=2)
    assert ledger.figures() == (PeriodFigure(0, 20, 2, 4_000),)


def test_totals_that_go_down_and_moments_before_the_agreement_are_the_callers_mistake() -> None:
    ledger = UsageLedger(CALENDAR, chips=1, opened_ms=5_000)
    ledger.advance(6_000, flop=10, steps=1)
    with pytest.raises(ValueError, match="never go down"):
        ledger.advance(7_000, flop=9, steps=1)
    with pytest.raises(ValueError, match="before the agreement"):
        UsageLedger(CALENDAR, chips=1, opened_ms=999)
    with pytest.raises(ValueError, match="at least one chip"):
        UsageLedger(CALENDAR, chips=0, opened_ms=5_000)


def test_the_next_boundary_is_never_now() -> None:
    ledger = UsageLedger(CALENDAR, chips=1, opened_ms=5_000)
    assert ledger.ms_to_boundary(5_000) == 6_000
    assert ledger.ms_to_boundary(11_000) == 10_000
