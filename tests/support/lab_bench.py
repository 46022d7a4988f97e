"""A lab's daemon on a bench: a log that admits by replay, served over real gRPC, and a clock that only tests move.

Example:
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1"))
        await bench.run_to(bench.end(0) + 2_000)
        assert bench.log.state.labs["borealis"].attested == 1
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from participants import Participants, make_participants
from scripted_log import ScriptedLog, statement_id

from pacekeeper.client.cache import open_cache
from pacekeeper.client.keyfiles import write_private
from pacekeeper.client.submit import LogClient
from pacekeeper.client.tls import lab_uri
from pacekeeper.node.book import Book, open_book
from pacekeeper.node.catchup import CatchUp
from pacekeeper.node.changes import Changes
from pacekeeper.node.config import LabSettings, load_settings
from pacekeeper.node.desk import Desk, JobPlan
from pacekeeper.node.keeper import Keeper
from pacekeeper.node.outbox import Outbox
from pacekeeper.node.permits import Permits
from pacekeeper.node.reader import Reader
from pacekeeper.node.runs import RunPlan
from pacekeeper.node.signer import open_lab_keys
from pacekeeper.node.terms import Terms
from pacekeeper.protocol import envelope
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.replay import Applied, admit, genesis
from pacekeeper.protocol.statements import seal
from pacekeeper.protocol.tlog.merkle import leaf_hash
from pacekeeper.v1 import log_pb2
from pacekeeper.v1 import statements_pb2 as pb

LAB = "borealis"
POOL = '[[pools]]\nmodel = "test-chip"\ncount = 8\npeak = "100e9 FLOP/s"\nutilisation = "40 %"\n'


class ManualClock:
    """A clock that stands still until a test moves it. Wall and monotonic time can be moved apart."""

    def __init__(self, now_ms: int) -> None:
        self.wall_ms = now_ms
        self.steady_ms = 1_000_000

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic_ms(self) -> int:
        return self.steady_ms

    def advance(self, duration_ms: int) -> None:
        self.wall_ms += duration_ms
        self.steady_ms += duration_ms

    async def sleep(self, duration_ms: int) -> None:
        """Let others run; whoever waits on the bench waits for events, not for time."""
        await asyncio.sleep(0.01)


class AdmittingLog(ScriptedLog):
    """A log that sequences only what the replay admits, at its clock's time, and can lose its answers."""

    def __init__(self, people: Participants, now_ms: Callable[[], int]) -> None:
        super().__init__(people)
        self._now_ms = now_ms
        self.ahead_ms = 0  # of the lab's clock
        entry0 = envelope.frame_entry(now_ms(), people.entry0)
        self.state = genesis(entry0)
        self._store(entry0, people.entry0)
        self.applied: list[Applied] = []
        self.received: list[bytes] = []
        self.lose_answers = 0
        self.offline = False
        self.grown = asyncio.Event()

    def _time_ms(self) -> int:
        return self._now_ms() + self.ahead_ms

    def tick(self) -> None:
        """The log's heartbeat, so that deadlines fall due."""
        statement = pb.Tick(agreement=self.people.agreement.fingerprint, index=self.state.size)
        self._admit(envelope.encode(seal(statement, [self.people.keys.log_statement])))

    def append(self, data: bytes) -> log_pb2.Sequenced:
        if statement_id(data) not in self.places:
            due, silence = self.state.next_deadline_ms(), self._time_ms() - self.state.last_time_ms
            if (due is not None and due <= self._time_ms()) or silence > self.state.agreement.timing.tick_ms:
                self.tick()
            self._admit(data)
            return log_pb2.Sequenced(index=len(self.entries) - 1, sequenced_at_ms=self.state.last_time_ms)
        index, time_ms = self.places[statement_id(data)]
        return log_pb2.Sequenced(index=index, sequenced_at_ms=time_ms, duplicate=True)

    def _admit(self, data: bytes) -> None:
        now_ms = max(self._time_ms(), self.state.last_time_ms)
        self.applied.append(admit(self.state, envelope.read_envelope(envelope.parse_envelope(data)), now_ms))
        self._store(envelope.frame_entry(now_ms, data), data)

    def _store(self, entry: bytes, data: bytes) -> None:
        self.places[statement_id(data)] = (len(self.entries), self.state.last_time_ms)
        self.entries.append(entry)
        self.tree.append(leaf_hash(entry))
        if hasattr(self, "grown"):
            grown, self.grown = self.grown, asyncio.Event()
            grown.set()

    def respond(self, request: log_pb2.SubmitRequest) -> log_pb2.SubmitResponse:
        response = log_pb2.SubmitResponse()
        for data in request.envelopes:
            try:
                response.results.add(sequenced=self.append(data))
            except Refused as refused:
                response.results.add(refusal=log_pb2.Refusal(code=refused.code, message=refused.message))
        sequenced = [result.sequenced for result in response.results if result.HasField("sequenced")]
        if sequenced:
            response.checkpoint = self.checkpoint()
            for item in sequenced:
                item.inclusion_proof.extend(self.tree.prove_inclusion(item.index))
        return response

    async def Submit(self, request: log_pb2.SubmitRequest, context: Any) -> log_pb2.SubmitResponse:
        if self.offline:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "out of order")
        self.received.extend(request.envelopes)
        response = await super().Submit(request, context)
        if self.lose_answers > 0:
            self.lose_answers -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")
        return response

    async def Follow(self, request: log_pb2.FollowRequest, context: Any) -> AsyncIterator[log_pb2.FollowResponse]:
        at = request.from_index
        while True:
            grown, size = self.grown, len(self.entries)
            for first in range(at, size, 500):
                yield self.batch(first, min(first + 500, size))
            if size > at:
                yield log_pb2.FollowResponse(checkpoint=self.checkpoint(size))
            at = size
            await grown.wait()

    async def GetStatus(self, request: log_pb2.GetStatusRequest, context: Any) -> log_pb2.GetStatusResponse:
        size = len(self.entries)
        note = self.checkpoint(size)
        return log_pb2.GetStatusResponse(origin=self.origin, size=size, published_size=size, checkpoint=note)

    def mine(self, kind: type[Any]) -> list[Any]:
        """Statements of one kind that were admitted, in the log's order."""
        return [applied.statement for applied in self.applied if isinstance(applied.statement, kind)]


