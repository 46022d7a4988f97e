"""The command's start: CPU seconds of `pacekeeper --help`, which every sub-command pays as well."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.support.figures import Figure, Figures

BOUND_S: Final = 0.3


@dataclass(frozen=True)
class Config:
    """repeats: how often each command is started, in turn."""

    repeats: int


TINY: Final = Config(repeats=2)
QUICK: Final = Config(repeats=7)
FULL: Final = Config(repeats=15)


def measure(config: Config) -> Figures:
    """Start the command and a bare interpreter in turn."""
    command = [str(Path(sys.executable).parent / "pacekeeper"), "--help"]
    bare = [sys.executable, "-c", "pass"]
    _cpu_s(command)  # compiles what is not compiled yet
    helps, bares = [], []
    for _ in range(config.repeats):
        bares.append(_cpu_s(bare))
        helps.append(_cpu_s(command))
    raw = f"bare interpreter {median(bares):.3f} s"
    return Figures(
        "cli",
        "one process, files in the page cache",
        (
            Figure("pacekeeper --help", median(helps), "s of CPU", raw, BOUND_S),
            Figure("over a bare interpreter", median(helps) - median(bares), "s of CPU", raw),
        ),
    )


def _cpu_s(command: list[str]) -> float:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return usage.ru_utime + usage.ru_stime
