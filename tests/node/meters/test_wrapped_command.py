"""Unmodified commands under the meter: chip time, exit status, signals, holds, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from recording_gate import RecordingGate, eventually

from pacekeeper.node.meters.command import EXIT_HELD, run_metered
from pacekeeper.node.meters.settings import OnDaemonDown
from pacekeeper.v1 import gate_pb2, statements_pb2

_WRAPPER = """
import sys
from pacekeeper.node.meters.command import run_metered
sys.exit(run_metered(sys.argv[1:], "run-1", chips=4, grace_s=1.0))
"""
_WAITING = """
import os, signal, sys, time
from pathlib import Path
def end(number, frame):
    Path(sys.argv[1]).write_text(signal.Signals(number).name)
    sys.exit(7)
signal.signal(signal.SIGTERM, end); signal.signal(signal.SIGINT, end)
if len(sys.argv) > 2:
    signal.signal(signal.SIGUSR1, lambda *_: Path(sys.argv[2]).write_text("saved"))
Path(sys.argv[1]).write_text(str(os.getpid()))
while True: time.sleep(0.01)
"""


def environment(gate: RecordingGate, policy: str = "continue") -> dict[str, str]:
    return os.environ | {
        "PACEKEEPER_SOCKET": str(gate.socket),
        "PACEKEEPER_SPOOL": str(gate.spool),
        "PACEKEEPER_ON_DAEMON_DOWN": policy,
    }


def wrapped(gate: RecordingGate, *command: str, policy: str = "continue") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _WRAPPER, *command], env=environment(gate, policy))


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def written(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_chip_time_is_accounted_and_the_exit_status_is_the_commands(gate: RecordingGate) -> None:
    """SPEC metering-1: chips times wall time under the physical method, with no operations and no steps."""
    status = run_metered(
        [sys.executable, "-c", "import time, sys; time.sleep(0.3); sys.exit(5)"], "run-1", chips=8,
        settings=gate.settings(),
    )  # fmt: skip
    book = gate.job
    assert status == 5
    assert (book.flop, book.steps, book.closed) == (0, 0, True)
    assert book.chip_ms >= 8 * 300
    assert book.chip_ms % 8 == 0
    assert book.opening.method == statements_pb2.METHOD_CHIP_TIME
    assert book.opening.initial_state == statements_pb2.INITIAL_STATE_UNSTATED
    assert book.opening.initial_digest == b""


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["/bin/sh", "-c", "kill -9 $$"], 128 + 9),
        (["/nonexistent/program"], 127),
        (["/etc/passwd"], 126),
        (["/bin/sh", "-c", 'test "$PACEKEEPER_SOCKET" && test "$1" = "a b"', "sh", "a b"], 0),
    ],
)
def test_exit_statuses_are_a_shells(gate: RecordingGate, command: list[str], status: int) -> None:
    assert run_metered(command, "run-1", settings=gate.settings()) == status
    assert gate.job.closed


def test_no_command_is_the_callers_mistake(gate: RecordingGate) -> None:
    with pytest.raises(ValueError, match="no command"):
        run_metered([], "run-1", settings=gate.settings())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_command_and_the_job_is_closed(
    gate: RecordingGate, tmp_path: Path, number: signal.Signals
) -> None:
    """SPEC metering-17: the command decides how it ends, and its account is delivered."""
    mark = tmp_path / "mark"
    wrapper = wrapped(gate, sys.executable, "-c", _WAITING, str(mark))
    eventually(lambda: written(mark).isdigit(), "the command runs")
    pid = int(mark.read_text())
    wrapper.send_signal(number)
    assert wrapper.wait(30) == 7
    assert mark.read_text() == number.name
    assert gone(pid)
    assert gate.job.closed


def test_what_a_command_leaves_behind_is_ended(gate: RecordingGate, tmp_path: Path) -> None:
    """SPEC metering-17: a background child, deaf to SIGTERM, does not outlive the command."""
    mark = tmp_path / "mark"
    deaf = f"(trap '' TERM; sh -c 'echo $PPID' > {mark}; while :; do sleep 0.05; done) &"
    script = f"{deaf} while ! test -s {mark}; do sleep 0.01; done; exit 3"
    assert run_metered(["/bin/sh", "-c", script], "run-1", grace_s=0.3, settings=gate.settings()) == 3
    eventually(lambda: gone(int(mark.read_text())), "the background child is gone")


@pytest.mark.skipif(
    sys.platform != "linux", reason="SKIPPED ALOUD: needs Linux, whose kernel tells of a parent's death"
)
def test_a_killed_wrapper_leaves_no_orphan(gate: RecordingGate, tmp_path: Path) -> None:
    """SPEC metering-17: SIGKILL to the wrapper is SIGTERM to the command."""
    mark = tmp_path / "mark"
    wrapper = wrapped(gate, sys.executable, "-c", _WAITING, str(mark))
    eventually(lambda: written(mark).isdigit(), "the command runs")
    pid = int(mark.read_text())
    wrapper.kill()
    wrapper.wait()
    eventually(lambda: gone(pid), "the command ended")
    assert mark.read_text() == "SIGTERM"


def test_an_ordered_hold_ends_the_command_with_its_own_status(gate: RecordingGate, tmp_path: Path) -> None:
    """SPEC metering-22: it may save, is asked to end once its time is over, and its wrapper says that it is held."""
    mark, saved = tmp_path / "mark", tmp_path / "saved"
    wrapper = wrapped(gate, sys.executable, "-c", _WAITING, str(mark), str(saved))
    eventually(lambda: written(mark).isdigit(), "the command runs")
    gate.save_within_ms = 1_500
    gate.hold = "pause-1 is in force"
    eventually(lambda: written(saved) == "saved", "the command saves")
    told = time.monotonic()
    assert mark.read_text().isdigit(), "it has time until the wind-down is over"
    assert wrapper.wait(30) == EXIT_HELD
    assert time.monotonic() - told > 1.0
    assert mark.read_text() == "SIGTERM"


def test_a_hold_that_is_lifted_in_time_ends_no_command(gate: RecordingGate, tmp_path: Path) -> None:
    """SPEC metering-22: on proceed nothing happens."""
    mark, saved = tmp_path / "mark", tmp_path / "saved"
    wrapper = wrapped(gate, sys.executable, "-c", _WAITING, str(mark), str(saved))
    eventually(lambda: written(mark).isdigit(), "the command runs")
    gate.save_within_ms = 1_000
    gate.hold = "pause-1 is in force"
    eventually(lambda: written(saved) == "saved", "the command saves")
    gate.hold = None
    time.sleep(1.5)
    assert wrapper.poll() is None
    wrapper.terminate()
    assert wrapper.wait(30) == 7


def test_a_command_that_does_not_know_the_signal_ends_by_it(gate: RecordingGate, tmp_path: Path) -> None:
    """SPEC metering-22: an ordered hold all the same."""
    mark = tmp_path / "mark"
    wrapper = wrapped(gate, sys.executable, "-c", _WAITING, str(mark))
    eventually(lambda: written(mark).isdigit(), "the command runs")
    gate.save_within_ms = 60_000
    gate.hold = "pause-1 is in force"
    assert wrapper.wait(30) == EXIT_HELD


def test_a_command_stands_still_while_the_daemon_has_to_find_out(gate: RecordingGate, tmp_path: Path) -> None:
    """SPEC node-28, SPEC metering-22: after a daemon's restart it is stopped for a moment, and not ended."""
    mark = tmp_path / "mark"
    wrapper = wrapped(gate, sys.executable, "-c", _WAITING, str(mark))
    eventually(lambda: written(mark).isdigit(), "the command runs")
    state = Path(f"/proc/{mark.read_text()}/stat")
    gate.stand_by, gate.hold = True, "the lab daemon is still reading the log"
    eventually(lambda: state.read_text().rsplit(")", 1)[1].split()[0] == "T", "the command is stopped")
    gate.hold = None
    eventually(lambda: state.read_text().rsplit(")", 1)[1].split()[0] != "T", "the command goes on")
    wrapper.terminate()
    assert wrapper.wait(30) == 7


