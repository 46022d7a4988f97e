"""Memory of the log server, per entry on the log.

A million entries are not sent over the network: stores of several sizes are filled through the store's own interface,
and a log starts on each, replays it, and serves. What it then has resident is compared. The smaller sizes already fill
the store's caches, so that the growth from one to the next is what an entry costs; the projection to a million adds
that growth to what was measured. `--huge` measures a million itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.support.figures import Figure, Figures, Table
from benchmarks.support.probes import Probes, cpu_s, resident_bytes
from benchmarks.support.script import script
from benchmarks.support.site import Site

BOUND_BYTES: Final = 150.0
AT: Final = 1_000_000
_MB: Final = 1_000_000


@dataclass(frozen=True)
class Config:
    """sizes: ascending; the first is next to nothing, the last two give the growth."""

    sizes: tuple[int, ...]
    settle_s: float = 1.0


TINY: Final = Config(sizes=(1, 300, 900), settle_s=0.05)
QUICK: Final = Config(sizes=(1, 10_000, 30_000))
FULL: Final = Config(sizes=(1, 80_000, 180_000))
HUGE: Final = Config(sizes=(1, 200_000, AT))


def measure(config: Config, work: Path) -> Figures:
    """Start a log on a store of each size."""
    site = Site(work)
    probes = Probes(work)
    resident, started_s = {}, {}
    for size in config.sizes:
        site.next_turn()
        probes.take()
        with site.log(script(site.founding, size), patience_s=30 + size / 1_000) as log:
            time.sleep(config.settle_s)
            resident[size], started_s[size] = resident_bytes(log.pid), cpu_s(log.pid)
    empty, small, large = (resident[size] for size in (config.sizes[0], *config.sizes[-2:]))
    growth = (large - small) / (config.sizes[-1] - config.sizes[-2])
    projected = (large - empty + growth * (AT - config.sizes[-1])) / AT
    said = ", ".join(f"{resident[size] / _MB:.1f} MB at {size:,}" for size in config.sizes)
    name = "memory at a million entries" + ("" if config.sizes[-1] == AT else ", projected")
    rows = tuple(
        (f"{size:,}", f"{resident[size] / _MB:.1f}", f"{started_s[size]:.1f}", _per_entry(started_s, size))
        for size in config.sizes
    )
    return Figures(
        "memory",
        "one process, the log's server, started on a store filled beforehand and published; no caller, no verifier",
        (
            Figure(name, projected, "bytes an entry above an empty log", said, BOUND_BYTES),
            Figure("growth between the two largest sizes", growth, "bytes an entry", said, BOUND_BYTES),
        ),
        (Table("memory and start", ("entries", "resident MB", "CPU s to start", "us an entry"), rows),),
        (
            f"raw: {probes.said()}",
            "the store's page caches are part of the memory; two megabytes for each connection",
        ),
    )


def _per_entry(started_s: dict[int, float], size: int) -> str:
    base = min(started_s)
    return "-" if size == base else f"{(started_s[size] - started_s[base]) / (size - base) * 1e6:.0f}"
