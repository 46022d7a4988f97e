"""Amendments: what is judged by which terms, before and after, and what a change leaves behind."""

from __future__ import annotations

from typing import Any

from membership_world import DELAY_MS, MembershipWorld, new_lab

from pacekeeper.protocol.errors import Code
from pacekeeper.protocol.replay import Applied, ViolationKind, Void
from pacekeeper.v1 import statements_pb2 as pb

LAB_CAP: dict[str, Any] = {"id": "lab", "kind": "lab", "limit": "1e11 FLOP", "window": "3 periods"}  # 100 gigaFLOP
RUN_CAP: dict[str, Any] = {"id": "run", "kind": "run", "limit": "1e11 FLOP"}


def code_of(outcome: Applied | Void) -> Code:
    assert isinstance(outcome, Void), outcome
    return outcome.code


class Story(MembershipWorld):
    """borealis has a run; each account is given at its period's end, and meridian's too, so that nothing is missing."""

    def __init__(self, *caps: dict[str, Any], **document: Any) -> None:
        super().__init__(caps=caps, **document)
        self.declare("borealis", "run-1", at=self.start(0))

    def use(self, amount: int, margin_ppm: int = 0, as_of: int | None = None) -> Applied | Void:
        """The next period's account of borealis."""
        lab = self.state.labs["borealis"]
        self.to(max(self.end(lab.next_period), self.state.last_time_ms))
        self.account_for("meridian", lab.next_period)
        statement = pb.ComputeAttestation(
            agreement=self.agreement.fingerprint,
            lab="borealis",
            link=self.link("borealis", as_of),
            account=self.account(lab.next_period, {"run-1": amount}, margin_ppm),
        )
        return self.put_chain("borealis", statement, self.state.last_time_ms)

    def used(self, *amounts: int) -> None:
        for amount in amounts:
            outcome = self.use(amount)
            assert isinstance(outcome, Applied), outcome

    def caps_become(self, *caps: dict[str, Any], ident: str = "change") -> None:
        """Amended in the middle of a period: what is new counts from the next."""
        self.perform(self.amendment(ident, cap=list(caps)), self.state.last_time_ms + 10_000)

    def found(self) -> list[tuple[ViolationKind, int, str, int]]:
        return [(v.kind, v.period, v.cap, v.limit) for v in self.state.violations]


def test_an_outbox_is_judged_by_the_margins_that_it_could_know() -> None:
    """SPEC commitments-54: the old ones hold for an as_of before the amendment, and for periods begun before it."""
    world = Story(RUN_CAP)
    world.used(1)
    as_of = world.state.size
    world.perform(world.amendment(margins={"framework-count": "1 %"}), world.start(2) - 20_000)
    assert as_of < world.state.superseded_margins[0].amended_at
    assert isinstance(world.use(1, 50_000, as_of=world.state.size), Applied), "period 1 had begun"
    world.to(world.end(2))
    [old] = world.state.superseded_margins
    assert code_of(world.use(1, 50_000, as_of=old.amended_at + 1)) is Code.MARGIN_TOO_WIDE
    assert isinstance(world.use(1, 10_000), Applied)
    world.proved()


def test_an_as_of_before_the_amendment_is_no_licence_for_ever() -> None:
    """SPEC commitments-54: until the period of the amendment is closed, and then no longer."""
    world = Story(RUN_CAP)
    world.used(1)
    as_of = world.state.labs["borealis"].as_of
    world.perform(world.amendment(margins={"framework-count": "1 %"}), world.start(1) + 10_000)
    closes = world.agreement.fill_in_ms(1)
    taken = []
    for _ in range(6):
        outcome = world.use(1, 50_000, as_of=as_of)
        taken.append((world.state.last_time_ms <= closes, isinstance(outcome, Applied)))
        if isinstance(outcome, Void):
            assert outcome.code is Code.MARGIN_TOO_WIDE
            assert isinstance(world.use(1, 10_000, as_of=as_of), Applied)
    assert {early for early, _ in taken} == {True, False}
    assert all(early == applied for early, applied in taken)
    world.proved()


def test_what_is_about_a_closed_period_keeps_its_place_whatever_its_margin() -> None:
    """SPEC commitments-54: its number can never be signed again, and it counts for nothing."""
    world = Story(RUN_CAP)
    world.perform(world.amendment(margins={"framework-count": "1 %"}), world.start(0) + 10_000)
    world.to(world.agreement.fill_in_ms(0) + 1)
    world.to(world.agreement.fill_in_ms(1) + 1)
    statement = pb.ComputeAttestation(
        agreement=world.agreement.fingerprint,
        lab="borealis",
        link=world.link("borealis"),
        account=world.account(0, {"run-1": 5}, 50_000),
    )
    assert isinstance(world.put_chain("borealis", statement, world.state.last_time_ms), Applied)
    assert (world.state.labs["borealis"].expired, world.state.labs["borealis"].attested) == (1, 0)
    world.proved()