def test_a_held_run_starts_no_command(gate: RecordingGate, tmp_path: Path) -> None:
    """SPEC metering-9. SPEC metering-20: and no chip's time is counted while it waits for leave to begin."""
    gate.hold = "not yet"
    mark = tmp_path / "mark"
    wrapper = wrapped(gate, "/bin/sh", "-c", f"echo done > {mark}")
    eventually(lambda: gate.calls.count("open") >= 3, "the wrapper keeps asking")
    assert not mark.exists()
    assert gate.job.chip_ms == 0
    waited_ms = time.monotonic()
    gate.hold = None
    assert wrapper.wait(30) == 0
    assert mark.exists()
    assert gate.job.chip_ms <= 4 * 1_000 * (time.monotonic() - waited_ms)


def test_under_the_hold_policy_the_command_stands_still_while_the_daemon_is_away(
    gate: RecordingGate, tmp_path: Path
) -> None:
    """SPEC metering-11: stopped, not ended, and continued when the daemon is back."""
    mark = tmp_path / "mark"
    counting = (
        "import sys, time\nfrom pathlib import Path\n"
        "for number in range(10**9):\n    Path(sys.argv[1]).write_text(str(number)); time.sleep(0.01)"
    )
    wrapper = wrapped(gate, sys.executable, "-c", counting, str(mark), policy=OnDaemonDown.HOLD)
    eventually(lambda: written(mark).isdigit(), "the command counts")
    gate.stop()

    def still() -> bool:
        before = written(mark)
        time.sleep(0.3)
        return before == written(mark) != ""

    eventually(still, "the command stands still")
    assert wrapper.poll() is None
    stood = written(mark)
    gate.start()
    eventually(lambda: written(mark) not in ("", stood), "the command goes on")
    wrapper.terminate()
    assert wrapper.wait(30) == 128 + signal.SIGTERM


def test_a_planned_hold_ends_the_command_though_the_daemon_is_gone(gate: RecordingGate, tmp_path: Path) -> None:
    """SPEC metering-22, SPEC metering-23: it may save, and ends with the status of a hold."""
    mark, saved = tmp_path / "mark", tmp_path / "saved"
    hold = gate_pb2.DECISION_HOLD
    gate.planned = [gate_pb2.PlannedChange(in_ms=1_500, decision=hold, reason="planned", save_within_ms=300)]
    wrapper = wrapped(gate, sys.executable, "-c", _WAITING, str(mark), str(saved))
    eventually(lambda: written(mark).isdigit(), "the command runs")
    gate.stop()
    assert wrapper.wait(30) == EXIT_HELD
    assert (saved.read_text(), mark.read_text()) == ("saved", "SIGTERM")
