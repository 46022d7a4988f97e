"""The meter's overhead: CPU spent inside the meter over CPU of a training step, at about 20 million parameters.

Paired runs cannot show a tenth of a percent: two equal runs differ by three. So the meter's own CPU is measured, in the
training thread and in the threads beside it, and set against that of the step (benchmarks/support/training.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.support.children import job, server
from benchmarks.support.figures import Figure, Figures, Table

BOUND_PERCENT: Final = 0.1


@dataclass(frozen=True)
class Config:
    """size: one of benchmarks.support.training.SHAPES."""

    size: str


TINY: Final = Config("tiny")
QUICK: Final = Config("quick")
FULL: Final = Config("full")


def measure(config: Config, work: Path) -> Figures:
    """Run one training loop in a process of its own, with the gate in another."""
    (work / "spool").mkdir()
    with server("gate", work, ready=work / "ready", output=work / "gate.output"):
        facts = job("meter", config.size, work)
    step_us = facts["step_cpu_s"] * 1e6
    inside_us = facts["call_us"] + facts["beside_us"]
    beside = facts["beside_us_per_s"]
    said = f"{facts['step_cpu_s'] * 1000:.0f} ms of CPU a step; {facts['raw']}"
    return Figures(
        "meter",
        f"one JAX process on the CPU ({facts['parameters'] / 1e6:.1f} M parameters, {facts['flop'] / 1e9:.1f} GFLOP a "
        "step, all cores), the lab's gate in another, over a Unix socket",
        (
            Figure("CPU inside the meter", inside_us / step_us * 100, "% of the step's", said, BOUND_PERCENT),
            Figure(
                "the same, with every core to the training",
                (facts["call_us"] / step_us + sum(beside.values()) / (facts["cores"] * 1e6)) * 100,
                "% of the step's",
                said,
                note="the threads beside it work by the clock, so waiting for a core makes their share larger",
            ),
            Figure("in the training thread, per step", facts["call_us"], "us", said),
            Figure("in the threads beside it, per second of training", sum(beside.values()), "us", said),
        ),
        (
            _table(facts, inside_us),
            Table(
                "CPU us a second of the threads beside training",
                ("thread", "us"),
                tuple((name, f"{us:.0f}") for name, us in beside.items()),
            ),
        ),
        (f"{facts['steps']} steps; a report every second, and a spool file every 10 s while reports are acknowledged",),
    )


def _table(facts: dict[str, Any], inside_us: float) -> Table:
    rows = (
        ("Meter.step alone (the three-line loop)", f"{facts['raw_step_us']:.2f}"),
        ("metered call: argument shapes looked up, Meter.step", f"{facts['call_us']:.1f}"),
        ("threads beside training: recorder and courier", f"{facts['beside_us']:.1f}"),
        ("meter, together", f"{inside_us:.1f}"),
        ("step: CPU of all threads", f"{facts['step_cpu_s'] * 1e6:,.0f}"),
        ("step: wall", f"{facts['step_wall_s'] * 1e6:,.0f}"),
    )
    return Table("us a step", ("part", "us"), rows)
