"""A log with entries, stopped, and copies of its directory to be damaged, rolled back or doubled.

Example: copy = Copy(filled_site(tmp_path / "log"), tmp_path / "copy"); copy.sql("DELETE FROM head"); copy.refusal()
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from cosigner import Cosigner
from logsite import LogSite
from participants import make_participants

from pacekeeper.client.receipts import WitnessedReceipt
from pacekeeper.client.tls import lab_uri
from pacekeeper.log.server import serve
from pacekeeper.protocol.errors import Code, Refused

LAB = "borealis"
COUNT = 300


def filled_site(directory: Path, count: int = COUNT, **terms: str) -> LogSite:
    """A log of some count entries in batches of 60, published and stopped."""
    people = make_participants(**{"period": "1 h", "due": "30 min", "tick": "1 min", **terms})  # type: ignore[arg-type]
    site = LogSite(directory, people)
    submit(site, [f"run-{number}" for number in range(count)])
    return site


def submit(site: LogSite, runs: list[str], last: Sequence[bytes] = ()) -> None:
    """Start the log, have these runs declared and published in batches of 60, and then the last envelopes; stop it."""

    async def fill(address: str) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for party in site.people.keys.party_ids:
                await stack.enter_async_context(Cosigner(site.people, party, address))
            client = await stack.enter_async_context(site.client(lab_uri(LAB), log))
            for first in range(0, len(runs), 60):
                await client.submit([site.declaration(LAB, run) for run in runs[first : first + 60]])
            if last:
                answers = await client.submit(last)
                assert all(isinstance(answer, WitnessedReceipt) for answer in answers), answers

    with site.process() as log:
        asyncio.run(fill(log.address))


class Copy:
    """A copy of a log's whole directory, keys and mark included."""

    def __init__(self, site: LogSite, directory: Path) -> None:
        shutil.copytree(site.directory, directory)
        self._people = site.people
        self.config = directory / "log.toml"
        self.state = directory / "state"
        self.public = self.state / "public"
        self.mark = directory / "keys/checkpoint.key.head"

    def site(self) -> LogSite:
        """The copy as a site of its own, to run processes on."""
        return LogSite.over(self.config.parent, self._people)

    def sql(self, statement: str) -> None:
        """Change the store behind everybody's back."""
        with contextlib.closing(sqlite3.connect(self.state / "log.sqlite")) as db, db:
            assert db.execute(statement).rowcount

    def refusal(self) -> str:
        """Start it and return why it will not."""

        def unexpected(_facts: dict[str, object]) -> None:
            raise AssertionError("the log serves")

        with pytest.raises(Refused) as refused:
            serve(self.config, ready=unexpected)
        assert refused.value.code is Code.UNSAFE_STATE
        return refused.value.message

    def starts(self) -> None:
        """Start it, and stop once it serves."""

        class Served(Exception):
            pass

        def stop(_facts: dict[str, object]) -> None:
            raise Served

        with pytest.raises(Served):
            serve(self.config, ready=stop)


def flip_bit(path: Path, position: int, bit: int = 0) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(bytes(data))
