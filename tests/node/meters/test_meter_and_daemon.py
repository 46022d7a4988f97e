"""A meter against a real gRPC daemon on a Unix socket: going away, coming back, holding, refusing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
from recording_gate import RecordingGate, eventually

from pacekeeper.node.meters.client import DaemonAway, GateClient, UnknownJob
from pacekeeper.node.meters.meter import Meter
from pacekeeper.node.meters.record import JobClock, JobRecord
from pacekeeper.node.meters.settings import MeterSettings, OnDaemonDown, resolve_settings
from pacekeeper.node.meters.spool import MAX_NOTES, Opening, SpooledJob, read_spool_file, spool_files, write_calendar
from pacekeeper.node.meters.usage import PeriodCalendar
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import gate_pb2, statements_pb2

DIGEST = bytes(range(32))


def start_step(meter: Meter, passed: threading.Event) -> threading.Thread:
    """Take a step in a thread of its own, which sets passed when the step returns."""

    def step() -> None:
        meter.step(1)
        passed.set()

    thread = threading.Thread(target=step)
    thread.start()
    return thread


def test_three_lines_reach_the_daemon(gate: RecordingGate) -> None:
    """SPEC metering-3: what the meter counted is what the daemon has once the job is closed, and the spool is empty."""
    meter = Meter.open("run-1", initial_digest=DIGEST, chips=2, title="A run", settings=gate.settings())
    for _ in range(1_000):
        meter.step(10**18 + 1)
    meter.close()
    book = gate.job
    assert (book.opening.run, book.opening.title, book.opening.chips) == ("run-1", "A run", 2)
    assert book.opening.initial_digest == DIGEST
    assert book.opening.initial_state == statements_pb2.INITIAL_STATE_FRESH
    assert book.opening.method == statements_pb2.METHOD_FRAMEWORK_COUNT
    assert (book.flop, book.steps, book.closed) == (1_000 * (10**18 + 1), 1_000, True)
    assert book.chip_ms > 0
    assert book.chip_ms % 2 == 0
    assert list(spool_files(gate.spool)) == []


def test_figures_are_split_at_period_ends_while_training_goes_on(stopped_gate: RecordingGate) -> None:
    """SPEC metering-1: chip time of consecutive periods has no hole: each whole one is chips times its length."""
    stopped_gate.period_ms = 200
    stopped_gate.start()
    with Meter.open("run-1", chips=3, settings=stopped_gate.settings()) as meter:
        while len(stopped_gate.job.usage) < 5:
            meter.step(7)
            time.sleep(0.001)
    usage = stopped_gate.job.usage
    periods = sorted(usage)
    assert periods == list(range(periods[0], periods[-1] + 1))
    assert {usage[period][2] for period in periods[1:-1]} == {3 * 200}
    assert stopped_gate.job.flop == meter.flop == 7 * meter.steps


def test_a_job_starts_and_ends_without_its_daemon(stopped_gate: RecordingGate) -> None:
    """SPEC metering-11, SPEC metering-8: by the calendar in the spool; the closed file keeps everything."""
    write_calendar(stopped_gate.spool, PeriodCalendar(0, 60_000))
    meter = Meter.open("run-1", initial_digest=DIGEST, settings=stopped_gate.settings(close_s=0.1))
    meter.step(5)
    meter.checkpoint(b"\1" * 32)
    meter.step(6)
    meter.close()
    (path,) = spool_files(stopped_gate.spool)
    spooled = read_spool_file(path)
    assert spooled.closed
    assert spooled.opening.run == "run-1"
    assert sum(item.flop for item in spooled.usage) == 11
    assert [item.digest for item in spooled.checkpoints] == [b"\1" * 32]
    assert sum(item.flop for item in spooled.checkpoints[0].usage) == 5
    assert stopped_gate.jobs == {}


def test_a_job_without_daemon_and_calendar_is_refused(stopped_gate: RecordingGate) -> None:
    """SPEC metering-11: its figures could not be split by period."""
    with pytest.raises(Refused, match="left no calendar") as refusal:
        Meter.open("run-1", settings=stopped_gate.settings())
    assert refusal.value.code is Code.UNSAFE_STATE
    assert list(stopped_gate.spool.iterdir()) == []


def test_a_daemon_that_comes_late_catches_up(stopped_gate: RecordingGate) -> None:
    """SPEC metering-4: opened, reported and recorded once it is there, nothing lost and nothing twice."""
    write_calendar(stopped_gate.spool, PeriodCalendar(0, 60_000))
    meter = Meter.open("run-1", settings=stopped_gate.settings())
    meter.step(5)
    meter.checkpoint(b"\1" * 32)
    meter.step(6)
    stopped_gate.start()
    eventually(lambda: bool(stopped_gate.jobs) and stopped_gate.job.flop == 11, "the daemon caught up")
    meter.step(7)
    meter.close()
    assert (stopped_gate.job.flop, stopped_gate.job.steps, stopped_gate.job.closed) == (18, 3, True)
    assert [sum(item[1] for item in usage) for usage in stopped_gate.job.checkpoints.values()] == [5]
    assert list(spool_files(stopped_gate.spool)) == []


def test_a_daemon_that_dies_again_and_again_loses_and_doubles_nothing(gate: RecordingGate) -> None:
    """SPEC metering-4: cumulative figures make every repetition harmless; training went on meanwhile."""
    meter = Meter.open("run-1", settings=gate.settings())
    stop = threading.Event()

    def train() -> None:
        while not stop.is_set():
            meter.step(3)
            time.sleep(0.0005)

    trainer = threading.Thread(target=train)
    trainer.start()
    try:
        for _ in range(4):
            before = meter.steps
            gate.stop()
            eventually(lambda before=before: meter.steps > before + 50, "training goes on without the daemon")  # type: ignore[misc]
            gate.start()
            reported = gate.job.steps
            eventually(lambda reported=reported: gate.job.steps > reported, "reports go on")  # type: ignore[misc]
    finally:
        stop.set()
        trainer.join()
        meter.close()
    assert (gate.job.flop, gate.job.steps, gate.job.closed) == (3 * meter.steps, meter.steps, True)


def test_a_daemon_that_forgot_the_job_is_told_again(gate: RecordingGate) -> None:
    """SPEC metering-4: an unknown job is opened again and every figure sent again."""
    with Meter.open("run-1", settings=gate.settings()) as meter:
        meter.step(5)
        eventually(lambda: gate.job.flop == 5, "first report")
        gate.jobs.clear()
        eventually(lambda: bool(gate.jobs) and gate.job.flop == 5, "everything sent again")


def test_what_was_not_counted_reaches_the_daemon_before_the_figures_that_lack_it(gate: RecordingGate) -> None:
    """SPEC metering-16, SPEC metering-18: all of it, with each report, in words that any screen bears."""
    with Meter.open("run-1", settings=gate.settings()) as meter:
        meter.note_uncounted("a kernel\x1b[2J \ud800")
        meter.step(5)
        eventually(lambda: gate.job.flop == 5, "first report")
        assert gate.job.notes == ["a kernel\\u{1b}[2J \\u{d800}"]
        for number in range(MAX_NOTES):
            meter.note_uncounted(f"{number} " + "long" * 200)
    assert gate.job.closed
    assert len(gate.job.notes) == MAX_NOTES
    assert gate.job.notes[1] == ("0 " + "long" * 200)[:400]


def test_a_checkpoint_tells_what_was_not_counted_by_itself(gate: RecordingGate) -> None:
    """SPEC metering-18: its record is made before the next report."""
    with Meter.open("run-1", settings=gate.settings()) as meter:
        meter.checkpoint(b"\1" * 32)
        eventually(lambda: bool(gate.job.checkpoints), "the first checkpoint arrives")
        meter.note_uncounted("a kernel")
        meter.checkpoint(DIGEST)
    assert gate.job.checkpoint_notes == {b"\1" * 32: [], DIGEST: ["a kernel"]}


def test_a_note_that_comes_as_the_job_closes_is_told_before_the_file_goes(stopped_gate: RecordingGate) -> None:
    """SPEC metering-8, SPEC metering-18: acknowledged is what was told, and the last note was not."""
    opening = Opening("ab" * 16, "run-1", "", 3, b"", 1, 1, 0)
    clock = JobClock()
    now_ms = clock.now_ms()
    job = SpooledJob(opening, PeriodCalendar(0, 60_000), now_ms, now_ms, False, (), (), ())
    record = JobRecord(job, clock, stopped_gate.spool, lambda: (1, 1))
    record.close()
    told = record.outstanding()
    record.note("a kernel")
    record.acknowledge(told.figures, told.notes, closing=told.closing)
    assert not record.delivered()
    told = record.outstanding()
    record.acknowledge(told.figures, told.notes)
    assert record.delivered()


def test_a_meter_leaves_the_environment_of_training_alone() -> None:
    """What the daemon's room sets for gRPC would hold for every connection that a training process makes."""
    program = "import os; before = dict(os.environ); import pacekeeper.node.meters.meter; assert os.environ == before"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_held_step_waits_until_the_daemon_says_proceed(gate: RecordingGate) -> None:
    """SPEC metering-9, SPEC metering-10: the loop stands still, its chip time goes on, and on_hold may save."""
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
    from pacekeeper.node.meters.courier import reason_to_hold

    assert reason_to_hold(gate_pb2.DECISION_PROCEED, "") is None
    for decision in (gate_pb2.DECISION_UNSPECIFIED, gate_pb2.DECISION_HOLD, 7):
        assert reason_to_hold(decision, "") == "the lab daemon gave no reason"
    assert reason_to_hold(gate_pb2.DECISION_HOLD, "a\x1b[2Jb") == "a\\u{1b}[2Jb"


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


