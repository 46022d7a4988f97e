"""A verifier reduced to its signature: a real gRPC client of the Cosign stream that cosigns whatever it is sent.

It keeps the entries, so that a test can ask what was pushed, and neither checks nor replays them.

Example: async with Cosigner(people, "norland", address) as cosigner: await cosigner.cosigned(5)
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from types import TracebackType

import grpc
import grpc.aio
from agreements import verifier_name
from participants import Participants

from pacekeeper.client.tls import CHANNEL_OPTIONS, verifier_uri
from pacekeeper.protocol.envelope import parse_entry
from pacekeeper.protocol.errors import Code
from pacekeeper.protocol.tlog.cosignature import sign_cosignature
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.v1 import log_pb2, log_pb2_grpc

CLOCK_EVERY_S = 0.2


class Cosigner:
    """Cosigns for one party while in `async with`, reconnecting as often as it takes. offset_ms: its clock's error.

    strict: refuse a head that is older than the agreement's tolerance, as a real verifier does.
    """

    def __init__(
        self, people: Participants, party: str, address: str, *, offset_ms: int = 0, strict: bool = False
    ) -> None:
        self.party = party
        self.address = address
        self.offset_ms = offset_ms
        self.willing = True
        self.strict = strict
        self.entries: list[bytes] = []
        self.sizes: list[int] = []
        self.conflicts: list[log_pb2.ConflictingEnvelope] = []
        self.ended_with: grpc.StatusCode | None = None
        self._people = people
        self._credentials = people.credentials_of(verifier_uri(party))
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def clock_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.offset_ms

    async def __aenter__(self) -> Cosigner:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def cosigned(self, size: int, timeout_s: float = 20) -> None:
        """Wait until a checkpoint of at least this size is cosigned."""
        await self.until(lambda: bool(self.sizes) and self.sizes[-1] >= size, timeout_s)

    async def until(self, condition, timeout_s: float = 20) -> None:  # type: ignore[no-untyped-def]
        """Wait until a condition on what has arrived holds."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def _run(self) -> None:
        while True:
            try:
                await self._stream()
            except grpc.aio.AioRpcError as error:
                self.ended_with = error.code()
                self._changed.set()
            await asyncio.sleep(0.05)

    async def _stream(self) -> None:
        async with grpc.aio.secure_channel(self.address, self._credentials, options=CHANNEL_OPTIONS) as channel:
            call = log_pb2_grpc.TransparencyLogStub(channel).Cosign()
            hello = log_pb2.CosignHello(party=self.party, size=len(self.entries))
            await call.write(log_pb2.CosignRequest(clock_ms=self.clock_ms(), hello=hello))
            beating = asyncio.create_task(self._beat(call))
            try:
                while isinstance(message := await call.read(), log_pb2.CosignResponse):
                    await self._handle(call, message)
                    self._changed.set()
            finally:
                beating.cancel()

    async def _beat(self, call) -> None:  # type: ignore[no-untyped-def]
        while True:
            await asyncio.sleep(CLOCK_EVERY_S)
            await call.write(log_pb2.CosignRequest(clock_ms=self.clock_ms()))

    async def _handle(self, call, message: log_pb2.CosignResponse) -> None:  # type: ignore[no-untyped-def]
        match message.WhichOneof("item"):
            case "batch":
                assert message.batch.first_index == len(self.entries)
                self.entries.extend(message.batch.entries)
            case "conflict":
                self.conflicts.append(message.conflict)
            case "checkpoint":
                await self._cosign(call, message.checkpoint)

    async def _cosign(self, call, note: bytes) -> None:  # type: ignore[no-untyped-def]
        text = parse_note(note).text
        size = int(text.split("\n")[1])
        assert size == len(self.entries), "the checkpoint pushed is over all entries pushed so far"
        if not self.willing:
            return
        age_ms = self.clock_ms() - parse_entry(self.entries[-1]).sequenced_at_ms
        if self.strict and age_ms > self._people.agreement.timing.tolerance_ms:
            refusal = log_pb2.Refusal(code=Code.CLOCK_DISAGREES, message="head is too old")
            await call.write(log_pb2.CosignRequest(clock_ms=self.clock_ms(), refusal=refusal))
            return
        key = self._people.keys.verifier_cosign(self.party)
        line = sign_cosignature(text, verifier_name(self.party), key, self.clock_ms() // 1000)
        await call.write(log_pb2.CosignRequest(clock_ms=self.clock_ms(), cosignature=line.encode()))
        self.sizes.append(size)
