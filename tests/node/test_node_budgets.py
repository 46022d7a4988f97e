"""Exemptions for training at the gate: runs go on within a budget, and whoever obeys the gate is never convicted."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lab_bench import Bench, job_id, job_plan
from lab_commitments import enact, lift, pause_document, slow_down_document

from pacekeeper.node.budgets import Budgets
from pacekeeper.node.desk import Reported
from pacekeeper.node.gate import Hold, Proceed, Throttle

GIGA = 10**9
POOL = '[[pools]]\nmodel = "chip"\ncount = 8\npeak = "4e9 FLOP/s"\n'
PEAK = 4  # gigaFLOP in a second, of one chip


def exemption(budget: int, window: int = 0, ident: str = "safety") -> dict[str, str]:
    row = {"id": ident, "category": "training", "budget": f"{budget}e9 FLOP"}
    return row | ({"window": f"{window} periods"} if window else {})


@dataclass
class Trainer:
    """A job that makes one step after the other, each of a second or several, and obeys what its last report was told:
    a step that is under way is finished. used: operations and time by period."""

    bench: Bench
    number: int
    run: str
    rng: random.Random
    obey: bool = True
    used: dict[int, list[int]] = field(default_factory=dict)
    under_way: tuple[int, int] = (0, 0)  # half-seconds left, and gigaFLOP that it then counts
    went_on: int = 0

    def __post_init__(self) -> None:
        self.bench.desk.open_job(job_plan(self.run, self.number))
        self.decision = self.bench.permits.decide(job_id(self.number))
        self.owed_ms = 0

    def half_second(self) -> None:
        """What happens in half a second, and the report at its end."""
        figure = self.used.setdefault(self.bench.agreement.period_of(self.bench.clock.wall_ms - 1), [0, 0, 0])
        figure[2] += 500
        left, gflop = self.under_way
        self.owed_ms = max(0, self.owed_ms - 500)
        if not left and self.owed_ms <= 0 and not (isinstance(self.decision, Hold) and self.obey):
            left = self.rng.choice((1, 1, 2, 5))
            gflop = self.rng.randrange(PEAK * left // 2 + 1)
        if left == 1:
            figure[0], figure[1] = figure[0] + gflop * GIGA, figure[1] + 1
            self.went_on += gflop
            if isinstance(self.decision, Throttle):
                self.owed_ms = gflop * GIGA * 1_000 // self.decision.flop_per_s
        self.under_way = (max(0, left - 1), gflop)
        reported = [Reported(period, *values) for period, values in self.used.items()]
        self.bench.book.write(*self.bench.desk.report(job_id(self.number), reported, closing=False))
        self.decision = self.bench.permits.decide(job_id(self.number))


async def train(bench: Bench, trainers: list[Trainer], until_ms: int) -> None:
    while bench.clock.wall_ms < until_ms:
        await bench.run_to(bench.clock.wall_ms + 500)
        for trainer in trainers:
            trainer.half_second()


async def drive(
    folder: Path, document: bytes, seed: int, *, obey: bool = True, periods: int = 8
) -> tuple[Bench, list[Trainer], int]:
    """Train before, under and after a commitment; return what was made under it by the log's own count at least."""
    rng = random.Random(seed)
    async with Bench.open(folder, pools=POOL) as bench:
        trainers = [Trainer(bench, number, f"run-{number % 2}", rng, obey=obey) for number in (1, 2, 3)]
        await train(bench, trainers, bench.end(1) + 3_000)
        ident = enact(bench.log, document)
        await train(bench, trainers, bench.end(1 + periods) + 1_500)
        lift(bench.log, ident)
        await train(bench, trainers, bench.end(3 + periods) + 3_000)
        conduct = bench.log.state.conduct[ident, "borealis"]
        return bench, trainers, sum(conduct.spent.values())


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("budgets", [[(150, 0)], [(140, 2)], [(300, 0), (120, 1)]])
async def test_who_goes_on_only_when_the_gate_says_so_is_never_convicted(
    tmp_path: Path, seed: int, budgets: list[tuple[int, int]]
) -> None:
    """SPEC node-47, SPEC conduct-3: the same figures go through the gate and the replay; what is exempt is used."""
    rows = [exemption(budget, window, f"safety-{budget}") for budget, window in budgets]
    document = pause_document(wind_down="5 s", exemption=rows)
    bench, _, spent = await drive(tmp_path, document, seed)
    assert bench.log.state.violations == []
    assert spent >= 10, "training went on within the budget"


