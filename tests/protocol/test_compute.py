"""Intervals, outcomes and windows, against fractions and a model that keeps everything and adds it up each time."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacekeeper.protocol.compute.bounds import NOTHING, Bounds, Outcome, compare, interval
from pacekeeper.protocol.compute.calendar import Silence, Silences, shift_by_silence
from pacekeeper.protocol.compute.window import SlidingWindow
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.readings import read_estimates
from pacekeeper.v1 import statements_pb2 as pb

AMOUNTS = st.integers(0, 2**64 - 1)
MARGINS = st.integers(0, 1_000_000)


@given(AMOUNTS, MARGINS)
def test_intervals_are_rounded_outwards_by_less_than_one(amount: int, margin: int) -> None:
    """SPEC compute-1."""
    low, high = interval(amount, margin)
    exact_low = Fraction(amount) * (1_000_000 - margin) / 1_000_000
    exact_high = Fraction(amount) * (1_000_000 + margin) / 1_000_000
    assert exact_low - 1 < low <= exact_low
    assert exact_high <= high < exact_high + 1


def test_the_framework_count_is_what_counts() -> None:
    """SPEC compute-2."""
    count = pb.Estimate(method=pb.METHOD_FRAMEWORK_COUNT, amount=1_000, margin_ppm=1_000)
    chips = pb.Estimate(method=pb.METHOD_CHIP_TIME, amount=9_000, margin_ppm=500_000)
    margins: dict[int, int] = {}
    assert interval(*read_estimates([count, chips], margins)) == (999, 1_001)
    assert margins == {count.method: 1_000, chips.method: 500_000}
    assert interval(*read_estimates([chips], {})) == (4_500, 13_500)
    with pytest.raises(Refused, match="no estimate"):
        read_estimates([], {})


def test_outcomes_at_the_edge() -> None:
    """SPEC compute-3."""
    assert compare(Bounds(90, 100), 100) is Outcome.WITHIN
    assert compare(Bounds(90, 101), 100) is Outcome.INDETERMINATE
    assert compare(Bounds(100, 101), 100) is Outcome.INDETERMINATE
    assert compare(Bounds(101, 101), 100) is Outcome.EXCEEDED


@given(AMOUNTS, MARGINS, AMOUNTS, AMOUNTS)
def test_an_outcome_is_wrong_about_no_truth_within_the_interval(amount: int, margin: int, limit: int, at: int) -> None:
    """SPEC compute-3."""
    bounds = interval(amount, margin)
    truth = bounds.low + at % (bounds.high - bounds.low + 1)
    outcome = compare(bounds, limit)
    assert not (outcome is Outcome.WITHIN and truth > limit)
    assert not (outcome is Outcome.EXCEEDED and truth <= limit)


class Ledger:
    """Every change ever made; a window's total is added up when asked for."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.changes: list[tuple[int, int, int]] = []
        self.latest = -1

    def total(self, end: int) -> Bounds:
        inside = [(low, high) for period, low, high in self.changes if end - self.length < period <= end]
        return Bounds(sum(low for low, _ in inside), sum(high for _, high in inside))

    def add(self, period: int, change: tuple[int, int]) -> list[tuple[int, Bounds]]:
        self.changes.append((period, *change))
        self.latest = max(self.latest, period)
        ends = [end for end in range(period, period + self.length) if end <= self.latest]
        if period == self.latest:
            ends = [period]
        return [(end, self.total(end)) for end in ends]


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[int, int, tuple[int, int]]]:
    """(periods forward or back, periods closed before it, change)."""
    return draw(
        st.lists(
            st.tuples(
                st.integers(-12, 4),
                st.integers(0, 2),
                st.tuples(st.integers(-50, 100), st.integers(-50, 100)),
            ),
            max_size=60,
        )
    )


@settings(max_examples=250)
@given(st.integers(1, 8), st.integers(0, 30), changes())
def test_sliding_windows_are_sums(length: int, start: int, script: list[tuple[int, int, tuple[int, int]]]) -> None:
    """SPEC compute-4: in order, late, skipping and corrected; what closed periods alone hold may be forgotten."""
    window, ledger = SlidingWindow(length), Ledger(length)
    closed = start - 1
    for step, closing, change in script:
        period = max(closed + 1, ledger.latest + step, 0)
        assert window.add(period, change) == ledger.add(period, change)
        assert window.latest == ledger.latest
        for end in range(max(closed + 1, 0), ledger.latest + 1):
            assert window.total(end) == ledger.total(end)
        if closing and closed + closing <= ledger.latest:
            closed += closing
            window.forget_before(closed)


def test_a_window_holds_only_its_length_once_the_rest_is_forgotten() -> None:
    window = SlidingWindow(30)
    for period in range(10_000):
        window.add(period, (1, 2))
        if period >= 5:
            window.forget_before(period - 5)
    assert window.total(9_999) == (30, 60)
    assert len(window._values) <= 30 + 5 + 1
    with pytest.raises(ValueError, match="at least one"):
        SlidingWindow(0)
    assert SlidingWindow(3).total(5) == NOTHING


SILENCE = Silence(100, 160)


@pytest.mark.parametrize(
    ("due", "moved", "why"),
    [
        (99, 99, "before it"),
        (100, 100, "at the last entry: it fell due then"),
        (101, 161, "within it: by its length"),
        (160, 220, "at its end"),
        (161, 220, "soon after it: not before what fell within it"),
        (219, 220, "until as long after it as it was"),
        (220, 220, "later: untouched"),
        (500, 500, "much later"),
    ],
)
def test_a_silence_moves_what_falls_due_in_it_or_soon_after(due: int, moved: int, why: str) -> None:
    """SPEC replay-4."""
    assert shift_by_silence(due, SILENCE) == moved, why


@st.composite
def silences(draw: st.DrawFn) -> list[Silence]:
    found, at = [], 0
    for wait, length in draw(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), max_size=6)):
        found.append(Silence(at + wait, at + wait + length))
        at += wait + length
    return found


@settings(max_examples=300)
@given(silences(), st.integers(0, 400), st.integers(0, 100))
def test_deadlines_keep_their_order_and_wait_out_every_silence(found: list[Silence], due: int, more: int) -> None:
    """SPEC replay-4: what a lab could not deliver in a silence it may deliver after it, for as long as that was."""
    moved = Silences(found).shift(due)
    assert due <= moved <= Silences(found).shift(due + more)
    one_by_one = due
    for silence in found:
        before, length = one_by_one, silence.end_ms - silence.start_ms
        one_by_one = shift_by_silence(before, silence)
        if silence.start_ms < before:  # the time that was left when it began, or its length
            assert one_by_one - silence.end_ms >= min(before - silence.start_ms, length)
    assert moved == one_by_one
