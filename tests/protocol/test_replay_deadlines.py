"""Deadlines: what becomes a fact because nothing happened, when, in which order, and what an outage changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import World

from pacekeeper.protocol.envelope import encode_entry, parse_entry
from pacekeeper.protocol.replay import Applied, ViolationKind, Void, genesis

BOTH = ["borealis", "meridian"]


def missing(world: World) -> list[tuple[str, int, int]]:
    found = [v for v in world.state.violations if v.kind is ViolationKind.PERIOD_MISSING]
    return [(v.subject, v.period, v.time_ms) for v in found]


def test_a_period_is_missing_at_its_deadline_and_not_before() -> None:
    """SPEC replay-5, SPEC replay-3: the fact has the deadline's time and the index of the entry that brought it."""
    world = World()
    world.to(world.due(0) - 1)
    assert missing(world) == []
    tick = world.tick(world.due(0) + 3)
    assert [(v.subject, v.period, v.time_ms) for v in tick.violations] == [(lab, 0, world.due(0)) for lab in BOTH]
    assert {v.index for v in tick.violations} == {tick.index}
    assert world.state.labs["borealis"].missing == {0}


def test_an_account_at_the_deadline_itself_is_late() -> None:
    """SPEC replay-3, SPEC chain-10: deadlines up to the entry's time fire first."""
    world = World()
    world.to(world.due(0) - 1)
    early = world.attest("borealis", 0, {}, at=world.due(0) - 1)
    late = world.attest("meridian", 0, {}, at=world.due(0))
    assert (early.violations, [v.subject for v in late.violations]) == ([], ["meridian"])
    assert (world.state.labs["borealis"].late, world.state.labs["meridian"].late) == (0, 1)


def test_deadlines_fire_in_the_order_of_time_kind_and_subject() -> None:
    """SPEC replay-3: of one moment, accounts before caps, and each by subject."""
    world = World(
        caps=[{"id": "lab", "kind": "lab", "limit": "1e12 FLOP", "window": "1 period"}], indeterminate_periods=1
    )
    world.declare("borealis", "run-1", at=world.start(0))
    world.to(world.end(0))
    world.attest("borealis", 0, {"run-1": 1_000}, margin_ppm=50_000)
    world.to(world.due(0) - 1)
    before = len(world.state.violations)
    world.to(world.due(1))
    due_0, due_1 = world.due(0), world.due(1)
    assert [(v.time_ms, v.kind, v.subject) for v in world.state.violations[before:]] == [
        (due_0, "period-missing", "meridian"),
        (due_1, "period-missing", "borealis"),
        (due_1, "period-missing", "meridian"),
        (due_1, "cap-unresolved", "borealis"),
    ]


def test_several_deadlines_in_one_step_keep_their_own_times() -> None:
    """SPEC replay-3."""
    world = World(period="1 s", due="2 s", tick="1 s", fill_in="90 s")
    world.to(world.due(0) - 1)
    outcome = world.tick(world.due(0) - 1 + 1_000)
    assert [(v.time_ms, v.subject) for v in outcome.violations] == [(world.due(0), lab) for lab in BOTH]
    assert world.state.next_deadline_ms() == world.due(1)


def test_a_gap_excuses_nothing() -> None:
    """SPEC replay-5, SPEC chain-5."""
    world = World()
    world.to(world.end(0))
    assert isinstance(world.gap("borealis", 0, 0, at=world.end(0)), Applied)
    world.to(world.due(0))
    assert missing(world) == [(lab, 0, world.due(0)) for lab in BOTH]


def test_one_missing_period_does_not_mute_a_lab() -> None:
    """SPEC chain-4, SPEC chain-5: without the gap the next account is refused, after it the chain goes on."""
    world = World()
    world.to(world.end(1))
    assert isinstance(world.attest("borealis", 1, {}), Void)
    assert isinstance(world.gap("borealis", 0, 0, at=world.end(1)), Applied)
    assert isinstance(world.attest("borealis", 1, {}), Applied)
    world.to(world.due(1))
    assert missing(world) == [
        ("borealis", 0, world.due(0)),
        ("meridian", 0, world.due(0)),
        ("meridian", 1, world.due(1)),
    ]


def test_a_late_account_fills_its_gap_and_stays_late() -> None:
    """SPEC chain-10: the violation stays on record, the lab's account is complete again."""
    world = World()
    world.to(world.end(1))
    world.gap("borealis", 0, 1, at=world.end(1))
    world.to(world.due(1))
    before = list(world.state.violations)
    assert isinstance(world.attest("borealis", 0, {}, at=world.due(1)), Applied)
    lab = world.state.labs["borealis"]
    assert (lab.late, lab.attested, lab.missing, lab.gaps, lab.next_period) == (1, 1, {1}, {1}, 2)
    assert world.state.violations == before
    assert isinstance(again := world.attest("borealis", 0, {}, at=world.due(1)), Void)
    assert again.code == "period-taken"


