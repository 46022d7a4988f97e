"""Ingest: a log's server CPU per entry, admission and replay and the commit to disk included.

The log is a process of its own with its SQLite store at synchronous FULL. The client is this process, on the same two
cores, over mutual TLS, with four batches under way at any time, each waiting for its signed acceptance, which it
verifies: batches of one stream, or calls of their own. Statements were signed beforehand. Between rounds both rest and
the probe is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from benchmarks.support.children import RawWorkers
from benchmarks.support.figures import Figure, Figures, Table
from benchmarks.support.founding import LABS
from benchmarks.support.probes import Probes, cpu_s
from benchmarks.support.script import Item, script
from benchmarks.support.site import Site
from pacekeeper.client.submit import UNDER_WAY, Accepted, LogClient, Submitted

BOUND: Final = 2.0
LANES: Final = UNDER_WAY  # batches under way; each lane has its own labs, so that every lab's chain stays in order
_WAIT_S: Final = 60.0
_POLL_S: Final = 0.01


class Shape(NamedTuple):
    """How entries come: in batches of so many, over a stream or in calls of their own, with verifiers or without."""

    batch: int
    streamed: bool = True
    witnessed: bool = False

    def __str__(self) -> str:
        verifiers = "four verifiers" if self.witnessed else "no verifier"
        return f"{'streamed ' if self.streamed else ''}batches of {self.batch}, {verifiers}"


@dataclass(frozen=True)
class Config:
    """rounds of so many entries are measured, after one that is not."""

    entries: int
    rounds: int
    rows: tuple[Shape, ...] = (
        Shape(64),
        Shape(64, streamed=False),
        Shape(64, witnessed=True),
        Shape(256),
        Shape(256, streamed=False),
    )
    raw_s: float = 1.0


TINY: Final = Config(
    entries=512, rounds=1, rows=(Shape(64), Shape(64, streamed=False), Shape(64, witnessed=True)), raw_s=0.1
)
QUICK: Final = Config(entries=2_048, rounds=3)
FULL: Final = Config(entries=8_192, rounds=6)


@dataclass
class _Row:
    """What was measured with one size of batches: per round, CPU us an entry by role and the raw probe beside it."""

    shape: Shape
    log_us: list[float] = field(default_factory=list)
    raw_us: list[float] = field(default_factory=list)
    client_us: list[float] = field(default_factory=list)
    verifiers_us: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Log CPU over raw verification, median of the rounds."""
        return median(us / raw for us, raw in zip(self.log_us, self.raw_us, strict=True))


def measure(config: Config, work: Path) -> Figures:
    """Measure each row with a new log."""
    site = Site(work)
    needed = (config.rounds + 1) * config.entries
    lanes = _lanes(site, needed)
    probes = Probes(work)
    rows = []
    with RawWorkers(2) as workers:
        busy_us = [workers.run(config.raw_s).cpu_us]
        for shape in config.rows:
            site.next_turn()
            row = _Row(shape)
            with contextlib.ExitStack() as stack:
                log = stack.enter_context(site.log(script(site.founding, 1)))
                verifiers = stack.enter_context(site.verifiers()) if shape.witnessed else {}
                asyncio.run(_rounds(site, log, verifiers, lanes, config, row, probes))
            rows.append(row)
            busy_us.append(workers.run(config.raw_s).cpu_us)
    raw = f"{probes.said()}; verify with both cores busy {median(busy_us):.1f} us"
    return Figures(
        "ingest",
        "log server, client and (where named) four verifiers as processes on the same cores, mutual TLS on loopback; "
        'acknowledged "accepted, not yet witnessed" once durable (SQLite, synchronous FULL)',
        tuple(_figure(row, raw, median(busy_us)) for row in rows),
        (_table(rows),),
        (
            "CPU is the server process's own clock, all its threads; with verifiers, until the last entry is published",
            "a round's probe is taken alone, just before and after it",
        ),
    )


