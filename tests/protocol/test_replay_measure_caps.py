"""Caps by commitment in the replay: who is held to them, from when, until when, and what convicts."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from commitments import build_commitment
from covenant import Covenant
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_measures import windows_over

from pacekeeper.protocol import limits
from pacekeeper.protocol.commitments.transitions import Phase
from pacekeeper.protocol.compute.bounds import Outcome
from pacekeeper.protocol.errors import Code
from pacekeeper.protocol.replay import Applied, ViolationKind, Void

TWO_LABS = {"labs": [2, 1, 0, 0]}


def capped(*caps: dict[str, Any], world: dict[str, Any] | None = None, **terms: Any) -> Covenant:
    """A cap in force from within period 1, so that period 2 is the first that counts."""
    found = Covenant(world, measure={"cap": list(caps)}, **terms)
    for lab in found.state.labs:
        if lab != "borealis":
            found.declare(lab, "run-1", at=found.state.last_time_ms)
            found.attest(lab, 0, {}, at=found.state.last_time_ms)
    found.covenant(found.start(1))
    return found


def lab_cap(limit: int, window: str = "2 periods", **more: Any) -> dict[str, Any]:
    return {"id": "limit", "kind": "lab", "limit": f"{limit}e9 FLOP", "window": window, **more}


def run_cap(limit: int) -> dict[str, Any]:
    return {"id": "limit", "kind": "run", "limit": f"{limit}e9 FLOP"}


def attest(world: Covenant, amounts: dict[int, int], lab: str = "borealis", margin_ppm: int = 0) -> None:
    for period, amount in amounts.items():
        world.to(world.end(period))
        at = max(world.end(period), world.state.last_time_ms)
        assert isinstance(world.attest(lab, period, {"run-1": amount}, at=at, margin_ppm=margin_ppm), Applied)


def test_what_was_done_before_the_cap_counts_for_no_window() -> None:
    """SPEC commitments-60: nor what was done in the period in which it began."""
    world = capped(lab_cap(100))
    attest(world, {1: 1_000, 2: 100, 3: 0, 4: 60, 5: 40})
    assert world.kinds() == []
    assert world.state.cap_status["halt/limit", "borealis"].outcome is Outcome.WITHIN
    attest(world, {6: 61})
    [violation] = world.state.violations
    assert (violation.kind, violation.subject, violation.cap) == (ViolationKind.LAB_CAP, "borealis", "halt/limit")
    assert (violation.period, violation.limit, violation.bounds) == (6, 100, (101, 101))
    world.proved()


def test_what_is_done_after_the_end_counts_for_no_window() -> None:
    """SPEC commitments-60: nor in the period in which it ended, whole or not."""
    world = capped(lab_cap(100))
    attest(world, {1: 0, 2: 90})
    world.lift("norland", world.end(2) + 1_000)
    world.lift("sudland", world.end(2) + 1_000)
    attest(world, {3: 1_000, 4: 1_000})
    assert world.kinds() == []
    world.proved()


def test_what_an_account_counts_for_is_decided_when_it_comes() -> None:
    """SPEC commitments-60: an end within the clocks' tolerance of a period's end, after its account, is after it."""
    world = capped(lab_cap(100))
    attest(world, {1: 0})
    early = world.end(2) - 5_000
    world.to(early)
    assert isinstance(world.attest("borealis", 2, {"run-1": 90}, at=early), Applied)
    for who in ("norland", "sudland"):
        world.lift(who, early + 1_000)
    assert world.phase() is Phase.ENDED
    account = world.state.labs["borealis"].accounts[2].id
    assert isinstance(world.correct("borealis", 2, {"run-1": 120}, account, at=world.end(2)), Applied)
    assert world.kinds() == [(ViolationKind.LAB_CAP, 2)], "the correction counts where the account did"
    world.proved()


def test_an_agreement_and_a_commitment_may_have_caps_of_one_name() -> None:
    """SPEC compute-6: each has its own status, and its own violation."""
    own = [{"id": "limit", "kind": "lab", "limit": "2e12 FLOP", "window": "2 periods"}]
    world = capped(lab_cap(100), world={"caps": own})
    attest(world, {1: 0, 2: 101})
    outcomes = {name: status.outcome for (name, _), status in world.state.cap_status.items()}
    assert outcomes == {"limit": Outcome.WITHIN, "halt/limit": Outcome.EXCEEDED}
    attest(world, {3: 2_000})
    assert [violation.cap for violation in world.state.violations] == ["halt/limit", "limit"]
    world.proved()


def test_a_lab_that_binds_itself_is_held_to_the_caps_on_labs_and_its_party_to_none() -> None:
    """SPEC commitments-61: a cap on parties is for parties that are bound themselves."""
    party: dict[str, Any] = {"id": "together", "kind": "party", "limit": "50e9 FLOP", "window": "1 period"}
    world = Covenant(
        {"labs": [2, 0, 0, 0]}, entry={"parties": None, "labs": 1}, measure={"cap": [lab_cap(100, "1 period"), party]}
    )
    other = next(lab.id for lab in world.state.labs.values() if lab.party == "norland" and lab.id != "borealis")
    world.declare(other, "run-1", at=world.end(0))
    world.attest(other, 0, {}, at=world.end(0))
    world.propose(world.start(1))
    assert isinstance(world.pledge("borealis", world.start(1)), Applied)
    for period in (1, 2):
        attest(world, {period: 101})
        attest(world, {period: 101}, lab=other)
    assert [(v.kind, v.subject) for v in world.state.violations] == [(ViolationKind.LAB_CAP, "borealis")]
    world.proved()


def test_the_labs_of_a_bound_party_are_held_to_its_cap_together() -> None:
    """SPEC commitments-61."""
    party: dict[str, Any] = {"id": "together", "kind": "party", "limit": "100e9 FLOP", "window": "1 period"}
    world = capped(party, world=TWO_LABS)
    other = next(lab.id for lab in world.state.labs.values() if lab.party == "norland" and lab.id != "borealis")
    third = next(lab.id for lab in world.state.labs.values() if lab.party == "sudland")
    for period in (1, 2, 3):
        world.to(world.end(period))
        for lab in ("borealis", other, third):
            amount = {2: 50, 3: 51}.get(period, 0)
            assert isinstance(world.attest(lab, period, {"run-1": amount}), Applied)
    assert [(v.kind, v.subject, v.period) for v in world.state.violations] == [(ViolationKind.PARTY_CAP, "norland", 3)]
    world.proved()


def test_a_run_that_was_above_and_adds_nothing_is_not_guilty() -> None:
    """SPEC commitments-62: nor one that went above before the cap held, until it trains on."""
    world = capped(run_cap(500))
    attest(world, {1: 400, 2: 0, 3: 0})
    assert world.kinds() == []
    attest(world, {4: 1})
    [violation] = world.state.violations
    assert (violation.kind, violation.cap, violation.bounds) == (ViolationKind.RUN_CAP, "halt/limit", (1_001, 1_001))
    attest(world, {5: 10})
    assert len(world.state.violations) == 1, "a run over a cap is one violation"
    world.proved()


def test_a_run_cap_counts_ancestors_that_a_record_turns_out_to_link() -> None:
    """SPEC commitments-62, SPEC lineage-5."""
    world = capped(run_cap(650))
    world.declare("borealis", "run-2", at=world.start(1), initial="later")
    world.to(world.end(1))
    world.attest("borealis", 1, {})
    world.to(world.end(2))
    world.attest("borealis", 2, {"run-2": 100})
    assert world.kinds() == []
    assert isinstance(world.record("borealis", "run-1", "later", 2, 9, 600, at=world.end(2)), Applied)
    [violation] = world.state.violations
    assert (violation.kind, violation.subject) == (ViolationKind.RUN_CAP, "borealis/run-2")
    assert violation.sources == ("borealis/run-1", "borealis/run-2")
    world.proved()


@pytest.mark.parametrize("cap", [lab_cap(100, "1 period"), run_cap(700)])
@pytest.mark.parametrize("corrected", [False, True])
def test_what_is_undecided_counts_as_exceeded_in_the_end(cap: dict[str, Any], corrected: bool) -> None:
    """SPEC compute-5: as under an agreement's cap, and also when the commitment has ended meanwhile."""
    world = capped(cap)
    attest(world, {1: 0})
    attest(world, {2: 100}, margin_ppm=50_000)
    assert world.kinds() == []
    for who in ("norland", "sudland"):
        world.lift(who, world.end(2))
    if corrected:
        account = world.state.labs["borealis"].accounts[2].id
        assert isinstance(world.correct("borealis", 2, {"run-1": 100}, account, at=world.end(2) + 1), Applied)
    attest(world, {3: 0, 4: 0})
    world.to(world.due(3))
    assert [(v.kind, v.cap) for v in world.state.violations] == (
        [] if corrected else [(ViolationKind.UNRESOLVED, "halt/limit")]
    )
    world.proved()


