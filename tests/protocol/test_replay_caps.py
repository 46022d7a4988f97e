"""Caps as the replay judges them: windows of labs and parties, runs with their ancestors, and what stays undecided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from world import World

from pacekeeper.protocol.compute.bounds import Outcome
from pacekeeper.protocol.replay import Applied, Violation, ViolationKind
from pacekeeper.v1 import statements_pb2 as pb

LAB_CAP = {"id": "lab", "kind": "lab", "limit": "1e12 FLOP", "window": "3 periods"}  # 1000 gigaFLOP
PARTY_CAP = {"id": "party", "kind": "party", "limit": "1e12 FLOP", "window": "2 periods"}
RUN_CAP = {"id": "run", "kind": "run", "limit": "1e12 FLOP"}
FIVE = 50_000  # margin in ppm


def world_of(*caps: Mapping[str, object], **more: Any) -> World:
    world = World(caps=caps, **more)
    for lab in world.state.labs:
        world.declare(lab, "run-1", at=world.start(0))
    return world


def file(world: World, lab: str, period: int, amount: int, margin_ppm: int = 0) -> list[Violation]:
    """Attest one figure at the period's end, or now if that is later; return the violations that it brings out."""
    world.to(world.end(period))
    at = max(world.end(period), world.state.last_time_ms)
    outcome = world.attest(lab, period, {"run-1": amount} if amount else {}, at=at, margin_ppm=margin_ppm)
    assert isinstance(outcome, Applied), outcome
    return outcome.violations


def caps(world: World) -> list[tuple[str, str, int]]:
    return [(v.kind, v.subject, v.period) for v in world.state.violations if v.cap]


def amend(world: World, lab: str, period: int, amount: int) -> list[Violation]:
    old = world.state.labs[lab].accounts[period].id
    outcome = world.correct(lab, period, {"run-1": amount}, old, at=world.state.last_time_ms)
    assert isinstance(outcome, Applied), outcome
    return outcome.violations


def gap(world: World, lab: str, first: int, last: int) -> None:
    world.to(world.end(last))
    assert isinstance(world.gap(lab, first, last, at=world.state.last_time_ms), Applied)


def test_a_window_slides_and_has_no_seam() -> None:
    """SPEC compute-6, SPEC compute-4: 600 in two neighbouring periods exceed 1000 wherever the calendar stands."""
    world = world_of(LAB_CAP)
    found = [file(world, "borealis", period, amount) for period, amount in enumerate([0, 0, 600, 400, 1, 0, 599])]
    assert [len(step) for step in found] == [0, 0, 0, 0, 1, 0, 0]
    assert caps(world) == [("lab-cap-exceeded", "borealis", 4)]
    exceeded = found[4][0]
    assert (exceeded.cap, exceeded.limit, exceeded.bounds) == ("lab", 1000, (1001, 1001))
    assert world.state.cap_status["lab", "borealis"].outcome is Outcome.WITHIN


def test_a_stretch_is_one_violation_and_the_next_stretch_another() -> None:
    """SPEC compute-9."""
    world = world_of(LAB_CAP)
    for period, amount in enumerate([1001, 0, 5, 0, 0, 1002, 0]):
        file(world, "borealis", period, amount)
    assert caps(world) == [("lab-cap-exceeded", "borealis", 0), ("lab-cap-exceeded", "borealis", 5)]


def test_a_late_account_is_judged_in_the_windows_that_it_belongs_to() -> None:
    """SPEC compute-4, SPEC compute-9: an old window is exceeded although a later one was convicted before."""
    world = world_of(LAB_CAP)
    file(world, "borealis", 0, 600)
    gap(world, "borealis", 1, 1)
    for period, amount in enumerate([0, 0, 0, 0, 0, 1001], start=2):
        file(world, "borealis", period, amount)
    assert caps(world) == [("lab-cap-exceeded", "borealis", 7)]
    file(world, "borealis", 1, 401)
    assert caps(world) == [("lab-cap-exceeded", "borealis", 7), ("lab-cap-exceeded", "borealis", 1)]
    status = world.state.cap_status["lab", "borealis"]
    assert (status.outcome, status.since) == (Outcome.EXCEEDED, 7), "the present is the latest window's"