def _figure(row: _Row, raw: str, busy_us: float) -> Figure:
    note = f"{median(row.log_us):.0f} us an entry, {median(row.log_us) / busy_us:.2f} of a verification beside another"
    bound = None if row.shape.witnessed else BOUND
    return Figure(f"server CPU an entry, {row.shape}", row.ratio, "of one verification", raw, bound, note=note)


def _table(rows: Sequence[_Row]) -> Table:
    columns = ("row", "log", "client", "each verifier", "raw verify", "entries a second")
    return Table(
        "CPU us an entry by process, medians of the rounds, and the wall rate",
        columns,
        tuple(
            (
                str(row.shape),
                f"{median(row.log_us):.0f}",
                f"{median(row.client_us):.0f}",
                f"{median(row.verifiers_us):.0f}" if row.verifiers_us else "-",
                f"{median(row.raw_us):.1f}",
                f"{median(row.rates):,.0f}",
            )
            for row in rows
        ),
    )


def _lanes(site: Site, needed: int) -> list[list[Item]]:
    """The script after entry 0, dealt out by lab, equally long."""
    lanes: list[list[Item]] = [[] for _ in range(LANES)]
    for item in script(site.founding, needed + 2 * len(LABS) * LANES + 1):
        if item.lab:
            lanes[LABS.index(item.lab) % LANES].append(item)
    assert min(map(len, lanes)) >= needed // LANES
    return lanes


async def _rounds(
    site: Site,
    log: subprocess.Popen[bytes],
    verifiers: Mapping[str, subprocess.Popen[bytes]],
    lanes: Sequence[Sequence[Item]],
    config: Config,
    row: _Row,
    probes: Probes,
) -> None:
    share = config.entries // LANES
    pids = [process.pid for process in verifiers.values()]
    async with site.client() as client:
        if pids:
            await settled(client, len(pids))
        before_us = 0.0
        for number in range(config.rounds + 1):
            start, log_s, own_s = time.perf_counter(), cpu_s(log.pid), time.process_time()
            verifiers_s = [cpu_s(pid) for pid in pids]
            part = slice(number * share, (number + 1) * share)
            await _submit(client, [lane[part] for lane in lanes], row.shape)
            wall_s = time.perf_counter() - start
            client_s = time.process_time() - own_s
            if pids:
                await settled(client, len(pids))
            log_s = cpu_s(log.pid) - log_s
            after_us = probes.take()
            if number > 0:  # the first round warms up
                row.log_us.append(log_s / config.entries * 1e6)
                row.raw_us.append((before_us + after_us) / 2)
                row.client_us.append(client_s / config.entries * 1e6)
                row.rates.append(config.entries / wall_s)
                each = [cpu_s(pid) - before for pid, before in zip(pids, verifiers_s, strict=True)]
                row.verifiers_us.extend(seconds / config.entries * 1e6 for seconds in each)
            before_us = after_us


async def _submit(client: LogClient, lanes: Sequence[Sequence[Item]], shape: Shape) -> None:
    """Submit the lanes' items; within a lane each batch after the one before."""
    batches = [
        [[item.envelope for item in lane[start : start + shape.batch]] for start in range(0, len(lane), shape.batch)]
        for lane in lanes
    ]
    if not shape.streamed:
        await asyncio.gather(*(_call(client, lane) for lane in batches))
        return
    in_turn = [batch for round_ in zip(*batches, strict=True) for batch in round_]
    async for answers in client.submit_all(in_turn, unwitnessed=True):
        _check(answers)


async def _call(client: LogClient, batches: Sequence[Sequence[bytes]]) -> None:
    for envelopes in batches:
        _check(await client.submit(envelopes, unwitnessed=True))


def _check(answers: Sequence[Submitted]) -> None:
    for answer in answers:
        assert isinstance(answer, Accepted), answer


async def settled(client: LogClient, verifiers: int) -> None:
    """Wait until every verifier is connected and all that is sequenced is published."""
    async with asyncio.timeout(_WAIT_S):
        while True:
            status = await client.status()
            connected = sum(witness.connected for witness in status.witnesses)
            if connected == verifiers and 1 < status.size == status.published_size:
                return
            await asyncio.sleep(_POLL_S)
