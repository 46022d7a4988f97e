"""A meter whose daemon is away, comes late, forgets, hangs or refuses: nothing counted is lost, or told twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from recording_gate import RecordingGate, eventually

from pacekeeper.node.meters.meter import Meter
from pacekeeper.node.meters.spool import read_spool_file, spool_files, write_calendar
from pacekeeper.node.meters.usage import PeriodCalendar
from pacekeeper.protocol.errors import Code, Refused

DIGEST = bytes(range(32))


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


def test_a_daemon_that_refuses_later_mutes_nothing_on_disk(gate: RecordingGate) -> None:
    meter = Meter.open("run-1", settings=gate.settings(close_s=0.2))
    gate.refuse = "out of order"
    meter.step(5)
    meter.close()
    (path,) = spool_files(gate.spool)
    assert sum(item.flop for item in read_spool_file(path).usage) == 5


def test_the_file_is_rewritten_when_the_daemon_does_not_have_what_was_counted(gate: RecordingGate) -> None:
    """SPEC metering-5: an acknowledged report is as good as the file, which is then left alone for a while."""
    with Meter.open("run-1", settings=gate.settings(loss_s=1.0, spool_s=60.0)) as meter:
        (path,) = spool_files(gate.spool)
        meter.step(5)
        eventually(lambda: _older(path) > 1.5, "the daemon acknowledges for longer than loss_s")
        assert _steps(path) == 0
        gate.stop()
        meter.step(6)
        eventually(lambda: _steps(path) == 2, "the file takes over")
        meter.step(7)
        eventually(lambda: _steps(path) == 3, "and goes on")
        gate.start()
        eventually(lambda: gate.job.steps == 3, "the daemon takes over")
        meter.step(8)
        eventually(lambda: gate.job.steps == 4, "and goes on")
        assert _steps(path) == 3


def _older(path: Path) -> float:
    """Seconds since a file was written."""
    return time.time() - path.stat().st_mtime


def test_the_file_is_rewritten_in_time_though_the_daemon_acknowledges(gate: RecordingGate) -> None:
    """SPEC metering-5: it says that the job lives."""
    with Meter.open("run-1", settings=gate.settings(loss_s=60.0, spool_s=0.2)):
        (path,) = spool_files(gate.spool)
        first = read_spool_file(path).updated_ms
        eventually(lambda: read_spool_file(path).updated_ms > first, "it is rewritten")


_KILLED = """
import sys, time
from pathlib import Path
from pacekeeper.node.meters.meter import Meter
from pacekeeper.node.meters.settings import MeterSettings
settings = MeterSettings(Path(sys.argv[1]), Path(sys.argv[2]), report_s=0.2, loss_s=0.25, spool_s=float(sys.argv[3]))
meter = Meter.open("run-1", settings=settings)
while True:
    meter.step(10)
    print(time.monotonic_ns(), flush=True)
    time.sleep(0.001)
"""


def _killed(gate: RecordingGate, spool_s: float, ripe: Callable[[], bool]) -> tuple[list[int], int]:
    """Kill a job once it is ripe; returns when it took each step, and when it was killed, in nanoseconds."""
    command = [sys.executable, "-c", _KILLED, str(gate.socket), str(gate.spool), str(spool_s)]
    job = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        eventually(ripe, "the job is ripe")
    finally:
        killed_ns = time.monotonic_ns()
        job.send_signal(signal.SIGKILL)
        output, _ = job.communicate()
    return [int(word) for word in output.split()], killed_ns


def test_a_killed_job_leaves_its_last_state(stopped_gate: RecordingGate) -> None:
    """SPEC metering-5: what the file held when the process was killed is read back whole, whenever that was."""
    write_calendar(stopped_gate.spool, PeriodCalendar(0, 60_000))
    steps, _ = _killed(stopped_gate, 0.05, lambda: any(_steps(path) > 100 for path in spool_files(stopped_gate.spool)))
    (path,) = spool_files(stopped_gate.spool)
    spooled = read_spool_file(path)
    assert not spooled.closed
    assert 100 < _steps(path) <= len(steps) + 1
    assert sum(item.flop for item in spooled.usage) // 10 in range(_steps(path) - 1, _steps(path) + 2)


@pytest.mark.parametrize("daemon", ["there", "away", "hung"])
def test_a_killed_job_loses_little_whatever_its_daemon_does(stopped_gate: RecordingGate, daemon: str) -> None:
    """SPEC metering-5: what daemon and file have together is older than loss_s by no more than a busy machine takes."""
    write_calendar(stopped_gate.spool, PeriodCalendar(0, 60_000))
    if daemon != "away":
        stopped_gate.start()
    begun: list[float] = []

    def ripe() -> bool:
        if not begun and list(spool_files(stopped_gate.spool)):
            begun.append(time.monotonic())
        if daemon == "hung" and stopped_gate.jobs and stopped_gate.job.steps:
            stopped_gate.delay_s = 3.0
        return bool(begun) and time.monotonic() - begun[0] > 2.5

    steps, killed_ns = _killed(stopped_gate, 60.0, ripe)
    (path,) = spool_files(stopped_gate.spool)
    kept = max(_steps(path), stopped_gate.job.steps if stopped_gate.jobs else 0)
    before = sum(taken_ns < killed_ns - 1_000_000_000 for taken_ns in steps)
    assert before > 100
    assert kept >= before


def _steps(path: Path) -> int:
    return sum(item.steps for item in read_spool_file(path).usage)