async def test_a_lab_that_does_not_obey_its_gate_goes_beyond_the_same_budget(tmp_path: Path) -> None:
    document = pause_document(wind_down="5 s", exemption=[exemption(120)])
    bench, _, spent = await drive(tmp_path, document, 1, obey=False)
    assert {violation.kind for violation in bench.log.state.violations} == {"pause-breached"}
    assert spent > 120


@pytest.mark.parametrize("seed", [4, 5])
async def test_beside_a_rate_a_budget_is_what_goes_beyond_it(tmp_path: Path, seed: int) -> None:
    """SPEC node-47: unslowed while there is room, at the rate when it is used up."""
    document = slow_down_document(rate="2e9 FLOP/s", wind_down="5 s", exemption=[exemption(120)])
    bench, trainers, spent = await drive(tmp_path, document, seed)
    assert bench.log.state.violations == []
    assert spent >= 20
    assert sum(trainer.went_on for trainer in trainers) > 150


async def test_another_commitment_without_exemption_holds_all_the_same(tmp_path: Path) -> None:
    """SPEC node-47, SPEC commitments-27."""
    async with Bench.open(tmp_path, pools=POOL) as bench:
        trainer = Trainer(bench, 1, "run-1", random.Random(1))
        await train(bench, [trainer], bench.clock.wall_ms + 8_000)
        enact(bench.log, pause_document(wind_down="5 s", exemption=[exemption(10_000)]))
        await train(bench, [trainer], bench.clock.wall_ms + 20_000)
        assert trainer.decision == Proceed(), "the pause bites, and its budget has room"
        strict = enact(bench.log, pause_document(ident="strict", wind_down="5 s"))
        await train(bench, [trainer], bench.clock.wall_ms + 20_000)
        assert isinstance(trainer.decision, Hold)
        assert trainer.decision.reason.startswith("strict: ")
        lift(bench.log, strict)
        await bench.read_all()
        await train(bench, [trainer], bench.clock.wall_ms + 1_000)
        assert trainer.decision == Proceed()


async def test_a_restart_counts_what_was_used_before(tmp_path: Path) -> None:
    """SPEC node-47: nothing of a budget is remembered but what journal and log say."""
    async with Bench.open(tmp_path, pools=POOL) as bench:
        trainer = Trainer(bench, 1, "run-1", random.Random(7))
        await train(bench, [trainer], bench.clock.wall_ms + 8_000)
        enact(bench.log, pause_document(wind_down="5 s", exemption=[exemption(60)]))
        while not isinstance(trainer.decision, Hold):
            await train(bench, [trainer], bench.clock.wall_ms + 500)
        save_by_ms = trainer.decision.save_by_ms
        assert save_by_ms > bench.clock.wall_ms, "there is time to save"
        await train(bench, [trainer], bench.clock.wall_ms + 6_000)
        assert isinstance(trainer.decision, Hold)
        assert trainer.decision.save_by_ms == save_by_ms, "which does not begin again with each report"
        await bench.crash()
        bench.start()
        await bench.read_all()
        await train(bench, [trainer], bench.clock.wall_ms + 3_000)
        assert isinstance(trainer.decision, Hold)


async def test_a_newcomer_without_room_holds_and_stops_nobody(tmp_path: Path) -> None:
    """SPEC node-47: what it might do in a first step of unknown length is kept back for it alone."""
    async with Bench.open(tmp_path, pools=POOL) as bench:
        trainer = Trainer(bench, 1, "run-1", random.Random(3))
        await train(bench, [trainer], bench.clock.wall_ms + 8_000)
        enact(bench.log, pause_document(wind_down="5 s", exemption=[exemption(200)]))
        await train(bench, [trainer], bench.clock.wall_ms + 20_000)
        assert trainer.decision == Proceed()
        newcomer = Trainer(bench, 2, "run-1", random.Random(4))
        assert isinstance(newcomer.decision, Hold)
        await train(bench, [trainer], bench.clock.wall_ms + 2_000)
        assert trainer.decision == Proceed()


async def test_a_job_that_counts_by_its_chips_time_is_ended_while_there_is_room_for_it(tmp_path: Path) -> None:
    """SPEC node-47: it goes on counting until it has ended, which takes a minute."""
    async with Bench.open(tmp_path, pools=POOL + 'utilisation = "50 %"\n') as bench:
        bench.desk.open_job(job_plan("run-1", 1, method=2, margin_ppm=600_000))
        bench.book.write(*bench.desk.report(job_id(1), [Reported(0, 0, 0, 9_000)], closing=False))
        job = bench.book.ledger.jobs[job_id(1)]
        budgets = Budgets(bench.book.ledger, bench.permits._terms, "borealis")
        assert budgets._reserve(job) >= 63 * 2 * 16 // 10