def test_a_hung_daemon_does_not_delay_a_step(gate: RecordingGate) -> None:
    """SPEC metering-3: every call has a deadline and is made beside training."""
    meter = Meter.open("run-1", settings=gate.settings(call_s=0.2, close_s=0.2))
    gate.delay_s = 1.0
    begun = time.perf_counter()
    for _ in range(1_000):
        meter.step(1)
    assert time.perf_counter() - begun < 0.9  # one call to the daemon alone would take longer
    meter.close()
    (path,) = spool_files(gate.spool)
    assert sum(item.flop for item in read_spool_file(path).usage) == 1_000


def test_a_refused_job_is_refused_in_the_daemons_words(gate: RecordingGate) -> None:
    gate.refuse = "inventory-exceeded: 9 accelerators of 8 are taken"
    with pytest.raises(Refused, match="9 accelerators of 8 are taken") as refusal:
        Meter.open("run-1", settings=gate.settings())
    assert refusal.value.code is Code.INVENTORY_EXCEEDED
    assert list(spool_files(gate.spool)) == []


def test_a_daemon_that_refuses_later_mutes_nothing_on_disk(gate: RecordingGate) -> None:
    meter = Meter.open("run-1", settings=gate.settings(close_s=0.2))
    gate.refuse = "out of order"
    meter.step(5)
    meter.close()
    (path,) = spool_files(gate.spool)
    assert sum(item.flop for item in read_spool_file(path).usage) == 5


