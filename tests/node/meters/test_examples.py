"""The examples run as a user runs them, against a real daemon, and their figures are arithmetic's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from analytic_flop import GptShape
from recording_gate import RecordingGate
from requirements import require

from pacekeeper.v1 import statements_pb2

EXAMPLES = Path(__file__).parents[3] / "examples"
STEP = GptShape(layers=2, width=64, hidden=256, vocabulary=256, batch=8, length=64).training()


def run_example(gate: RecordingGate, name: str, *arguments: str) -> str:
    environment = os.environ | {
        "PACEKEEPER_SOCKET": str(gate.socket),
        "PACEKEEPER_SPOOL": str(gate.spool),
        # One test's runs compile alike, so only its first one compiles.
        "JAX_COMPILATION_CACHE_DIR": str(gate.spool.parent / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env=environment, check=False, timeout=120, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("name", "package"), [("jax_tiny_lm.py", "jax"), ("torch_tiny_lm.py", "torch")])
def test_a_language_model_learns_repeats_and_resumes(
    gate: RecordingGate, tmp_path: Path, name: str, package: str
) -> None:
    """SPEC metering-15, SPEC metering-13: exact operations; a resumed run starts from the digest that was recorded."""
    require(package)
    saved = tmp_path / "checkpoint"
    output = run_example(gate, name, "--run", "run-1", "--steps", "50", "--save", str(saved), "--chips", "3")
    assert (gate.job.flop, gate.job.steps, gate.job.opening.chips) == (50 * STEP, 50, 3)
    assert gate.job.opening.initial_state == statements_pb2.INITIAL_STATE_FRESH
    losses = [float(line.split()[4]) for line in output.splitlines() if " loss " in line]
    assert losses[-1] < losses[0] - 1
    (digest,) = gate.job.checkpoints
    first = gate.job.opening.initial_digest
    gate.jobs.clear()
    if package == "jax":  # starting up is what takes time here, so one of the two examples shows that it repeats
        assert run_example(gate, name, "--run", "run-1", "--steps", "50") == output
        assert gate.job.opening.initial_digest == first
        gate.jobs.clear()
    run_example(gate, name, "--run", "run-2", "--steps", "1", "--init", str(saved))
    assert gate.job.opening.initial_digest == digest
    assert gate.job.opening.initial_state == statements_pb2.INITIAL_STATE_CHECKPOINT


def test_the_trainer_example_is_counted_exactly(gate: RecordingGate, tmp_path: Path) -> None:
    """SPEC metering-15."""
    require("transformers")
    require("accelerate")
    run_example(gate, "hf_trainer.py", "--run", "run-1", "--steps", "4", "--output", str(tmp_path))
    assert (gate.job.flop, gate.job.steps, gate.job.closed) == (4 * STEP, 4, True)
    assert len(gate.job.checkpoints) == 1


def test_without_a_daemon_an_example_says_what_to_set() -> None:
    require("jax")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PACEKEEPER_")}
    command = [sys.executable, str(EXAMPLES / "jax_tiny_lm.py"), "--run", "run-1", "--steps", "1"]
    done = subprocess.run(command, env=environment, check=False, timeout=120, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "set PACEKEEPER_SOCKET" in done.stderr
    assert "Traceback" not in done.stderr
