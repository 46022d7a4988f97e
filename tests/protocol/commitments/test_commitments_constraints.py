"""What a lab is told: strictest of several, spans, boundaries, looking ahead."""

from __future__ import annotations

from commitments import START_MS, Play, build_commitment

from pacekeeper.protocol.commitments.constraints import Span, boundaries, strictest
from pacekeeper.protocol.documents.commitment_model import Exemption, Growth, Pause, SlowDown

DAY = 86_400_000
HOUR = 3_600_000


def span(name: str, measure: Pause | SlowDown | Growth, from_ms: int = 0, *exempt: Exemption, bites: int = 0) -> Span:
    return Span(name, measure, exempt, from_ms, max(from_ms, bites), None)


def test_each_run_is_held_by_the_pause_that_bites_first() -> None:
    """SPEC commitments-27."""
    low, high = span("low", Pause(10, 5), bites=50), span("high", Pause(100, 5), bites=20)
    constraints = strictest([low, high, span("idle", Pause(200, 5), bites=30)], 5)
    assert [(hold.above_gflop, hold.enforced_ms) for hold in constraints.holds] == [(10, 50), (100, 20)]
    assert constraints.hold_for(10) is None
    assert constraints.hold_for(11) == constraints.holds[0]
    assert constraints.hold_for(101) == constraints.holds[1]


def test_the_lowest_rate_that_bites_counts() -> None:
    """SPEC commitments-27."""
    spans = [span("a", SlowDown(100, 0)), span("b", SlowDown(50, 0), bites=10), span("c", SlowDown(50, 0), bites=10)]
    assert strictest(spans, 5).rate is not None
    assert strictest(spans, 5).rate.gflop_per_s == 100  # type: ignore[union-attr]
    assert strictest(spans, 5).next_change_ms == 10
    late = strictest(spans, 10).rate
    assert late is not None
    assert (late.gflop_per_s, late.commitments) == (50, ("b", "c"))


def test_a_category_is_exempt_only_where_every_commitment_exempts_it() -> None:
    """SPEC commitments-27."""
    pause = span("pause", Pause(10, 5), 0, Exemption("e", "evaluation", 7, 0), Exemption("i", "inference", 9, 3))
    rate = span("rate", SlowDown(10, 5), 0, Exemption("x", "evaluation", 5, 0))
    found = strictest([pause, rate], 1).exempt
    assert [(budget.category, budget.budget_gflop, budget.commitments) for budget in found] == [
        ("evaluation", 5, ("rate",))
    ]
    assert len(strictest([pause], 1).exempt) == 2


def test_growth_limits_and_caps_all_hold() -> None:
    """SPEC commitments-27."""
    play = Play()
    for number, kind in enumerate(("growth", "cap", "growth")):
        play.propose(build_commitment(kind, f"c{number}"))
        play.pledge("norland", "sudland", to=f"c{number}")
    constraints = play.at("10 d").constraints("borealis")
    assert [limit.commitments for limit in constraints.growth] == [("c0", "c2")]
    assert [(limit.cap.id, limit.commitment) for limit in constraints.caps] == [("extra", "c1")]
    assert (constraints.holds, constraints.rate, constraints.exempt) == ((), None, ())


def test_a_party_binds_its_labs_and_a_lab_can_bind_itself() -> None:
    play = Play(build_commitment(term={"length": "365 d", "requires": "anyone"}))
    play.pledge("norland", "sudland", "aurora").at("10 d")
    assert play.constraints("borealis").holds != ()
    assert play.constraints("zephyr").holds == ()
    play.withdraw("norland").at("40 d")
    assert play.constraints("borealis").holds == ()
    assert play.constraints("aurora").holds != ()


def test_the_strictest_shortest_lease_is_told() -> None:
    play = Play()
    for name, length in (("a", "2 h"), ("b", "1 h")):
        play.propose(build_commitment(ident=name, lease={"lease": length, "on_lease_end": "hold"}))
        play.pledge("norland", "sudland", to=name)
    lease = play.at("10 d").constraints("borealis").lease
    assert lease is not None
    assert (lease.lease_ms, lease.hold) == (HOUR, True)


