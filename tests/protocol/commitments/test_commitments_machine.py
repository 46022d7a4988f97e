"""The engine against an independent slow model, on histories that Hypothesis invents; and laws that hold of all."""

from __future__ import annotations

from typing import Any, Final

from commitments import START_MS, build_commitment
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from slow_commitments import LABS, PARTIES, Demand, SlowCommitment, Terms, supported

from pacekeeper.protocol.commitments.player import Player, Step
from pacekeeper.protocol.commitments.pledges import Alternatives, Condition
from pacekeeper.protocol.commitments.registry import Registry
from pacekeeper.protocol.commitments.transitions import TABLE, Event, Phase
from pacekeeper.protocol.documents.commitment import compile_commitment
from pacekeeper.protocol.documents.commitment_model import Commitment, Members
from pacekeeper.protocol.units import format_time

DAY: Final = 86_400_000
MEMBERS: Final = Members(frozenset(PARTIES), LABS)
EVERYONE: Final = (*PARTIES, *LABS)
WHO = st.sampled_from(EVERYONE)
DEMANDS = st.builds(
    Demand,
    parties=st.integers(0, 3),
    labs=st.integers(0, 2),
    named=st.frozensets(WHO, max_size=1),
).filter(lambda demand: demand != Demand())
PLEDGES = st.lists(DEMANDS, max_size=2).map(tuple)
TERMS = st.builds(
    Terms,
    rule=st.sampled_from(
        [Demand(parties=1), Demand(parties=2), Demand(parties=2, labs=1), Demand(named=frozenset({"sudland"}))]
    ),
    limit=st.sampled_from([10**12, 3 * 10**12]),
    by=st.integers(4, 20),
    delay=st.integers(0, 6),
    length=st.integers(1, 30),
    cut_off=st.integers(0, 3),
    leave=st.none() | st.integers(1, 6),
    may_step_back=st.booleans(),
    lifters=st.integers(1, 3),
    anyone=st.booleans(),
    ramp=st.sampled_from([0, 0, 3]),
    releases=st.booleans(),
)


def document(terms: Terms, ident: str) -> bytes:
    """The same terms as a document."""
    rule = {"parties": terms.rule.parties or None, "labs": terms.rule.labs or None}
    named = {"named": sorted(terms.rule.named)} if terms.rule.named else {}
    stages = {"stage": [{"above": f"{2 * terms.limit}e9 FLOP", "lasts": f"{terms.ramp} d"}]} if terms.ramp else {}
    return build_commitment(
        "pause",
        ident,
        entry=rule
        | named
        | {"pledges_by": format_time(START_MS + terms.by * DAY), "delay": f"{terms.delay} d", "notice": "0 s"},
        withdrawal={
            "before_entry": "allowed" if terms.may_step_back else "none",
            "cut_off": f"{terms.cut_off} d",
            "notice": None if terms.leave is None else f"{terms.leave} d",
        },
        pause={"above": f"{terms.limit}e9 FLOP", "wind_down": "0 s"},
        term={"length": f"{terms.length} d", "requires": "anyone" if terms.anyone else "entry-rule"},
        lifting={"parties": terms.lifters},
        breach={"response": "release-others" if terms.releases else "none"},
        more=stages,
    )


def alternatives(demands: tuple[Demand, ...]) -> Alternatives:
    return tuple(Condition(demand.parties, demand.labs, demand.named) for demand in demands)


