"""Training loops with real meters beside a lab's real daemon (daemon_site.py), and what became of them.

Example: loops = await start_loops(site, 3); ...; await finish(site, loops); assert breaches(site) == []
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from daemon_site import Site
from lab_bench import eventually

from pacekeeper.node.daemon import read_status
from pacekeeper.node.meters.meter import Meter
from pacekeeper.node.meters.settings import resolve_settings
from pacekeeper.node.status import JobStatus
from pacekeeper.protocol.replay import ViolationKind

ENTRY = {"delay": "0 s", "notice": "0 s", "pledges_by": "2100-01-01T00:00:00Z"}
STEP_S = 0.02


class Loop(threading.Thread):
    """A training loop with steps of a fixed time and size. saved: why and at which step it saved."""

    def __init__(self, site: Site, run: str, *, step_s: float = STEP_S, flop: int = 10**9) -> None:
        super().__init__(daemon=True)
        self.run_id, self.step_s, self.flop = run, step_s, flop
        self.settings = resolve_settings(site.settings.socket, site.settings.spool)
        self.saved: list[tuple[str, int]] = []
        self.steps = 0
        self.last = 0.0
        self.stopping = False
        self.meter: Meter | None = None

    def run(self) -> None:
        with Meter.open(self.run_id, on_hold=self._save, settings=self.settings) as meter:
            self.meter = meter
            while not self.stopping:
                time.sleep(self.step_s)
                self.steps += 1
                self.last = time.monotonic()
                meter.step(self.flop)

    def _save(self, reason: str) -> None:
        self.saved.append((reason, self.steps))

    @property
    def is_held(self) -> bool:
        return self.meter is not None and self.meter.held is not None


async def start_loops(site: Site, count: int, **steps: Any) -> list[Loop]:
    loops = [Loop(site, f"run-{number}", **steps) for number in range(count)]
    for loop in loops:
        loop.start()
    await eventually(lambda: all(loop.steps > 20 for loop in loops))
    return loops


async def finish(site: Site, loops: list[Loop]) -> None:
    """Stop the loops, and wait until all that they did is attested."""
    for loop in loops:
        loop.stopping = True
    for loop in loops:
        await asyncio.to_thread(loop.join, 20)
    last = site.people.agreement.period_of(time.time_ns() // 1_000_000)
    await eventually(lambda: bool(site.lab.next_period > last))


def job_status(site: Site) -> list[JobStatus]:
    status = read_status(site.config)
    return [] if status is None else sorted(status.jobs, key=lambda job: job.run)


def breaches(site: Site) -> list[ViolationKind]:
    conduct = (ViolationKind.PAUSE, ViolationKind.RATE, ViolationKind.UNSPLIT, ViolationKind.GROWTH)
    return [violation.kind for violation in site.log.state.violations if violation.kind in conduct]
