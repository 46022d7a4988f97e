"""An audit of a local log: every signature verified, everything hashed and replayed, on two cores.

Each audit is a process of its own, which starts its workers and ends; its wall time is set against that of two
processes that do nothing but verify, before and after it. Peak memory is the audit's main process; its workers hold
chunks only.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.support.children import RawWorkers, job
from benchmarks.support.figures import Figure, Figures, Table
from benchmarks.support.founding import found
from benchmarks.support.made_logs import made_public
from benchmarks.support.probes import Probes, peak_resident_bytes

BOUND: Final = 0.8
STRETCH: Final = 0.9
FLAT: Final = 1.1  # what "flat" is taken to mean: at most a tenth more for a log four times as long
_MB: Final = 1_000_000


@dataclass(frozen=True)
class Config:
    """entries: of the log that is timed, repeats times. memory: sizes audited once for their peak, ascending."""

    entries: int
    repeats: int
    memory: tuple[int, ...]
    raw_s: float = 2.0


TINY: Final = Config(entries=2_500, repeats=1, memory=(2_500,), raw_s=0.2)
QUICK: Final = Config(entries=20_000, repeats=2, memory=(5_000, 20_000), raw_s=1.0)
FULL: Final = Config(entries=200_000, repeats=3, memory=(50_000, 200_000))
HUGE: Final = Config(entries=200_000, repeats=3, memory=(50_000, 200_000, 1_000_000))


def audit_once(directory: Path, fingerprint: bytes) -> dict[str, Any]:
    """Audit a directory in this process; wall and CPU seconds, entries, and the peaks of memory."""
    from pacekeeper.audit.verify import audit
    from pacekeeper.client.collector import settle
    from pacekeeper.client.fetch import DirectorySource

    settle()  # as the command does
    start, cpu = time.perf_counter(), _cpu()
    result = audit(DirectorySource(directory), fingerprint, jobs=2)
    wall, cpu = time.perf_counter() - start, _cpu() - cpu
    assert result.status == 0, f"the script is compliant: {result.faults[:3]}"
    return {
        "entries": result.audited,
        "wall_s": wall,
        "cpu_s": cpu,
        "peak": peak_resident_bytes(os.getpid()),
        "worker_peak": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    }


def measure(config: Config, folder: Path) -> Figures:
    """Audit logs that are kept in the folder, or made there first."""
    founding = found()
    fingerprint = founding.agreement.fingerprint.hex()
    probes = Probes()
    ratios, rates, raws, costs = [], [], [], []
    log = made_public(founding, config.entries, folder)
    with RawWorkers(2) as workers:
        before = workers.run(config.raw_s).rate
        for _ in range(config.repeats):
            raw_us = probes.take()
            facts = job("audit", log, fingerprint)
            after = workers.run(config.raw_s).rate
            rate = facts["entries"] / facts["wall_s"]
            ratios.append(rate / ((before + after) / 2))
            rates.append(rate)
            raws.append((before + after) / 2)
            costs.append(facts["cpu_s"] / facts["entries"] * 1e6 / ((raw_us + probes.take()) / 2))
            before = after
    raw = f"two verifying processes {median(raws):,.0f} a second"
    rows = [
        Figure(
            f"audit of {config.entries:,} entries on two cores",
            median(ratios),
            "of raw verification",
            raw,
            BOUND,
            at_least=True,
            stretch=STRETCH,
            note=f"{median(rates):,.0f} entries a second; ratios of the repeats: "
            + ", ".join(f"{ratio:.2f}" for ratio in ratios),
        ),
        Figure("audit's CPU per entry", median(costs), "of one Ed25519 verification", probes.verify_said()),
    ]
    peaks = {count: job("audit", made_public(founding, count, folder), fingerprint) for count in config.memory}
    rows += _memory(config, peaks)
    return Figures(
        "audit",
        "one process that reads, hashes and replays, two that verify; files in the page cache",
        tuple(rows),
        (_table(peaks),),
        ("the wall time includes the workers' start; other load on the machine lowers the ratio",),
    )


def _memory(config: Config, peaks: dict[int, dict[str, Any]]) -> list[Figure]:
    small, large = config.memory[0], config.memory[-1]
    if small == large:
        return []
    said = f"{peaks[small]['peak'] / _MB:.0f} and {peaks[large]['peak'] / _MB:.0f} MB"
    growth = (peaks[large]["peak"] - peaks[small]["peak"]) / (large - small)
    times = peaks[large]["peak"] / peaks[small]["peak"]
    bound = FLAT if large == 4 * small else None
    return [
        Figure(f"peak memory, {large:,} entries over {small:,}", times, "times", said, bound),
        Figure("peak memory's growth", growth, "bytes an entry", said),
    ]


def _table(peaks: dict[int, dict[str, Any]]) -> Table:
    rows = [
        (f"{count:,}", f"{facts['peak'] / _MB:.1f}", f"{facts['worker_peak'] / _MB:.1f}")
        for count, facts in peaks.items()
    ]
    return Table("peak memory in MB", ("entries", "the audit", "its largest worker"), tuple(rows))


def _cpu() -> float:
    own, children = os.times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.user + own.system + children.ru_utime + children.ru_stime
