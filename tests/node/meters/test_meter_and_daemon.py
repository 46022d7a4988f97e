"""A meter and a real gRPC daemon on a Unix socket: what was counted arrives, and who may say what."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from recording_gate import RecordingGate, eventually

from pacekeeper.node.meters.meter import Meter
from pacekeeper.node.meters.record import JobClock, JobRecord
from pacekeeper.node.meters.spool import MAX_NOTES, Opening, SpooledJob, spool_files
from pacekeeper.node.meters.usage import PeriodCalendar
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import statements_pb2

DIGEST = bytes(range(32))


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


def test_a_refused_job_is_refused_in_the_daemons_words(gate: RecordingGate) -> None:
    gate.refuse = "inventory-exceeded: 9 accelerators of 8 are taken"
    with pytest.raises(Refused, match="9 accelerators of 8 are taken") as refusal:
        Meter.open("run-1", settings=gate.settings())
    assert refusal.value.code is Code.INVENTORY_EXCEEDED
    assert list(spool_files(gate.spool)) == []


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