@pytest.mark.parametrize("cap", [lab_cap(100, "1 period"), run_cap(700)])
@pytest.mark.parametrize("cleared", [False, True])
def test_a_breach_of_a_cap_is_established_when_its_period_closes(cap: dict[str, Any], cleared: bool) -> None:
    """SPEC conduct-5: and releases the others, if the commitment says so and no correction has cleared it."""
    world = capped(cap, breach={"response": "release-others"})
    attest(world, {1: 0, 2: 101})
    if cleared:
        account = world.state.labs["borealis"].accounts[2].id
        assert isinstance(world.correct("borealis", 2, {"run-1": 100}, account, at=world.end(2) + 1), Applied)
    attest(world, {3: 0, 4: 0, 5: 0, 6: 0})
    assert world.phase() is Phase.IN_FORCE
    world.to(world.agreement.fill_in_ms(2))
    assert world.phase() is (Phase.IN_FORCE if cleared else Phase.ENDED)
    assert len(world.state.violations) == 1, "what was found stays found"
    world.proved()


def test_a_late_account_counts_where_the_cap_held() -> None:
    """SPEC compute-4: in every window that has begun; and a subject that is not meant is not judged."""
    world = capped(lab_cap(100), lab_cap(1, id="for-others", subjects=["meridian"]), world=TWO_LABS)
    attest(world, {1: 0})
    world.to(world.end(2))
    world.gap("borealis", 2, 2, at=world.end(2))
    attest(world, {3: 60})
    assert isinstance(world.attest("borealis", 2, {"run-1": 41}, at=world.end(3) + 1), Applied)
    assert [(v.cap, v.subject, v.period) for v in world.state.violations if v.kind is ViolationKind.LAB_CAP] == [
        ("halt/limit", "borealis", 3)
    ]
    world.proved()


