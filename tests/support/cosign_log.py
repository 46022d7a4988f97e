"""The log's side of the Cosign stream as a real server over mutual TLS, played by the test, honest or not.

Example:
    stream = await log.accept()                     # the verifier has opened its stream
    await stream.push(0, world.entries)
    await stream.checkpoint(log.note(len(world.entries)))
    assert (await stream.answer()).WhichOneof("item") == "cosignature"
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from participants import Participants
from world import World

from pacekeeper.client.tls import LOG_URI, SERVER_OPTIONS, PeerCheck, spki_pin
from pacekeeper.protocol.envelope import parse_entry, parse_envelope
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.replay import Applied
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, format_checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.cosignature import sign_cosignature
from pacekeeper.protocol.tlog.merkle import HashTree, leaf_hash
from pacekeeper.protocol.tlog.note import add_signatures, parse_note, parse_signatures
from pacekeeper.v1 import log_pb2, log_pb2_grpc

WAIT_S = 10.0  # how long a test waits for the verifier before it fails


def pins_of(people: Participants) -> dict[str, bytes]:
    """The pins to give to World, so that it writes the document that the participants signed."""
    return {uri.removeprefix("pacekeeper:"): spki_pin(pem) for uri, pem in people.certificates.items()}


class Stream:
    """One open Cosign stream, seen from the log. clocks: what the verifier said the time was, one per message."""

    def __init__(self, hello: log_pb2.CosignRequest) -> None:
        self.hello = hello.hello
        self.clocks = [hello.clock_ms]
        self.ended = asyncio.Event()
        self._out: asyncio.Queue[log_pb2.CosignResponse | None] = asyncio.Queue()
        self._answers: asyncio.Queue[log_pb2.CosignRequest] = asyncio.Queue()
        self._failure: grpc.StatusCode | None = None

    async def push(self, first_index: int, entries: Sequence[bytes]) -> None:
        batch = log_pb2.EntryBatch(first_index=first_index, entries=entries)
        self._out.put_nowait(log_pb2.CosignResponse(batch=batch))

    async def checkpoint(self, note: bytes) -> None:
        self._out.put_nowait(log_pb2.CosignResponse(checkpoint=note))

    async def conflict(self, first_index: int, second: Any) -> None:
        item = log_pb2.ConflictingEnvelope(first_index=first_index, second=second)
        self._out.put_nowait(log_pb2.CosignResponse(conflict=item))

    async def nothing(self) -> None:
        """Send a message without content."""
        self._out.put_nowait(log_pb2.CosignResponse())

    async def answer(self) -> log_pb2.CosignRequest:
        """The verifier's next message that says more than the time."""
        async with asyncio.timeout(WAIT_S):
            return await self._answers.get()

    async def close(self, failure: grpc.StatusCode | None = None) -> None:
        """End the stream from the log's side."""
        self._failure = failure
        self._out.put_nowait(None)
        async with asyncio.timeout(WAIT_S):
            await self.ended.wait()

    async def serve(self, requests: AsyncIterator[log_pb2.CosignRequest], context: Any) -> None:
        listening = asyncio.create_task(self._listen(requests))
        try:
            while (item := await self._out.get()) is not None:
                await context.write(item)
            if self._failure is not None:
                await context.abort(self._failure, "played by the test")
        finally:
            listening.cancel()
            self.ended.set()

    async def _listen(self, requests: AsyncIterator[log_pb2.CosignRequest]) -> None:
        async for request in requests:
            self.clocks.append(request.clock_ms)
            if request.WhichOneof("item") is not None:
                self._answers.put_nowait(request)
        self._out.put_nowait(None)


