"""Load for a campaign: a lab that submits run declarations without rest and writes down every acknowledgement.

An acknowledgement is what the client verified: a receipt that a quorum has cosigned, or the log's signed acceptance.
It is on disk, in `acknowledged.jsonl`, before the next batch goes out. What was not answered is submitted again; now
and then so is what was answered long ago, and must have the same place still.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from site_on_disk import Site

from pacekeeper.client.errors import TemporaryFailure
from pacekeeper.client.receipts import Accepted, SubmitRefused, WitnessedReceipt
from pacekeeper.client.submit import LogClient

BATCHES: Final = (1, 1, 2, 4)
CALM_S: Final = 0.6  # between two batches of one submitter, while nobody is about to be killed
RETRY_S: Final = 0.1


@dataclass(frozen=True)
class Acknowledged:
    """A statement's bytes and the place that the log promised; proof is empty for a mere acceptance."""

    envelope: bytes
    index: int
    sequenced_at_ms: int
    proof: bytes


class Load:
    """Submitters of one lab, and all that was acknowledged to them."""

    def __init__(self, site: Site, lab: str, seed: int) -> None:
        self.site = site
        self.lab = lab
        self.calm = asyncio.Event()  # set: at leisure; clear: one batch after the other
        self.acknowledged: list[Acknowledged] = []
        self.places: dict[bytes, tuple[int, int]] = {}
        self.repeated = 0
        self.interrupted = 0
        self._seed = seed
        self._count = 0
        self._key = site.lab_key(lab)
        self._file = (site.root / "acknowledged.jsonl").open("a", encoding="utf-8")
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, submitters: int) -> None:
        """Begin to submit."""
        self._tasks = [asyncio.create_task(self._submit_for_ever(number)) for number in range(submitters)]

    async def stop(self) -> None:
        """Stop submitting; whatever ended a submitter before is raised."""
        self.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._file.close()
        for outcome in ended:
            if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                raise outcome

    def cancel(self) -> None:
        """Let go of whatever is under way."""
        for task in self._tasks:
            task.cancel()

    def check(self) -> None:
        """Raise what has ended a submitter."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    @property
    def witnessed(self) -> int:
        """How many acknowledgements are receipts with a quorum's cosignatures."""
        return sum(bool(item.proof) for item in self.acknowledged)

    async def _submit_for_ever(self, number: int) -> None:
        rng = random.Random(f"{self._seed}/{number}")
        async with self.site.client(self.lab) as client:
            batch: list[bytes] = []
            while True:
                batch = batch or self._next_batch(rng)
                if await self._submit(client, batch, unwitnessed=rng.random() < 0.3):
                    batch = []
                    await asyncio.sleep(rng.random() * 2 * CALM_S if self.calm.is_set() else 0)
                else:
                    await asyncio.sleep(RETRY_S)

    def _next_batch(self, rng: random.Random) -> list[bytes]:
        batch = []
        for _ in range(rng.choice(BATCHES)):
            self._count += 1
            batch.append(self.site.declaration(self.lab, f"run-{self._count}", self._key))
        if self.acknowledged and rng.random() < 0.2:
            batch.append(rng.choice(self.acknowledged).envelope)
        return batch

    async def _submit(self, client: LogClient, batch: list[bytes], *, unwitnessed: bool) -> bool:
        try:
            answers = await client.submit(batch, unwitnessed=unwitnessed, deadline_s=20)
        except TemporaryFailure:
            self.interrupted += 1
            return False
        for data, answer in zip(batch, answers, strict=True):
            assert not isinstance(answer, SubmitRefused), f"a sound declaration was refused: {answer}"
            place = (answer.index, answer.sequenced_at_ms)
            known = self.places.get(data)
            assert known in (None, place), f"acknowledged at {known} first, at {place} when submitted again"
            self.repeated += known is not None
            self.places[data] = place
            self._note(data, answer)
        os.fsync(self._file.fileno())
        return True

    def _note(self, data: bytes, answer: WitnessedReceipt | Accepted) -> None:
        proof = answer.tlog_proof if isinstance(answer, WitnessedReceipt) else b""
        self.acknowledged.append(Acknowledged(data, answer.index, answer.sequenced_at_ms, proof))
        texts = [base64.b64encode(item).decode() for item in (data, proof)]
        self._file.write(json.dumps([answer.index, answer.sequenced_at_ms, *texts]) + "\n")
        self._file.flush()


def read_metered(ledgers: Iterable[Path]) -> dict[str, tuple[int, int]]:
    """What metering processes counted themselves: run -> (FLOP, steps)."""
    totals: dict[str, tuple[int, int]] = {}
    for line in [line for ledger in ledgers for line in ledger.read_text().splitlines()]:
        item = json.loads(line)
        flop, steps = totals.get(item["run"], (0, 0))
        totals[item["run"]] = (flop + item["flop"], steps + item["steps"])
    return totals