@pytest.mark.parametrize(
    ("status", "details", "ending"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "bad-field: no such thing", Refused),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", Refused),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded: report again", DaemonAway),
        (grpc.StatusCode.FAILED_PRECONDITION, "clock-disagrees: by an hour", DaemonAway),
        (grpc.StatusCode.UNKNOWN, "Unexpected exception", DaemonAway),
        (grpc.StatusCode.NOT_FOUND, "not-found: no such job", UnknownJob),
    ],
)
def test_how_a_call_ended_says_whether_to_try_again(
    gate: RecordingGate, status: grpc.StatusCode, details: str, ending: type[Exception]
) -> None:
    """SPEC metering-4: a refusal is final, trouble of the daemon's own passes, an unknown job is opened again."""
    gate.refuse, gate.refuse_with = details, status
    with GateClient(gate.socket, 5.0) as client, pytest.raises(ending):
        client.report_usage("ab" * 16, [])


def test_another_calendar_stops_the_meter(gate: RecordingGate) -> None:
    """SPEC metering-3: figures split by a calendar that the daemon does not have would be wrong."""
    meter = Meter.open("run-1", settings=gate.settings(close_s=0.2))
    gate.period_ms = 90_000
    gate.jobs.clear()
    eventually(lambda: _raises(meter), "the step says so")
    meter.close()