class CosignLog(log_pb2_grpc.TransparencyLogServicer):
    """A log whose entries are a World's. submitted: every envelope that was handed in, repetitions included."""

    def __init__(self, people: Participants, world: World) -> None:
        assert people.document == world.document, "participants and world must have one agreement"
        self.people, self.world = people, world
        self.port = 0
        self.submitted: list[bytes] = []
        self.lose_answers = 0
        self._streams: asyncio.Queue[Stream] = asyncio.Queue()
        self._server: Any = None

    async def start(self, port: int = 0) -> None:
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        log_pb2_grpc.add_TransparencyLogServicer_to_server(self, self._server)
        self.port = self._server.add_secure_port(f"127.0.0.1:{port}", self.people.log_credentials())
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    async def accept(self) -> Stream:
        """Wait for the verifier to open a stream."""
        async with asyncio.timeout(WAIT_S):
            return await self._streams.get()

    def note(self, size: int, entries: Sequence[bytes] | None = None, key: SigningKey | None = None) -> bytes:
        """The log's checkpoint over the first size entries: its own, or those of another tree."""
        tree = HashTree(leaf_hash(entry) for entry in (self.world.entries if entries is None else entries)[:size])
        checkpoint = Checkpoint(self.world.agreement.origin, size, tree.root())
        return sign_checkpoint(checkpoint, self.world.agreement.origin, key or self.world.keys.log_checkpoint)

    def cosigned(self, size: int) -> bytes:
        """The checkpoint with every party's cosignature."""
        note = self.note(size)
        text, time_s = parse_note(note).text, self.world.state.last_time_ms // 1000
        for party in self.world.agreement.parties:
            line = sign_cosignature(text, party.verifier.name, self.world.keys.verifier_cosign(party.id), time_s)
            note = add_signatures(note, parse_signatures(line.encode()))
        return note

    async def Cosign(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        uri = PeerCheck({f"pacekeeper:{holder}": pin for holder, pin in pins_of(self.people).items()}).identify(context)
        assert uri != LOG_URI
        stream = Stream(await anext(aiter(request_iterator)))
        self._streams.put_nowait(stream)
        await stream.serve(request_iterator, context)

    async def Follow(self, request: Any, context: Any) -> None:  # type: ignore[override]
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "a verifier does not follow")

    async def GetStatus(self, request: Any, context: Any) -> log_pb2.GetStatusResponse:
        return log_pb2.GetStatusResponse(origin=self.world.agreement.origin, size=len(self.world.entries))

    async def SubmitStream(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "a log of before there were streams")

    async def GetInclusionProof(self, request: Any, context: Any) -> log_pb2.GetInclusionProofResponse:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "a verifier proves by itself")
        return log_pb2.GetInclusionProofResponse()

    async def Submit(self, request: log_pb2.SubmitRequest, context: Any) -> log_pb2.SubmitResponse:
        """Sequence each envelope, once, and answer with proofs under a checkpoint that every party cosigned."""
        self.submitted.extend(request.envelopes)
        results = [self._sequence(data) for data in request.envelopes]
        if self.lose_answers:
            self.lose_answers -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer was lost")
        size = len(self.world.entries)
        tree = HashTree(leaf_hash(entry) for entry in self.world.entries)
        for result in results:
            if result.HasField("sequenced"):
                result.sequenced.inclusion_proof.extend(tree.prove_inclusion(result.sequenced.index, size))
        return log_pb2.SubmitResponse(results=results, checkpoint=self.cosigned(size))

    def _sequence(self, data: bytes) -> log_pb2.SubmitResult:
        envelope = parse_envelope(data)
        for index, entry in enumerate(self.world.entries):
            known = parse_entry(entry) if entry.startswith(b"\x08") else None
            if known is not None and known.envelope == envelope:
                at = known.sequenced_at_ms
                sequenced = log_pb2.Sequenced(index=index, sequenced_at_ms=at, duplicate=True)
                return log_pb2.SubmitResult(sequenced=sequenced)
        at = self.world.state.last_time_ms
        outcome = self.world.put(envelope, at)
        if not isinstance(outcome, Applied):
            self.world.entries.pop()
            refusal = log_pb2.Refusal(code=outcome.code, message=outcome.message)
            return log_pb2.SubmitResult(refusal=refusal)
        return log_pb2.SubmitResult(sequenced=log_pb2.Sequenced(index=outcome.index, sequenced_at_ms=at))


__all__ = ["CosignLog", "Stream", "format_checkpoint", "pins_of"]
