"""Commitments, the real daemon and real meters: training holds, stays held over kill -9, and goes on when lifted."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from daemon_site import Site
from lab_bench import eventually
from lab_commitments import enact, growth_document, lift, pause_document, slow_down_document
from training_loops import ENTRY, STEP_S, Loop, breaches, finish, job_status, start_loops

from pacekeeper.protocol.compute.bounds import Outcome
from pacekeeper.protocol.replay.growth import open_windows


async def test_a_pause_holds_loops_over_kill_9_and_its_lift_lets_them_go_on(tmp_path: Path) -> None:
    """SPEC node-28, SPEC node-29, SPEC node-34, SPEC metering-21 (FAULTS 38): in seconds, saved, and not convicted."""
    async with Site(tmp_path) as site:
        await site.start()
        loops = await start_loops(site, 3)
        ident = enact(site.log, pause_document(above="1e9 FLOP", wind_down="4 s", entry=ENTRY))
        accepted = time.monotonic()
        await eventually(lambda: all(loop.is_held for loop in loops))
        await asyncio.sleep(2 * STEP_S + 0.1)
        steps = [loop.steps for loop in loops]
        assert max(loop.last for loop in loops) - accepted < 3
        for loop in loops:
            [(reason, at_step)] = loop.saved
            assert reason.startswith("pause: runs above 1e9 FLOP")
            assert at_step == loop.steps
        await eventually(lambda: [job.gate for job in job_status(site)] == ["hold"] * 3)
        assert all(job.since_ms is not None and job.reason.startswith("pause:") for job in job_status(site))
        await asyncio.sleep(4)
        site.kill()
        await asyncio.sleep(0.5)
        await site.start()
        await asyncio.sleep(2.5)
        assert [loop.steps for loop in loops] == steps
        lift(site.log, ident)
        await eventually(lambda: all(loop.steps > before for loop, before in zip(loops, steps, strict=True)))
        await finish(site, loops)
        assert breaches(site) == []
        assert await site.stop() == 0


async def test_a_slow_down_is_kept_by_two_runs_together_and_a_third_that_comes_later(tmp_path: Path) -> None:
    """SPEC node-31, SPEC node-34, SPEC metering-19: over six seconds within 5 % of the rate, and not convicted."""
    small: dict[str, Any] = {"step_s": 0.005, "flop": 10**8}
    async with Site(tmp_path, period_s=4) as site:
        await site.start()
        loops = await start_loops(site, 2, **small)
        enact(site.log, slow_down_document(rate="10e9 FLOP/s", wind_down="3 s", entry=ENTRY))
        await eventually(lambda: [job.gate for job in job_status(site)] == ["throttle"] * 2)
        await asyncio.sleep(1.5)
        start, before = time.monotonic(), sum(loop.steps for loop in loops)
        await asyncio.sleep(6)
        rate = (sum(loop.steps for loop in loops) - before) / (time.monotonic() - start)
        assert rate / 10 == pytest.approx(10, rel=0.05)
        third = Loop(site, "run-9", **small)
        third.start()
        loops.append(third)
        await eventually(lambda: {job.flop_per_s for job in job_status(site)} == {10**10 * 98 // 300})
        await finish(site, loops)
        assert breaches(site) == []


async def test_a_growth_limit_slows_a_loop_then_holds_it_until_the_next_window(tmp_path: Path) -> None:
    """SPEC commitments-68, SPEC node-34: a large step uses up what was to last; nobody is convicted."""
    growth = {"window": "5 periods", "baseline": "1000 periods", "growth": "0 %", "floor": "400e9 FLOP"}
    async with Site(tmp_path, period_s=4) as site:
        await site.start()
        enact(site.log, growth_document(growth=growth, entry=ENTRY))
        agreement = site.people.agreement
        first = agreement.period_of(time.time_ns() // 1_000_000) + 1
        await eventually(lambda: time.time_ns() // 1_000_000 > agreement.period_start_ms(first))
        [loop] = await start_loops(site, 1)
        await eventually(lambda: [job.gate for job in job_status(site)] == ["throttle"])
        assert loop.steps >= 180, "free until half was used, margins counted"
        [job] = job_status(site)
        assert job.reason.startswith("growth: ")
        assert "of 4e11 FLOP left until" in job.reason
        start, before = time.monotonic(), loop.steps
        await asyncio.sleep(2)
        assert 5 < (loop.steps - before) / (time.monotonic() - start) < 25, "of 50 a second"
        loop.flop = (389 - loop.steps) * 10**9  # with its margin, all of the 392 that the gate gives out
        await eventually(lambda: loop.is_held)
        held, loop.flop = loop.steps, 10**9
        await eventually(lambda: job_status(site)[0].gate == "hold")
        assert job_status(site)[0].until_ms == agreement.period_start_ms(first + 5)
        await eventually(lambda: loop.steps > held)
        assert time.time_ns() // 1_000_000 >= agreement.period_start_ms(first + 5)
        await finish(site, [loop])
        course = site.log.state.courses["borealis"]["growth"]
        windows = list(open_windows(site.log.state, site.lab, "growth", course, max(course.used)))
        assert [window.outcome for window in windows] == [Outcome.WITHIN] * 2
        assert breaches(site) == []
        assert await site.stop() == 0
