"""Whose exit would end it, of two hundred with random conditions: what a search that was cut vouches for is there."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from pacekeeper.protocol.commitments.pledges import (
    Alternatives,
    Condition,
    Roll,
    bound_set,
    collapse_sets,
    satisfied,
)

PARTIES, LABS = 40, 160
PAIRS = 250  # of those not listed, looked at one by one


class Shape(NamedTuple):
    """At most so many alternatives; how often one names somebody, in percent; the share of everyone it asks for."""

    alternatives: int
    named: int
    high: int


SHAPES = {
    "mild": Shape(2, 30, 70),
    "strict": Shape(2, 30, 95),
    "many names": Shape(3, 80, 60),
    "plain": Shape(1, 0, 80),
}


def drawn(shape: Shape, dice: random.Random) -> tuple[Roll, Mapping[str, Alternatives], Condition]:
    parties = [f"party-{number}" for number in range(PARTIES)]
    labs = [f"lab-{number}" for number in range(LABS)]

    def count(of: int) -> int:
        return dice.randint(0, of * shape.high // 100) if dice.random() < 0.4 else 0

    def condition() -> Condition:
        named = dice.sample(parties + labs, dice.randint(1, 3)) if dice.randrange(100) < shape.named else ()
        return Condition(count(PARTIES), count(LABS), frozenset(named), count(1_000_000))

    roll = Roll({party: dice.randint(1, 1_000) for party in parties}, {lab: dice.choice(parties) for lab in labs})
    pledges = {who: tuple(condition() for _ in range(dice.randint(0, shape.alternatives))) for who in parties + labs}
    rule = Condition(PARTIES // 2, LABS // 2, frozenset(dice.sample(parties, 1)), 500_000)
    return roll, pledges, rule


class Drawn:
    """A drawn case in which the rule holds with all who are bound."""

    def __init__(self, name: str, dice: random.Random) -> None:
        while True:
            self.roll, self.pledges, self.rule = drawn(SHAPES[name], dice)
            self.bound = sorted(bound_set(self.roll, self.pledges))
            if satisfied(self.rule, self.roll, self.bound):
                return

    def ends(self, *exits: str) -> bool:
        left = {who: pledge for who, pledge in self.pledges.items() if who not in exits}
        return not satisfied(self.rule, self.roll, bound_set(self.roll, left))


@pytest.mark.parametrize("name", SHAPES)
def test_singles_and_pairs_are_those_that_end_it(name: str) -> None:
    """SPEC pledges-7, SPEC pledges-8, SPEC pledges-9: with the usual work, against the fixed point taken anew."""
    dice = random.Random(name)
    for case in (Drawn(name, dice), Drawn(name, dice)):
        got = collapse_sets(case.roll, case.pledges, case.rule)
        assert got.complete or got.listed >= 2
        singles = {who for exits in got.sets if len(exits) == 1 for who in exits}
        assert singles == {who for who in case.bound if case.ends(who)}
        pairs = {exits for exits in got.sets if len(exits) == 2}
        others = [who for who in case.bound if who not in singles]
        assert all(case.ends(*pair) and pair <= set(others) for pair in pairs)
        for _ in range(PAIRS):
            pair = frozenset(dice.sample(others, 2))
            assert case.ends(*pair) == (pair in pairs), sorted(pair)


def test_partners_by_shared_followers_are_found() -> None:
    """SPEC pledges-8: pairs that do more together than apart, through one whose two alternatives they make fail."""
    roll = Roll(dict.fromkeys((f"p{number:03}" for number in range(60)), 1), {})
    pledges: dict[str, Alternatives] = dict.fromkeys(roll.parties, ())
    # p000 stays as long as p001 or p002 does; p003 as long as p004 does, or both p005 and p006; p007 as long as p000.
    pledges["p000"] = (Condition(named=frozenset({"p001"})), Condition(named=frozenset({"p002"})))
    pledges["p003"] = (Condition(named=frozenset({"p004"})), Condition(named=frozenset({"p005", "p006"})))
    pledges["p007"] = (Condition(named=frozenset({"p000"})),)
    got = collapse_sets(roll, pledges, Condition(named=frozenset({"p003", "p007"})))
    assert got.complete
    assert [sorted(exits) for exits in got.sets] == [
        ["p000"], ["p003"], ["p007"], ["p001", "p002"], ["p004", "p005"], ["p004", "p006"],
    ]  # fmt: skip


def test_wherever_a_search_is_cut_it_vouches_for_no_more_than_it_has() -> None:
    """SPEC pledges-8: cut after every bit of work, with sets of one, of two and of three to be found."""
    roll = Roll(dict.fromkeys((f"p{number:02}" for number in range(12)), 1), {})
    pledges: dict[str, Alternatives] = dict.fromkeys(roll.parties, ())
    pledges["p00"] = (Condition(named=frozenset({"p01"})), Condition(named=frozenset({"p02"})))
    rule = Condition(parties=10, named=frozenset({"p00"}))
    every = collapse_sets(roll, pledges, rule, work=10_000_000)
    assert every.complete
    assert {len(exits) for exits in every.sets} == {1, 2, 3}
    seen = set()
    for work in range(0, 700, 3):
        got = collapse_sets(roll, pledges, rule, work=work)
        listed = 3 if got.complete else got.listed
        assert {exits for exits in every.sets if len(exits) <= listed} <= set(got.sets), work
        seen.add(listed)
    assert seen == {0, 1, 2, 3}
    for limit in range(len(every.sets)):
        got = collapse_sets(roll, pledges, rule, limit=limit)
        assert {exits for exits in every.sets if len(exits) <= got.listed} <= set(got.sets), limit