class Commitments(RuleBasedStateMachine):
    """Two commitments at once, five participants, one unit of time a day."""

    @initialize(one=TERMS, other=TERMS)
    def propose(self, one: Terms, other: Terms) -> None:
        self.day = 0
        self.registry = Registry(MEMBERS)
        self.player = Player(self.registry)
        self.slow = {"one": SlowCommitment(one), "other": SlowCommitment(other)}
        for ident, slow in self.slow.items():
            terms = compile_commitment(document(slow.terms, ident), MEMBERS)
            self._propose(terms)

    def _propose(self, terms: Commitment) -> None:
        put = self.player.put(START_MS, lambda index, now: self.registry.propose(terms, "norland", index, now))
        assert put is None

    def _say(self, action: str, who: str, ident: str, demands: tuple[Demand, ...] = ()) -> None:
        self.player.advance(START_MS + self.day * DAY)
        before = self.registry.describe()
        step = Step(START_MS + self.day * DAY, action, who, ident, alternatives=alternatives(demands))
        refusal = self.player.play(step)
        assert (refusal is None) == self.slow[ident].say(self.day, action, who, demands), refusal
        if refusal is not None:
            assert self.registry.describe() == before, "a refusal leaves the state untouched"

    @rule(who=WHO, ident=st.sampled_from(["one", "other"]), demands=PLEDGES)
    def pledge(self, who: str, ident: str, demands: tuple[Demand, ...]) -> None:
        """SPEC commitments-34."""
        self._say("pledge", who, ident, demands)

    @rule(ident=st.sampled_from(["one", "other"]), several=st.sets(WHO, min_size=2))
    def several_pledge(self, ident: str, several: set[str]) -> None:
        """Without conditions, so that much comes into force."""
        for who in sorted(several):
            self._say("pledge", who, ident)

    @rule(who=WHO, ident=st.sampled_from(["one", "other"]))
    def withdraw(self, who: str, ident: str) -> None:
        """SPEC commitments-25."""
        self._say("withdraw", who, ident)

    @rule(who=WHO, ident=st.sampled_from(["one", "other"]))
    def lift(self, who: str, ident: str) -> None:
        """SPEC commitments-31."""
        self._say("lift", who, ident)

    @precondition(lambda self: self.day > 3)
    @rule(who=WHO, ident=st.sampled_from(["one", "other"]))
    def breach(self, who: str, ident: str) -> None:
        """SPEC commitments-35."""
        self._say("breach", who, ident)

    @rule(days=st.integers(1, 6))
    def wait(self, days: int) -> None:
        self.day = min(self.day + days, 60)

    @invariant()
    def agrees_with_the_slow_model(self) -> None:
        """SPEC commitments-17, SPEC commitments-18, SPEC commitments-21, SPEC commitments-26, SPEC commitments-36."""
        if not hasattr(self, "slow"):
            return
        self.player.advance(START_MS + self.day * DAY)
        for ident, slow in self.slow.items():
            standing, expected = self.registry.standing(ident), slow.stand(self.day)
            assert str(standing.phase) == expected.phase
            if expected.live:
                assert {who: (at - START_MS) // DAY for who, at in standing.bound.items()} == expected.bound
                assert set(standing.pledges) == set(expected.pledges)
                assert {who: (at - START_MS) // DAY for who, at in standing.leaving.items()} == expected.leaving

    @invariant()
    def the_strictest_holds(self) -> None:
        """SPEC commitments-27, SPEC commitments-29: nothing before its delay or after its end."""
        if not hasattr(self, "slow"):
            return
        for lab in LABS:
            limits = [slow.limit_on(lab, self.day) for slow in self.slow.values()]
            known = [limit for limit in limits if limit is not None]
            holds = self.registry.constraints_on(lab, START_MS + self.day * DAY).holds
            assert min((hold.above_gflop for hold in holds), default=None) == min(known, default=None)

    @invariant()
    def only_the_tables_transitions_happen(self) -> None:
        """SPEC commitments-16."""
        if not hasattr(self, "slow"):
            return
        events = {str(event): event for event in Event}
        for ident in self.slow:
            phase = Phase.OPEN
            for moment in self.registry.timeline(ident):
                if moment.what in events:
                    phase = TABLE[phase, events[moment.what]]
                assert moment.phase == phase


TestCommitments = Commitments.TestCase
TestCommitments.settings = settings(max_examples=200, stateful_step_count=25, deadline=None)

SETS = st.dictionaries(WHO, PLEDGES, max_size=5)


def settled(pledges: dict[str, tuple[Demand, ...]], order: list[str]) -> tuple[str, set[str]]:
    """Phase and set bound after pledges of one day, in an order, once everything in that day has been said."""
    registry = Registry(MEMBERS)
    player = Player(registry)
    terms = Terms(Demand(parties=1), 10, 20, 5, 30, 0, 3, True, 1, False, 0, False)
    compiled = compile_commitment(document(terms, "one"), MEMBERS)
    player.put(START_MS, lambda index, now: registry.propose(compiled, "norland", index, now))
    for who in order:
        player.play(Step(START_MS, "pledge", who, "one", alternatives=alternatives(pledges[who])))
    standing = registry.standing("one")
    return str(standing.phase), set(standing.bound)


@settings(max_examples=100, deadline=None)
@given(SETS, st.data())
def test_the_order_of_pledges_never_matters(pledges: dict[str, tuple[Demand, ...]], data: Any) -> None:
    """SPEC commitments-17."""
    order = data.draw(st.permutations(sorted(pledges)))
    assert settled(pledges, order) == settled(pledges, sorted(pledges))
    phase, bound = settled(pledges, order)
    if phase != "open":
        assert bound == supported(pledges)


@settings(max_examples=100, deadline=None)
@given(SETS, WHO, PLEDGES)
def test_a_pledge_more_never_unbinds_and_one_less_never_binds(
    pledges: dict[str, tuple[Demand, ...]], who: str, demands: tuple[Demand, ...]
) -> None:
    """SPEC commitments-17."""
    fewer = {name: pledge for name, pledge in pledges.items() if name != who}
    more = {**fewer, who: demands}
    assert settled(fewer, sorted(fewer))[1] <= settled(more, sorted(more))[1]
