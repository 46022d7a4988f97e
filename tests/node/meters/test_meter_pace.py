"""The pace of a job under a rate: exact by an injected clock, and once by the real one."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_gate import RecordingGate, eventually

from pacekeeper.node.meters.hold import HoldFlag
from pacekeeper.node.meters.meter import Meter
from pacekeeper.node.meters.orders import Order
from pacekeeper.node.meters.pace import BURST_S, Pace

RATE = 10**12


def run_at(rate: int, flop: int, step_s: float, seconds: float) -> int:
    """Take fixed steps by a made-up clock for so long; return the operations made."""
    now = 0.0
    pace = Pace(lambda: now)
    pace.set_rate(rate)
    total = 0
    while now < seconds:
        now += step_s
        total += flop
        now += pace.wait_s(total)
    return total


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 200), st.floats(0.001, 0.9))
def test_steps_of_any_length_keep_to_the_rate(step_ms: int, busy: float) -> None:
    """SPEC metering-19: over 30 s within 5 %, and never more than a step above, whatever a step takes by itself."""
    flop = RATE * step_ms // 1_000
    made = run_at(RATE, flop, busy * step_ms / 1_000, 30.0)
    assert made <= RATE * (30 + BURST_S) + 2 * flop
    assert made == pytest.approx(RATE * 30, rel=0.05)


def test_a_job_that_stood_still_does_not_catch_up_in_a_burst() -> None:
    """SPEC metering-19: what was not used is lost but for a moment's worth."""
    now = 0.0
    pace = Pace(lambda: now)
    pace.set_rate(1_000)
    assert pace.wait_s(500) == 0, "the step that was under way when the rate came is free"
    assert pace.wait_s(1_000) == pytest.approx(0.5)
    now = 100.0
    assert pace.wait_s(2_000) == 0, "it was made within all that time"
    assert pace.wait_s(3_000) == pytest.approx(1 - BURST_S)
    pace.set_rate(100)
    assert pace.wait_s(3_000) == pytest.approx(10 - 10 * BURST_S), "what is owed is owed at the new rate"
    pace.set_rate(None)
    assert pace.wait_s(10**9) == 0


@pytest.mark.parametrize("change", [Order(), Order(flop_per_s=10**18), Order(hold="paused")])
def test_a_change_wakes_whoever_waits_for_its_turn(change: Order) -> None:
    """SPEC metering-19: a job that waits for a rate obeys the next decision at once, a hold included."""
    flag = HoldFlag()
    flag.order(Order(flop_per_s=1))
    assert flag.pace(10)
    went_on: list[bool] = []
    waiter = threading.Thread(target=lambda: went_on.append(flag.pace(10**6)))
    waiter.start()
    waiter.join(0.1)
    assert waiter.is_alive()
    flag.order(change)
    waiter.join(10)
    assert went_on == [change.hold is None]


def test_a_throttled_job_runs_at_its_rate_and_goes_back_to_full_speed(gate: RecordingGate) -> None:
    """SPEC metering-19, for three seconds of real time: two jobs, each with a rate of its own."""
    gate.flop_per_s = 50 * 10**9
    jobs = [Meter.open(f"run-{number}", settings=gate.settings()) for number in (1, 2)]
    counts: list[float] = []

    def train(meter: Meter) -> None:
        meter.step(0)
        start, before = time.monotonic(), meter.flop
        while (spent := time.monotonic() - start) < 3.0:
            time.sleep(0.004)
            meter.step(10**9)
        counts.append((meter.flop - before) / spent)

    threads = [threading.Thread(target=train, args=(meter,)) for meter in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == pytest.approx([50e9, 50e9], rel=0.05)
    gate.flop_per_s = None
    eventually(lambda: jobs[0].flop_per_s is None, "the rate is lifted")
    start = time.monotonic()
    for _ in range(100):
        jobs[0].step(10**12)
    assert time.monotonic() - start < 1
    for meter in jobs:
        meter.close()


def test_a_step_costs_nothing_while_nothing_holds(gate: RecordingGate) -> None:
    """SPEC metering-3: well under the two microseconds that a step may cost, at the best of several tries."""
    with Meter.open("run-1", settings=gate.settings(report_s=1.0)) as meter:
        best = 1.0
        for _ in range(7):
            start = time.perf_counter()
            for _ in range(20_000):
                meter.step(1)
            best = min(best, (time.perf_counter() - start) / 20_000)
    assert best < 2e-6
