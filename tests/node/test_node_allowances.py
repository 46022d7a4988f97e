"""What growth limits and caps by commitment leave to running jobs, on the bench: a real log, the replay, a journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lab_bench import Bench, digest, job_id, job_plan
from lab_commitments import cap_document, enact, growth_document, pause_document, slow_down_document

from pacekeeper.node.desk import Reported
from pacekeeper.node.gate import Decision, Hold, Proceed, Throttle
from pacekeeper.protocol.envelope import encode
from pacekeeper.protocol.replay import ViolationKind
from pacekeeper.protocol.statements import seal
from pacekeeper.v1 import statements_pb2 as pb

GIGA = 10**9
EXACT: dict[str, Any] = {"margin_ppm": 0}


class Spending:
    """A bench whose jobs report what they use, in gigaFLOP, in the present period."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.used: dict[tuple[int, int], int] = {}

    @property
    def period(self) -> int:
        return self.bench.agreement.period_of(self.bench.clock.now_ms())

    def use(self, gflop: int, number: int = 1) -> None:
        key = (number, self.period)
        self.used[key] = self.used.get(key, 0) + gflop * GIGA
        report = [Reported(self.period, self.used[key], 1, 1_000)]
        self.bench.book.write(*self.bench.desk.report(job_id(number), report, closing=False))
        self.bench.clock.advance(300)

    def told(self, number: int = 1) -> Decision:
        return self.bench.permits.decide(job_id(number))

    def open(self, run: str = "run-1", number: int = 1, **more: Any) -> None:
        self.bench.desk.open_job(job_plan(run, number, **(EXACT | more)))

    async def to(self, period: int, offset_ms: int = 0) -> None:
        await self.bench.run_to(self.bench.agreement.period_start_ms(period) + offset_ms)


async def test_a_growth_limit_goes_slows_and_holds_until_its_next_window(tmp_path: Path) -> None:
    """SPEC commitments-68, SPEC commitments-28: free while half is left, then so that the rest lasts, then not."""
    async with Bench.open(tmp_path) as bench:
        lab = Spending(bench)
        lab.open()
        enact(bench.log, growth_document())
        await lab.to(1, 5_000)
        assert [limit.commitments for limit in constraints(bench).growth] == [("growth",)]
        lab.use(500)
        assert lab.told() == Proceed(), "the period in which it began counts for no window"
        await lab.to(2, 1_000)
        lab.use(48)
        assert lab.told() == Proceed()
        lab.use(2)
        slow = lab.told()
        left_ms = bench.agreement.period_start_ms(5) - bench.permits.now_ms()
        assert isinstance(slow, Throttle)
        assert slow.flop_per_s == 48_000 // left_ms * GIGA * 98 // 100
        assert slow.reason.endswith("4.8e10 FLOP of 1e11 FLOP left until 2026-01-01T00:00:50Z")
        await lab.to(3, 1_000)
        [account] = [said.account for said in bench.log.mine(pb.ComputeAttestation) if said.account.period == 1]
        assert list(account.splits_ms) == [2_000], "but is split where it began, as for any constraint"
        lab.use(48)
        hold = lab.told()
        assert isinstance(hold, Hold)
        assert (hold.reason, hold.stand_by) == (
            "growth: 0 FLOP of 1e11 FLOP left until 2026-01-01T00:00:50Z",
            False,
        )
        assert hold.until_ms == bench.agreement.period_start_ms(5)
        await lab.to(4, 9_500)
        assert isinstance(lab.told(), Hold), "whether it is attested meanwhile or not"
        await lab.to(5, 500)
        assert lab.told() == Proceed()


async def test_the_baseline_counts_what_is_not_attested_yet(tmp_path: Path) -> None:
    """SPEC commitments-68: or every window would begin with a hold, until the last account is there."""
    async with Bench.open(tmp_path) as bench:
        lab = Spending(bench)
        lab.open()
        enact(bench.log, growth_document(growth={"window": "1 period", "baseline": "1 period", "floor": "1e10 FLOP"}))
        await lab.to(1, 5_000)
        lab.use(200)
        await bench.run_to(bench.agreement.period_start_ms(2) + 500, deliver=False)
        lab.use(90)
        assert lab.told() == Proceed()
        lab.use(10)
        slow = lab.told()
        assert isinstance(slow, Throttle)
        assert "9.6e10 FLOP of 2e11 FLOP left" in slow.reason


