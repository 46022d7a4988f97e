"""Lineage on the log: splitting, merging and resuming do not reset the count, and nobody can load it onto others."""

from __future__ import annotations

from typing import Any

from world import World, digest

from pacekeeper.protocol.errors import Code
from pacekeeper.protocol.replay import Applied, ViolationKind, Void
from pacekeeper.v1 import statements_pb2 as pb

RUN_CAP = {"id": "run", "kind": "run", "limit": "1e12 FLOP"}  # 1000 gigaFLOP


def world_of(**more: Any) -> World:
    return World(caps=[RUN_CAP], **more)


def train(world: World, lab: str, period: int, **figures: int) -> Applied:
    """Attest figures of runs (run_1 stands for run-1) at the period's end."""
    world.to(world.end(period))
    named = {run.replace("_", "-"): amount for run, amount in figures.items()}
    outcome = world.attest(lab, period, named, at=max(world.end(period), world.state.last_time_ms))
    assert isinstance(outcome, Applied), outcome
    return outcome


def declare(world: World, lab: str, run: str, **more: Any) -> int:
    outcome = world.declare(lab, run, at=world.state.last_time_ms, **more)
    assert isinstance(outcome, Applied), outcome
    return outcome.index


def save(world: World, lab: str, run: str, label: str, steps: int, amount: int) -> int:
    period = world.agreement.period_of(world.state.last_time_ms)
    outcome = world.record(lab, run, label, period, steps, amount, at=world.state.last_time_ms)
    assert isinstance(outcome, Applied), outcome
    return outcome.index


def convicted(world: World) -> list[tuple[str, int]]:
    return [(v.subject, v.period) for v in world.state.violations if v.kind is ViolationKind.RUN_CAP]


def cumulative(world: World, run: str) -> int:
    return world.state.lineage.cumulative(world.state.lineage.runs[run]).high


def test_splitting_one_training_into_twenty_runs_is_caught_where_the_sum_goes_over() -> None:
    """SPEC compute-7, SPEC lineage-4: each run is far below the cap, none names its parent, the digests do."""
    world = world_of()
    for part in range(20):
        declare(world, "borealis", f"part-{part:02}", initial=f"weights-{part}" if part else "")
        out = train(world, "borealis", part, **{f"part_{part:02}": 60})
        save(world, "borealis", f"part-{part:02}", f"weights-{part + 1}", 1, 60)
        assert cumulative(world, f"borealis/part-{part:02}") == 60 * (part + 1)
        assert bool(out.violations and any(v.cap for v in out.violations)) == (part >= 16)
    assert convicted(world) == [(f"borealis/part-{part}", part) for part in range(16, 20)]
    first = next(v for v in world.state.violations if v.cap)
    assert (first.bounds, first.limit) == ((1020, 1020), 1000)
    assert first.sources == tuple(f"borealis/part-{part:02}" for part in range(17))
    assert world.replayed().digest() == world.state.digest()


def test_resuming_at_another_lab_continues_the_count() -> None:
    """SPEC lineage-4, SPEC compute-7: the other lab's run says that it is fresh; the digest says whence it comes."""
    world = world_of()
    declare(world, "borealis", "base")
    train(world, "borealis", 0, base=700)
    save(world, "borealis", "base", "weights", 1, 700)
    declare(world, "meridian", "tuned", initial="weights")
    world.gap("meridian", 0, 0, at=world.state.last_time_ms)
    train(world, "meridian", 1, tuned=301)
    assert convicted(world) == [("meridian/tuned", 1)]


def test_a_resumed_run_is_judged_by_its_sum_however_little_it_adds_at_a_time() -> None:
    """SPEC compute-7: its own compute stays far below the cap, and the account that goes over is not its first."""
    world = world_of()
    declare(world, "borealis", "base")
    train(world, "borealis", 0, base=900)
    save(world, "borealis", "base", "weights", 1, 900)
    declare(world, "borealis", "tuned", initial="weights")
    for period in (1, 2, 3):
        train(world, "borealis", period, tuned=40)
    assert convicted(world) == [("borealis/tuned", 3)]


