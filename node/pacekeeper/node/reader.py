"""The reader: follows the log for the lab, to know its time and its commitments, and that it speaks for the lab alone.

Every entry that a quorum covers is replayed, from entry 0 at each start, since the state is kept in memory only. What
was read before a start comes from the daemon's own copy (client/cache.py), the rest from the log. Before the first
signature and the first training step after a start everything on the log is read up to its head. A statement
with the lab's own valid signature that the journal does not know means that the journal is older than the log (restored
from a backup, say) or that the key is used elsewhere: then nothing is signed any more.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from pacekeeper.client.cache import EntryCache, LogStream
from pacekeeper.client.errors import Outage, TemporaryFailure
from pacekeeper.client.submit import VerifiedBatch
from pacekeeper.node.book import Book
from pacekeeper.node.clock import Clock
from pacekeeper.node.records import LogSeen
from pacekeeper.node.succession import Succession, not_ours
from pacekeeper.protocol import keys
from pacekeeper.protocol.documents.agreement import Lab
from pacekeeper.protocol.envelope import identity, pae, parse_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import Applied, State, Void, genesis
from pacekeeper.protocol.statements import payload_type
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.merkle import Frontier, leaf_hash
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.protocol.tlog.policy import CosignaturePolicy
from pacekeeper.v1 import log_pb2
from pacekeeper.v1 import statements_pb2 as pb
from pacekeeper.v1.envelope_pb2 import Entry, Envelope

_NOTE_EVERY_MS: Final = 60_000  # how much reading a restart may have to repeat
# What this daemon signs, and journals first. Pledges and reports are signed by the lab's people and have no slot.
_JOURNALLED: Final = frozenset(
    map(payload_type, (pb.RunDeclaration, pb.ComputeAttestation, pb.Gap, pb.Correction, pb.CheckpointRecord))
)
_FIRST_PAUSE_MS: Final = 200
_LONGEST_PAUSE_MS: Final = 5_000


class LogSource(LogStream, Protocol):
    """What the reader needs of a LogClient."""

    async def status(self, *, deadline_s: float = 10) -> log_pb2.GetStatusResponse: ...


class Reader:
    """Reads the log into a replayed state and the book's LogSeen records.

    caught_up: what was the log's head at the start has been read. log_ms, heard_ms: the log time of the newest entry,
    and the monotonic time at which it was read. state: what the entries read so far replay to; None before entry 0.
    """

    def __init__(self, book: Book, source: LogSource, lab: Lab, clock: Clock, copy: EntryCache) -> None:
        self._book = book
        self._source = source
        self._lab = lab
        self.succession = Succession(book, lab.id, clock)
        self._clock = clock
        self._copy = copy
        self._seen = seen = book.ledger.seen
        self._frontier = Frontier()
        self._founded_ms = seen.founded_ms if seen is not None else 0
        self._noted_ms = 0
        self.state: State | None = None
        self.log_ms = seen.log_ms if seen is not None else 0
        self.heard_ms = clock.monotonic_ms()
        self.caught_up = False
        self.news = asyncio.Event()  # set whenever something was read; whoever waits clears it
        self.problem = "the log has not been read yet"

    @property
    def size(self) -> int:
        """Entries read and verified."""
        return self._frontier.size

    async def run(self) -> None:
        """Follow the log for ever. Raises Refused(unsafe-state) when the journal does not know the lab's own past."""
        try:
            await self._run()
        finally:
            self._copy.save()

    async def _run(self) -> None:
        pause_ms = _FIRST_PAUSE_MS
        while True:
            before = self.size
            try:
                await self._read_copy()
                await self._follow()
            except TemporaryFailure as failure:
                self.problem = failure.message
            except Refused as refused:
                if refused.code is Code.UNSAFE_STATE:
                    raise
                self.problem = f"the log cannot be read: {refused.message}"
            pause_ms = _FIRST_PAUSE_MS if self.size > before else min(2 * pause_ms, _LONGEST_PAUSE_MS)
            await self._clock.sleep(pause_ms)

    async def _read_copy(self) -> None:
        """Read what the copy holds, at the start only; from where it ends or is damaged on, the log is read."""
        try:
            for batch in self._copy.batches() if self.size == 0 else ():
                self._take(batch)
                await asyncio.sleep(0)
        finally:
            self._copy.trust_until(self.size)

    async def _follow(self) -> None:
        # The log's own word for its size: one that understates it could only bring the lab to sign something that a
        # journal older than the log would sign twice, and that is the log's loss of a client.
        known = self._seen.size if self._seen is not None else 0
        status = await self._source.status()
        if not self.caught_up:
            self._check_copied(status)
        target = max(known, status.published_size)
        self._arrive(target)
        async for batch in self._source.follow(self.size, frontier=self._frontier, policy=self._policy):
            self._take(batch)
            self._copy.keep(batch)
            self._arrive(target)
            self.news.set()
            await asyncio.sleep(0)  # meters are answered while a long log is read
        self.problem = "the log ended its stream"

    def _policy(self) -> CosignaturePolicy | None:
        """Whose cosignatures a checkpoint over what was read needs."""
        return None if self.state is None else self.state.agreement.policy()

    def _take(self, batch: VerifiedBatch) -> None:
        self._check_past(batch)
        for offset, data in enumerate(batch.entries):
            index = batch.first_index + offset
            try:
                entry = parse_entry(data)
            except Refused:
                self._replay(data)
                continue  # void on the log: evidence against it, and nothing of ours
            own = self._signed_by_lab(entry.envelope)  # by a key that is in force before the entry
            outcome = self._replay(data)
            if index == 0:
                self._founded_ms = entry.sequenced_at_ms
            if entry.sequenced_at_ms > self.log_ms:
                self.log_ms, self.heard_ms = entry.sequenced_at_ms, self._clock.monotonic_ms()
            if own:
                self._check_own(index, entry, own, outcome)
        self._frontier = batch.frontier

    def _check_copied(self, status: log_pb2.GetStatusResponse) -> None:
        """Refuse a log that has not, or not any more, what the copy has of it. Of a longer one the stream shows it."""
        if status.published_size < self.size:
            sentence = f"the log shows {status.published_size} entries, and {self.size} were read of it before"
            raise TemporaryFailure(Outage.UNREACHABLE, sentence)
        if status.published_size == self.size > 0 and status.checkpoint:
            checkpoint = parse_checkpoint(parse_note(status.checkpoint).text)
            if checkpoint.size == self.size and checkpoint.root != self._frontier.root():
                raise Refused(Code.BAD_PROOF, f"its first {self.size} entries are not those that were read before")

    def _check_past(self, batch: VerifiedBatch) -> None:
        """Refuse a log whose first entries are not those that were read before this start."""
        seen, size = self._seen, batch.first_index + len(batch.entries)
        if seen is None or not batch.first_index < seen.size <= size:
            return
        frontier = self._frontier.copy()
        frontier.extend([leaf_hash(data) for data in batch.entries[: seen.size - batch.first_index]])
        if tuple(frontier.hashes()) != seen.frontier:
            raise Refused(Code.BAD_PROOF, f"its first {seen.size} entries are not those that were read before")

    def _signed_by_lab(self, envelope: Envelope) -> bytes:
        """The id of the lab's key in force, if it has validly signed a statement of a kind that this daemon signs."""
        if self.state is None or envelope.payload_type not in _JOURNALLED:
            return b""
        message = pae(envelope.payload_type, envelope.payload)
        for signature in envelope.signatures:
            authority = self.state.keyring.get(signature.key_id)
            if authority is not None and (authority.role, authority.owner) == ("lab", self._lab.id):
                genuine = keys.verify(authority.public_key, message, signature.signature)
                return signature.key_id if genuine else b""
        return b""

    def _replay(self, data: bytes) -> Applied | Void | None:
        """Apply the next entry.

        SPEC node-27: what training may do MUST follow from entries that a quorum has cosigned, and from nothing else.
        """
        if self.state is not None:
            return self._copy.apply(self.state, data)
        state = genesis(data)
        opened = self._book.ledger.opened
        if opened is not None and state.agreement.fingerprint != opened.agreement:
            raise Refused(Code.WRONG_AGREEMENT, "the log was founded by another agreement")
        self.state = state
        return None

    def _check_own(self, index: int, entry: Entry, key_id: bytes, outcome: Applied | Void | None) -> None:
        """SPEC node-16: a lab MUST NOT sign once the log has a statement of its key that its journal has not."""
        statement_id = identity(pae(entry.envelope.payload_type, entry.envelope.payload))
        if statement_id in self._book.ledger.statements:
            if isinstance(outcome, Applied):
                self.succession.note_on_log(statement_id)
            return
        applied = isinstance(outcome, Applied)
        if not self.caught_up and self.succession.set_aside(index, entry, key_id, applied=applied):
            return  # judged once the head is reached, where the key may have been replaced
        raise not_ours(index)

    def _arrive(self, target: int) -> None:
        """Note how far reading has come, once the head is reached and then now and then."""
        if self.size < target or self.size == 0:
            return
        assert self.state is not None
        self.succession.follow(self.state)
        first, self.caught_up, self.problem = not self.caught_up, True, ""
        monotonic_ms = self._clock.monotonic_ms()
        if first or monotonic_ms - self._noted_ms >= _NOTE_EVERY_MS:
            self._noted_ms = monotonic_ms
            frontier = tuple(self._frontier.hashes())
            self._copy.save()
            self._book.write(LogSeen(self._clock.now_ms(), self.size, frontier, self._founded_ms, self.log_ms))