def test_a_late_account_does_not_settle_another_window() -> None:
    """SPEC compute-5: window 3 is undecided; filling period 0 late, which is within, leaves it so."""
    world = world_of({**LAB_CAP, "window": "1 period"}, indeterminate_periods=2)
    gap(world, "borealis", 0, 0)
    file(world, "borealis", 1, 0)
    file(world, "borealis", 2, 0)
    file(world, "borealis", 3, 1000, margin_ppm=FIVE)
    assert file(world, "borealis", 0, 5) == []
    file(world, "borealis", 4, 0)
    world.to(world.due(5))
    assert caps(world) == [("cap-unresolved", "borealis", 3)]


def test_the_next_window_does_not_settle_the_one_before() -> None:
    """SPEC compute-5: who alternates between undecided and idle periods is not let off."""
    world = world_of({**LAB_CAP, "window": "1 period"}, indeterminate_periods=3)
    for period in range(4):
        file(world, "borealis", period, 1000 if period % 2 == 0 else 0, margin_ppm=FIVE)
    world.to(world.due(3) - 1)
    assert caps(world) == []
    world.to(world.due(3))
    assert caps(world) == [("cap-unresolved", "borealis", 0)]
    world.to(world.due(5))
    assert caps(world) == [("cap-unresolved", "borealis", 0), ("cap-unresolved", "borealis", 2)]
    unresolved = next(v for v in world.state.violations if v.cap)
    assert (unresolved.time_ms, unresolved.bounds, unresolved.limit) == (world.due(3), (950, 1050), 1000)


def test_narrowing_in_time_settles_and_narrowing_too_late_does_not_undo() -> None:
    """SPEC compute-5: by a correction with a smaller margin; either way what it shows then counts."""
    for amount, outcome in ((1000, []), (1001, [("lab-cap-exceeded", "borealis", 0)])):
        world = world_of({**LAB_CAP, "window": "1 period"})
        file(world, "borealis", 0, 1000, margin_ppm=FIVE)
        world.to(world.due(3) - 1)
        amend(world, "borealis", 0, amount)
        world.to(world.due(4))
        assert caps(world) == outcome
    world = world_of({**LAB_CAP, "window": "1 period"})
    file(world, "borealis", 0, 1000, margin_ppm=FIVE)
    world.to(world.due(3))
    amend(world, "borealis", 0, 1000)
    world.to(world.due(4))
    assert caps(world) == [("cap-unresolved", "borealis", 0)]


def test_a_stretch_of_undecided_windows_is_unresolved_once() -> None:
    """SPEC compute-5, SPEC compute-9: also when it is mended and undecided again before its time."""
    world = world_of(LAB_CAP, indeterminate_periods=1)
    file(world, "borealis", 0, 1000, margin_ppm=FIVE)
    amend(world, "borealis", 0, 1)
    old = world.state.labs["borealis"].accounts[0].id
    statement = world.account(0, {"run-1": 1000}, FIVE)
    assert isinstance(_correct_with(world, statement, old), Applied)
    for period in range(1, 6):
        file(world, "borealis", period, 0)
    world.to(world.due(6))
    assert caps(world) == [("cap-unresolved", "borealis", 0)]


def _correct_with(world: World, account: pb.PeriodAccount, corrects: bytes) -> object:
    statement = pb.Correction(
        agreement=world.agreement.fingerprint,
        lab="borealis",
        link=world.link("borealis"),
        account=account,
        corrects=corrects,
    )
    return world.put_chain("borealis", statement, world.state.last_time_ms)


def test_a_stretch_may_grow_at_either_end() -> None:
    """SPEC compute-9, SPEC compute-5: backwards by a late account, forwards by what is never narrowed."""
    world = world_of({**LAB_CAP, "window": "1 period"}, indeterminate_periods=1)
    gap(world, "borealis", 0, 0)
    file(world, "borealis", 1, 1001)
    assert file(world, "borealis", 0, 1001) == []
    file(world, "borealis", 2, 1000, margin_ppm=FIVE)
    world.to(world.due(4))
    assert caps(world) == [("lab-cap-exceeded", "borealis", 1)]
    assert world.state.cap_status["lab", "borealis"].unresolved == {2}


