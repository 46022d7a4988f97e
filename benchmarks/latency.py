"""Latency: one caller, one entry at a time, until its receipt proves it durable and cosigned by the quorum.

Log and verifiers are processes of their own on loopback, otherwise idle; the caller is this process. Wall time, since
waiting is what is measured; the receipt's verification by the caller is included.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from benchmarks.ingest import settled
from benchmarks.support.figures import Figure, Figures
from benchmarks.support.founding import PARTIES, QUORUM
from benchmarks.support.probes import Probes
from benchmarks.support.script import Item, script
from benchmarks.support.site import Site
from pacekeeper.client.submit import Accepted, LogClient, WitnessedReceipt

BOUND_MS: Final = 25.0
_WARM: Final = 10  # calls before those that count


@dataclass(frozen=True)
class Config:
    """samples: calls that count, with a rest between them, so that nothing is under way when one begins."""

    samples: int
    rest_s: float = 0.03
    probe_every: int = 20


TINY: Final = Config(samples=10, probe_every=5)
QUICK: Final = Config(samples=150)
FULL: Final = Config(samples=500)


def measure(config: Config, work: Path) -> Figures:
    """Time calls one after the other: half of them waiting for the quorum, half for durability alone."""
    site = Site(work)
    probes = Probes(work)
    items = islice(script(site.founding, 2 * (config.samples + _WARM) + 1), 1, None)
    with site.log(script(site.founding, 1)), site.verifiers():
        witnessed, accepted = asyncio.run(_calls(site, items, config, probes))
    raw = probes.said()
    cut = quantiles(witnessed, n=100)
    return Figures(
        "latency",
        f"one caller, a log and {len(PARTIES)} verifiers as processes on the same cores, mutual TLS on loopback, idle; "
        f"durable and witnessed by {QUORUM} of {len(PARTIES)}",
        (
            Figure("one entry, durable and witnessed, p50", median(witnessed), "ms", raw, BOUND_MS),
            Figure("the same, p99", cut[98], "ms", raw),
            Figure("one entry, durable and accepted, p50", median(accepted), "ms", raw),
        ),
        notes=(f"{config.samples} calls each, in turn, {config.rest_s * 1000:.0f} ms apart",),
    )


async def _calls(site: Site, items: Iterable[Item], config: Config, probes: Probes) -> tuple[list[float], list[float]]:
    witnessed: list[float] = []
    accepted: list[float] = []
    pending = iter(items)
    async with site.client() as client:
        await settled(client, len(PARTIES))
        for number in range(config.samples + _WARM):
            if number % config.probe_every == 0:
                probes.take()
            witnessed.append(await _call(client, next(pending), unwitnessed=False))
            await asyncio.sleep(config.rest_s)
            accepted.append(await _call(client, next(pending), unwitnessed=True))
            await asyncio.sleep(config.rest_s)
    return witnessed[_WARM:], accepted[_WARM:]


async def _call(client: LogClient, item: Item, *, unwitnessed: bool) -> float:
    start = time.perf_counter()
    (answer,) = await client.submit([item.envelope], unwitnessed=unwitnessed)
    taken = time.perf_counter() - start
    assert isinstance(answer, Accepted if unwitnessed else WitnessedReceipt), answer
    return taken * 1000