def test_a_wider_margin_is_admitted_from_the_next_account_on() -> None:
    world = Story(RUN_CAP, framework_count_margin="1 %")
    world.perform(world.amendment(margins={"framework-count": "5 %"}), world.start(0) + 10_000)
    assert isinstance(world.use(1, 50_000), Applied)
    world.proved()


def test_a_lower_limit_counts_for_windows_that_end_after_it_and_convicts_no_earlier_one() -> None:
    """SPEC commitments-51: a window goes on under a cap of the same id; a correction finds the limit of its time."""
    world = Story(LAB_CAP)
    world.used(80)
    first = world.state.labs["borealis"].accounts[0].id
    world.caps_become({**LAB_CAP, "limit": "5e10 FLOP"})
    world.used(0)
    assert world.found() == [], "period 1 had begun"
    outcome = world.correct("borealis", 0, {"run-1": 79}, first, at=world.state.last_time_ms)
    assert isinstance(outcome, Applied)
    assert world.found() == []
    world.used(0)
    assert world.found() == [(ViolationKind.LAB_CAP, 2, "lab", 50)], "79 of period 0 are in the window"
    world.used(0)
    assert len(world.found()) == 1
    world.proved()


def test_a_higher_limit_is_no_amnesty_for_windows_before_it() -> None:
    """SPEC commitments-51: and the look that saves time does not look past the lower of the two."""
    world = Story({**LAB_CAP, "window": "1 periods"})
    world.used(80)
    account = world.state.labs["borealis"].accounts[0].id
    world.caps_become({**LAB_CAP, "window": "1 periods", "limit": "2e11 FLOP"})
    world.used(50, 150)
    assert world.found() == []
    assert isinstance(world.correct("borealis", 0, {"run-1": 120}, account, at=world.state.last_time_ms), Applied)
    assert world.found() == [(ViolationKind.LAB_CAP, 0, "lab", 100)]
    world.proved()


def test_a_higher_limit_is_not_that_of_accounts_that_come_after_it() -> None:
    """SPEC commitments-51: what is due when the limit changes is judged by the lower one of its time."""
    world = Story({**LAB_CAP, "window": "1 periods"})
    world.to(world.end(0))
    world.caps_become({**LAB_CAP, "window": "1 periods", "limit": "2e11 FLOP"})
    world.used(50, 150, 150)
    assert world.found() == [(ViolationKind.LAB_CAP, 1, "lab", 100)]
    world.proved()


def test_a_new_cap_counts_nothing_of_what_was_before_it() -> None:
    """SPEC commitments-52: not in the period that had begun, nor in one that is corrected later."""
    world = Story(LAB_CAP)
    world.used(90)
    account = world.state.labs["borealis"].accounts[0].id
    world.caps_become({**LAB_CAP, "id": "fresh", "limit": "5e10 FLOP"})
    world.used(9)
    assert isinstance(world.correct("borealis", 0, {"run-1": 91}, account, at=world.state.last_time_ms), Applied)
    world.used(50)
    assert world.found() == []
    world.used(1)
    assert world.found() == [(ViolationKind.LAB_CAP, 3, "fresh", 50)]
    world.proved()


def test_the_id_of_a_cap_is_for_ever() -> None:
    """SPEC commitments-52: with its kind and window, and also when the cap is gone."""
    world = Story(LAB_CAP, RUN_CAP)
    at = world.start(0)
    for other in ({"window": "2 periods"}, {"kind": "party"}):
        assert code_of(world.propose(world.amendment("bad", cap=[{**LAB_CAP, **other}]), at)) is Code.BAD_COMMITMENT
    world.caps_become(RUN_CAP)
    back = world.amendment("back", cap=[LAB_CAP])
    assert code_of(world.propose(back, world.state.last_time_ms)) is Code.BAD_COMMITMENT
    world.proved()