def test_a_window_undecided_by_a_late_account_has_its_time_from_then() -> None:
    """SPEC compute-5: the deadline never lies in the past."""
    world = world_of({**LAB_CAP, "window": "1 period"}, indeterminate_periods=2)
    gap(world, "borealis", 0, 0)
    for period in range(1, 12):
        file(world, "borealis", period, 0)
    file(world, "borealis", 0, 1000, margin_ppm=FIVE)
    world.to(world.due(13) - 1)
    assert caps(world) == []
    world.to(world.due(13))
    assert caps(world) == [("cap-unresolved", "borealis", 0)]


def test_a_silence_gives_time_to_narrow() -> None:
    """SPEC compute-5, SPEC replay-4."""
    world = world_of({**LAB_CAP, "window": "1 period"}, indeterminate_periods=1)
    file(world, "borealis", 0, 1000, margin_ppm=FIVE)
    world.to(world.due(1) - 2_000)
    world.tick(world.due(1) + 30_000)
    assert caps(world) == []
    amend(world, "borealis", 0, 999)
    world.to(world.due(1) + 90_000)
    assert caps(world) == []


def test_a_conviction_is_not_undone_by_a_correction() -> None:
    """SPEC compute-9: nor repeated by going over again."""
    world = world_of(LAB_CAP)
    file(world, "borealis", 0, 1001)
    amend(world, "borealis", 0, 10)
    assert world.state.cap_status["lab", "borealis"].outcome is Outcome.WITHIN
    amend(world, "borealis", 0, 1001)
    assert caps(world) == [("lab-cap-exceeded", "borealis", 0)]


def test_a_partys_labs_count_together_and_other_parties_do_not() -> None:
    """SPEC compute-6: two labs of one party, each within, together over; the third lab is another party's."""
    world = world_of(PARTY_CAP, {**LAB_CAP, "window": "2 periods"}, labs=[2, 1, 0, 0])
    labs = list(world.state.labs)
    assert [world.state.labs[lab].party for lab in labs] == ["norland", "norland", "sudland"]
    assert file(world, labs[0], 0, 600) == []
    assert file(world, labs[2], 0, 900) == []
    assert file(world, labs[1], 0, 400) == []
    assert file(world, labs[0], 1, 0) == []
    found = file(world, labs[1], 1, 1)
    assert [(v.kind, v.subject, v.period, v.bounds) for v in found] == [
        (ViolationKind.PARTY_CAP, "norland", 1, (1001, 1001))
    ]


def test_a_partys_lagging_lab_is_judged_in_the_windows_of_its_periods() -> None:
    """SPEC compute-4, SPEC compute-6: one lab is periods ahead of the other."""
    world = world_of(PARTY_CAP, labs=[2, 0, 0, 0])
    first, second = world.state.labs
    for period, amount in enumerate([500, 0, 0, 500]):
        file(world, first, period, amount)
    for period, amount in enumerate([501, 0, 0, 500]):
        file(world, second, period, amount)
    assert caps(world) == [("party-cap-exceeded", "norland", 0)]


def test_a_cap_with_subjects_is_for_them() -> None:
    """SPEC compute-6, SPEC compute-7."""
    world = world_of({**LAB_CAP, "subjects": ["meridian"]}, {**RUN_CAP, "subjects": ["meridian"]})
    for lab in ("borealis", "meridian"):
        file(world, lab, 0, 1001)
    assert caps(world) == [("lab-cap-exceeded", "meridian", 0), ("run-cap-exceeded", "meridian/run-1", 0)]


def test_margins_decide_between_within_undecided_and_exceeded() -> None:
    """SPEC compute-3, SPEC compute-8."""
    for amount, outcome in ((952, "within"), (953, "indeterminate"), (1053, "indeterminate"), (1054, "exceeded")):
        world = world_of(RUN_CAP)
        file(world, "borealis", 0, amount, margin_ppm=FIVE)
        assert world.state.cap_status["run", "borealis/run-1"].outcome == outcome, amount


def test_a_run_is_undecided_from_its_first_undecided_period() -> None:
    """SPEC compute-5: more of the same does not postpone it, and exceeding later is a fact of its own, once."""
    world = world_of(RUN_CAP, indeterminate_periods=2)
    file(world, "borealis", 0, 980, margin_ppm=FIVE)
    file(world, "borealis", 1, 1, margin_ppm=FIVE)
    file(world, "borealis", 2, 1, margin_ppm=FIVE)
    world.to(world.due(2))
    file(world, "borealis", 3, 1, margin_ppm=FIVE)
    file(world, "borealis", 4, 500, margin_ppm=FIVE)
    file(world, "borealis", 5, 500, margin_ppm=FIVE)
    world.to(world.due(9))
    assert caps(world) == [("cap-unresolved", "borealis/run-1", 0), ("run-cap-exceeded", "borealis/run-1", 4)]


