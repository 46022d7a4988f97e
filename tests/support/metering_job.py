"""A training process without the training: meters made-up steps through the three-line API until it is told to stop.

    python metering_job.py long|short NAME LEDGER SEED

"long" is one job of one run for as long as it lives; "short" opens a job, works a moment and closes it, over a few
runs in turn, and does not wait for a daemon that is away: the spool has to see to the rest. What it counted itself,
apart from the meter, goes to LEDGER, one JSON line for each job that has closed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import sys
import time

from pacekeeper.node.meters.meter import Meter
from pacekeeper.node.meters.settings import MeterSettings, resolve_settings

RUNS = 3  # that short jobs take turns with
STEP_S = 0.01

stopping = False


def _stop(*_: object) -> None:
    global stopping  # noqa: PLW0603  # a signal handler has no other way to tell
    stopping = True


def work(run: str, seconds: float, settings: MeterSettings, rng: random.Random) -> tuple[int, int]:
    """One job: meter steps of whole gigaFLOP, so that no rounding hides a loss. Returns FLOP and steps."""
    flop = steps = 0
    with Meter.open(run=run, settings=settings) as meter:
        until = time.monotonic() + seconds
        while not stopping and time.monotonic() < until:
            step = rng.randrange(1, 50) * 10**9
            meter.step(flop=step)
            flop, steps = flop + step, steps + 1
            time.sleep(STEP_S)
    return flop, steps


def main() -> None:
    kind, name, ledger, seed = sys.argv[1:]
    signal.signal(signal.SIGTERM, _stop)
    rng = random.Random(seed)
    settings = resolve_settings()
    if kind == "short":
        settings = dataclasses.replace(settings, close_s=0.1)
    number = 0
    while not stopping:
        run = name if kind == "long" else f"{name}-{number % RUNS}"
        flop, steps = work(run, 1e9 if kind == "long" else rng.uniform(0.2, 4), settings, rng)
        with open(ledger, "a", encoding="utf-8") as out:
            out.write(json.dumps({"run": run, "flop": flop, "steps": steps}) + "\n")
            out.flush()
            os.fsync(out.fileno())
        number += 1


if __name__ == "__main__":
    main()