async def test_who_uses_all_that_the_gate_gives_is_not_convicted(tmp_path: Path) -> None:
    """SPEC commitments-68, SPEC conduct-6: second by second, at full speed or the rate, within a margin of 2 %."""
    async with Bench.open(tmp_path, fill_in="20 s", due="10 s") as bench:
        lab = Spending(bench)
        lab.open(margin_ppm=20_000)
        terms = {"window": "2 periods", "baseline": "2 periods", "floor": "2e11 FLOP", "banking": "20 %"}
        enact(bench.log, growth_document(growth=terms))
        used = 0
        await lab.to(1, 9_700)
        seen = set()
        while lab.period < 8:
            await bench.work()
            decision = lab.told()
            seen.add(type(decision))
            amount = 25 if isinstance(decision, Proceed) else 0
            if isinstance(decision, Throttle):
                amount = decision.flop_per_s // GIGA
            if amount:
                lab.use(amount)
                used += amount
            await bench.run_to(bench.clock.wall_ms + (700 if amount else 1_000))
        await lab.to(12)
        assert [v for v in bench.log.state.violations if v.kind is not ViolationKind.PERIOD_MISSING] == []
        assert seen >= {Proceed, Throttle}
        assert used > 3 * 200 * 85 // 100, "and most of it could be used"


async def test_a_cap_on_a_lab_counts_the_log_and_the_journal_in_its_window(tmp_path: Path) -> None:
    """SPEC commitments-68: slower and slower in its last tenth, and held until the window moves on."""
    async with Bench.open(tmp_path) as bench:
        lab = Spending(bench)
        lab.open()
        enact(bench.log, cap_document({"id": "lab", "kind": "lab", "limit": "1e12 FLOP", "window": "2 periods"}))
        await lab.to(1, 5_000)
        lab.use(5_000)
        assert lab.told() == Proceed(), "the period in which it began counts for no window"
        await lab.to(2, 1_000)
        lab.use(500)
        assert lab.told() == Proceed()
        await lab.to(3, 4_000)
        assert bench.log.state.commitment_watches["caps/lab", "borealis"].window.latest == 2
        lab.use(400)
        slow = lab.told()
        assert isinstance(slow, Throttle)
        assert slow.flop_per_s == 8 * GIGA * 98 // 100
        assert "8e10 FLOP of 1e12 FLOP left for the lab in 2 periods" in slow.reason
        lab.use(80)
        hold = lab.told()
        assert isinstance(hold, Hold)
        assert hold.until_ms == bench.end(3)
        await lab.to(4, 500)
        assert lab.told() == Proceed()
        assert [v.kind for v in bench.log.state.violations] == []


async def test_a_cap_on_runs_holds_the_run_and_no_other(tmp_path: Path) -> None:
    """SPEC commitments-68: with all that it descends from, and what it used before the cap."""
    async with Bench.open(tmp_path) as bench:
        lab = Spending(bench)
        lab.open()
        lab.use(990)
        bench.desk.take_checkpoint(job_id(1), digest("saved"), [])
        enact(bench.log, cap_document({"id": "run", "kind": "run", "limit": "1e12 FLOP"}))
        await lab.to(1, 5_000)
        hold = lab.told()
        assert isinstance(hold, Hold)
        assert hold.reason == "caps/run: 0 FLOP of 1e12 FLOP left for this run with its ancestors"
        assert hold.until_ms is None
        lab.open("other", 2)
        assert lab.told(2) == Proceed()
        lab.open("child", 3, initial_state=2, initial_digest=digest("saved"))
        stand_by = lab.told(3)
        assert isinstance(stand_by, Hold)
        assert stand_by.stand_by, "what it descends from is known once it is declared"
        await bench.work()
        await bench.read_all()
        assert isinstance(lab.told(3), Hold)


async def test_a_cap_on_a_party_counts_what_its_other_labs_attested(tmp_path: Path) -> None:
    """SPEC commitments-68: which is all that a lab can know of them."""
    async with Bench.open(tmp_path, labs=[2, 0, 0, 0]) as bench:
        lab = Spending(bench)
        lab.open()
        together = {"id": "together", "kind": "party", "limit": "1e12 FLOP", "window": "3 periods"}
        enact(bench.log, cap_document(together))
        await lab.to(3, 1_000)
        lab.use(300)
        assert lab.told() == Proceed()
        attest_for_other(bench, {0: 0, 1: 0, 2: 690})
        await bench.work()
        hold = lab.told()
        assert isinstance(hold, Hold)
        assert "left for all labs of the party in 3 periods" in hold.reason


@pytest.mark.parametrize("bound", ["lab", "party"])
async def test_a_lab_that_bound_itself_is_not_held_by_a_cap_on_its_party(tmp_path: Path, bound: str) -> None:
    """SPEC commitments-61."""
    async with Bench.open(tmp_path) as bench:
        lab = Spending(bench)
        lab.open()
        together = {"id": "together", "kind": "party", "limit": "1e12 FLOP", "window": "3 periods"}
        rule = {"parties": None, "labs": 1} if bound == "lab" else {"parties": 1, "labs": None}
        document = cap_document(together, entry=rule)
        terms = enact(bench.log, document, by=["borealis"] if bound == "lab" else ["norland"])
        await lab.to(2, 1_000)
        assert bench.log.state.commitments.standing(terms).bound
        lab.use(990)
        assert isinstance(lab.told(), Proceed if bound == "lab" else Hold)