def lab_key(people: Participants, lab: str = LAB) -> SigningKey:
    return people.keys.lab(lab)


def write_site(directory: Path, people: Participants, *, lab: str = LAB, pools: str = POOL, more: str = "") -> Path:
    """Write a lab's bundle, keys and lab.toml as init would; return the configuration's path."""
    people.write_bundle(directory / "bundle")
    seed = hashlib.sha256(f"{people.keys.salt}/lab/{lab}".encode()).digest()
    assert SigningKey(seed).key_id == lab_key(people, lab).key_id
    write_private(directory / "lab.key", b"pacekeeper-ed25519-seed-v1\n" + base64.b64encode(seed) + b"\n")
    key_pem, cert_pem = people.identities[lab_uri(lab)]
    write_private(directory / "tls.pem", key_pem)
    (directory / "tls.crt.pem").write_bytes(cert_pem)
    config = directory / "lab.toml"
    config.write_text(
        f'bundle = "bundle"\nlab = "{lab}"\nstate = "state"\nkey = "lab.key"\ntls_key = "tls.pem"\n'
        f'next_key = "lab.next.key"\n'
        f'tls_certificate = "tls.crt.pem"\n{more}\n{pools}'
    )
    return config


async def eventually(condition: Callable[[], bool], limit_s: float = 30) -> None:
    """Return once a condition holds; TimeoutError if it never does."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - what is waited for is another process's doing
            await asyncio.sleep(0.02)


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def job_id(number: int) -> str:
    return f"{number:032x}"


def digest(label: str) -> bytes:
    return hashlib.sha256(label.encode()).digest()


def job_plan(run: str, number: int = 1, **changed: Any) -> JobPlan:
    """A job of a fresh run with one accelerator that counts operations."""
    state = changed.pop("initial_state", pb.INITIAL_STATE_FRESH)
    initial = changed.pop("initial_digest", digest(f"{run}/fresh"))
    plan = RunPlan(run, changed.pop("title", ""), state, initial)
    fields: dict[str, Any] = {"job": job_id(number), "plan": plan, "chips": 1, "method": 1, "margin_ppm": 20_000}
    return JobPlan(**(fields | changed))


class Bench:
    """All parts of a daemon but its loops, driven step by step against a real log connection."""

    def __init__(self, settings: LabSettings, people: Participants, log: AdmittingLog, clock: ManualClock) -> None:
        self.settings, self.people, self.log, self.clock = settings, people, log, clock
        self.agreement = people.agreement
        self.book: Book
        self.desk: Desk
        self.reader: Reader
        self.outbox: Outbox
        self.keeper: Keeper
        self.catchup: CatchUp
        self.permits: Permits
        self.changes: Changes
        self.client: LogClient
        self.said: list[str] = []  # of the copy of the log
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls, directory: Path, *, pools: str = POOL, more: str = "", late_ms: int = 0, **document: Any
    ) -> AsyncIterator[Bench]:
        """A new agreement, founded late_ms after its epoch; the daemon has just started."""
        terms: dict[str, Any] = {"period": "10 s", "labs": 1}
        people = make_participants(**(terms | document))
        settings = load_settings(write_site(directory, people, pools=pools, more=more))
        clock = ManualClock(people.agreement.calendar.epoch_ms + late_ms)
        log = AdmittingLog(people, clock.now_ms)
        async with log.serving(people.log_credentials()) as address:
            credentials = people.credentials_of(lab_uri(settings.lab.id))
            async with LogClient(address, credentials, people.agreement) as client:
                bench = cls(settings, people, log, clock)
                bench.client = client
                bench.start()
                try:
                    yield bench
                finally:
                    await bench.crash()

    def start(self) -> None:
        """Start the daemon's parts as the daemon does."""
        settings, clock = self.settings, self.clock
        settings.spool.mkdir(parents=True, exist_ok=True)
        keys = open_lab_keys(settings.key, settings.next_key, settings.lab.key, successors=True)
        path = settings.state / "journal"
        self.book = open_book(path, self.agreement.fingerprint, settings.lab.id, keys, clock)
        copy = open_cache(settings.log_copy, self.agreement.fingerprint, self.said.append)
        self.reader = Reader(self.book, self.client, settings.lab, clock, copy)
        self.desk = Desk(self.book, settings, Terms(settings, self.reader), clock)
        self.outbox = Outbox(self.book, self.client, clock)
        self.keeper = Keeper(self.book, self.desk, self.reader, settings, clock)
        self.catchup = CatchUp(self.book, self.desk, settings, clock)
        self.permits = Permits(self.book, self.desk, self.reader, settings, clock)
        self.changes = Changes(self.reader, settings.lab.id, clock)
        self.keeper.start()
        self.catchup.scan()
        self._reading = asyncio.create_task(self.reader.run())

    async def crash(self) -> None:
        """Stop without any farewell, as kill -9 does."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self.book.close()

    @property
    def lab(self) -> Any:
        """What the log knows of the lab."""
        return self.log.state.labs[self.settings.lab.id]

    def end(self, period: int) -> int:
        return self.agreement.period_end_ms(period)

    def pass_unwatched(self, duration_ms: int) -> None:
        """Let time go by for the log alone, as while the daemon is down."""
        for _ in range(0, duration_ms, 500):
            self.clock.advance(500)
            self.log.tick()

    async def read_all(self) -> None:
        """Wait until the reader has read what the log has."""
        async with asyncio.timeout(10):
            while not self.reader.caught_up or self.reader.size < len(self.log.entries):
                assert self._reading is not None
                if self._reading.done():
                    self._reading.result()
                await asyncio.sleep(0.002)

    async def run_to(self, wall_ms: int, *, step_ms: int = 500, deliver: bool = True) -> None:
        """Move time on in steps; at each, the log ticks and the daemon does what it has to do."""
        while self.clock.wall_ms < wall_ms:
            self.clock.advance(min(step_ms, wall_ms - self.clock.wall_ms))
            await self.work(deliver=deliver)

    async def work(self, *, deliver: bool = True) -> None:
        """One round at the present moment, until nothing is left to do."""
        if not self.log.offline:
            self.log.tick()
            await self.read_all()
        for _ in range(500):
            before = len(self.book.ledger.statements)
            self.keeper.tick()
            settled = True
            if deliver and self.outbox.waiting():
                settled = await self.outbox.deliver_once()
            if not settled or (before == len(self.book.ledger.statements) and not self.outbox.waiting()):
                return
            if not deliver:
                return