def _raises(meter: Meter) -> bool:
    try:
        meter.step(0)
    except RuntimeError as error:
        assert "calendar" in str(error)  # noqa: PT017
        return True
    return False


_KILLED = """
import sys, time
from pathlib import Path
from pacekeeper.node.meters.meter import Meter
from pacekeeper.node.meters.record import JobClock, JobRecord
from pacekeeper.node.meters.settings import MeterSettings
meter = Meter.open("run-1", settings=MeterSettings(Path(sys.argv[1]), Path(sys.argv[2]), spool_s=0.05, report_s=0.05))
while True:
    meter.step(10)
    print(meter.steps, flush=True)
    time.sleep(0.001)
"""


def test_a_killed_job_leaves_its_last_state(stopped_gate: RecordingGate) -> None:
    """SPEC metering-5: what the file held when the process was killed is read back whole, whenever that was."""
    write_calendar(stopped_gate.spool, PeriodCalendar(0, 60_000))
    job = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(stopped_gate.socket), str(stopped_gate.spool)], stdout=subprocess.PIPE
    )
    try:
        eventually(lambda: any(_steps(path) > 100 for path in spool_files(stopped_gate.spool)), "a spooled state")
    finally:
        job.send_signal(signal.SIGKILL)
        output, _ = job.communicate()
    (path,) = spool_files(stopped_gate.spool)
    spooled = read_spool_file(path)
    assert not spooled.closed
    assert 100 < _steps(path) <= len(output.split()) + 1
    assert sum(item.flop for item in spooled.usage) // 10 in range(_steps(path) - 1, _steps(path) + 2)


def _steps(path: Path) -> int:
    return sum(item.steps for item in read_spool_file(path).usage)


def test_a_job_that_forgets_to_close_is_closed_at_exit(gate: RecordingGate) -> None:
    program = (
        "import sys; from pathlib import Path; from pacekeeper.node.meters.meter import Meter\n"
        "from pacekeeper.node.meters.settings import resolve_settings\n"
        "Meter.open('run-1').step(12)"
    )
    environment = os.environ | {"PACEKEEPER_SOCKET": str(gate.socket), "PACEKEEPER_SPOOL": str(gate.spool)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)
    assert (gate.job.flop, gate.job.closed) == (12, True)


_FORKED = """
import os, sys
from pacekeeper.node.meters.meter import Meter
meter = Meter.open("run-1")
child = os.fork()
if child == 0:
    try:
        meter.step(1)
    except RuntimeError as error:
        sys.exit(0 if "fork" in str(error) and "spawn" in str(error) else 3)
    sys.exit(4)
_, status = os.waitpid(child, 0)
meter.step(5)
meter.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_fork_may_not_use_the_meter_and_does_not_harm_it(gate: RecordingGate) -> None:
    """SPEC metering-12: the fork is told so; the parent's job goes on and closes."""
    environment = os.environ | {"PACEKEEPER_SOCKET": str(gate.socket), "PACEKEEPER_SPOOL": str(gate.spool)}
    done = subprocess.run([sys.executable, "-c", _FORKED], env=environment, check=False, timeout=60)
    assert done.returncode == 0
    assert (gate.job.flop, gate.job.steps, gate.job.closed) == (5, 1, True)


