"""A wrapped command that a pause stops instead of ending it: it stands still, and only time seen so is not counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from recording_gate import RecordingGate, eventually

from pacekeeper.node.meters.command import EXIT_HELD

_WRAPPER = """
import sys
from pacekeeper.node.meters import command, stopping
command._DRAIN_S = 0.6
command._STOP_PATIENCE_S = 2.0
if sys.argv[1] == "unstoppable":
    stopping.ProcessTree.stop = lambda self: None
sys.exit(command.run_metered(sys.argv[2:], "run-1", chips=4, grace_s=1.0, on_pause=command.OnPause.STOP))
"""
_WORKING = """
import os, signal, sys, time
from pathlib import Path
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    Path(sys.argv[2]).write_text(str(os.getpid()))
    while True: sum(range(1000))
os.wait()
def end(number, frame): sys.exit(7)
signal.signal(signal.SIGTERM, end)
Path(sys.argv[1]).write_text(str(os.getpid()))
while True: sum(range(1000)); time.sleep(0.001)
"""


class Command:
    """A command with a worker of another session, which has no parent left; both work without a pause."""

    def __init__(self, gate: RecordingGate, folder: Path, kind: str = "stoppable") -> None:
        marks = [folder / "own", folder / "worker"]
        environment = os.environ | {"PACEKEEPER_SOCKET": str(gate.socket), "PACEKEEPER_SPOOL": str(gate.spool)}
        wrapper = [sys.executable, "-c", _WRAPPER, kind]
        working = [sys.executable, "-c", _WORKING, *map(str, marks)]
        self.process = subprocess.Popen([*wrapper, *working], env=environment)
        eventually(lambda: all(mark.exists() and mark.read_text() for mark in marks), "it runs")
        self.pids = [int(mark.read_text()) for mark in marks]

    def states(self) -> list[str]:
        return [stat(pid)[0] for pid in self.pids]

    def ticks(self) -> int:
        return sum(int(stat(pid)[11]) for pid in self.pids)


def stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def hold(gate: RecordingGate, command: Command) -> None:
    """Order a hold, and wait until its time is no longer counted."""
    gate.hold = "pause-1 is in force"
    eventually(lambda: command.states() == ["T", "T"], "all of it is stopped")

    def flat() -> bool:
        before, reports = gate.job.chip_ms, gate.calls.count("report")
        eventually(lambda: gate.calls.count("report") >= reports + 3, "it reports")  # two of them begun since
        return gate.job.chip_ms == before

    eventually(flat, "it is not counted")


@pytest.fixture
def command(gate: RecordingGate, tmp_path: Path) -> Iterator[Command]:
    command = Command(gate, tmp_path)
    yield command
    with suppress(ProcessLookupError):
        os.kill(command.pids[1], signal.SIGKILL)


def test_a_stopped_command_counts_nothing_and_goes_on_with_its_own_status(
    gate: RecordingGate, command: Command
) -> None:
    """SPEC metering-25: its worker in another session as well; the time before and after is counted."""
    gate.save_within_ms = 700
    gate.hold = "a pause"
    time.sleep(0.4)
    assert "T" not in command.states(), "it has its time to save"
    started = time.monotonic()
    hold(gate, command)
    ticks, chip_ms = command.ticks(), gate.job.chip_ms
    time.sleep(2)
    assert (command.ticks(), gate.job.chip_ms) == (ticks, chip_ms)
    assert chip_ms >= 4 * 600, "what it did before, and what the accelerators still had to do"
    gate.hold = None
    eventually(lambda: command.ticks() > ticks, "it works again")
    eventually(lambda: gate.job.chip_ms > chip_ms, "and is counted")
    assert gate.job.chip_ms - chip_ms < 4_000 * (time.monotonic() - started - 2), "without the time of the pause"
    command.process.terminate()
    assert command.process.wait(30) == 7


def test_what_is_woken_from_outside_counts_and_is_stopped_again(gate: RecordingGate, command: Command) -> None:
    """SPEC metering-25: a look that finds work counts the time since the last one that found none."""
    hold(gate, command)
    chip_ms, ticks = gate.job.chip_ms, command.ticks()
    os.kill(command.pids[1], signal.SIGCONT)
    eventually(lambda: command.ticks() > ticks and command.states() == ["T", "T"], "it worked and was stopped")
    eventually(lambda: gate.job.chip_ms > chip_ms, "that counts")
    hold(gate, command)
    command.process.terminate()
    assert command.process.wait(30) == 7


def test_work_between_two_looks_counts_though_both_find_it_stopped(gate: RecordingGate, command: Command) -> None:
    """SPEC metering-25: the kernel says what processor time was used."""
    for _ in range(3):
        hold(gate, command)
        chip_ms = gate.job.chip_ms
        os.kill(command.pids[1], signal.SIGCONT)
        time.sleep(0.12)
        os.kill(command.pids[1], signal.SIGSTOP)
        eventually(lambda chip_ms=chip_ms: gate.job.chip_ms > chip_ms, "that counts", 5)  # type: ignore[misc]
    command.process.terminate()
    assert command.process.wait(30) == 7


def test_a_stopped_command_can_be_ended(gate: RecordingGate, command: Command) -> None:
    """SPEC metering-17, SPEC metering-25: it goes on to end, for no longer than a held command may."""
    hold(gate, command)
    command.process.send_signal(signal.SIGTERM)
    assert command.process.wait(30) == 7
    assert stat(command.pids[1])[0] != "T", "and what it leaves behind is not left stopped"


def test_a_command_that_does_not_stand_still_is_ended(gate: RecordingGate, tmp_path: Path) -> None:
    """SPEC metering-25: as if nothing else had been chosen, and all of its time counts."""
    command = Command(gate, tmp_path, "unstoppable")
    gate.hold = "a pause"
    assert command.process.wait(30) == EXIT_HELD
    os.kill(command.pids[1], signal.SIGKILL)