def test_a_cap_that_goes_judges_what_had_begun_and_nothing_later() -> None:
    """SPEC commitments-53: no amendment pardons what was too much, or leaves an account that is still to come alone."""
    world = Story({**LAB_CAP, "window": "1 periods"}, RUN_CAP)
    world.declare("borealis", "run-2", at=world.state.last_time_ms)
    assert isinstance(world.use(100, 50_000), Applied)
    assert world.state.cap_status["lab", "borealis"].undecided
    world.caps_become({"id": "other", "kind": "lab", "limit": "1e13 FLOP", "window": "3 periods"})
    world.used(101)
    world.used(500)
    world.to(world.due(3))
    found = [item for item in world.found() if item[0] is not ViolationKind.PERIOD_MISSING]
    assert found == [
        (ViolationKind.LAB_CAP, 1, "lab", 100),
        (ViolationKind.RUN_CAP, 1, "run", 100),
    ], "period 0 is undecided beside its neighbour, and so one stretch with it"
    for period in range(4, 9):
        world.to(world.end(period))
    world.caps_become({"id": "other", "kind": "lab", "limit": "2e13 FLOP", "window": "3 periods"}, ident="again")
    assert [watch.cap.id for watch in world.state.watches["borealis"]] == ["other"], "what is closed is forgotten"
    assert world.state.run_caps == []
    world.proved()


def test_what_a_cap_left_undecided_before_it_went_counts_in_the_end() -> None:
    """SPEC commitments-53, SPEC compute-5."""
    world = Story(LAB_CAP)
    assert isinstance(world.use(100, 50_000), Applied)
    world.caps_become(RUN_CAP)
    world.to(world.due(3))
    assert (ViolationKind.UNRESOLVED, 0, "lab", 100) in world.found()
    world.proved()


def test_a_cap_that_a_lab_comes_back_under_begins_anew_for_it() -> None:
    """SPEC commitments-52: what it used in between does not count."""
    mine = {**LAB_CAP, "subjects": ["borealis"]}
    world = Story(mine)
    world.used(60)
    world.caps_become({**LAB_CAP, "subjects": ["meridian"]}, ident="away")
    world.used(30, 90)
    world.caps_become(mine, ident="back")
    world.used(90)
    assert world.found() == []
    world.used(50)
    assert world.state.cap_status["lab", "borealis"].bounds == (50, 50)
    world.used(51)
    assert world.found() == [(ViolationKind.LAB_CAP, 5, "lab", 100)]
    world.proved()


def test_a_run_is_judged_by_the_limit_of_its_last_period() -> None:
    """SPEC commitments-51: a run that ended before is not convicted by a correction; one that goes on is."""
    for goes_on in (False, True):
        world = Story(RUN_CAP)
        world.declare("borealis", "run-2", at=world.state.last_time_ms)
        world.used(80)
        account = world.state.labs["borealis"].accounts[0].id
        world.caps_become({**RUN_CAP, "limit": "5e10 FLOP"})
        assert isinstance(world.correct("borealis", 0, {"run-1": 79}, account, at=world.state.last_time_ms), Applied)
        assert world.found() == []
        for period in (1, 2):
            world.to(world.end(period))
            name = "run-1" if goes_on and period == 2 else "run-2"
            assert isinstance(world.attest("borealis", period, {name: 1}, at=world.state.last_time_ms), Applied)
        kinds = [kind for kind, *_ in world.found() if kind is not ViolationKind.PERIOD_MISSING]
        assert kinds == ([ViolationKind.RUN_CAP] if goes_on else [])
        world.proved()


def test_a_new_cap_on_runs_leaves_those_alone_that_have_ended() -> None:
    """SPEC commitments-52: it counts the whole life of a run that goes on."""
    world = Story({"id": "wide", "kind": "lab", "limit": "1e13 FLOP", "window": "3 periods"})
    world.used(80)
    account = world.state.labs["borealis"].accounts[0].id
    world.caps_become({**RUN_CAP, "limit": "5e10 FLOP"})
    assert isinstance(world.correct("borealis", 0, {"run-1": 81}, account, at=world.state.last_time_ms), Applied)
    assert world.found() == []
    world.used(0)
    assert world.found() == []
    world.used(0)
    assert world.found() == [(ViolationKind.RUN_CAP, 2, "run", 50)]
    world.proved()


def test_an_amended_tick_makes_silences_from_then_on() -> None:
    """The silence before it is judged by the tick of that time, since nobody could know the other."""
    world = Story(RUN_CAP)
    at = world.start(0) + 10_000
    world.agree(world.amendment(timing={"tick": "20 s", "tolerance": "1 s", "unwitnessed": "1 h"}), at)
    world.tick(at + 45_000)
    assert world.state.agreement.timing.tick_ms == 20_000
    assert len(world.state.silences) == 0
    world.tick(at + 90_000)
    assert len(world.state.silences) == 1
    assert world.state.members.tolerance_ms == 1_000
    world.proved()