def test_a_closed_meter_says_so(gate: RecordingGate) -> None:
    meter = Meter.open("run-1", settings=gate.settings())
    meter.close()
    meter.close()
    with pytest.raises(RuntimeError, match="closed"):
        meter.step(1)
    with pytest.raises(RuntimeError, match="closed"):
        meter.checkpoint(DIGEST)
    assert gate.job.flop == 0


def test_steps_take_whole_numbers_of_any_size_and_no_others(gate: RecordingGate) -> None:
    """SPEC metering-3: a figure never overflows and never goes down."""

    class Eight:
        def __index__(self) -> int:
            return 8

    with Meter.open("run-1", settings=gate.settings()) as meter:
        meter.step(2**80)
        meter.step(Eight())  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="less than nothing"):
            meter.step(-1)
        with pytest.raises(TypeError):
            meter.step(1.5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="32 bytes"):
            meter.checkpoint(b"short")
    assert (gate.job.flop, gate.job.steps) == (2**80 + 8, 2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"run": "Run 1"}, "a run's id"),
        ({"run": "run-1", "chips": 0}, "at least one chip"),
        ({"run": "run-1", "title": "two\nlines"}, "a title"),
        ({"run": "run-1", "initial_digest": b"x"}, "32 bytes"),
        ({"run": "run-1", "margin_ppm": 2_000_000}, "a margin"),
    ],
)
def test_arguments_that_cannot_be_are_the_callers_mistake(
    gate: RecordingGate, arguments: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        Meter.open(**arguments, settings=gate.settings())  # type: ignore[arg-type]
    assert gate.calls == []


def test_settings_come_from_arguments_then_from_the_environment(tmp_path: Path) -> None:
    environment = {
        "PACEKEEPER_SOCKET": "/run/a.sock",
        "PACEKEEPER_SPOOL": str(tmp_path),
        "PACEKEEPER_ON_DAEMON_DOWN": "hold",
    }
    settings = resolve_settings(environment=environment)
    assert settings == MeterSettings(Path("/run/a.sock"), tmp_path, OnDaemonDown.HOLD)
    assert resolve_settings("/run/b.sock", on_daemon_down="continue", environment=environment).socket.name == "b.sock"
    with pytest.raises(ValueError, match="set PACEKEEPER_SOCKET"):
        resolve_settings(environment={})
    with pytest.raises(ValueError, match="set PACEKEEPER_SPOOL"):
        resolve_settings("/run/a.sock", environment={})
    with pytest.raises(ValueError, match=r'"continue" or "hold"'):
        resolve_settings(environment=environment | {"PACEKEEPER_ON_DAEMON_DOWN": "maybe"})
    with pytest.raises(ValueError, match="does not exist"):
        resolve_settings("/run/a.sock", tmp_path / "absent", environment={})


def test_a_socket_path_that_no_socket_can_have_is_refused_clearly(tmp_path: Path) -> None:
    """SPEC metering-3: at most 107 bytes."""
    MeterSettings(Path("/" + "a" * 106), tmp_path)
    with pytest.raises(ValueError, match="longer than 107 bytes"):
        MeterSettings(Path("/" + "a" * 107), tmp_path)


def test_a_socket_path_with_unusual_characters_works(tmp_path: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="p k%20ü?#") as directory:
        daemon = RecordingGate(Path(directory))
        daemon.start()
        try:
            Meter.open("run-1", settings=daemon.settings()).close()
        finally:
            daemon.stop()
        assert daemon.job.closed
