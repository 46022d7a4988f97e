"""Done when 4, in short: a whole site under load, killed at random moments; the four invariants of FAULTS after each.

PACEKEEPER_KILLS sets how often (20 by default), PACEKEEPER_SEED the victims and pauses; the seed is shown on a failure.
By hand, with more: python tests/system/kill_campaign.py --kills 200
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from campaign import run_campaign

KILLS = int(os.environ.get("PACEKEEPER_KILLS", "20"))
SEED = int(os.environ.get("PACEKEEPER_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


@pytest.mark.timeout(240 + 20 * KILLS)
async def test_kills_of_any_process_at_any_moment_lose_nothing_and_fork_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """FAULTS 1, 13: all four invariants after each kill, recovery each time, and all that was metered is attested."""
    record_property("PACEKEEPER_SEED", SEED)
    _say(f"PACEKEEPER_SEED={SEED} PACEKEEPER_KILLS={KILLS}")  # shown when the test fails
    figures = await run_campaign(tmp_path, seed=SEED, kills=KILLS, say=_say)
    assert figures.total >= KILLS
    assert set(figures.kills) == {"log", "verifier", "lab"}
    acknowledged = figures.facts["different entries acknowledged"]
    assert isinstance(acknowledged, int)
    assert acknowledged > 5 * KILLS, "there was hardly any load"
