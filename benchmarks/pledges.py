"""Pledges: who is bound and whose exit would end it, for 200 participants with random conditions.

Each instance is drawn from a seed of its own: a roll with random weights, for each participant none to three
alternatives, in each some of the four demands, and a rule. CPU time of one thread, the set bound and its collapse sets.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.support.figures import Figure, Figures, Table, number
from benchmarks.support.probes import Probes
from pacekeeper.protocol.commitments.pledges import Alternatives, Collapse, Condition, Roll, bound_set, collapse_sets

BOUND_MS: Final = 50.0
PARTICIPANTS: Final = 200
LIMIT: Final = 1_000


@dataclass(frozen=True)
class Config:
    """instances: of each shape."""

    instances: int


TINY: Final = Config(instances=1)
QUICK: Final = Config(instances=10)
FULL: Final = Config(instances=50)


@dataclass(frozen=True)
class _Shape:
    """named: how often a condition names somebody, in percent. high: up to which share of everyone it asks for."""

    name: str
    parties: int
    alternatives: int
    named: int
    high: int


SHAPES: Final = (
    _Shape("32 parties, mild", 32, 2, 30, 70),
    _Shape("32 parties, strict", 32, 2, 30, 95),
    _Shape("32 parties, many names", 32, 3, 80, 60),
    _Shape("32 parties, one condition each", 32, 1, 30, 60),
    _Shape("100 parties, mild", 100, 2, 30, 70),
    _Shape("100 parties, no names", 100, 2, 0, 90),
    _Shape("100 parties, many names", 100, 3, 80, 60),
)


@dataclass(frozen=True)
class _Taken:
    bound_ms: float
    ms: float
    result: Collapse


def measure(config: Config) -> Figures:
    """Draw and solve, with a probe before each shape."""
    gc.collect()
    gc.freeze()  # what other benchmarks have left in this process is not looked through again and again in this one
    probes = Probes()
    taken: dict[str, list[_Taken]] = {}
    for shape in SHAPES:
        probes.take()
        taken[shape.name] = [_solve(shape, seed) for seed in range(config.instances)]
    everything = [one for ones in taken.values() for one in ones]
    raw = probes.verify_said()
    rows = tuple(_row(name, ones) for name, ones in taken.items())
    return Figures(
        "pledges",
        "one process, one thread",
        (
            Figure("set bound and collapse sets, the slowest", max(one.ms for one in everything), "ms", raw, BOUND_MS),
            Figure("the same, the median", median(one.ms for one in everything), "ms", raw),
            Figure("the set bound alone, the slowest", max(one.bound_ms for one in everything), "ms", raw),
        ),
        (Table(f"{PARTICIPANTS} participants by shape, CPU ms, and what they vouch for", _COLUMNS, rows),),
        (
            f"{len(everything)} instances; a search ends with all sets, with {LIMIT:,} of them, or with its work done",
            "every set of up to: the least size, and the median one, up to which no set is missing",
        ),
    )


_COLUMNS: Final = ("shape", "median", "slowest", "all found", "limit", "work", "every set of up to", "median")


def _row(name: str, ones: list[_Taken]) -> tuple[str, ...]:
    complete = sum(one.result.complete for one in ones)
    limited = sum(not one.result.complete and len(one.result.sets) == LIMIT for one in ones)
    worked = sum(not one.result.complete and len(one.result.sets) < LIMIT for one in ones)
    # What each result vouches for: no set of up to so many members is missing. Complete ones vouch for all.
    listed = [PARTICIPANTS if one.result.complete else one.result.listed for one in ones]
    times = [one.ms for one in ones]
    counts = (complete, limited, worked, min(listed), round(median(listed)))
    return (name, number(median(times)), number(max(times)), *map(str, counts))


def _solve(shape: _Shape, seed: int) -> _Taken:
    roll, pledges, rule = _drawn(shape, random.Random(f"{shape.name} {seed}"))
    start = time.thread_time_ns()
    bound_set(roll, pledges)
    middle = time.thread_time_ns()
    result = collapse_sets(roll, pledges, rule, LIMIT)
    end = time.thread_time_ns()
    return _Taken((middle - start) / 1e6, (end - start) / 1e6, result)


def _drawn(shape: _Shape, dice: random.Random) -> tuple[Roll, Mapping[str, Alternatives], Condition]:
    parties = [f"party-{number}" for number in range(shape.parties)]
    labs = [f"lab-{number}" for number in range(PARTICIPANTS - shape.parties)]
    everyone = parties + labs

    def count(of: int) -> int:
        return dice.randint(0, of * shape.high // 100) if dice.random() < 0.4 else 0

    def condition() -> Condition:
        named = dice.sample(everyone, dice.randint(1, 3)) if dice.randrange(100) < shape.named else ()
        return Condition(count(len(parties)), count(len(labs)), frozenset(named), count(1_000_000))

    roll = Roll({party: dice.randint(1, 1_000) for party in parties}, {lab: dice.choice(parties) for lab in labs})
    pledges = {name: tuple(condition() for _ in range(dice.randint(0, shape.alternatives))) for name in everyone}
    # A rule that holds with everyone, as those who propose one take care of: on parties, and half of them on more.
    more = dice.random() < 0.5
    rule = Condition(
        dice.randint(shape.parties // 4, shape.parties * 4 // 5),
        dice.randint(0, len(labs) * 4 // 5) if more else 0,
        frozenset(dice.sample(everyone, dice.randint(0, 2))),
        dice.randint(0, 700_000) if more else 0,
    )
    return roll, pledges, rule