def test_a_gap_filled_before_the_deadline_is_in_time() -> None:
    """SPEC chain-10."""
    world = World()
    world.to(world.end(0))
    world.gap("borealis", 0, 0, at=world.end(0))
    world.attest("borealis", 0, {}, at=world.end(0))
    world.to(world.due(0))
    assert [subject for subject, _, _ in missing(world)] == ["meridian"]
    assert world.state.labs["borealis"].late == 0


def test_an_outage_convicts_nobody() -> None:
    """SPEC replay-4: the log is away from before the deadline till after it; the lab delivers when it is back."""
    world = World()
    world.to(world.end(0))
    away = 60_000
    world.tick(world.end(0) + away)
    assert missing(world) == []
    assert world.state.at(world.state.last_time_ms).overdue == ()
    assert isinstance(world.attest("borealis", 0, {}, at=world.state.last_time_ms), Applied)
    world.to(world.due(0) + away - 1)
    assert missing(world) == []
    world.to(world.due(0) + away)
    assert ("meridian", 0, world.due(0) + away) in missing(world)
    assert not any(subject == "borealis" and period == 0 for subject, period, _ in missing(world))


def test_an_outage_that_ends_just_before_a_deadline_convicts_nobody() -> None:
    """SPEC replay-4: a lab that had to wait for the log has that time back."""
    world = World()
    world.to(world.start(0) + 1_000)
    back = world.due(0) - 1
    silence = back - world.state.last_time_ms
    world.tick(back)
    world.to(back + silence - 1)
    assert missing(world) == []
    world.to(back + silence)
    assert missing(world)[:1] == [("borealis", 0, back + silence)]


def test_a_silence_over_several_periods_moves_all_their_deadlines_in_order() -> None:
    """SPEC replay-4: none of the periods behind the silence falls due before those within it."""
    world = World()
    world.to(world.start(0) + 1_000)
    gone = world.state.last_time_ms
    world.tick(world.end(5))
    length = world.end(5) - gone
    for period in range(6):
        world.to(world.end(5) + 1_000 + period)
        assert isinstance(world.attest("borealis", period, {}, at=world.state.last_time_ms), Applied)
    assert missing(world) == []
    world.to(world.due(8) + length)
    times = [at for subject, _, at in missing(world) if subject == "meridian"]
    periods = [period for subject, period, _ in missing(world) if subject == "meridian"]
    assert times == sorted(times)
    assert periods == list(range(len(periods)))
    assert times[:5] == [world.due(period) + length for period in range(5)]
    assert not any(subject == "borealis" and period < 6 for subject, period, _ in missing(world))


def test_two_silences_move_a_deadline_twice() -> None:
    """SPEC replay-4."""
    world = World()
    world.to(world.end(0))
    world.tick(world.end(0) + 10_000)
    moved = world.due(0) + 10_000
    world.to(moved - 1_000)
    world.tick(moved - 1_000 + 7_000)
    assert [silence[1] - silence[0] for silence in world.state.silences] == [10_000, 7_000]
    world.to(moved + 7_000 - 1)
    assert missing(world) == []
    world.to(moved + 7_000)
    assert missing(world)[:2] == [(lab, 0, moved + 7_000) for lab in BOTH]


def test_the_tick_interval_itself_is_no_silence() -> None:
    """SPEC replay-4."""
    world = World()
    world.tick(world.start(0) + 1_000)
    assert list(world.state.silences) == []
    world.tick(world.start(0) + 2_001)
    assert list(world.state.silences) == [(world.start(0) + 1_000, world.start(0) + 2_001)]


def test_a_silence_keeps_periods_open_longer() -> None:
    """SPEC chain-9, SPEC replay-4."""
    world = World(fill_in="20 s")
    world.to(world.end(0))
    world.tick(world.end(0) + 60_000)
    assert isinstance(world.attest("borealis", 0, {}, at=world.state.last_time_ms), Applied)


def test_the_projection_names_what_is_overdue_and_creates_no_fact() -> None:
    """SPEC replay-10."""
    world = World()
    world.to(world.end(0))
    world.attest("borealis", 0, {})
    before = world.state.digest()
    seen = world.state.at(world.due(1))
    assert seen.overdue == (("borealis", 1, world.due(1)), ("meridian", 0, world.due(0)), ("meridian", 1, world.due(1)))
    assert seen.silent
    assert not world.state.at(world.end(0) + 1_000).silent
    assert world.state.at(world.due(0) - 1).overdue == ()
    assert world.state.digest() == before


