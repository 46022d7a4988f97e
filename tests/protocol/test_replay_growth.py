"""Growth limits in the replay: windows, what convicts and when, ramps, budgets, late accounts and what is kept."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from covenant import Covenant
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_measures import growth_overruns
from vectors import VECTORS

from pacekeeper.protocol.commitments.growth import growth_windows
from pacekeeper.protocol.commitments.transitions import Phase
from pacekeeper.protocol.documents.commitment_model import Growth
from pacekeeper.protocol.replay import Applied, Violation, ViolationKind
from pacekeeper.protocol.replay.growth import open_windows

TERMS = {"window": "2 periods", "baseline": "2 periods", "growth": "10 %", "floor": "100e9 FLOP"}


def growing(*, before: dict[int, int] | None = None, world: dict[str, Any] | None = None, **terms: Any) -> Covenant:
    """A growth limit in force from within the last period of `before` (1 by default): the next is its first."""
    measure = {**TERMS, **terms.pop("growth", {})}
    found = Covenant(world, measure={"growth": measure}, **{"entry": {"pledges_by": "2030-01-01T00:00:00Z"}, **terms})
    known = before or {1: 0}
    for period, amount in known.items():
        if period == max(known):
            found.to(found.start(period))
            found.covenant(found.start(period))
        attest(found, {period: amount})
    return found


def attest(world: Covenant, amounts: dict[int, int], margin_ppm: int = 0) -> None:
    for period, amount in amounts.items():
        world.to(world.end(period))
        at = max(world.end(period), world.state.last_time_ms)
        assert isinstance(world.attest("borealis", period, {"run-1": amount}, at=at, margin_ppm=margin_ppm), Applied)


def correct(world: Covenant, period: int, amount: int) -> None:
    account = world.state.labs["borealis"].accounts[period].id
    at = world.state.last_time_ms
    assert isinstance(world.correct("borealis", period, {"run-1": amount}, account, at=at), Applied)


def said(violation: Violation) -> tuple[object, ...]:
    return violation.kind, violation.subject, violation.period, violation.cap, violation.limit, violation.bounds


def test_a_window_beyond_its_allowance_convicts_when_an_account_shows_it() -> None:
    """SPEC commitments-44, SPEC conduct-6: the limit is a tenth more than the two periods before, and at least the
    floor."""
    world = growing()  # 600 in period 0, nothing in 1: 660 are allowed in 2 and 3
    attest(world, {2: 600})
    assert world.kinds() == []
    attest(world, {3: 61})
    [violation] = world.state.violations
    assert said(violation) == (ViolationKind.GROWTH, "borealis", 3, "halt", 660, (661, 661))
    attest(world, {4: 300})
    assert len(world.state.violations) == 1
    world.proved()


def test_what_was_too_much_is_in_no_later_baseline() -> None:
    """SPEC commitments-44: nobody raises its limit by breaking it."""
    world = growing()
    attest(world, {2: 600, 3: 1_000, 4: 726, 5: 0})
    assert len(world.state.violations) == 1, "1.1 x 660 are allowed in the next window"
    attest(world, {6: 799})
    assert [said(violation)[4:] for violation in world.state.violations[1:]] == [(799, (799, 799))][1:]
    attest(world, {7: 1})
    assert said(world.state.violations[1])[4:] == (799, (800, 800))
    world.proved()


def test_the_period_in_which_it_begins_and_the_one_in_which_it_ends_count_for_nothing() -> None:
    """SPEC commitments-60, SPEC commitments-63: a window that is cut short has its whole allowance."""
    world = growing(before={1: 5_000})  # and so much in the baseline
    assert world.kinds() == []
    attest(world, {2: 6_000})
    world.lift("norland", world.end(2) + 1)
    world.lift("sudland", world.end(2) + 1)
    attest(world, {3: 9_000, 4: 9_000})
    assert world.kinds() == []
    world.to(world.agreement.fill_in_ms(4))
    assert world.kinds()[:1] == [(ViolationKind.PERIOD_MISSING, 5)], "only that nothing came any more"
    world.proved()


def test_a_window_that_was_too_much_before_the_end_convicts() -> None:
    """SPEC commitments-60: also when its account comes after the end."""
    world = growing()
    world.to(world.end(2))
    for who in ("norland", "sudland"):
        world.lift(who, world.end(2))
    assert world.phase() is Phase.ENDED
    attest(world, {2: 661})
    assert [kind for kind, _ in world.kinds()] == [ViolationKind.GROWTH]
    world.proved()


def test_a_ramp_loosens_the_window_in_which_it_begins() -> None:
    """SPEC commitments-64, SPEC commitments-26."""
    stage = [{"growth": "50 %", "lasts": "10 h"}]
    for lifted, convicted in ((True, []), (False, [ViolationKind.GROWTH])):
        world = growing(stage=stage)
        attest(world, {2: 600})
        if lifted:
            world.lift("norland", world.end(2) + 1)
            world.lift("sudland", world.end(2) + 1)
            assert world.state.commitments.standing("halt").stage == 0
        attest(world, {3: 300})
        assert [kind for kind, _ in world.kinds()] == convicted, "900 are 50 % more than 600"
        world.proved()


def test_a_training_budget_excuses_what_is_owed_all_the_same() -> None:
    """SPEC conduct-9."""
    exempt = [{"id": "small", "category": "training", "budget": "40e9 FLOP", "window": "4 periods"}]
    world = growing(growth={"debt": "100 %"}, exemption=exempt)
    attest(world, {2: 600, 3: 90})
    assert world.kinds() == [], "30 beyond, of 40"
    attest(world, {4: 0, 5: 706})  # 1.1 x 660 less 30 are allowed, 10 more excused
    assert world.kinds() == []
    attest(world, {6: 0, 7: 0})
    world.to(world.agreement.fill_in_ms(5) + 1)
    [course] = world.state.courses["borealis"].values()
    assert course.carried == (-10, -10)
    world.proved()
    second = growing(growth={"debt": "100 %"}, exemption=exempt)
    attest(second, {2: 600, 3: 90, 4: 0, 5: 707})
    assert [said(v)[2:] for v in second.state.violations] == [(5, "halt", 696, (707, 707))]
    second.proved()


def test_an_interval_around_the_limit_is_a_violation_of_its_own_when_the_window_closes() -> None:
    """SPEC conduct-8: unless a correction narrows it before."""
    for narrowed in (False, True):
        world = growing(world={"fill_in": "150 s"})
        attest(world, {2: 0})
        attest(world, {3: 650}, margin_ppm=50_000)
        assert world.kinds() == []
        if narrowed:
            correct(world, 3, 650)
        attest(world, {4: 0})
        world.to(world.agreement.fill_in_ms(3) - 1)
        assert world.kinds() == []
        world.to(world.agreement.fill_in_ms(3) + 1)
        expected = (ViolationKind.GROWTH_UNRESOLVED, "borealis", 3, "halt", 660, (617, 683))
        assert [said(violation) for violation in world.state.violations] == ([] if narrowed else [expected])
        world.proved()


@pytest.mark.parametrize("cleared", [False, True])
def test_a_breach_is_established_when_the_last_period_of_its_window_closes(cleared: bool) -> None:
    """SPEC conduct-7: and not if the accounts in force by then clear it."""
    world = growing(breach={"response": "release-others"})
    attest(world, {2: 700})
    assert [kind for kind, _ in world.kinds()] == [ViolationKind.GROWTH]
    if cleared:
        correct(world, 2, 660)
    attest(world, {3: 0, 4: 0, 5: 0, 6: 0, 7: 0, 8: 0})
    assert world.state.is_closed(2)
    world.to(world.agreement.fill_in_ms(3))
    assert world.phase() is Phase.IN_FORCE, "until then accounts of period 3 are taken"
    world.to(world.agreement.fill_in_ms(3) + 1)
    assert world.phase() is (Phase.IN_FORCE if cleared else Phase.ENDED)
    assert len(world.state.violations) == 1
    world.proved()


def test_an_account_at_the_very_moment_at_which_its_period_closes_is_judged() -> None:
    """SPEC conduct-7: after a silence, which puts off both to one moment, the last word comes later still."""
    world = growing(breach={"response": "release-others"}, world={"fill_in": "150 s"})
    attest(world, {2: 0})
    world.to(world.end(3))
    world.gap("borealis", 3, 3, at=world.end(3))
    silent = world.agreement.fill_in_ms(3) - 10_000
    length = silent - world.state.last_time_ms
    world.tick(silent)
    closes = silent + length
    assert (closes, "growth halt", "borealis", 3) in world.state.deadlines
    world.to(closes)
    assert isinstance(world.attest("borealis", 3, {"run-1": 661}, at=closes), Applied)
    assert (ViolationKind.GROWTH, 3) in world.kinds()
    assert world.phase() is Phase.IN_FORCE
    world.to(closes + 1)
    assert world.phase() is Phase.ENDED
    world.proved()


def test_a_gap_that_may_still_be_filled_convicts_nobody_by_what_it_might_have_been() -> None:
    """SPEC commitments-65: the baseline's missing period counts as zero once it is closed."""
    for filled in (True, False):
        world = growing()
        world.to(world.end(2))
        world.gap("borealis", 2, 2, at=world.end(2))
        attest(world, {3: 0, 4: 200})
        mine = [v for v in world.state.violations if v.kind is ViolationKind.GROWTH]
        assert mine == [], "with the 600 that period 2 may have had, 200 are lawful"
        if filled:
            at = world.state.last_time_ms
            assert isinstance(world.attest("borealis", 2, {"run-1": 600}, at=at), Applied)
        attest(world, dict.fromkeys(range(5, 12), 0))
        mine = [v for v in world.state.violations if v.kind is ViolationKind.GROWTH]
        assert [said(v)[2:] for v in mine] == ([] if filled else [(4, "halt", 100, (200, 200))])
        world.proved()


