"""Training in the demonstration: the example program, unmodified, beside a lab's node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pacekeeper.cli.demo.processes import Troupe
from pacekeeper.cli.demo.scene import Scene
from pacekeeper.cli.founding import shipped_file


def training_script() -> Path:
    """The training program."""
    return shipped_file("jax_tiny_lm.py", "examples/jax_tiny_lm.py")


def start_training(
    scene: Scene, troupe: Troupe, lab: str, run: str, arguments: Sequence[str], *, gated: bool = True
) -> None:
    """Start a training process. Without the gate it looks for the node where nobody is, trains on, and leaves its
    account in the lab's spool."""
    state = scene.root / "lab" / lab / "state"
    socket = "gate.sock" if gated else "nobody.sock"
    environment = {"PACEKEEPER_SOCKET": str(state / socket), "PACEKEEPER_SPOOL": str(state / "spool")}
    troupe.start(run, [str(training_script()), *arguments], environment)
