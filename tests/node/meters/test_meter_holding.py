"""When training is held: by the daemon's decision, which only it lifts, or by its absence, where that is the policy."""

from __future__ import annotations

import threading
import time
from typing import Any

from recording_gate import RecordingGate, eventually

from pacekeeper.node.meters.hold import HoldFlag
from pacekeeper.node.meters.meter import Meter
from pacekeeper.node.meters.orders import PROCEED, Order, read_order
from pacekeeper.node.meters.settings import OnDaemonDown
from pacekeeper.node.meters.spool import write_calendar
from pacekeeper.node.meters.usage import PeriodCalendar
from pacekeeper.v1 import gate_pb2


def start_step(meter: Meter, passed: threading.Event) -> threading.Thread:
    """Take a step in a thread of its own, which sets passed when the step returns."""

    def step() -> None:
        meter.step(1)
        passed.set()

    thread = threading.Thread(target=step)
    thread.start()
    return thread


def test_a_held_step_waits_until_the_daemon_says_proceed(gate: RecordingGate) -> None:
    """SPEC metering-9, SPEC metering-10: the loop stands still, and its chip time goes on. SPEC metering-21: on_hold is
    called once, before the step waits."""
    saved: list[str] = []
    meter = Meter.open("run-1", on_hold=saved.append, settings=gate.settings())
    meter.step(1)
    gate.hold = "pause-1 is in force"
    eventually(lambda: meter.held is not None, "the decision arrives")
    passed = threading.Event()
    trainer = start_step(meter, passed)
    chip_ms = gate.job.chip_ms
    eventually(lambda: gate.job.steps == 2 and gate.job.chip_ms > chip_ms + 200, "time goes on while held")
    assert not passed.is_set()
    assert saved == ["pause-1 is in force"]
    gate.hold = None
    trainer.join(20)
    assert passed.is_set()
    meter.close()
    assert gate.job.steps == 2


def test_a_held_run_takes_no_first_step(gate: RecordingGate) -> None:
    """SPEC metering-9: open() returns only when the first step may be taken."""
    gate.hold = "not yet"
    opened: list[Meter] = []
    opener = threading.Thread(target=lambda: opened.append(Meter.open("run-1", settings=gate.settings())))
    opener.start()
    eventually(lambda: gate.calls.count("report") >= 3, "the held meter keeps asking")
    assert opened == []
    gate.hold = None
    opener.join(20)
    opened[0].close()


def test_going_away_does_not_lift_a_hold(gate: RecordingGate) -> None:
    """SPEC metering-10: only an explicit proceed does, under either policy."""
    meter = Meter.open("run-1", settings=gate.settings())
    gate.hold = "paused"
    eventually(lambda: meter.held is not None, "the decision arrives")
    gate.stop()
    passed = threading.Event()
    trainer = start_step(meter, passed)
    assert not passed.wait(0.5)
    gate.hold = None
    gate.start()
    trainer.join(20)
    assert passed.is_set()
    meter.close()


def test_an_unspecified_decision_holds() -> None:
    """SPEC metering-10: what is not proceed is hold."""

    def order(**answer: Any) -> Order:
        return read_order(gate_pb2.ReportUsageResponse(**answer))

    assert order(decision=gate_pb2.DECISION_PROCEED) == PROCEED
    for decision in (gate_pb2.DECISION_UNSPECIFIED, gate_pb2.DECISION_HOLD, gate_pb2.DECISION_THROTTLE, 7):
        for rate in (b"", b"\0", b"\1" * 17):
            assert order(decision=decision, flop_per_s=rate).hold == "the lab daemon gave no reason"
    assert order(decision=gate_pb2.DECISION_HOLD, reason="a\x1b[2Jb").hold == "a\\u{1b}[2Jb"
    assert order(decision=gate_pb2.DECISION_THROTTLE, flop_per_s=b"\1\0") == Order(flop_per_s=256)


def test_the_hold_policy_holds_while_the_daemon_is_away(gate: RecordingGate) -> None:
    """SPEC metering-11: with "hold" the next step waits until the daemon is back."""
    meter = Meter.open("run-1", settings=gate.settings(OnDaemonDown.HOLD))
    meter.step(1)
    gate.stop()
    eventually(lambda: meter.held is not None, "the absence is noticed")
    assert meter.ordered is None
    passed = threading.Event()
    trainer = start_step(meter, passed)
    assert not passed.wait(0.5)
    gate.start()
    trainer.join(20)
    assert passed.is_set()
    meter.close()
    assert gate.job.steps == 2


