"""The PyTorch meter around real, unedited training loops."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from recording_gate import RecordingGate, eventually
from requirements import require

torch = require("torch")
nn = torch.nn

from pacekeeper.node.meters.meter import Meter  # noqa: E402
from pacekeeper.node.meters.torch_meter import attach, install, parameters_digest  # noqa: E402
from pacekeeper.v1 import statements_pb2  # noqa: E402

FORWARD = 2 * 8 * (4 * 16 + 16 * 4)  # of a batch of 8 through the model below
TRAINING = 3 * FORWARD - 2 * 8 * 4 * 16  # the first layer's input needs no gradient


def make_model() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 4))


def batch(rows: int = 8) -> Any:
    return torch.ones(rows, 4)


def train(model: Any, steps: int, accumulate: int = 1) -> None:
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(steps):
        for _ in range(accumulate):
            nn.functional.mse_loss(model(batch()), batch()).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_an_unedited_loop_is_counted_and_declared(gate: RecordingGate) -> None:
    """SPEC metering-15, SPEC metering-3: opened with the first parameters' digest; the daemon has every operation."""
    model = make_model()
    digest = parameters_digest(model)
    hooks = install("run-1", chips=2, settings=gate.settings())
    with pytest.raises(RuntimeError, match="no training step"):
        _ = hooks.meter
    train(model, steps=5)
    hooks.checkpoint(model)
    final = parameters_digest(model)
    hooks.close()
    book = gate.job
    assert (book.flop, book.steps, book.closed) == (5 * TRAINING, 5, True)
    assert (book.opening.initial_digest, book.opening.chips) == (digest, 2)
    assert book.opening.initial_state == statements_pb2.INITIAL_STATE_FRESH
    assert list(book.checkpoints) == [final]
    assert final != digest
    assert hooks.meter.complete


def test_each_accumulated_pass_counts_and_an_evaluation_counts_forward(gate: RecordingGate) -> None:
    """SPEC metering-15: three passes per step, and forward passes without gradients, early ones included."""
    model = make_model()
    with install("run-1", settings=gate.settings()):
        with torch.no_grad():
            model(batch())
        train(model, steps=2, accumulate=3)
        with torch.inference_mode():
            model(batch(16))
    assert (gate.job.flop, gate.job.steps) == (FORWARD + 6 * TRAINING + 2 * FORWARD, 2)


def test_freezing_and_new_shapes_are_noticed(gate: RecordingGate) -> None:
    """SPEC metering-15: a count belongs to shapes and to the trainable set."""
    model = make_model()
    with Meter.open("run-1", settings=gate.settings()) as meter, attach(meter) as hooks:
        train(model, steps=1)
        model[0].requires_grad_(False)
        before = meter.flop
        train(model, steps=1)
        assert meter.flop - before == FORWARD + 2 * 8 * 16 * 4
        before = meter.flop
        with torch.no_grad():
            model(batch(24))
        assert meter.flop - before == 3 * FORWARD
        hooks.detach()
        train(model, steps=1)
        assert meter.steps == 2


def test_two_models_and_recomputation_are_each_counted_once(gate: RecordingGate) -> None:
    """SPEC metering-15: an outermost module counts; one called again from within a backward pass does not."""

    class Recomputing(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = make_model()

        def forward(self, x: Any) -> Any:
            return torch.utils.checkpoint.checkpoint(self.inner, x, use_reentrant=False)

    teacher, student = make_model(), Recomputing()
    optimizer = torch.optim.SGD(student.parameters())
    with Meter.open("run-1", settings=gate.settings()) as meter, attach(meter):
        with torch.no_grad():
            target = teacher(batch())
        loss = nn.MSELoss()(student(batch()), target)
        loss.backward()
        optimizer.step()
        # the recomputation stops before the last product, which nothing needs
        assert meter.flop == FORWARD + TRAINING + FORWARD // 2
        assert meter.complete


def test_a_pass_that_raises_does_not_blind_the_meter(gate: RecordingGate) -> None:
    model = make_model()
    with Meter.open("run-1", settings=gate.settings()) as meter, attach(meter):
        with pytest.raises(RuntimeError):
            model(torch.ones(8, 5))
        train(model, steps=1)
        assert meter.flop == TRAINING


@pytest.mark.filterwarnings("ignore:Using .torch.compile.module..:UserWarning")
def test_a_compiled_model_is_counted(gate: RecordingGate) -> None:
    model = make_model()
    compiled = torch.compile(model, backend="eager")
    with Meter.open("run-1", settings=gate.settings()) as meter, attach(meter):
        train(compiled, steps=3)
        assert (meter.flop, meter.steps, meter.complete) == (3 * TRAINING, 3, True)


_FORKING_LOADER = """
import torch
from pacekeeper.node.meters.torch_meter import install
data = torch.utils.data.TensorDataset(torch.ones(16, 4))
loader = torch.utils.data.DataLoader(data, batch_size=8, num_workers=2, multiprocessing_context="fork")
model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters())
install("run-1")
for _ in range(2):
    for (rows,) in loader:
        model(rows).sum().backward()
        optimizer.step()
"""


def test_workers_that_fork_do_no_harm(gate: RecordingGate) -> None:
    """SPEC metering-12: data loaders fork while the meter's threads and socket are live."""
    environment = os.environ | {"PACEKEEPER_SOCKET": str(gate.socket), "PACEKEEPER_SPOOL": str(gate.spool)}
    subprocess.run([sys.executable, "-c", _FORKING_LOADER], env=environment, check=True, timeout=120)
    assert (gate.job.flop, gate.job.steps, gate.job.closed) == (4 * 2 * 2 * 8 * 4 * 4, 4, True)


def test_what_was_not_seen_is_noted(gate: RecordingGate) -> None:
    """SPEC metering-16: a step without a pass, and an optimizer that may run products of its own."""
    weight = nn.Parameter(torch.ones(4, 4))
    with Meter.open("run-1", settings=gate.settings()) as meter, attach(meter):
        optimizer = torch.optim.SGD([weight])
        (weight @ weight).sum().backward()
        optimizer.step()
        assert not meter.complete
        assert meter.steps == 1
    assert gate.job.notes == ["PyTorch: an optimizer step without a forward pass that was seen"]
    with Meter.open("run-2", settings=gate.settings()) as meter, attach(meter):

        class Muon(torch.optim.SGD):  # type: ignore[misc, name-defined]
            pass

        model = make_model()
        optimizer = Muon(model.parameters())
        model(batch()).sum().backward()
        optimizer.step()
        assert not meter.complete


def test_an_optimizer_step_waits_while_held(gate: RecordingGate) -> None:
    """SPEC metering-9: no edit of the loop, and yet it stands still."""
    import threading

    model = make_model()
    with install("run-1", settings=gate.settings()) as hooks:
        train(model, steps=1)
        gate.hold = "paused"
        eventually(lambda: hooks.meter.held is not None, "the decision arrives")
        trainer = threading.Thread(target=train, args=(model, 3))
        trainer.start()
        trainer.join(0.5)
        assert trainer.is_alive()
        assert hooks.meter.steps == 2
        gate.hold = None
        trainer.join(20)
        assert hooks.meter.steps == 4
