"""One live site for all tests of hostile input: a log and four verifiers, each its own process, and no heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from callers import is_served
from processes import Live, Processes
from site_on_disk import STILL_TERMS, found_site, names_of

LABS = {"borealis": "norland", "meridian": "sudland", "cascade": "westmere"}


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    site = found_site(tmp_path_factory.mktemp("live"), LABS, STILL_TERMS)
    names = names_of(site, labs=[])
    with Processes(site) as running:
        running.start_role(*names)
        running.wait_ready(*names)
        # A log that starts resumes with a tick, once: from here on its size says what was submitted.
        asyncio.run(is_served(site, "meridian"))
        yield Live(site, running)
        running.check_alive()
