"""What is told ahead: pauses, rates, leases and what a budget leaves, obeyed though the daemon is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

from daemon_site import Site
from hypothesis import given
from hypothesis import strategies as st
from lab_bench import Bench, eventually, job_id, job_plan
from lab_commitments import enact, lift, pause_document, slow_down_document
from training_loops import ENTRY, breaches, finish, start_loops

from pacekeeper.node.desk import Reported
from pacekeeper.node.gate import LEAD_MS, Decision, Hold, Proceed, Throttle
from pacekeeper.node.plans import MAX_PLANNED, Planned, moments, tightening
from pacekeeper.node.training_gate import write_order
from pacekeeper.protocol.commitments.constraints import Span
from pacekeeper.protocol.documents.commitment_model import Lease, Pause

GIGA = 10**9

decisions: st.SearchStrategy[Decision] = st.one_of(
    st.just(Proceed()),
    st.builds(Throttle, st.integers(1, 5), st.just("slow")),
    st.builds(Hold, st.just("held")),
)


@given(decisions, st.lists(decisions, max_size=40))
def test_a_plan_only_tightens_and_is_short(told: Decision, later: list[Decision]) -> None:
    """SPEC node-37."""
    plan = tightening(told, [Planned(at_ms, decision) for at_ms, decision in enumerate(later)])
    assert len(plan) <= MAX_PLANNED
    rates = [
        decision.flop_per_s for decision in (told, *(item.decision for item in plan)) if isinstance(decision, Throttle)
    ]
    assert rates == sorted(set(rates), reverse=True)
    kinds = [(Proceed, Throttle, Hold).index(type(decision)) for decision in (told, *(item.decision for item in plan))]
    assert kinds == sorted(kinds)
    assert kinds.count(2) <= 1


def test_only_what_is_to_come_is_looked_at_and_not_without_end() -> None:
    spans = [Span("p", Pause(1, 0), (), start, start + 9_000, None) for start in range(1_000, 200_000, 1_000)]
    times = moments(spans, Lease(50, hold=True), 5_000, 6_000, LEAD_MS)
    assert min(times) == 6_000
    assert 6_051 in times
    assert len(times) == 32


async def plan_of(bench: Bench, number: int = 1) -> list[tuple[int, Decision]]:
    """A job's plan: from now on, in milliseconds."""
    told = bench.permits.decide(job_id(number))
    now_ms = bench.permits.now_ms()
    return [(item.at_ms - now_ms, item.decision) for item in bench.permits.plan(job_id(number), told)]


async def test_a_job_is_told_ahead_of_the_pause_the_rate_and_the_lease(tmp_path: Path) -> None:
    """SPEC node-37: when each takes effect for it, by what is known."""
    async with Bench.open(tmp_path, tolerance="1 s") as bench:
        for number, run in ((1, "large"), (2, "small")):
            bench.desk.open_job(job_plan(run, number))
        bench.book.write(*bench.desk.report(job_id(1), [Reported(0, 6 * GIGA, 1, 1_000)], closing=False))
        await bench.work()
        assert await plan_of(bench) == []
        enact(bench.log, slow_down_document(wind_down="8 s"))
        enact(bench.log, pause_document(wind_down="20 s", more={"lease": {"lease": "25 s", "on_lease_end": "hold"}}))
        await bench.read_all()
        [(in_ms, pause)] = await plan_of(bench)
        assert (in_ms, type(pause)) == (10_000, Hold), "at the pause's beginning; nothing tightens further after it"
        plan = await plan_of(bench, 2)
        assert [(in_ms, type(decision)) for in_ms, decision in plan] == [(15_000, Throttle), (25_001, Hold)]


async def test_a_newer_entry_moves_the_leases_end(tmp_path: Path) -> None:
    """SPEC node-37: what is told next replaces what was told before."""
    async with Bench.open(tmp_path, tolerance="1 s") as bench:
        bench.desk.open_job(job_plan("small", 1))
        await bench.work()
        lease = {"lease": {"lease": "25 s", "on_lease_end": "hold"}}
        enact(bench.log, slow_down_document(wind_down="20 s", more=lease))
        await bench.read_all()
        plan = await plan_of(bench)
        assert [(at_ms, type(decision)) for at_ms, decision in plan] == [(25_001, Hold)], "27 s is later"
        bench.clock.advance(3_000)
        bench.log.tick()
        await bench.read_all()
        plan = await plan_of(bench)
        assert [(at_ms, type(decision)) for at_ms, decision in plan] == [(24_000, Throttle), (25_001, Hold)]
        order = write_order(Proceed(), 100, [Planned(100 + at_ms, decision) for at_ms, decision in plan])
        assert [change.in_ms for change in order.planned] == [24_000, 25_001]
        assert order.planned[1].save_within_ms > 0


async def test_what_a_budget_lets_a_job_do_unheard_is_over_soon(tmp_path: Path) -> None:
    """SPEC node-47, SPEC node-37: what is kept back for it lasts that long."""
    row = {"id": "safety", "category": "training", "budget": "1e15 FLOP"}
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("large", 1))
        bench.book.write(*bench.desk.report(job_id(1), [Reported(0, 6 * GIGA, 1, 1_000)], closing=False))
        enact(bench.log, pause_document(wind_down="5 s", exemption=[row]))
        await bench.run_to(bench.clock.wall_ms + 20_000)
        assert bench.permits.decide(job_id(1)) == Proceed()
        [(in_ms, decision)] = await plan_of(bench)
        assert (in_ms, type(decision)) == (LEAD_MS, Hold)


async def test_a_pause_that_begins_while_the_daemon_is_dead_is_obeyed(tmp_path: Path) -> None:
    """SPEC node-37, SPEC metering-23: killed before it, with the policy "continue"; the loops stand still in time."""
    async with Site(tmp_path) as site:
        await site.start()
        loops = await start_loops(site, 2)
        entry = {**ENTRY, "delay": "5 s"}
        ident = enact(site.log, pause_document(above="1e9 FLOP", wind_down="4 s", entry=entry))
        await eventually(lambda: all(loop.meter is not None and loop.meter.planned for loop in loops))
        site.kill()
        steps = [loop.steps for loop in loops]
        await asyncio.sleep(1)
        assert all(loop.steps > before for loop, before in zip(loops, steps, strict=True)), "it has not begun"
        await eventually(lambda: all(loop.is_held and loop.saved for loop in loops), 8)
        assert all(loop.saved[0][0].startswith("pause: ") for loop in loops)
        await asyncio.sleep(1)
        steps = [loop.steps for loop in loops]
        await asyncio.sleep(4)
        assert [loop.steps for loop in loops] == steps
        await site.start()
        lift(site.log, ident)
        await finish(site, loops)
        assert breaches(site) == []