def test_a_newcomer_has_the_floor() -> None:
    """SPEC commitments-65: who has no history is not limited below it, and gets no more by having none."""
    world = growing(growth={"window": "1 period", "baseline": "1000 periods"})
    attest(world, {2: 100})
    assert world.kinds() == []
    attest(world, {3: 101})
    assert [said(violation)[4:] for violation in world.state.violations] == [(100, (101, 101))]
    world.proved()


def test_a_lab_that_is_not_bound_is_not_judged() -> None:
    """SPEC commitments-29."""
    world = Covenant({"labs": [1, 0, 1, 0]}, measure={"growth": TERMS}, entry={"pledges_by": "2030-01-01T00:00:00Z"})
    world.declare("meridian", "run-1", at=world.end(0))
    world.attest("meridian", 0, {}, at=world.end(0))
    world.covenant(world.start(1))
    for period in (1, 2, 3):
        world.to(world.end(period))
        world.attest("meridian", period, {"run-1": 10_000})
        world.attest("borealis", period, {})
    assert world.kinds() == []
    assert "meridian" not in world.state.courses
    world.proved()


def test_what_is_kept_of_closed_windows_does_not_grow() -> None:
    """SPEC commitments-66: and nothing is kept under a commitment that is over."""
    world = growing(world={"fill_in": "200 s"}, growth={"window": "1 period", "baseline": "3 periods"})
    world.state.kept_periods = 10
    sizes = []
    for period in range(2, 40):
        attest(world, {period: 200 if period % 2 else 50})
        [course] = world.state.courses["borealis"].values()
        kept = (course.used, course.discounted, course.waiting, course.convicted, course.spent)
        sizes.append((sum(map(len, kept)), len(world.state.labs["borealis"].least)))
    assert max(kept for kept, _ in sizes) < 12
    assert max(totals for _, totals in sizes) < 25
    for who in ("norland", "sudland"):
        world.lift(who, world.state.last_time_ms)
    for period in range(40, 46):
        attest(world, {period: 0})
    assert world.state.courses["borealis"] == {}


