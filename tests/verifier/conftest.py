"""A verifier's parts put together in this process, on a clock of the test's, against a log that the test plays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cosign_log import CosignLog, pins_of
from participants import Participants, make_participants
from world import World

from pacekeeper.client.submit import LogClient
from pacekeeper.client.successors import KeyFiles
from pacekeeper.client.tls import CHANNEL_OPTIONS, verifier_uri
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.verifier.findings import Findings
from pacekeeper.verifier.follower import Follower
from pacekeeper.verifier.ledger import CosignText, Ledger, cosigner
from pacekeeper.verifier.marker import KeyMarker
from pacekeeper.verifier.publish import Publisher
from pacekeeper.verifier.store import Store
from pacekeeper.verifier.voice import StatementKeys

DOCUMENT: dict[str, Any] = {"parties": 4, "labs": 2, "period": "10 s", "tolerance": "2 s"}


@pytest.fixture(scope="session")
def people() -> Participants:
    return make_participants(**DOCUMENT)


@pytest.fixture
def world(people: Participants) -> World:
    return World(pins=pins_of(people), **DOCUMENT)


class Verifier:
    """One party's verifier without its process. now_ms is its clock: the log's head time unless the test sets it."""

    def __init__(self, people: Participants, world: World, directory: Path, party: str) -> None:
        self.people, self.world, self.directory, self.party = people, world, directory, party
        self.offset_ms = 0
        self.key_path = directory / f"{party}.key"
        self.key: SigningKey = world.keys.verifier_cosign(party)
        self.woken = 0
        founding = world.keys.verifier_statement(party)
        self.voice = StatementKeys(party, KeyFiles([founding]), founding.public)
        self._tasks: list[asyncio.Task[None]] = []
        self.open()

    def open(self, cosign: CosignText | None = None) -> None:
        """Open store and marker and replay, as a new process does."""
        agreement = self.world.agreement
        self.marker = KeyMarker(self.key_path)
        try:
            self.store = Store(
                self.directory / f"state-{self.party}", origin=agreement.origin, fingerprint=agreement.fingerprint
            )
        except BaseException:
            self.marker.close()
            raise
        try:
            name = f"{self.party}.example/verifier"
            self.findings = Findings(self.store, self.party, self.voice, self._wake)
            sign = cosign or cosigner(name, self.key)
            self.ledger = Ledger(self.store, self.marker, agreement, sign, self.findings.observe)
            for _ in self.ledger.replay_stored():
                pass
            self.findings.conclude(self.ledger)
        except BaseException:
            self.close()
            raise

    def _wake(self) -> None:
        self.woken += 1

    def close(self) -> None:
        """What is left of a process that was killed: its files."""
        self.store.close()
        self.marker.close()

    def restart(self) -> None:
        self.close()
        self.open()

    def now_ms(self) -> int:
        return self.world.state.last_time_ms + self.offset_ms

    def take(self, upto: int | None = None) -> None:
        """Give it the world's entries directly, without a stream."""
        entries = self.world.entries[self.ledger.size : upto]
        self.ledger.check_batch(self.ledger.size, entries, self.now_ms())
        self.ledger.take(entries)

    def follow(self, log: CosignLog) -> Follower:
        """Start following the log."""
        credentials = self.people.credentials_of(verifier_uri(self.party))

        def connect() -> grpc.aio.Channel:
            return grpc.aio.secure_channel(f"127.0.0.1:{log.port}", credentials, options=CHANNEL_OPTIONS)

        follower = Follower(connect, self.party, self.ledger, self.findings, self.now_ms)
        self._tasks.append(asyncio.create_task(follower.run()))
        return follower

    @contextlib.asynccontextmanager
    async def publisher(self, log: CosignLog) -> AsyncIterator[Publisher]:
        credentials = self.people.credentials_of(verifier_uri(self.party))
        async with LogClient(f"127.0.0.1:{log.port}", credentials, self.world.agreement) as client:
            yield Publisher(self.store, client, lambda envelope: self.voice.renewed(envelope, self.ledger.state))

    async def stop(self) -> None:
        """Stop following, and raise what following failed with."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


@pytest.fixture
def make_verifier(people: Participants, world: World, tmp_path: Path) -> Iterator[Callable[[str], Verifier]]:
    made: list[Verifier] = []

    def make(party: str = "norland") -> Verifier:
        made.append(Verifier(people, world, tmp_path, party))
        return made[-1]

    yield make
    for verifier in made:
        with contextlib.suppress(OSError):
            verifier.close()


@pytest.fixture
def verifier(make_verifier: Callable[[str], Verifier]) -> Verifier:
    return make_verifier("norland")


@pytest.fixture
async def log(people: Participants, world: World) -> AsyncIterator[CosignLog]:
    played = CosignLog(people, world)
    await played.start()
    yield played
    await played.stop()


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; the test's own timeout ends it if it never does."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  what is waited for is another part's state
            await asyncio.sleep(0.01)


@pytest.fixture(name="eventually")
def _eventually() -> Any:
    return eventually
