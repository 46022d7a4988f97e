"""A log small enough to lie on purpose: honest answers made with the protocol's functions, and a hook to spoil them.

Example:
    log = ScriptedLog(people)
    async with log.serving(people.log_credentials()) as address: ...
    log.spoil = lambda response: response.results.pop()
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from participants import Participants

from pacekeeper.client import rpc
from pacekeeper.client.tls import SERVER_OPTIONS
from pacekeeper.protocol import envelope
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.statements import seal
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, format_checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.cosignature import sign_cosignature
from pacekeeper.protocol.tlog.merkle import HashTree, leaf_hash
from pacekeeper.v1 import log_pb2, log_pb2_grpc, statements_pb2

TIME_MS = 1_780_000_000_000


def statement_id(data: bytes) -> bytes:
    """The identity of an envelope's statement."""
    parsed = envelope.parse_envelope(data)
    return envelope.identity(envelope.pae(parsed.payload_type, parsed.payload))


class ScriptedLog(log_pb2_grpc.TransparencyLogServicer):
    """Sequences whatever is well-formed. `refuse` and `spoil` say where it departs from that."""

    def __init__(self, people: Participants) -> None:
        self.people = people
        self.entries: list[bytes] = []
        self.tree = HashTree()
        self.places: dict[bytes, tuple[int, int]] = {}
        self.cosigners: Sequence[str] = people.keys.party_ids
        self.origin = people.agreement.origin
        self.log_key = people.keys.log_checkpoint
        self.refusals: dict[bytes, Refused] = {}  # by identity
        self.abort: Refused | None = None
        self.spoil: Callable[[log_pb2.SubmitResponse], object] = lambda response: None
        self.stream: Callable[[int], list[log_pb2.FollowResponse]] = self.honest_stream

    def append(self, data: bytes) -> log_pb2.Sequenced:
        """Sequence one envelope's bytes, or find where it stands already."""
        identity = statement_id(data)
        duplicate = identity in self.places
        if not duplicate:
            self.places[identity] = (len(self.entries), TIME_MS + len(self.entries))
            self.entries.append(envelope.frame_entry(self.places[identity][1], data))
            self.tree.append(leaf_hash(self.entries[-1]))
        index, time_ms = self.places[identity]
        return log_pb2.Sequenced(index=index, sequenced_at_ms=time_ms, duplicate=duplicate)

    def checkpoint(self, size: int | None = None) -> bytes:
        """The cosigned checkpoint of the first size entries."""
        size = len(self.entries) if size is None else size
        checkpoint = Checkpoint(self.origin, size, self.tree.root(size))
        note = sign_checkpoint(checkpoint, self.origin, self.log_key)
        for party in self.people.agreement.parties:
            if party.id in self.cosigners:
                key: SigningKey = self.people.keys.verifier_cosign(party.id)
                line = sign_cosignature(format_checkpoint(checkpoint), party.verifier.name, key, TIME_MS // 1000)
                note += line.encode()
        return note

    def respond(self, request: log_pb2.SubmitRequest) -> log_pb2.SubmitResponse:
        """The honest answer."""
        response = log_pb2.SubmitResponse()
        for data in request.envelopes:
            refused = self.refusals.get(statement_id(data))
            if refused is not None:
                response.results.add(refusal=log_pb2.Refusal(code=refused.code, message=refused.message))
            else:
                response.results.add(sequenced=self.append(data))
        sequenced = [result.sequenced for result in response.results if result.HasField("sequenced")]
        if request.accept_unwitnessed:
            response.acceptance.CopyFrom(self.accept(list(request.envelopes)))
        elif sequenced:
            response.checkpoint = self.checkpoint()
            for item in sequenced:
                item.inclusion_proof.extend(self.tree.prove_inclusion(item.index))
        return response

    def accept(self, envelopes: Sequence[bytes], **changed: Any) -> Any:
        """A signed Acceptance of envelopes that were sequenced."""
        places = {statement_id(data): self.places.get(statement_id(data)) for data in envelopes}
        fields: dict[str, Any] = {
            "agreement": self.people.agreement.fingerprint,
            "entries": [
                statements_pb2.AcceptedEntry(id=identity, index=place[0], sequenced_at_ms=place[1])
                for identity, place in places.items()
                if place is not None
            ],
        }
        signers = changed.pop("signers", [self.people.keys.log_statement])
        return seal(statements_pb2.Acceptance(**(fields | changed)), signers)

    def batch(self, start: int, stop: int) -> log_pb2.FollowResponse:
        """A stream's message with entries [start, stop)."""
        return log_pb2.FollowResponse(batch=log_pb2.EntryBatch(first_index=start, entries=self.entries[start:stop]))

    def honest_stream(self, start: int) -> list[log_pb2.FollowResponse]:
        """Entries in batches of three, each followed by its checkpoint."""
        messages = []
        for first in range(start, len(self.entries), 3):
            stop = min(first + 3, len(self.entries))
            messages += [self.batch(first, stop), log_pb2.FollowResponse(checkpoint=self.checkpoint(stop))]
        return messages

    async def Submit(self, request: log_pb2.SubmitRequest, context: Any) -> log_pb2.SubmitResponse:
        if self.abort is not None:
            await rpc.abort(context, self.abort)
        response = self.respond(request)
        self.spoil(response)
        return response

    async def SubmitStream(self, request_iterator: Any, context: Any) -> AsyncIterator[log_pb2.SubmitResponse]:
        async for request in request_iterator:
            yield await self.Submit(request, context)

    async def Follow(self, request: log_pb2.FollowRequest, context: Any) -> AsyncIterator[log_pb2.FollowResponse]:
        for message in self.stream(request.from_index):
            yield message
        if self.abort is not None:
            await rpc.abort(context, self.abort)

    def Cosign(self, request_iterator: Any, context: Any) -> Any:
        raise NotImplementedError  # nobody who submits or follows calls it

    async def GetInclusionProof(self, request: log_pb2.GetInclusionProofRequest, context: Any) -> Any:
        raise NotImplementedError  # as above

    async def GetStatus(self, request: log_pb2.GetStatusRequest, context: Any) -> log_pb2.GetStatusResponse:
        return log_pb2.GetStatusResponse(origin=self.origin, size=len(self.entries))

    @asynccontextmanager
    async def serving(self, credentials: grpc.ServerCredentials) -> AsyncIterator[str]:
        """Serve on a free port of loopback and yield the address."""
        server = grpc.aio.server(options=SERVER_OPTIONS)
        log_pb2_grpc.add_TransparencyLogServicer_to_server(self, server)
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(0)
