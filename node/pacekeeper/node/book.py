"""The book: journal and ledger as one. Whoever writes a fact here finds it on disk and in the ledger, or in neither.

It is the only writer. Signing goes through it too: a statement is on disk before its bytes are handed to anyone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.message import Message

from pacekeeper.node.clock import Clock
from pacekeeper.node.journal import Journal
from pacekeeper.node.ledger import Ledger, Statement
from pacekeeper.node.records import (
    CHAINED,
    JOURNAL_VERSION,
    AnyRecord,
    Opened,
    Signed,
    SignedAgain,
    decode_record,
    encode_record,
)
from pacekeeper.node.signer import LabKeys
from pacekeeper.protocol.envelope import encode, identity, pae, parse_envelope, sign_envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.statements import seal


class Book:
    """The journal of one lab under one agreement, and what it adds up to."""

    def __init__(self, journal: Journal, ledger: Ledger, keys: LabKeys, clock: Clock) -> None:
        self.ledger = ledger
        self.changed = asyncio.Event()  # set when something is waiting to be sent
        self.broken: Refused | None = None
        self._journal = journal
        self.keys = keys
        self._clock = clock
        self._waiting: list[tuple[Sequence[AnyRecord], asyncio.Future[None]]] = []
        self._commit_task: asyncio.Task[None] | None = None

    def write(self, *records: AnyRecord) -> None:
        """Put records on disk, then into the ledger. Refused: none of them happened (overloaded, unsafe-state)."""
        if not records:
            return
        try:
            self._journal.append([encode_record(record) for record in records])
        except Refused as refused:
            if refused.code is Code.UNSAFE_STATE:
                self.broken = refused
            raise
        for record in records:
            self.ledger.apply(record)
        if any(isinstance(record, Signed | SignedAgain) for record in records):
            self.changed.set()

    async def commit(self, records: Sequence[AnyRecord]) -> None:
        """As write, but together with what others commit meanwhile: one fsync for all that is waiting.

        Only for records whose order among each other does not matter and that no later record can make illegal.
        """
        if not records:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((records, done))
        if self._commit_task is None or self._commit_task.done():
            self._commit_task = asyncio.create_task(self._commit_waiting())
        await done

    async def _commit_waiting(self) -> None:
        await asyncio.sleep(0)  # let every request that has arrived already join
        waiting, self._waiting = self._waiting, []
        try:
            self.write(*(record for records, _ in waiting for record in records))
        except Refused as refused:
            for _, done in waiting:
                if not done.done():
                    done.set_exception(refused)
            return
        for _, done in waiting:
            if not done.done():
                done.set_result(None)

    def seal(self, kind: str, statement: Message) -> tuple[Signed, bytes]:
        """Sign a statement; return its record, to be written before anything else is sealed, and its identity."""
        envelope = seal(statement, [self.keys])
        sequence = statement.link.sequence if kind in CHAINED else 0  # type: ignore[attr-defined]
        record = Signed(self._clock.now_ms(), kind, sequence, encode(envelope))
        return record, identity(pae(envelope.payload_type, envelope.payload))

    def sign(self, kind: str, statement: Message) -> bytes:
        """Sign a statement and put it on disk; return its identity.

        SPEC node-8: a signed statement MUST be in the journal before its bytes leave, and is sent again byte for byte.
        """
        record, statement_id = self.seal(kind, statement)
        self.write(record)
        return statement_id

    def sign_again(self, statement: Statement) -> None:
        """Put the signature of the key in force in the place of a former key's, on disk before it leaves."""
        former = parse_envelope(statement.envelope)
        envelope = sign_envelope(former.payload_type, former.payload, [self.keys])
        self.write(SignedAgain(self._clock.now_ms(), statement.id, encode(envelope)))

    def close(self) -> None:
        self._journal.close()


def open_book(path: Path, agreement: bytes, lab: str, keys: LabKeys, clock: Clock) -> Book:
    """Open or create a lab's journal and fold it. Refused(unsafe-state) names file and offset of whatever is wrong.

    A journal is the lab's by the key that the agreement names, whichever key has followed that one since; until the log
    has said which, the key signs that the journal was last kept with, if it is at hand (succession.py).
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    journal, ledger = Journal(path), Ledger()
    wanted = Opened(JOURNAL_VERSION, agreement, lab, keys.founding)
    try:
        for offset, payload in journal.recover():
            _fold(path, offset, payload, ledger, wanted)
        book = Book(journal, ledger, keys, clock)
        if ledger.opened is None:
            book.write(wanted)
        keys.use(ledger.key_id)
    except Refused:
        journal.close()
        raise
    return book


def _fold(path: Path, offset: int, payload: bytes, ledger: Ledger, wanted: Opened) -> None:
    try:
        record = decode_record(payload)
        if (ledger.opened is None) != isinstance(record, Opened):
            raise Refused(Code.UNSAFE_STATE, "the journal does not begin with who keeps it")
        if isinstance(record, Opened) and record != wanted:
            raise Refused(Code.UNSAFE_STATE, "the journal is another lab's, another agreement's or another key's")
        ledger.apply(record)
    except Refused as refused:
        raise Refused(Code.UNSAFE_STATE, f"{path}: at byte {offset}: {refused.message}") from None
    except (KeyError, IndexError):
        raise Refused(Code.UNSAFE_STATE, f"{path}: at byte {offset}: a record about something unknown") from None
