"""The meter for a Hugging Face Trainer: one added line.

    trainer.add_callback(PacekeeperCallback("run-1"))

It counts as the PyTorch meter does, never by the Trainer's own total_flos. When training is held it has the Trainer
save at the end of that step, and waits before the next one. Every checkpoint that the Trainer saves is recorded.
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from pacekeeper.node.meters.meter import Meter
from pacekeeper.node.meters.torch_meter import TorchMeter, attach, parameters_digest


class PacekeeperCallback(TrainerCallback):  # type: ignore[misc]
    """Meters the training that its Trainer runs, as one job of one run. Further arguments are Meter.open's."""

    def __init__(self, run: str, *, initial_digest: bytes | None = None, **opening: Any) -> None:
        self._run = run
        self._initial_digest = initial_digest
        self._opening = opening
        self._hooks: TorchMeter | None = None
        self._meter: Meter | None = None
        self._saved = True  # nothing to save before the first step

    @property
    def meter(self) -> Meter:
        """The meter. RuntimeError before training began."""
        if self._meter is None:
            raise RuntimeError("training has not begun, so no job is open")
        return self._meter

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        digest = self._initial_digest if self._initial_digest is not None else parameters_digest(model)
        self._meter = Meter.open(self._run, initial_digest=digest, **self._opening)
        self._hooks = attach(self._meter, wait=False)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # SPEC metering-21: a hold that comes between two steps is obeyed one step later, since only a step's end saves.
        if self.meter.held is None or self._saved:
            self.meter.wait()
        self._saved = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if self.meter.held is not None:
            control.should_save = self._saved = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.meter.checkpoint(parameters_digest(model))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._hooks is not None:
            self._hooks.close()
            self._hooks = None