def test_a_cap_that_is_only_planned_during_an_outage_of_the_log_convicts_nobody() -> None:
    """SPEC commitments-60: a silence puts off what would have come into force in it."""
    world = capped(lab_cap(100), entry={"delay": "300 s", "notice": "0 s"})
    assert world.pledged_at("norland")
    silent = world.end(4) + 50_000  # the delay would have been over in period 4
    world.tick(silent)
    assert world.phase() is Phase.PENDING
    for period in range(1, 5):
        assert isinstance(world.attest("borealis", period, {"run-1": 200}, at=silent), Applied)
    assert [kind for kind, _ in world.kinds()] == []
    world.to(silent + 300_000)
    assert world.phase() is Phase.IN_FORCE
    world.proved()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=9, max_size=9),
    st.sets(st.integers(2, 10), max_size=5),
    st.permutations(range(2, 11)),
    st.integers(1, 4),
)
def test_the_order_of_late_accounts_makes_no_difference_to_the_windows_found_over(
    amounts: list[int], late: set[int], order: list[int], window: int
) -> None:
    """SPEC compute-4, SPEC commitments-60: and an independent model finds the same ones."""
    world = capped(lab_cap(100, f"{window} periods" if window > 1 else "1 period"), world={"fill_in": "2000 s"})
    totals = {0: 600, 1: 300, **dict(enumerate(amounts, start=2))}
    attest(world, {1: 300})
    for period in range(2, 11):
        if period in late:
            world.to(world.end(period))
            world.gap("borealis", period, period, at=world.end(period))
        else:
            attest(world, {period: totals[period]})
    for period in [period for period in order if period in late]:
        at = world.state.last_time_ms
        assert isinstance(world.attest("borealis", period, {"run-1": totals[period]}, at=at), Applied)
    over = windows_over(100, window, totals, range(2, 11), 10)
    status = world.state.cap_status.get(("halt/limit", "borealis"))
    assert (set() if status is None else set(status.exceeded)) == over
    stretches = [end for end in over if end - 1 not in over]
    mine = [v for v in world.state.violations if v.kind is ViolationKind.LAB_CAP]
    assert len(mine) >= len(stretches) if late else len(mine) == len(stretches)
    world.proved()


def test_nobody_pledges_to_more_than_can_be_judged_with_each_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC commitments-69: others may pledge to what is one too many for a party."""
    monkeypatch.setattr(limits, "MAX_WINDOWED", 3)
    world = Covenant(measure={"cap": [lab_cap(100)]})
    outcomes = []
    for number in range(5):
        kind = "growth" if number % 2 else "cap"
        text = build_commitment(kind, f"c-{number}", entry={"pledges_by": "2030-01-01T00:00:00Z"})
        assert isinstance(world.propose(world.start(1), document=text), Applied)
        named = {"commitment": f"c-{number}", "digest": hashlib.sha256(text).digest()}
        outcomes.append(world.pledge("norland", world.start(1), **named))
    assert [isinstance(outcome, Applied) for outcome in outcomes] == [True, True, True, False, False]
    assert isinstance(outcomes[-1], Void)
    assert outcomes[-1].code is Code.TOO_LARGE
    assert isinstance(world.pledge("sudland", world.start(1), **named), Applied)
    text = build_commitment("pause", "halt-2", entry={"pledges_by": "2030-01-01T00:00:00Z"})
    world.propose(world.start(1), document=text)
    named = {"commitment": "halt-2", "digest": hashlib.sha256(text).digest()}
    assert isinstance(world.pledge("norland", world.start(1), **named), Applied), "a pause has no windows"
    world.proved()
