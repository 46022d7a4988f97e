"""Ways between a log and its verifiers that break, stall in one direction, delay and come back: no fork, no loss, and
soon after the network is whole again everything is published.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from log_invariants import Recorder, check_invariants, stored_entries
from logcopy import LAB
from logsite import LogProcess, LogSite
from participants import Participants, make_participants
from tcp_proxy import Way

from pacekeeper.client.receipts import Accepted, WitnessedReceipt
from pacekeeper.client.submit import LogClient, TemporaryFailure
from pacekeeper.client.tls import lab_uri
from pacekeeper.protocol.envelope import PAYLOAD_TYPE_PREFIX, encode, parse_entry
from pacekeeper.protocol.errors import Code

SEED: Final = int(os.environ.get("PACEKEEPER_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
CHANGES: Final = 40  # of the network, in the flapping one
HEALED_S: Final = 15


class Scene:
    """A running log, each verifier behind a way of its own; and what was acknowledged and signed."""

    def __init__(self, site: LogSite) -> None:
        self.site = site
        self.ways: dict[str, Way] = {}
        self.acknowledged: dict[bytes, tuple[int, int]] = {}
        self.checkpoints: dict[int, set[bytes]] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[LogProcess, LogClient]]:
        people = self.site.people
        log = await asyncio.to_thread(self.site.start)
        try:
            async with contextlib.AsyncExitStack() as stack:
                for party in people.keys.party_ids:
                    way = await stack.enter_async_context(Way(int(log.address.rpartition(":")[2])))
                    self.ways[party] = way
                    verifier = Recorder(self.checkpoints, people, party, way.address)
                    verifier.strict = True
                    await stack.enter_async_context(verifier)
                yield log, await stack.enter_async_context(self.site.client(lab_uri(LAB), log))
        finally:
            log.kill()

    async def submit(self, client: LogClient, run: str, *, unwitnessed: bool, deadline_s: float = 10) -> int:
        data = self.site.declaration(LAB, run)
        [answer] = await client.submit([data], unwitnessed=unwitnessed, deadline_s=deadline_s)
        assert isinstance(answer, (WitnessedReceipt, Accepted)), answer
        place = (answer.index, answer.sequenced_at_ms)
        assert self.acknowledged.setdefault(data, place) == place, "one index for ever"
        return answer.index

    async def witnessed_again(self, client: LogClient, run: str) -> int:
        """Submit until it is witnessed, which is soon."""
        async with asyncio.timeout(HEALED_S):
            while True:
                with contextlib.suppress(TemporaryFailure):
                    return await self.submit(client, run, unwitnessed=False, deadline_s=5)
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def people() -> Participants:
    return make_participants(period="1 h", due="30 min", tick="2 s", tolerance="5 s", unwitnessed="2 s")


async def test_a_lost_quorum_stops_the_log_in_time_and_its_return_starts_it_with_a_tick(
    tmp_path: Path, people: Participants
) -> None:
    """SPEC log-8, SPEC log-9, SPEC log-14 (FAULTS 21): reads go on, nothing unwitnessed is published or lost."""
    scene = Scene(LogSite(tmp_path / "log", people))
    async with scene.running() as (log, client):
        await scene.witnessed_again(client, "before")
        for party in people.keys.party_ids[:2]:
            scene.ways[party].cut()
        published = (await client.status()).published_size
        with pytest.raises(TemporaryFailure) as failure:
            await _submit_until_refused(scene, client)
        assert failure.value.code == Code.HALTED
        assert len(scene.acknowledged) > 5, "appends went on until the bound"
        status = await client.status()
        assert status.halted == Code.HALTED
        assert sum(witness.connected for witness in status.witnesses) == 2
        assert status.published_size == published
        size = status.size
        assert (await asyncio.to_thread(_fetch_checkpoint, log)).split(b"\n")[1] == b"%d" % published
        for way in scene.ways.values():
            way.mend()
        after = await scene.witnessed_again(client, "after")
        entries = stored_entries(scene.site.state)
        assert parse_entry(entries[size]).envelope.payload_type == f"{PAYLOAD_TYPE_PREFIX}Tick"
        assert (await client.status()).published_size > after
    check_invariants(scene.site.state, scene.acknowledged, scene.checkpoints)


async def _submit_until_refused(scene: Scene, client: LogClient) -> None:
    for number in range(1_000):
        await scene.submit(client, f"unwitnessed-{number}", unwitnessed=True)
        await asyncio.sleep(0.02)


def _fetch_checkpoint(log: LogProcess) -> bytes:
    with urllib.request.urlopen(f"http://{log.http_address}/checkpoint", timeout=10) as answer:
        return bytes(answer.read())


async def test_a_flapping_network_forks_nothing_loses_nothing_and_heals(tmp_path: Path, people: Participants) -> None:
    """SPEC log-1, SPEC log-13, SPEC log-21 (FAULTS 22): cuts, stalls in one direction, delays, in any order."""
    sys.stderr.write(f"PACEKEEPER_SEED={SEED}\n")
    rng = random.Random(SEED)
    scene = Scene(LogSite(tmp_path / "log", people))
    async with scene.running() as (_, client):
        await scene.witnessed_again(client, "before")
        load = asyncio.create_task(_load(scene, client, rng))
        for _ in range(CHANGES):
            way = rng.choice(list(scene.ways.values()))
            match rng.randrange(6):
                case 0:
                    way.cut()
                case 1:
                    way.stall(there=True)
                case 2:
                    way.stall(back=True)
                case 3:
                    way.delay_s = 0.02
                case _:
                    way.mend()
            await asyncio.sleep(rng.random() * 0.15)
        load.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await load
        for way in scene.ways.values():
            way.mend()
        last = await scene.witnessed_again(client, "after")
        for data, (index, _) in list(scene.acknowledged.items()):
            [again] = await client.submit([data])
            assert isinstance(again, WitnessedReceipt)
            assert again.index == index
        assert (await client.status()).published_size > last
    statements = [encode(parse_entry(entry).envelope) for entry in stored_entries(scene.site.state)]
    assert len(set(statements)) == len(statements)
    check_invariants(scene.site.state, scene.acknowledged, scene.checkpoints)


async def _load(scene: Scene, client: LogClient, rng: random.Random) -> None:
    """Submit without end; what was put off is submitted again."""
    number = 0
    while True:
        with contextlib.suppress(TemporaryFailure):
            await scene.submit(client, f"run-{number}", unwitnessed=rng.random() < 0.5, deadline_s=0.5)
            number += 1
        await asyncio.sleep(0.01)
