"""The log killed at random moments under load, by SIGKILL, again and again; the invariants of FAULTS hold each time.

PACEKEEPER_KILLS sets how often (5 by default) and PACEKEEPER_SEED the moments; the seed is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from log_invariants import Recorder, check_invariants
from logsite import LogProcess, LogSite
from participants import make_participants

from pacekeeper.client.receipts import Accepted, WitnessedReceipt
from pacekeeper.client.submit import LogClient, TemporaryFailure
from pacekeeper.client.tls import lab_uri
from pacekeeper.protocol.envelope import frame_entry
from pacekeeper.protocol.tlog.receipt import check_receipt, parse_receipt

KILLS = int(os.environ.get("PACEKEEPER_KILLS", "5"))
SEED = int(os.environ.get("PACEKEEPER_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
LABS = ("borealis", "meridian")


class Load:
    """Submitters that never give up, and everything that was acknowledged to them."""

    def __init__(self, site: LogSite) -> None:
        self.site = site
        self.acknowledged: dict[bytes, tuple[int, int]] = {}
        self.receipts: list[tuple[bytes, WitnessedReceipt]] = []
        self.pending: dict[str, list[bytes]] = {}
        self.count = 0

    async def run(self, lab: str, client: LogClient, rng: random.Random) -> None:
        """Submit batches until the log dies; a batch without an answer is submitted again to the next process."""
        with contextlib.suppress(TemporaryFailure):
            while True:
                batch = self.pending.get(lab) or [self._declaration(lab) for _ in range(rng.choice((1, 3, 40)))]
                self.pending[lab] = batch
                answers = await client.submit(batch, unwitnessed=rng.random() < 0.4, deadline_s=20)
                for data, answer in zip(batch, answers, strict=True):
                    assert isinstance(answer, (WitnessedReceipt, Accepted))
                    place = (answer.index, answer.sequenced_at_ms)
                    assert self.acknowledged.setdefault(data, place) == place
                    if isinstance(answer, WitnessedReceipt):
                        self.receipts.append((data, answer))
                # What was acknowledged before is sometimes asked again: the same index each time.
                del self.pending[lab]
                if rng.random() < 0.2:
                    self.pending[lab] = batch

    def _declaration(self, lab: str) -> bytes:
        self.count += 1
        return self.site.declaration(lab, f"run-{self.count}")


@pytest.mark.timeout(120 + 10 * KILLS)
async def test_nothing_acknowledged_is_lost_when_the_log_is_killed_at_any_moment(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """SPEC log-2, SPEC log-1, SPEC log-3 (FAULTS 1): restart, nothing lost, retry gives the same index, fsck clean."""
    record_property("PACEKEEPER_SEED", SEED)
    sys.stderr.write(f"PACEKEEPER_SEED={SEED} PACEKEEPER_KILLS={KILLS}\n")  # shown when the test fails
    rng = random.Random(SEED)
    people = make_participants(period="1 h", due="30 min", tick="1 min")
    site = LogSite(tmp_path / "log", people)
    site.initialise()
    load = Load(site)
    checkpoints: dict[int, set[bytes]] = {}
    log: LogProcess = await asyncio.to_thread(site.start)
    port = int(log.address.rpartition(":")[2])
    try:
        async with contextlib.AsyncExitStack() as stack:
            for party in people.keys.party_ids:
                await stack.enter_async_context(Recorder(checkpoints, people, party, log.address))
            async with site.client(lab_uri(LABS[0]), log) as client:
                await client.submit([site.declaration(LABS[0], "the-first")])  # from here on there is a checkpoint
            for _ in range(KILLS):
                before = len(load.acknowledged)
                await _load_and_kill(site, load, log, rng)
                await asyncio.to_thread(check_invariants, site.state, load.acknowledged, checkpoints)
                assert len(load.acknowledged) > before, "the load went on between two kills"
                log = await asyncio.to_thread(site.start, port)
            async with site.client(lab_uri(LABS[0]), log) as client:
                [last] = await client.submit([site.declaration(LABS[0], "the-last")])
                assert isinstance(last, WitnessedReceipt)
                for data, (index, _) in rng.sample(sorted(load.acknowledged.items()), 20):
                    [again] = await client.submit([data])
                    assert isinstance(again, WitnessedReceipt)
                    assert again.index == index
    finally:
        log.kill()
    check_invariants(site.state, load.acknowledged, checkpoints)
    policy = people.agreement.policy()
    for data, receipt in load.receipts[:: max(1, len(load.receipts) // 50)]:
        entry = frame_entry(receipt.sequenced_at_ms, data)
        check_receipt(parse_receipt(receipt.tlog_proof), entry, policy)


async def _load_and_kill(site: LogSite, load: Load, log: LogProcess, rng: random.Random) -> None:
    async with contextlib.AsyncExitStack() as stack:
        tasks = []
        for lab in LABS:
            client = await stack.enter_async_context(site.client(lab_uri(lab), log))
            tasks.append(asyncio.create_task(load.run(lab, client, random.Random(rng.random()))))
        answered = len(load.acknowledged)
        async with asyncio.timeout(30):
            while len(load.acknowledged) == answered:
                await asyncio.sleep(0.005)
                for task in tasks:
                    if task.done():
                        task.result()
        await asyncio.sleep(rng.random() * 0.4)
        log.kill()
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)
