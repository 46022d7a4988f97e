"""Growth limits in numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pacekeeper.protocol.commitments.growth import growth_windows
from pacekeeper.protocol.documents.commitment_model import Growth


def growth(**changes: int) -> Growth:
    values = {"window": 1, "baseline": 1, "growth_ppm": 100_000, "floor_gflop": 10, "banking_ppm": 0, "debt_ppm": 0}
    return Growth(**{**values, **changes})


def test_each_window_grows_from_what_was_used_before() -> None:
    """SPEC commitments-44."""
    windows = growth_windows(growth(), {0: 100, 1: 110, 2: 121, 3: 140, 4: 1}, 1, 4)
    assert [(window.limit, window.overrun) for window in windows] == [(110, 0), (121, 0), (134, 6), (148, 0)]


def test_the_baseline_is_scaled_to_the_window_and_rounded_up() -> None:
    """SPEC commitments-44."""
    used = dict.fromkeys(range(9), 10)
    windows = growth_windows(growth(window=2, baseline=3, growth_ppm=50_000), used, 3, 8)
    assert [(window.first, window.end, window.limit, window.used) for window in windows] == [
        (3, 5, 21, 20),
        (5, 7, 21, 20),
        (7, 9, 21, 20),
    ]


def test_nobody_is_limited_below_the_floor() -> None:
    """SPEC commitments-44."""
    assert [window.limit for window in growth_windows(growth(floor_gflop=50), {0: 1}, 1, 2)] == [50, 50]


def test_unused_allowance_is_banked_up_to_a_share_of_the_limit() -> None:
    """SPEC commitments-44."""
    windows = growth_windows(growth(floor_gflop=100, banking_ppm=200_000), {1: 50, 2: 115, 3: 130}, 1, 3)
    assert [(window.limit, window.carried, window.overrun) for window in windows] == [
        (100, 0, 0),
        (100, 20, 0),
        (127, 5, 0),
    ]


def test_an_overrun_is_owed_until_it_is_worked_off() -> None:
    """SPEC commitments-44: a true-up with debt that is carried over."""
    used = {1: 300, 2: 0, 3: 40, 4: 100}
    windows = growth_windows(growth(baseline=100, floor_gflop=100, debt_ppm=1_000_000), used, 1, 4)
    assert [(window.carried, window.allowance, window.overrun) for window in windows] == [
        (0, 100, 200),
        (-200, 0, 0),
        (-100, 0, 40),
        (-40, 60, 40),
    ]


@given(st.dictionaries(st.integers(0, 30), st.integers(0, 10**6)), st.integers(0, 10**6), st.integers(0, 10**6))
def test_with_full_debt_and_no_banking_the_total_used_never_outgrows_the_limits_and_what_is_owed(
    used: dict[int, int], growth_ppm: int, floor: int
) -> None:
    """SPEC commitments-44: what is used is allowed or owed; nothing vanishes."""
    measure = growth(window=3, baseline=5, growth_ppm=growth_ppm, floor_gflop=floor + 1, debt_ppm=10**6)
    windows = growth_windows(measure, used, 5, 25)
    limits = sum(window.limit for window in windows)
    last = windows[-1]
    owed = max(0, -(last.limit + last.carried)) + last.overrun
    assert sum(window.used for window in windows) <= limits + owed
