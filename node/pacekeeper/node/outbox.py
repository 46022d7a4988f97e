"""The outbox: brings signed statements to the log, in order, at least once, until a quorum's receipt comes back.

A statement leaves it in one of two ways. Its receipt verifies: the tlog-proof is journalled and it is delivered. Or the
log refuses it for good: a declaration or a checkpoint record is set aside with the reason, while a refused statement of
the chain stops the chain, since whatever came after it would be refused too. What the outbox sends again is the same
bytes, and the log answers with the same index.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from pacekeeper.client.errors import TemporaryFailure
from pacekeeper.client.submit import SubmitRefused, Submitted, WitnessedReceipt
from pacekeeper.node.book import Book
from pacekeeper.node.clock import Clock
from pacekeeper.node.ledger import Statement
from pacekeeper.node.records import CHAINED, DECLARATION, AnyRecord, Delivered, TurnedDown
from pacekeeper.protocol.envelope import frame_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.text import printable
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.protocol.tlog.policy import CosignaturePolicy
from pacekeeper.protocol.tlog.receipt import check_receipt, parse_receipt

WIDTH: Final = 64  # statements in one submission
FIRST_PAUSE_MS: Final = 200
LONGEST_PAUSE_MS: Final = 10_000
# The log's clock is behind ours, which time heals; or it does not have the key (any more): the reader will see that,
# and then the statement is signed again by the one in force (succession.py).
_PASSING: Final = frozenset({Code.PERIOD_NOT_OVER, Code.KEY_RETIRED, Code.UNKNOWN_SIGNER})


class LogSink(Protocol):
    """What the outbox needs of a LogClient."""

    async def submit(
        self, envelopes: Sequence[bytes], *, unwitnessed: bool = False, deadline_s: float = 30
    ) -> list[Submitted]: ...

    def policy_at(self, size: int) -> CosignaturePolicy: ...


class Outbox:
    """The queue is the ledger's list of unsent statements; the outbox itself remembers nothing that matters."""

    def __init__(self, book: Book, sink: LogSink, clock: Clock) -> None:
        self._book = book
        self._sink = sink
        self._clock = clock
        self._pause_ms = FIRST_PAUSE_MS
        self._width = WIDTH
        self.problem = ""
        self.stopped: str = ""  # why the chain has stopped

    async def run(self) -> None:
        """Deliver for ever. Raises Refused(unsafe-state) when the journal does."""
        while True:
            self._book.changed.clear()
            if not self.waiting():
                await self._book.changed.wait()
                continue
            if await self.deliver_once():
                self._pause_ms, self._width, self.problem = FIRST_PAUSE_MS, WIDTH, ""
                continue
            # SPEC node-17: what was not acknowledged MUST be sent again, the same bytes, after a bounded pause.
            self._width = 1  # so that one statement's fate is not another's
            await self._pause()

    def waiting(self) -> list[Statement]:
        """Statements to be sent next, in the order in which they were signed."""
        unsent = self._book.ledger.unsent.values()
        return [item for item in unsent if not (self.stopped and item.kind in CHAINED)][: self._width]

    async def deliver_once(self) -> bool:
        """Submit what is waiting; whether all of it has got its final answer."""
        batch = self.waiting()
        try:
            outcomes = await self._sink.submit([item.envelope for item in batch])
        except TemporaryFailure as failure:
            self.problem = failure.message
            return False
        except Refused as refused:
            self.problem = f"the log's answer is not valid: {refused.message}"
            return False
        if len(outcomes) != len(batch):
            self.problem = "the log's answer is not valid: it does not answer every statement"
            return False
        settled = [self._settle(item, outcome) for item, outcome in zip(batch, outcomes, strict=True)]
        return all(settled)

    def _settle(self, item: Statement, outcome: Submitted) -> bool:
        if not item.pending:
            return True
        if isinstance(outcome, SubmitRefused):
            return self._settle_refusal(item, outcome)
        if not isinstance(outcome, WitnessedReceipt):
            self.problem = "the log accepted a statement and no quorum has witnessed it yet"
            return False
        try:
            record = self._check(item, outcome)
        except Refused as refused:
            self.problem = f"the receipt for {item.about} does not verify: {refused.message}"
            return False
        return self._write(record)

    def _write(self, record: AnyRecord) -> bool:
        try:
            self._book.write(record)
        except Refused as refused:
            if refused.code is Code.UNSAFE_STATE:
                raise
            self.problem = refused.message  # a full disk: the log will answer the same again
            return False
        return True

    def _check(self, item: Statement, outcome: WitnessedReceipt) -> Delivered:
        """SPEC node-18: nothing but a receipt over its own bytes, cosigned by a quorum, MUST count as delivery."""
        receipt = parse_receipt(outcome.tlog_proof)
        if outcome.id != item.id or receipt.index != outcome.index:
            raise Refused(Code.BAD_PROOF, "it is for another statement or index")
        size = parse_checkpoint(parse_note(receipt.checkpoint_note).text).size
        policy = self._sink.policy_at(size)
        checked = check_receipt(receipt, frame_entry(outcome.sequenced_at_ms, item.envelope), policy)
        return Delivered(
            self._clock.now_ms(),
            item.id,
            outcome.index,
            outcome.sequenced_at_ms,
            checked.checkpoint.size,
            outcome.tlog_proof,
        )

    def _settle_refusal(self, item: Statement, refusal: SubmitRefused) -> bool:
        code, message = printable(refusal.code, 64), printable(refusal.message)
        if refusal.code in _PASSING:
            self.problem = f"the log does not take {item.about} yet: {message}"
            return False
        if item.kind in CHAINED:
            # SPEC node-19: a refused statement of the chain MUST stop the chain, visibly, and MUST NOT be skipped.
            self.stopped = f"the log refuses the {item.kind} of {item.about} ({code}): {message}"
            return True
        if item.kind == DECLARATION and refusal.code == Code.RUN_EXISTS:
            message += "; the run goes on under its first declaration"
        return self._write(TurnedDown(self._clock.now_ms(), item.id, code, message))

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._pause_ms / 1000):
                await self._book.changed.wait()
        except TimeoutError:
            pass
        self._pause_ms = min(2 * self._pause_ms, LONGEST_PAUSE_MS)
