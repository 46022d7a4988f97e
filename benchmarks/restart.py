"""Restart: what a lab's node spends from its start until it has read the log up to its head.

The log's server is a process of its own, with a store filled beforehand; the node's reader runs in this process, over
mutual TLS on loopback, into a journal of its own. It starts three times: without a copy of the log, as every start was
once; with an empty copy, which it fills; and with that copy. The state that it replays to is the same each time.
"""

from __future__ import annotations

import asyncio
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.support.figures import Figure, Figures, Table
from benchmarks.support.founding import LABS, write_key
from benchmarks.support.probes import Probes
from benchmarks.support.script import script
from benchmarks.support.site import Site
from pacekeeper.client.cache import EntryCache, open_cache
from pacekeeper.client.submit import VerifiedBatch
from pacekeeper.node.book import open_book
from pacekeeper.node.clock import SystemClock
from pacekeeper.node.reader import Reader
from pacekeeper.node.signer import open_lab_keys

BOUND: Final = 0.5
_PATIENCE_S: Final = 600.0
_LAB: Final = LABS[0]


@dataclass(frozen=True)
class Config:
    """entries: on the log."""

    entries: int


TINY: Final = Config(entries=700)
QUICK: Final = Config(entries=20_000)
FULL: Final = Config(entries=200_000)


@dataclass(frozen=True)
class _Start:
    """One start: CPU of this process, wall time, and the digest of the state."""

    cpu_s: float
    wall_s: float
    digest: bytes


class _NoCopy(EntryCache):
    """Keeps nothing."""

    def keep(self, batch: VerifiedBatch) -> None:
        """Do nothing."""


class _Reader(Reader):
    """A reader whose journal need not know what the script has signed for its lab."""

    def _check_own(self, *_own: object) -> None:
        """Take it as known."""


def measure(config: Config, work: Path) -> Figures:
    """Start three times on one log."""
    site, probes = Site(work), Probes(work)
    fingerprint, directory = site.founding.agreement.fingerprint, work / "copy"
    write_key(work / "lab.key", f"lab/{_LAB}")
    with site.log(script(site.founding, config.entries), patience_s=60 + config.entries / 1_000):
        starts: dict[str, _Start] = {}
        for name in ("without a copy", "while it fills a copy", "from its copy"):
            probes.take()
            opened = time.process_time(), time.perf_counter()
            copy = open_cache(directory, fingerprint, _unexpected)
            if name == "without a copy":
                copy = _NoCopy(directory, fingerprint, _unexpected)
            starts[name] = asyncio.run(_read(site, copy, work / f"journal-{len(starts)}", config.entries, opened))
        probes.take()
    assert len({start.digest for start in starts.values()}) == 1, "every start comes to the same state"
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    plain, filling, copied = starts.values()
    raw = probes.verify_said()
    rows = tuple(
        (name, f"{start.cpu_s:.2f}", f"{start.cpu_s / config.entries * 1e6:.0f}", f"{start.wall_s:.2f}")
        for name, start in starts.items()
    )
    figures = (
        Figure("a start from its copy", copied.cpu_s / plain.cpu_s, "of a start without, CPU", raw, BOUND),
        Figure("the same", copied.wall_s / plain.wall_s, "of a start without, wall", raw),
        Figure("the start that fills it", filling.cpu_s / plain.cpu_s, "of a start without, CPU", raw),
        Figure("the copy on disk", size / config.entries, "bytes an entry", raw),
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return Figures(
        "restart",
        "the log's server as a process; the node's reader in this process, one thread and gRPC's",
        figures,
        (Table(f"starts on {config.entries:,} entries", ("start", "CPU s", "us an entry", "wall s"), rows),),
        (f"the replay itself is in all three; peak memory of the process {peak:.0f} MB",),
    )


async def _read(site: Site, copy: EntryCache, journal: Path, entries: int, opened: tuple[float, float]) -> _Start:
    """Run a reader until it has read the log up to its head."""
    agreement, clock = site.founding.agreement, SystemClock()
    lab = next(lab for lab in agreement.labs if lab.id == _LAB)
    signer = open_lab_keys(site.directory / "lab.key", None, lab.key, successors=True)
    book = open_book(journal, agreement.fingerprint, lab.id, signer, clock)
    try:
        async with site.client() as log:
            reader = _Reader(book, log, lab, clock, copy)
            reading = asyncio.create_task(reader.run())
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    while not reader.caught_up:  # noqa: ASYNC110 - the reader has no event for it
                        await asyncio.sleep(0.01)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
            cpu_s, wall_s = time.process_time() - opened[0], time.perf_counter() - opened[1]
            assert reader.state is not None
            assert reader.state.size == entries
            return _Start(cpu_s, wall_s, reader.state.digest())
    finally:
        book.close()


def _unexpected(sentence: str) -> None:
    raise AssertionError(sentence)