async def test_the_strictest_of_pause_rate_growth_and_cap_holds(tmp_path: Path) -> None:
    """SPEC commitments-27, SPEC commitments-68."""
    async with Bench.open(tmp_path) as bench:
        lab = Spending(bench)
        lab.open()
        enact(bench.log, growth_document())
        enact(bench.log, slow_down_document(rate="3e9 FLOP/s", wind_down="1 s"))
        enact(bench.log, pause_document(above="6e10 FLOP", wind_down="1 s"))
        await lab.to(2, 1_000)
        lab.use(50)
        slow = lab.told()
        assert isinstance(slow, Throttle)
        assert slow.reason.startswith("growth: 1e9 FLOP/s")
        await lab.to(4, 8_000)
        slow = lab.told()
        assert isinstance(slow, Throttle)
        assert slow.reason.startswith("slow: 3e9 FLOP/s"), "what is left would be enough for more"
        lab.use(20)
        hold = lab.told()
        assert isinstance(hold, Hold)
        assert hold.reason.startswith("pause: ")


async def test_what_was_told_after_an_account_counts_as_well(tmp_path: Path) -> None:
    """SPEC commitments-68: until a correction has it."""
    async with Bench.open(tmp_path) as bench:
        lab = Spending(bench)
        lab.open()
        enact(bench.log, growth_document())
        await lab.to(2, 1_000)
        lab.use(40)
        await lab.to(3, 3_000)
        assert 2 in bench.lab.accounts
        assert lab.told() == Proceed()
        late = [Reported(2, 98 * GIGA, 2, 2_000)]
        bench.book.write(*bench.desk.report(job_id(1), late, closing=False))
        bench.clock.advance(300)
        assert isinstance(lab.told(), Hold)
        await lab.to(4, 3_000)
        assert bench.lab.corrections == 1
        assert isinstance(lab.told(), Hold)


def constraints(bench: Bench) -> Any:
    return bench.log.state.commitments.constraints_on("borealis", bench.clock.now_ms())


def attest_for_other(bench: Bench, amounts: dict[int, int]) -> None:
    """Attest periods of the party's other lab, by its own key."""
    lab = next(lab.id for lab in bench.log.state.labs.values() if lab.id != "borealis")
    fingerprint, key = bench.agreement.fingerprint, bench.people.keys.lab(lab)
    declaration = pb.RunDeclaration(
        agreement=fingerprint, lab=lab, run="run-1", initial_state=pb.INITIAL_STATE_FRESH, initial_digest=digest(lab)
    )
    bench.log.append(encode(seal(declaration, [key])))
    for period, amount in amounts.items():
        known = bench.log.state.labs[lab]
        statement = pb.ComputeAttestation(
            agreement=fingerprint,
            lab=lab,
            link=pb.Link(sequence=known.sequence + 1, previous=known.head, as_of=known.as_of),
            account=pb.PeriodAccount(
                period=period,
                figures=[
                    pb.RunFigure(
                        run="run-1",
                        steps=1,
                        chip_ms=10,
                        estimates=[pb.Estimate(method=pb.METHOD_FRAMEWORK_COUNT, amount=amount)],
                    )
                ],
                time=[
                    pb.CategoryTime(category=pb.CATEGORY_TRAINING, chip_ms=10),
                    pb.CategoryTime(category=pb.CATEGORY_IDLE, chip_ms=bench.agreement.calendar.period_ms - 10),
                ],
                pools=[pb.AcceleratorPool(model="test-chip", count=1, peak_gflop_per_s=100)],
            ),
        )
        bench.log.append(encode(seal(statement, [key])))


async def test_what_was_used_while_the_limit_was_not_in_force_is_not_held_against_anybody(tmp_path: Path) -> None:
    """SPEC commitments-63, SPEC commitments-68: a party that leaves and returns has the rest of its window."""
    async with Bench.open(tmp_path) as bench:
        lab = Spending(bench)
        lab.open()
        document = growth_document(growth={"window": "6 periods"}, withdrawal={"notice": "1 s"})
        ident = enact(bench.log, document, by=["norland", "sudland", "westmere"])
        await lab.to(2, 1_000)
        lab.use(40)
        await lab.to(3, 1_000)
        key, fingerprint = bench.people.keys.party("norland"), bench.agreement.fingerprint
        standing = bench.log.state.commitments.standing(ident)
        common: dict[str, Any] = {"agreement": fingerprint, "participant": "norland", "commitment": ident}
        leave = pb.Withdrawal(**common, pledge_index=standing.pledged_at["norland"])
        bench.log.append(encode(seal(leave, [key])))
        await lab.to(3, 3_000)
        assert constraints(bench).growth == ()
        lab.use(5_000)
        assert lab.told() == Proceed()
        bench.log.append(encode(seal(pb.Pledge(**common, digest=standing.terms.digest, round=1), [key])))
        await bench.run_to(bench.agreement.period_start_ms(5) + 1_000, deliver=False)
        lab.use(5)
        assert lab.told() == Proceed(), "of 100 in six periods, 45 while it was in force"
        lab.use(5)
        slow = lab.told()
        assert isinstance(slow, Throttle)
        assert "4.8e10 FLOP of 1e11 FLOP left" in slow.reason
