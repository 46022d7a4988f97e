"""One live site for all tests of hostile input: a log and four verifiers, each its own process, and no heartbeat."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from callers import is_served
from processes import Live, Processes
from site_on_disk import STILL_TERMS, found_site, names_of

from pacekeeper.protocol.units import format_time

LABS = {"borealis": "norland", "meridian": "sudland", "cascade": "westmere"}


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    # The calendar begins a little later than the log, so that the log is founded in period 0 however slow the machine;
    # the tolerance of STILL_TERMS takes that period for over at once.
    epoch = format_time((int(time.time()) + 15) * 1000)
    site = found_site(tmp_path_factory.mktemp("live"), LABS, {**STILL_TERMS, "epoch": epoch})
    names = names_of(site, labs=[])
    with Processes(site) as running:
        running.start_role(*names)
        running.wait_ready(*names)
        # A log that starts resumes with a tick, once: from here on its size says what was submitted.
        asyncio.run(is_served(site, "meridian"))
        yield Live(site, running)
        running.check_alive()