def test_the_hold_policy_waits_for_the_daemon_before_the_first_step(stopped_gate: RecordingGate) -> None:
    """SPEC metering-11: "hold" starts nothing without the daemon, calendar or not."""
    write_calendar(stopped_gate.spool, PeriodCalendar(0, 60_000))
    opened: list[Meter] = []
    settings = stopped_gate.settings(OnDaemonDown.HOLD)
    opener = threading.Thread(target=lambda: opened.append(Meter.open("run-1", settings=settings)))
    opener.start()
    opener.join(0.5)
    assert opened == []
    stopped_gate.start()
    opener.join(20)
    opened[0].close()
    assert stopped_gate.job.closed


def change(in_ms: int, **fields: Any) -> gate_pb2.PlannedChange:
    chosen: dict[str, Any] = {"decision": gate_pb2.DECISION_HOLD, "reason": "planned"} | fields
    return gate_pb2.PlannedChange(in_ms=in_ms, **chosen)


def test_what_was_told_ahead_holds_at_its_time_without_the_daemon(gate: RecordingGate) -> None:
    """SPEC metering-23: the daemon dies before; the loop may save, and only the daemon lets it go on again."""
    gate.planned = [change(700)]
    saved: list[str] = []
    meter = Meter.open("run-1", on_hold=saved.append, settings=gate.settings(call_s=30.0))
    gate.stop()
    meter.step(1)
    assert meter.held is None
    planned_s = meter.planned
    assert planned_s is not None
    assert planned_s <= 0.7
    eventually(lambda: meter.held == "planned", "its time comes", 5)
    passed = threading.Event()
    trainer = start_step(meter, passed)
    assert not passed.wait(0.3)
    assert saved == ["planned"]
    gate.planned = []
    gate.start()
    trainer.join(20)
    assert passed.is_set()
    meter.close()


def test_a_newer_answer_takes_the_place_of_a_plan(gate: RecordingGate) -> None:
    """SPEC metering-23: a plan that the daemon no longer has comes to nothing."""
    gate.planned = [change(60_000)]
    with Meter.open("run-1", settings=gate.settings()) as meter:
        gate.planned = [change(900)]
        eventually(lambda: (meter.planned or 60) < 1, "the new one arrives")
        gate.planned = []
        eventually(lambda: meter.planned is None, "it is taken back")
        time.sleep(1)
        assert meter.held is None


def test_a_plan_never_loosens() -> None:
    """SPEC metering-23, SPEC metering-10: what a daemon plans is at most 8 orders, and none lets anything go on."""
    slow = gate_pb2.DECISION_THROTTLE
    for told, planned, held, rate in (
        ({"decision": gate_pb2.DECISION_HOLD}, change(0, decision=gate_pb2.DECISION_PROCEED), True, None),
        ({"decision": gate_pb2.DECISION_HOLD}, change(0, decision=slow, flop_per_s=b"\x09"), True, None),
        ({"decision": slow, "flop_per_s": b"\x05"}, change(0, decision=slow, flop_per_s=b"\x09"), False, 5),
        ({"decision": slow, "flop_per_s": b"\x05"}, change(0, decision=slow, flop_per_s=b"\x03"), False, 3),
        ({"decision": gate_pb2.DECISION_PROCEED}, change(0, decision=77), True, None),
        ({"decision": gate_pb2.DECISION_PROCEED}, change(2**63), False, None),
    ):
        flag = HoldFlag()
        flag.order(read_order(gate_pb2.ReportUsageResponse(**told, planned=[planned])))
        flag.advance()
        assert (flag.ordered is not None, flag.flop_per_s) == (held, rate)
    many = gate_pb2.ReportUsageResponse(decision=gate_pb2.DECISION_PROCEED, planned=[change(9)] * 500)
    assert len(read_order(many).planned) == 8


def test_word_of_a_change_brings_a_report_at_once(gate: RecordingGate) -> None:
    """SPEC metering-24: a meter that would ask in a minute asks now, and again after each change."""
    with Meter.open("run-1", settings=gate.settings(report_s=60.0)) as meter:
        eventually(lambda: gate.calls.count("report") == 1, "the first report")
        time.sleep(0.2)
        for number, hold in enumerate(("a pause", None), 2):
            gate.hold = hold
            gate.revision += 1
            eventually(lambda hold=hold: meter.held == hold, "the order arrives")  # type: ignore[misc]
            assert gate.calls.count("report") == number


def test_a_meter_that_is_not_listened_to_hears_with_its_next_report(gate: RecordingGate) -> None:
    """SPEC metering-24: an older daemon does not know the call."""
    gate.refuse_waiting = True
    with Meter.open("run-1", settings=gate.settings()) as meter:
        gate.hold = "a pause"
        eventually(lambda: meter.held is not None, "the decision arrives")
        assert gate.waited <= 1, "it is not asked again and again"