def test_a_lease_counts_from_the_pledge_on_and_ends_with_the_commitment() -> None:
    """SPEC commitments-13: a gate that is cut off between its pledge and the last one needed knows of its lease."""
    play = Play(build_commitment(lease={"lease": "1 h", "on_lease_end": "hold"}))
    assert play.constraints("borealis").lease is None
    play.pledge("norland")
    for lab in ("borealis", "aurora"):
        lease = play.constraints(lab).lease
        assert lease is not None
        assert lease.lease_ms == HOUR
    assert play.constraints("meridian").lease is None
    play.pledge("sudland").at("11 d").lift("norland", "sudland")
    assert play.constraints("borealis").lease is None


def test_constraints_begin_after_the_notice_and_bite_after_the_wind_down() -> None:
    """SPEC commitments-20, SPEC commitments-29."""
    play = Play(build_commitment(entry={"delay": "0 s"})).at("1 d").pledge("norland", "sudland")
    assert play.phase == "pending"
    assert play.at("1 d").phase == "in-force"
    assert play.constraints("borealis", "1 d").holds == ()
    begun = play.constraints("borealis", "25 h").holds
    assert [(hold.from_ms, hold.enforced_ms) for hold in begun] == [
        (START_MS + 25 * HOUR, START_MS + 31 * HOUR),
    ]


def test_a_look_ahead_tightens_by_plan_and_loosens_by_fact() -> None:
    """SPEC commitments-38."""
    play = Play(build_commitment(term={"length": "20 d"})).at("1 d").pledge("norland", "sudland")
    assert play.phase == "pending"
    assert play.constraints("borealis", "10 d").holds == ()
    assert play.constraints("borealis", "10 d").next_change_ms == START_MS + 11 * DAY
    assert play.constraints("borealis", "11 d").holds != ()
    assert play.constraints("borealis", "100 d").holds != (), "the end is not a fact yet"
    assert play.at("31 d").constraints("borealis").holds == ()


def test_boundaries_are_every_beginning_bite_and_end_inside_a_period() -> None:
    """SPEC commitments-28."""
    play = Play(build_commitment(term={"length": "20 d"})).at("1 d").pledge("norland", "sudland").at("40 d")
    begins, bites, ends = START_MS + 11 * DAY, START_MS + 11 * DAY + 6 * HOUR, START_MS + 31 * DAY
    look = play.registry.boundaries
    assert look("borealis", START_MS, START_MS + 50 * DAY) == (begins, bites, ends)
    assert look("borealis", begins, bites) == ()
    assert look("borealis", begins - 1, bites) == (begins,)
    assert look("borealis", ends - 1, ends + 1) == (ends,)
    assert look("zephyr", START_MS, START_MS + 50 * DAY) == ()
    assert boundaries([], 0, 1) == ()


def test_spans_of_the_past_are_found_by_the_periods_that_they_touch() -> None:
    """SPEC commitments-29."""
    play = Play(build_commitment(term={"length": "20 d"}, stage=[{"above": "2e24 FLOP", "lasts": "5 d"}]))
    play.at("1 d").pledge("norland", "sudland").at("20 d").lift("norland", "sudland").at("40 d")
    spans = play.registry.spans("borealis", START_MS, START_MS + 100 * DAY)
    assert [(span.from_ms, span.until_ms) for span in spans] == [
        (START_MS + 11 * DAY, START_MS + 20 * DAY),
        (START_MS + 20 * DAY, START_MS + 25 * DAY),
    ]
    assert [span.measure.above_gflop for span in spans if isinstance(span.measure, Pause)] == [10**15, 2 * 10**15]
    assert play.registry.spans("borealis", START_MS + 25 * DAY, START_MS + 100 * DAY) == []
    assert len(play.registry.spans("borealis", START_MS + 24 * DAY, START_MS + 100 * DAY)) == 1


def test_a_commitment_that_ends_before_its_constraints_began_constrained_nobody() -> None:
    """SPEC commitments-29."""
    play = Play(build_commitment(entry={"delay": "0 s", "notice": "5 d"})).at("1 d").pledge("norland", "sudland")
    play.at("2 d").lift("norland", "sudland")
    assert play.registry.spans("borealis", START_MS, START_MS + 100 * DAY) == []
