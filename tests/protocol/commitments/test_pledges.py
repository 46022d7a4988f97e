"""Pledges against a slow model that strikes in rounds, and collapse sets against every subset of everyone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacekeeper.protocol.commitments.pledges import (
    Alternatives,
    Collapse,
    Condition,
    Roll,
    bound_set,
    collapse_sets,
    satisfied,
)

NAMES = [f"p{number}" for number in range(10)]
EXACT = 10_000_000  # work that ten participants cannot use up


def names(*given: str) -> frozenset[str]:
    return frozenset(given)


def equal_parties(count: int) -> Roll:
    return Roll({f"p{number:03}": 1 for number in range(count)}, {})


def unconditional(roll: Roll) -> dict[str, Alternatives]:
    return dict.fromkeys([*roll.parties, *roll.labs], ())


# The model: demands read off the specification, sets instead of counters.


def meets(condition: Condition, roll: Roll, bound: frozenset[str]) -> bool:
    total = sum(roll.parties.values())
    weight = sum(roll.parties[name] for name in bound if name in roll.parties)
    return (
        len([name for name in bound if name in roll.parties]) >= condition.parties
        and len([name for name in bound if name in roll.labs]) >= condition.labs
        and all(name in bound for name in condition.named)
        and (not condition.weight_ppm or (total > 0 and weight * 1_000_000 >= condition.weight_ppm * total))
    )


def model(roll: Roll, pledges: Mapping[str, Alternatives]) -> frozenset[str]:
    bound = frozenset(pledges)
    while True:
        left = frozenset(
            name for name in bound if not pledges[name] or any(meets(one, roll, bound) for one in pledges[name])
        )
        if left == bound:
            return bound
        bound = left


def without(pledges: Mapping[str, Alternatives], gone: frozenset[str]) -> dict[str, Alternatives]:
    return {name: pledge for name, pledge in pledges.items() if name not in gone}


def fails_after(roll: Roll, pledges: Mapping[str, Alternatives], rule: Condition, gone: frozenset[str]) -> bool:
    return not meets(rule, roll, model(roll, without(pledges, gone)))


def ordered(sets: list[frozenset[str]]) -> tuple[frozenset[str], ...]:
    return tuple(sorted(sets, key=lambda each: (len(each), sorted(each))))


def by_brute_force(roll: Roll, pledges: Mapping[str, Alternatives], rule: Condition) -> tuple[frozenset[str], ...]:
    """Every subset of those bound, the smallest first, less those that hold a smaller one."""
    found: list[frozenset[str]] = []
    bound = sorted(model(roll, pledges))
    for size in range(len(bound) + 1):
        for gone in map(frozenset, combinations(bound, size)):
            if not any(each <= gone for each in found) and fails_after(roll, pledges, rule, gone):
                found.append(gone)
    return ordered(found)


@st.composite
def situations(draw: st.DrawFn, most: int = 10) -> tuple[Roll, dict[str, Alternatives], Condition]:
    """A roll, pledges of some of those on it, and a rule; conditions tend to be few or many."""
    everyone = NAMES[: draw(st.integers(1, most))]
    count = draw(st.integers(0, len(everyone)))
    weights = st.sampled_from(draw(st.sampled_from([(0,), (1,), (1, 2, 5), (0, 3, 10**12)])))
    roll = Roll({name: draw(weights) for name in everyone[:count]}, dict.fromkeys(everyone[count:], "p0"))
    sparse = draw(st.booleans())

    def sometimes(strategy: st.SearchStrategy[int]) -> st.SearchStrategy[int]:
        return st.one_of(st.just(0), st.just(0), strategy) if sparse else strategy

    conditions = st.builds(
        Condition,
        parties=sometimes(st.integers(0, count)),
        labs=sometimes(st.integers(0, len(everyone) - count)),
        named=st.frozensets(st.sampled_from(everyone), max_size=1 if sparse else 2),
        weight_ppm=sometimes(st.sampled_from([0, 1, 333_333, 500_000, 550_000, 1_000_000])),
    )
    pledges = st.lists(conditions, max_size=3).map(tuple)
    taken = {name: draw(pledges) for name in everyone if draw(st.integers(0, 9))}
    return roll, taken, draw(conditions)


# Conditions.


def test_nothing_can_be_demanded_negatively() -> None:
    """SPEC pledges-1."""
    makers: list[Callable[[], object]] = [
        lambda: Condition(parties=-1),
        lambda: Condition(labs=-1),
        lambda: Condition(weight_ppm=-1),
        lambda: Roll({"arda": 2, "belan": -1}, {}),
    ]
    for make in makers:
        with pytest.raises(ValueError, match="negative"):
            make()


def test_each_demand_is_met_exactly_at_its_number() -> None:
    """SPEC pledges-1."""
    roll = Roll({"a": 1, "b": 1, "c": 1}, {"x": "a", "y": "b"})
    assert satisfied(Condition(), roll, ())
    assert satisfied(Condition(parties=2), roll, ["a", "b", "b"])
    assert not satisfied(Condition(parties=2), roll, ["a", "a", "x", "y"])
    assert satisfied(Condition(labs=2), roll, {"x", "y"})
    assert not satisfied(Condition(labs=2), roll, {"a", "b", "c", "x"})
    assert satisfied(Condition(named=names("a", "x")), roll, {"a", "x"})
    assert not satisfied(Condition(named=names("a", "x")), roll, {"a", "y"})
    assert not satisfied(Condition(parties=1, labs=1), roll, {"a", "b"})


@pytest.mark.parametrize(
    ("weights", "share", "bound", "met"),
    [
        ((1, 1, 1), 333_333, "a", True),
        ((1, 1, 1), 333_334, "a", False),
        ((55, 45, 0), 550_000, "a", True),
        ((55, 45, 0), 550_001, "a", False),
        ((10**30, 10**30 - 1, 0), 500_000, "b", False),
        ((10**30, 10**30 - 1, 0), 500_000, "a", True),
        ((0, 0, 0), 0, "", True),
        ((0, 0, 0), 1, "abc", False),
        ((1, 1, 1), 1_000_001, "abc", False),
    ],
)
def test_shares_of_weight_are_exact(weights: tuple[int, int, int], share: int, bound: str, met: bool) -> None:
    """SPEC pledges-2: no rounding, however large the weights; of no weight there is no share."""
    roll = Roll(dict(zip("abc", weights, strict=True)), {})
    condition = Condition(weight_ppm=share)
    assert satisfied(condition, roll, bound) is met
    pledged = {**dict.fromkeys(bound, ()), "watcher": (condition,)}
    assert ("watcher" in bound_set(roll, pledged)) is met


# The set bound.


def test_pledges_that_wait_for_each_other_activate_together() -> None:
    """SPEC pledges-4: the greatest set, and not the one that grows from who is bound already."""
    roll = equal_parties(4)
    a, b, c, d = roll.parties
    ring = {a: (Condition(named=names(b)),), b: (Condition(named=names(c)),), c: (Condition(named=names(a)),)}
    assert bound_set(roll, ring) == {a, b, c}
    assert bound_set(roll, without(ring, names(b))) == names()
    everyone = dict.fromkeys(roll.parties, (Condition(parties=4),))
    assert bound_set(roll, everyone) == {a, b, c, d}
    assert bound_set(roll, without(everyone, names(d))) == names()


def test_any_alternative_binds_and_none_at_all_is_no_condition() -> None:
    """SPEC pledges-3."""
    roll = equal_parties(3)
    a, b, c = roll.parties
    either = (Condition(parties=3), Condition(named=names(b)))
    assert bound_set(roll, {a: either, b: ()}) == {a, b}
    assert bound_set(roll, {a: either, c: ()}) == {c}
    assert bound_set(roll, {a: (Condition(),)}) == {a}
    assert bound_set(roll, {}) == names()


def test_whoever_is_not_on_the_roll_counts_for_nothing() -> None:
    """SPEC pledges-5: two strangers are no second party, and can be bound and named."""
    roll = Roll({"arda": 1}, {})
    pledges = {"arda": (Condition(named=names("stranger")),), "stranger": (), "other": (Condition(parties=2),)}
    assert bound_set(roll, pledges) == {"arda", "stranger"}
    assert not satisfied(Condition(parties=2), roll, {"arda", "stranger", "other"})
    assert collapse_sets(roll, pledges, Condition(parties=1)).sets == (names("arda"), names("stranger"))


@settings(deadline=None)
@given(situations(), st.randoms(use_true_random=False))
def test_the_set_bound_is_the_models_in_any_order(
    situation: tuple[Roll, dict[str, Alternatives], Condition], dice: object
) -> None:
    """SPEC pledges-4."""
    roll, pledges, _ = situation
    bound = bound_set(roll, pledges)
    assert bound == model(roll, pledges)
    shuffled = sorted(pledges, key=lambda _: dice.random())  # type: ignore[attr-defined]
    assert bound_set(roll, {name: tuple(reversed(pledges[name])) for name in shuffled}) == bound
    for name in bound:
        assert not pledges[name] or any(satisfied(one, roll, bound) for one in pledges[name])


@given(situations())
def test_one_pledge_more_unbinds_nobody(situation: tuple[Roll, dict[str, Alternatives], Condition]) -> None:
    """And one less binds nobody, which is the same read backwards. SPEC pledges-1, SPEC pledges-4."""
    roll, pledges, rule = situation
    bound = bound_set(roll, pledges)
    for name in pledges:
        fewer = bound_set(roll, without(pledges, names(name)))
        assert fewer <= bound
        assert not satisfied(rule, roll, fewer) or satisfied(rule, roll, bound)


def chain(count: int, first: Alternatives) -> dict[str, Alternatives]:
    """Each waits for the one before."""
    links = {f"p{number}": (Condition(named=names(f"p{number - 1}")),) for number in range(1, count)}
    return {**links, "p0": first}


def downhill(count: int) -> dict[str, Alternatives]:
    """Each asks for one party more than the one before, the last for one more than there are."""
    return {f"p{number}": (Condition(parties=number + 2),) for number in range(count)}


def by_shares(count: int) -> dict[str, Alternatives]:
    step = 1_000_000 // count
    return {f"p{number}": (Condition(weight_ppm=(number + 1) * step + 1),) for number in range(count)}


@pytest.mark.parametrize(
    "pledges",
    [lambda count: chain(count, (Condition(named=names("nobody")),)), downhill, by_shares],
    ids=["chain", "downhill", "shares"],
)
def test_a_chain_of_ten_thousand_falls_in_linear_time(pledges: Callable[[int], dict[str, Alternatives]]) -> None:
    """Rounds over everyone would be 10^8 looks at a condition; a second allows for a slow machine, and not for that."""
    count = 10_000
    roll = Roll({f"p{number}": 1 for number in range(count)}, {})
    made = pledges(count)
    start = time.process_time()
    assert bound_set(roll, made) == names()
    assert time.process_time() - start < 1


# Collapse sets.


@settings(deadline=None, max_examples=200)
@given(situations())
def test_collapse_sets_are_those_of_brute_force(situation: tuple[Roll, dict[str, Alternatives], Condition]) -> None:
    """SPEC pledges-6, SPEC pledges-7: every minimal set of up to ten participants, in any order of the pledges."""
    roll, pledges, rule = situation
    expected = Collapse(by_brute_force(roll, pledges, rule), complete=True)
    assert collapse_sets(roll, pledges, rule, work=EXACT) == expected
    backwards = {name: pledges[name] for name in reversed(pledges)}
    assert collapse_sets(roll, backwards, rule) == expected, "the usual work is enough for ten"


@settings(deadline=None)
@given(situations(7), st.integers(0, 6), st.sampled_from([0, 20, 60, 150, 400, EXACT]))
def test_what_a_cut_search_says_is_true(
    situation: tuple[Roll, dict[str, Alternatives], Condition], limit: int, work: int
) -> None:
    """SPEC pledges-7, SPEC pledges-8: minimal sets, none smaller than the largest is missing, or one alone."""
    roll, pledges, rule = situation
    every = by_brute_force(roll, pledges, rule)
    got = collapse_sets(roll, pledges, rule, limit, work)
    assert got.sets == ordered(list(got.sets))
    assert set(got.sets) <= set(every)
    if every == (names(),):
        assert got == Collapse(every, complete=True)
        return
    assert len(got.sets) <= limit
    assert not got.complete or got.sets == every
    if work == EXACT:
        assert got.complete == (len(every) <= limit)
        assert len(got.sets) == min(len(every), limit)
    largest = max(map(len, got.sets), default=0)
    if len(got.sets) != 1 or work == EXACT:
        assert {each for each in every if len(each) < largest} <= set(got.sets)
    if not got.complete:
        missing = [each for each in every if len(each) <= got.listed and each not in got.sets]
        assert not missing, "what it vouches for is there"
    if every and limit:
        assert got.sets, "with so few, one is always found"


def test_a_rule_that_fails_already_has_collapsed() -> None:
    """SPEC pledges-7."""
    roll = equal_parties(3)
    assert collapse_sets(roll, unconditional(roll), Condition(parties=4)) == Collapse((names(),), complete=True)
    assert collapse_sets(roll, {}, Condition(named=names("p000"))) == Collapse((names(),), complete=True)


def test_a_rule_that_demands_nothing_never_collapses() -> None:
    assert collapse_sets(equal_parties(3), {}, Condition()) == Collapse((), complete=True)
    roll = equal_parties(200)
    assert collapse_sets(roll, unconditional(roll), Condition()) == Collapse((), complete=True)


def test_limits_are_not_negative() -> None:
    for limits in ({"limit": -1}, {"work": -1}):
        with pytest.raises(ValueError, match="negative"):
            collapse_sets(equal_parties(1), {}, Condition(), **limits)


def test_the_fur_seal_four_need_each_other() -> None:
    roll = Roll(dict.fromkeys(("great-britain", "japan", "russia", "united-states"), 1), {})
    every = tuple(names(name) for name in roll.parties)
    assert collapse_sets(roll, unconditional(roll), Condition(parties=4)) == Collapse(every, complete=True)
    mutual = dict.fromkeys(roll.parties, (Condition(named=frozenset(roll.parties)),))
    assert collapse_sets(roll, mutual, Condition(parties=1)) == Collapse(every, complete=True)


def test_the_named_forty_four_each_hold_it_up() -> None:
    roll = equal_parties(180)
    listed = frozenset(list(roll.parties)[:44])
    got = collapse_sets(roll, unconditional(roll), Condition(named=listed))
    assert got == Collapse(tuple(names(name) for name in sorted(listed)), complete=True)


def test_any_46_of_100_are_named_up_to_the_limit() -> None:
    """SPEC pledges-8, SPEC pledges-9: 10^28 sets of one size, known as one choice and spelt out as far as is asked."""
    roll = equal_parties(100)
    got = collapse_sets(roll, unconditional(roll), Condition(parties=55))
    assert not got.complete
    assert len(set(got.sets)) == 1_000
    assert {len(each) for each in got.sets} == {46}
    few = collapse_sets(roll, unconditional(roll), Condition(parties=99), limit=4_950)
    assert few.complete
    assert len(few.sets) == 4_950


def test_the_heaviest_few_are_found_first() -> None:
    """55 parties with 55 % of the weight, as in Paris, where three hold a half of it."""
    roll = equal_parties(100)
    weights = dict.fromkeys(roll.parties, 1) | {"p007": 40, "p030": 35, "p099": 30}
    got = collapse_sets(Roll(weights, {}), unconditional(roll), Condition(parties=55, weight_ppm=550_000))
    assert got.sets[0] == {"p007", "p030", "p099"}
    assert [len(each) for each in got.sets[:2]] == [3, 18]


def test_fifty_that_each_have_two_allies_fall_with_any_pair() -> None:
    """Each demand of the rule is a question of its own; together they would be 2^50 branches."""
    allies = [(f"a{number:02}", f"b{number:02}") for number in range(50)]
    roll = Roll({f"z{number:02}": 1 for number in range(50)}, {})
    pledges: dict[str, Alternatives] = {name: () for pair in allies for name in pair}
    for name, pair in zip(roll.parties, allies, strict=True):
        pledges[name] = tuple(Condition(named=names(ally)) for ally in pair)
    got = collapse_sets(roll, pledges, Condition(parties=50))
    assert got == Collapse(ordered([*(names(name) for name in roll.parties), *map(frozenset, allies)]), complete=True)


def test_those_who_drag_each_other_along_stand_for_each_other() -> None:
    roll = equal_parties(6)
    a, b, c, d, e, f = roll.parties
    ring = {a: (Condition(named=names(b)),), b: (Condition(named=names(a)),)}
    pledges = {**unconditional(roll), **ring}
    got = collapse_sets(roll, pledges, Condition(parties=4))
    twos = [names(one, other) for one in (a, b) for other in (c, d, e, f)]
    assert got == Collapse(ordered([*twos, *map(frozenset, combinations((c, d, e, f), 3))]), complete=True)


def hostile_names(count: int) -> dict[str, Alternatives]:
    """Everyone has three alternatives, each with three others, scattered so that nothing is alike."""

    def scattered(seed: int) -> frozenset[str]:
        return frozenset(f"p{(seed * 7919 + step * step * 104_729) % count}" for step in range(3))

    return {
        f"p{number}": tuple(Condition(named=scattered(3 * number + one)) for one in range(3)) for number in range(count)
    }


@pytest.mark.parametrize("count", [200, 290, 2_000])
def test_hostile_pledges_cannot_stall_a_reader(count: int) -> None:
    """SPEC pledges-9: bounded whatever is pledged; up to 300 participants one set is found at least."""
    roll = Roll({f"p{number}": number % 97 + 1 for number in range(count)}, {})
    for pledges in (hostile_names(count), chain(count, ()), {f"p{n}": (Condition(parties=n),) for n in range(count)}):
        start = time.process_time()
        rule = Condition(parties=count // 3, weight_ppm=300_000)
        got = collapse_sets(roll, pledges, rule)
        assert time.process_time() - start < 3
        assert got.sets or count > 300
        for each in got.sets[:3]:
            assert not satisfied(rule, roll, bound_set(roll, without(pledges, each)))
            for name in each:
                assert satisfied(rule, roll, bound_set(roll, without(pledges, each - {name})))