MEASURE = Growth(window=2, baseline=3, growth_ppm=100_000, floor_gflop=50, banking_ppm=200_000, debt_ppm=500_000)
WRITTEN = {
    "window": "2 periods",
    "baseline": "3 periods",
    "growth": "10 %",
    "floor": "50e9 FLOP",
    "banking": "20 %",
    "debt": "50 %",
}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=9, max_size=9))
def test_the_replay_finds_what_the_exact_windows_say(amounts: list[int]) -> None:
    """SPEC commitments-44: in order, and without margins."""
    world = growing(growth=WRITTEN)
    used = {0: 600, 1: 0, **dict(enumerate(amounts, start=2))}
    attest(world, dict(enumerate(amounts, start=2)))
    found = {v.limit for v in world.state.violations}
    expected = {window.allowance for window in growth_windows(MEASURE, used, 2, 10) if window.overrun}
    assert found == expected
    world.proved()


ORDERS = st.permutations(["account 2", "account 4", "correct 3", "correct 5", "account 6"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=12, max_size=12), ORDERS, st.integers(0, 300), st.integers(0, 300))
def test_the_order_of_late_accounts_and_corrections_makes_no_difference(
    amounts: list[int], order: list[str], third: int, fifth: int
) -> None:
    """SPEC conduct-7: which windows are breached, and what the next are held to, is the same in the end; and an
    independent model says the same."""
    totals = {0: 600, 1: 0, **dict(enumerate(amounts, start=2)), 3: third, 5: fifth}
    world = growing(growth=WRITTEN, world={"fill_in": "800 s", "due": "100 s"})
    for period in (2, 3, 4, 5, 6):
        if period in (3, 5):
            attest(world, {period: amounts[period - 2]})
        else:
            world.to(world.end(period))
            world.gap("borealis", period, period, at=world.end(period))
    for step in order:
        action, number = step.split()
        period = int(number)
        if action == "correct":
            correct(world, period, totals[period])
        else:
            at = world.state.last_time_ms
            assert isinstance(world.attest("borealis", period, {"run-1": totals[period]}, at=at), Applied)
    attest(world, {period: totals[period] for period in range(7, 14)})
    world.to(world.agreement.fill_in_ms(13) + 1)
    [course] = world.state.courses["borealis"].values()
    assert course.first >= 14
    breaches = {m.time_ms for m in world.state.commitments.timeline("halt") if m.what == "breach"}
    overruns = growth_overruns(
        window=2,
        baseline=3,
        growth_ppm=100_000,
        floor_gflop=50,
        banking_ppm=200_000,
        debt_ppm=500_000,
        totals=totals,
        under=range(2, 14),
        first=2,
        last=course.first - 1,
    )
    over = [start for start, _, beyond in overruns if beyond and start < 14]
    assert len(breaches) == len(over)
    convicted = {(v.period - 2) // 2 * 2 + 2 for v in world.state.violations if v.kind is ViolationKind.GROWTH}
    assert set(over) <= convicted
    assert course.discounted.keys() <= set(range(course.first - 3, course.first))
    world.proved()


def test_a_true_up_with_carried_debt_in_the_replay() -> None:
    """SPEC commitments-44, SPEC commitments-65: the trading years of the precedents, day by day on a log; a lab without
    history, so that the floor is its allowance, saves, overruns by what it then owes, and works it off."""
    folder = VECTORS / "commitments" / "precedents"
    years = json.loads((folder / "ets-years.json").read_text())
    document = json.loads((folder / "ets.json").read_text())["proposals"][0][2].encode()
    cap = {"id": "run", "kind": "run", "limit": "1e25 FLOP"}
    world = Covenant({"period": "1 d", "due": "2 d", "fill_in": "30 d", "tick": "1 d", "caps": [cap]})
    world.text, world.digest = document, hashlib.sha256(document).digest()
    assert isinstance(world.propose(world.end(0)), Applied)
    for who in ("norland", "sudland"):
        assert isinstance(world.pledge(who, world.end(0), commitment="trading-year"), Applied)
    used = {int(day) + 365: amount for day, amount in years["used"].items()}
    found = []
    for period in range(1, 5 * 365):
        assert isinstance(world.attest("borealis", period, {"run-1": used.get(period, 0)}), Applied)
        if period >= 365 and period % 365 == 364:
            [course] = world.state.courses["borealis"].values()
            *_, window = open_windows(world.state, world.state.labs["borealis"], "trading-year", course, period)
            found.append((window.first - 365, window.carried.low, window.allowance.low, window.used.low))
    assert found == [(year["first"], year["carried"], year["allowance"], year["used"]) for year in years["years"]]
    [violation] = world.state.violations
    assert said(violation)[:5] == (ViolationKind.GROWTH, "borealis", 2 * 365, "trading-year", 1_200 * 10**12)


@pytest.mark.parametrize("late", [False, True])
def test_windows_go_on_through_a_time_in_which_the_limit_is_not_in_force(late: bool) -> None:
    """SPEC commitments-63: who leaves and returns has the rest of its window, and not a new one."""
    terms = {"window": "6 periods", "baseline": "3 periods"}
    world = growing(growth=terms, withdrawal={"notice": "10 s"})  # 1.1 x 600 x 6 / 3 are allowed
    assert isinstance(world.pledge("westmere", world.end(1)), Applied)
    if late:
        world.to(world.end(2))
        world.gap("borealis", 2, 2, at=world.end(2))
    else:
        attest(world, {2: 700})
    assert isinstance(world.leave("norland", world.end(2) + 1_000), Applied)
    world.to(world.end(2) + 12_000)
    assert "norland" not in world.state.commitments.standing("halt").bound
    attest(world, {3: 50_000})
    assert isinstance(world.pledge("norland", world.end(3) + 1_000, round=1), Applied)
    attest(world, {4: 50_000, 5: 620})
    if late:
        at = world.state.last_time_ms
        assert isinstance(world.attest("borealis", 2, {"run-1": 700}, at=at), Applied)
    growth = [violation for violation in world.state.violations if violation.kind is ViolationKind.GROWTH]
    assert growth == [], "1320 are allowed, and were used while it was in force"
    attest(world, {6: 1})
    growth = [violation for violation in world.state.violations if violation.kind is ViolationKind.GROWTH]
    assert [said(violation)[2:] for violation in growth] == [(6, "halt", 1_320, (1_321, 1_321))]
    world.proved()