def test_resolution_is_that_of_the_time_at_which_a_matter_became_undecided() -> None:
    world = Story(LAB_CAP, indeterminate_periods=2)
    assert isinstance(world.use(100, 50_000), Applied)
    world.perform(world.amendment(resolution={"indeterminate_periods": 5}), world.state.last_time_ms + 10_000)
    world.used(0, 0)
    world.to(world.due(2))
    assert [(v.kind, v.period) for v in world.state.violations] == [(ViolationKind.UNRESOLVED, 0)]
    world.proved()


def test_acts_of_one_time_are_done_in_the_order_of_their_ids() -> None:
    """SPEC commitments-59: whoever proposed first."""
    world = Story(LAB_CAP)
    at = world.start(0) + 10_000
    for ident, limit in (("b-later", "7e10 FLOP"), ("a-first", "5e10 FLOP")):
        world.agree(world.amendment(ident, cap=[{**LAB_CAP, "limit": limit}]), at)
    world.to(at + DELAY_MS)
    assert [act.commitment for act in world.state.acts] == ["a-first", "b-later"]
    assert [cap.limit for cap in world.state.agreement.caps] == [70]
    world.proved()


def test_two_amendments_in_one_period_and_the_last_stands() -> None:
    world = Story(LAB_CAP)
    at = world.start(0) + 10_000
    world.agree(world.amendment("one", cap=[{**LAB_CAP, "limit": "5e10 FLOP"}]), at)
    world.agree(world.amendment("two", cap=[{**LAB_CAP, "limit": "7e10 FLOP"}]), at + 1_000)
    world.to(at + 1_000 + DELAY_MS)
    assert [cap.limit for cap in world.state.agreement.caps] == [70]
    world.used(99)
    assert world.found() == []
    world.used(0)
    assert world.found() == [(ViolationKind.LAB_CAP, 1, "lab", 70)]
    world.proved()


def test_an_amended_cap_on_somebody_who_leaves_first_is_not_performed() -> None:
    """SPEC commitments-46, SPEC commitments-50."""
    world = Story(RUN_CAP)
    at = world.start(0) + 10_000
    world.agree(world.exit("sudland", "an-exit", (2, 0)), at)
    world.agree(
        world.amendment("of-caps", cap=[{**LAB_CAP, "subjects": ["meridian"]}]), at, ("norland", "westmere", "eastholm")
    )
    world.to(at + DELAY_MS)
    assert world.story("of-caps")[-1] == "not-performed"
    assert [cap.id for cap in world.state.agreement.caps] == ["run"]
    world.proved()


def test_caps_name_only_who_is_left_and_judge_what_was_owed() -> None:
    """SPEC commitments-49: a cap on nobody else goes with them, and still judges the accounts that they owe."""
    mine = {**LAB_CAP, "id": "mine", "subjects": ["meridian"], "window": "1 periods"}
    both = {**LAB_CAP, "id": "both", "subjects": ["borealis", "meridian"], "window": "1 periods"}
    world = MembershipWorld(caps=[mine, both, RUN_CAP])
    world.declare("meridian", "run-1", at=world.start(0))
    world.perform(world.exit("sudland", quorum=(2, 0)), world.start(0) + 10_000)
    assert [(cap.id, cap.subjects) for cap in world.state.agreement.caps] == [("both", ("borealis",)), ("run", ())]
    world.perform(world.amendment(margins={"framework-count": "5 %"}), world.start(0) + 40_000, ("norland", "eastholm"))
    world.to(world.end(0))
    world.attest("meridian", 0, {"run-1": 120}, at=world.end(0))
    found = {(v.kind, v.cap) for v in world.state.violations}
    assert found == {(ViolationKind.LAB_CAP, "mine"), (ViolationKind.LAB_CAP, "both"), (ViolationKind.RUN_CAP, "run")}
    world.proved()


def test_a_cap_on_a_party_counts_the_lab_that_joins_it() -> None:
    """SPEC commitments-48: from its first period on, in the window that the party has."""
    cap = {"id": "state", "kind": "party", "limit": "1e11 FLOP", "window": "3 periods"}
    world = Story(cap)
    world.used(60)
    world.perform(world.accession(labs=[new_lab("zephyr", "norland")]), world.state.last_time_ms + 10_000)
    world.join_chain("zephyr")
    world.used(0)
    world.declare("zephyr", "run-1", at=world.state.last_time_ms)
    world.used(0)
    assert isinstance(world.attest("zephyr", 2, {"run-1": 41}, at=world.state.last_time_ms), Applied)
    assert world.found() == [(ViolationKind.PARTY_CAP, 2, "state", 100)]
    world.proved()
