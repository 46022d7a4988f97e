"""The kill campaign, by hand: python tests/system/kill_campaign.py --kills 200

Prints the seed first, then a line for each kill and the final figures; exit status 1 says that something did not hold.
The same seed (--seed or PACEKEEPER_SEED) gives the same victims and pauses.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from campaign import Figures, run_campaign  # found by the line above


def say(line: str) -> None:
    """Write a line at once: a campaign takes a while."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def say_figures(figures: Figures) -> None:
    """Write the figures of a campaign, a line each."""
    by_role = ", ".join(f"{count} {role}" for role, count in sorted(figures.kills.items()))
    lines = {
        "seed": figures.seed,
        "kills": f"{figures.total} ({by_role})",
        "of these while starting": figures.while_starting,
        "two processes at one moment": figures.together,
        "slowest recovery": f"{figures.slowest_recovery_s:.1f} s",
        **figures.facts,
    }
    for name, value in lines.items():
        say(f"{name:42} {value}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("PACEKEEPER_SEED", "0")))
    parser.add_argument("--dir", type=Path, help="an empty directory for the site; kept when something does not hold")
    arguments = parser.parse_args()
    seed = arguments.seed or random.SystemRandom().randrange(1, 2**32)
    directory = arguments.dir or Path(tempfile.mkdtemp(prefix="pacekeeper-"))
    say(f"PACEKEEPER_SEED={seed}, {arguments.kills} kills, in {directory}")
    try:
        figures = asyncio.run(run_campaign(directory, seed=seed, kills=arguments.kills, say=say))
    except AssertionError as error:
        say(f"FAILED with PACEKEEPER_SEED={seed}, in {directory}: {error}")
        return 1
    say("all four invariants held after every kill, and everything that was metered is attested")
    say_figures(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