class Model:
    """The slow truth about window caps: every account in force, and each window that was ever over."""

    def __init__(self, length: int, limit: int, groups: dict[str, str]) -> None:
        self.length, self.limit, self.groups = length, limit, groups
        self.amounts: dict[tuple[str, int], int] = {}
        self.over: dict[str, set[int]] = {group: set() for group in groups.values()}

    def begun(self, group: str) -> int:
        return max((period for lab, period in self.amounts if self.groups[lab] == group), default=-1)

    def set(self, lab: str, period: int, amount: int) -> list[tuple[str, int]]:
        """Change an account; return (subject, period) of each stretch that begins."""
        self.amounts[lab, period] = amount
        group = self.groups[lab]
        ends: Iterable[int] = range(period, min(period + self.length - 1, self.begun(group)) + 1)
        found = []
        for end in ends:
            total = sum(
                value
                for (other, at), value in self.amounts.items()
                if self.groups[other] == group and end - self.length < at <= end
            )
            if total > self.limit:
                if not {end - 1, end, end + 1} & self.over[group]:
                    found.append((group, end))
                self.over[group].add(end)
        return found


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4),
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["next", "next", "gap", "fill", "mend"]), st.integers(0, 700)),
        max_size=25,
    ),
)
def test_windows_agree_with_a_model_that_adds_everything_up(length: int, script: list[tuple[int, str, int]]) -> None:
    """SPEC compute-4, SPEC compute-6, SPEC compute-9: late, corrected and of several labs, in any order."""
    window = f"{length} period{'s' if length > 1 else ''}"
    world = world_of({**LAB_CAP, "window": window}, {**PARTY_CAP, "window": window}, labs=[2, 1, 0, 0])
    labs = list(world.state.labs)
    alone = Model(length, 1000, {lab: lab for lab in labs})
    together = Model(length, 1000, {lab: world.state.labs[lab].party for lab in labs})
    world.to(world.end(20))
    for number, kind, amount in script:
        lab = world.state.labs[labs[number]]
        now = world.state.last_time_ms
        period = lab.next_period
        if kind == "gap":
            assert isinstance(world.gap(lab.id, period, period, at=now), Applied)
            continue
        if kind == "fill" and lab.gaps:
            period = sorted(lab.gaps)[amount % len(lab.gaps)]
        if kind == "mend" and lab.accounts:
            period = sorted(lab.accounts)[amount % len(lab.accounts)]
            found = amend(world, lab.id, period, amount)
        else:
            found = file(world, lab.id, period, amount)
        expected = alone.set(lab.id, period, amount) + together.set(lab.id, period, amount)
        assert [(v.subject, v.period) for v in found] == expected
    assert world.replayed().digest() == world.state.digest()


def test_a_run_that_a_correction_brings_back_is_within_again_and_can_be_caught_again() -> None:
    """SPEC compute-7: what a run cap says follows the account in force, over the cap, undecided, and below it again."""
    world = World(labs=1, period="10 s", fill_in="100 s", caps=[{"id": "run", "kind": "run", "limit": "1e12 FLOP"}])
    world.declare("borealis", "run-1", at=world.start(0))
    world.attest("borealis", 0, {"run-1": 1_001})
    status = world.state.cap_status["run", "borealis/run-1"]
    for amount, margin, expected in (
        (900, 0, Outcome.WITHIN),
        (990, 20_000, Outcome.INDETERMINATE),
        (950, 0, Outcome.WITHIN),
        (1_002, 0, Outcome.EXCEEDED),
        (5, 0, Outcome.WITHIN),
    ):
        link = world.link("borealis")
        account = world.account(0, {"run-1": amount}, margin)
        corrects = world.state.labs["borealis"].accounts[0].id
        statement = pb.Correction(
            agreement=world.agreement.fingerprint, lab="borealis", link=link, account=account, corrects=corrects
        )
        assert isinstance(world.put_chain("borealis", statement, world.end(0) + 1), Applied)
        assert status.outcome is expected
        assert bool(status.undecided) is (expected is Outcome.INDETERMINATE)
    assert world.replayed().digest() == world.state.digest()