def test_a_named_parent_counts_as_it_was_recorded() -> None:
    """SPEC lineage-1, SPEC lineage-6: the parent trains on; the child inherits what stood at the record."""
    world = world_of()
    declare(world, "borealis", "base")
    train(world, "borealis", 0, base=400)
    index = save(world, "borealis", "base", "weights", 1, 400)
    declare(world, "borealis", "child", parents=[index], initial="something else")
    train(world, "borealis", 1, base=500, child=100)
    assert (cumulative(world, "borealis/base"), cumulative(world, "borealis/child")) == (900, 500)


def test_merging_adds_sources_and_counts_a_common_root_once() -> None:
    """SPEC lineage-6."""
    world = world_of()
    declare(world, "borealis", "root")
    train(world, "borealis", 0, root=300)
    root = save(world, "borealis", "root", "r", 1, 300)
    declare(world, "borealis", "left", parents=[root])
    declare(world, "borealis", "right", parents=[root])
    train(world, "borealis", 1, left=200, right=250)
    parents = [save(world, "borealis", "left", "x", 1, 200), save(world, "borealis", "right", "y", 1, 250)]
    declare(world, "borealis", "soup", parents=parents)
    assert cumulative(world, "borealis/soup") == 750
    train(world, "borealis", 2, soup=251)
    assert convicted(world) == [("borealis/soup", 2)]
    sources = next(v.sources for v in world.state.violations if v.cap)
    assert sources == ("borealis/left", "borealis/right", "borealis/root", "borealis/soup")


def test_a_record_that_comes_late_links_back_within_the_lab() -> None:
    """SPEC lineage-5: the child is declared and attested before the checkpoint that it started from is on the log."""
    world = world_of()
    declare(world, "borealis", "base")
    declare(world, "borealis", "child", initial="weights")
    declare(world, "borealis", "grandchild", initial="later")
    train(world, "borealis", 0, base=800, child=150)
    save(world, "borealis", "child", "later", 1, 150)
    train(world, "borealis", 1, grandchild=60)
    assert convicted(world) == []
    world.to(world.end(1) + 1)
    outcome = world.record("borealis", "base", "weights", 1, 1, 800, at=world.state.last_time_ms)
    assert isinstance(outcome, Applied)
    assert [(v.kind, v.subject) for v in outcome.violations] == [("run-cap-exceeded", "borealis/grandchild")]
    assert cumulative(world, "borealis/child") == 950
    assert cumulative(world, "borealis/grandchild") == 1010


def test_another_labs_record_of_the_same_digest_does_not_touch_the_victim() -> None:
    """SPEC lineage-4, SPEC lineage-5: neither runs declared before it nor those declared after it."""
    world = world_of()
    declare(world, "borealis", "base")
    train(world, "borealis", 0, base=100)
    save(world, "borealis", "base", "weights", 1, 100)
    declare(world, "borealis", "before", initial="weights")
    declare(world, "borealis", "early", initial="not recorded yet")
    for run, label in (("copy", "weights"), ("claim", "not recorded yet")):
        declare(world, "meridian", run)
        save(world, "meridian", run, label, 1, 10**9)
    declare(world, "borealis", "after", initial="weights")
    train(world, "borealis", 1, before=10, after=10, early=10)
    assert convicted(world) == []
    assert [cumulative(world, f"borealis/{run}") for run in ("before", "after", "early")] == [110, 110, 10]


def test_naming_another_labs_record_as_parent_loads_only_oneself() -> None:
    """SPEC lineage-1."""
    world = world_of()
    declare(world, "borealis", "base")
    train(world, "borealis", 0, base=900)
    index = save(world, "borealis", "base", "weights", 1, 900)
    before = cumulative(world, "borealis/base")
    declare(world, "meridian", "child", parents=[index])
    world.gap("meridian", 0, 0, at=world.state.last_time_ms)
    train(world, "meridian", 1, child=200)
    assert convicted(world) == [("meridian/child", 1)]
    assert cumulative(world, "borealis/base") == before