def test_a_log_founded_late_begins_with_the_period_of_its_founding() -> None:
    """SPEC chain-4: nobody is missing for the time before."""
    world = World(epoch="2026-01-01T00:00:00Z")
    founding = parse_entry(world.entries[0]).envelope
    world.state = genesis(encode_entry(world.start(7) + 5, founding))
    assert world.state.labs["borealis"].next_period == 7
    world.to(world.due(7))
    assert missing(world) == [(lab, 7, world.due(7)) for lab in BOTH]


def test_accounts_are_dropped_when_their_period_closes() -> None:
    """SPEC chain-9: the state holds what can still be corrected, and does not grow with the log."""
    world = World(
        labs=1, fill_in="60 s", caps=[{"id": "lab", "kind": "lab", "limit": "1e24 FLOP", "window": "3 periods"}]
    )
    world.declare("borealis", "run-1", at=world.start(0))
    sizes = []
    for period in range(60):
        world.to(world.end(period))
        assert isinstance(world.attest("borealis", period, {"run-1": 10}), Applied)
        lab, run = world.state.labs["borealis"], world.state.lineage.runs["borealis/run-1"]
        window = world.state.watches["borealis"][0].window
        sizes.append((len(lab.accounts), len(window._values), len(world.state.deadlines)))
    # Accounts are dropped some at a time, so that the sizes go around in a circle of that length and no further.
    assert sizes[20:] == sizes[20:28] * 5
    assert max(sizes)[0] <= 16
    assert run.own.high == 600
    assert world.state.violations == []
    assert world.replayed().digest() == world.state.digest()


def test_what_comes_after_its_period_closed_keeps_the_chain_going_and_changes_nothing_else() -> None:
    """SPEC chain-11: a lab whose outbox waited through a long outage goes on; what was missing stays missing."""
    world = World(labs=1, period="100 s", due="200 s", fill_in="400 s")
    world.declare("borealis", "run-1", at=world.start(0))
    lab = world.state.labs["borealis"]
    assert isinstance(world.attest("borealis", 0, {"run-1": 10}), Applied)
    world.gap("borealis", 1, 1, at=world.end(1))
    first = lab.accounts[0].id
    world.to(world.end(6) + 1)
    before = world.state.describe()
    # The next period in order, one that a gap covers, and a correction: all of them closed by now.
    assert isinstance(world.attest("borealis", 2, {"run-1": 7}, at=world.state.last_time_ms), Applied)
    assert isinstance(world.attest("borealis", 1, {"run-1": 7}, at=world.state.last_time_ms), Applied)
    assert isinstance(world.correct("borealis", 0, {"run-1": 1}, first, at=world.state.last_time_ms), Applied)
    assert (lab.sequence, lab.next_period, lab.expired) == (5, 3, 3)
    assert (lab.gaps, lab.missing, lab.attested, lab.late, lab.corrections) == ({1}, {1, 2, 3, 4}, 1, 0, 0)
    assert world.state.lineage.runs["borealis/run-1"].own == (10, 10)
    after = world.state.describe()
    assert [key for key in after if after[key] != before[key]] == ["size", "labs"]
    assert isinstance(world.attest("borealis", 3, {"run-1": 5}, at=world.state.last_time_ms), Applied)
    assert lab.late == 1, "the next period is open still, and late"
    assert world.replayed().digest() == world.state.digest()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40_000), st.booleans()), min_size=1, max_size=20))
def test_whoever_delivers_at_the_first_chance_is_never_missing(script: list[tuple[int, bool]]) -> None:
    """SPEC replay-4, SPEC replay-5: under any silences a lab that files all that is over at each entry stays clear.

    A loud wait ticks all along while this lab sleeps, up to 40 s: then, and only then, it may be late.
    """
    world = World()
    period = 0
    for wait, loud in script:
        at = world.state.last_time_ms + wait
        if loud:
            world.to(
                at
            )  # in small steps: the lab below comes late by up to 40 s, and may be missing in that case alone
        else:
            world.tick(at)
        while world.end(period) <= world.state.last_time_ms:
            late = world.state.due_ms(period) <= world.state.last_time_ms
            outcome = world.attest("borealis", period, {}, at=world.state.last_time_ms)
            assert isinstance(outcome, Applied)
            assert late == (("borealis", period) in {(s, p) for s, p, _ in missing(world)})
            assert not late or loud, "a tick after a silence convicts nobody"
            period += 1
    times = [v.time_ms for v in world.state.violations]
    assert times == sorted(times)
    assert world.replayed().digest() == world.state.digest()


@pytest.mark.parametrize("lab", BOTH)
def test_nothing_falls_due_for_what_is_attested(lab: str) -> None:
    """SPEC replay-5."""
    world = World()
    for period in range(3):
        world.to(world.end(period))
        world.attest(lab, period, {})
    world.to(world.due(2))
    assert {subject for subject, _, _ in missing(world)} == {other for other in BOTH if other != lab}