def test_no_declaration_makes_a_loop() -> None:
    """SPEC lineage-5: a run ends in the state that its ancestor began with; both are judged as before."""
    world = world_of()
    declare(world, "borealis", "one", initial="x")
    save(world, "borealis", "one", "y", 1, 10)
    declare(world, "borealis", "two", initial="y")
    save(world, "borealis", "two", "x", 1, 20)
    save(world, "borealis", "one", "x", 2, 30)
    assert world.state.lineage.runs["borealis/one"].parents == ()
    assert (cumulative(world, "borealis/one"), cumulative(world, "borealis/two")) == (0, 10)
    assert world.replayed().digest() == world.state.digest()


def test_a_run_with_an_unstated_start_is_linked_to_nothing() -> None:
    """SPEC lineage-4: the absent digest is no digest."""
    world = world_of()
    for run in ("one", "two"):
        statement = world.declaration("borealis", run)
        statement.initial_state = pb.INITIAL_STATE_UNSTATED
        statement.ClearField("initial_digest")
        assert isinstance(world.put(world.seal(statement, world.keys.lab("borealis")), world.start(0)), Applied)
    assert world.state.lineage.runs["borealis/two"].parents == ()


def understated(world: World) -> list[tuple[str, int, int, tuple[int, int] | None]]:
    found = [v for v in world.state.violations if v.kind is ViolationKind.UNDERSTATED]
    return [(v.subject, v.period, v.limit, v.bounds) for v in found]


def test_a_record_below_what_is_attested_later_for_the_time_before_is_a_violation() -> None:
    """SPEC lineage-7: a lab cannot freeze its child's inheritance low by recording before it attests; and once each."""
    world = world_of()
    declare(world, "borealis", "base")
    world.to(world.end(0))
    save(world, "borealis", "base", "weights", 1, 100)
    save(world, "borealis", "base", "more", 2, 550)
    train(world, "borealis", 0, base=500)
    assert understated(world) == [("borealis/base", 1, 100, (500, 500))]
    old = world.state.labs["borealis"].accounts[0].id
    world.correct("borealis", 0, {"base": 501}, old, at=world.state.last_time_ms)
    assert len(understated(world)) == 1
    old = world.state.labs["borealis"].accounts[0].id
    world.correct("borealis", 0, {"base": 551}, old, at=world.state.last_time_ms)
    assert understated(world)[1:] == [("borealis/base", 1, 550, (551, 551))]


def test_a_record_is_not_measured_against_its_own_period_or_later_ones() -> None:
    """SPEC lineage-7: it may have been taken at the period's start."""
    world = world_of()
    declare(world, "borealis", "base")
    save(world, "borealis", "base", "weights", 1, 0)
    train(world, "borealis", 0, base=500)
    assert isinstance(world.record("borealis", "base", "still", 0, 2, 1, at=world.end(0)), Applied)
    save(world, "borealis", "base", "more", 3, 500)
    train(world, "borealis", 1, base=300)
    assert understated(world) == []


def test_a_record_is_measured_after_old_accounts_are_dropped() -> None:
    """SPEC lineage-2: what was attested in closed periods still counts."""
    world = world_of(fill_in="20 s", labs=1)
    declare(world, "borealis", "base")
    for period in range(8):
        train(world, "borealis", period, base=10)
    assert min(world.state.labs["borealis"].accounts) > 2
    outcome = world.record("borealis", "base", "weights", 8, 1, 79, at=world.state.last_time_ms)
    assert isinstance(outcome, Void)
    assert outcome.code is Code.CHECKPOINT_REGRESSES
    save(world, "borealis", "base", "weights", 1, 80)
    assert digest("weights") == world.state.lineage.runs["borealis/base"].records[0].digest


def test_what_is_corrected_away_leaves_nothing_behind() -> None:
    """The run's share of a period goes with the figure, so that memory does not grow with corrections."""
    world = world_of()
    declare(world, "borealis", "base")
    train(world, "borealis", 0, base=500)
    old = world.state.labs["borealis"].accounts[0].id
    assert isinstance(world.correct("borealis", 0, {}, old, at=world.state.last_time_ms), Applied)
    run = world.state.lineage.runs["borealis/base"]
    assert run.own == (0, 0)
