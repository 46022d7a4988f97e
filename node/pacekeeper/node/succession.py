"""Succession: the lab's key follows what the log says of it.

A key of the lab's can be rotated by the lab and replaced by the parties (specs/keys.md). From the entry that does it on
the former key is of no use. So the daemon, whenever it has read the log up to its head, signs with the key that is in
force there, if any of its key files holds it; and what the former key has signed and the log has not taken by then is
signed again by the new one, the same payload in the same slot. No statement changes by it, and no link: identities hold
no signature.

This works from any moment at which a daemon may have died, since it starts from the log and the journal alone.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pacekeeper.node.book import Book
from pacekeeper.node.clock import Clock
from pacekeeper.node.records import Adopted, Rekeyed
from pacekeeper.protocol.envelope import encode, identity, pae, parse_envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import key_id
from pacekeeper.protocol.replay import State
from pacekeeper.protocol.replay.key_life import present
from pacekeeper.v1.envelope_pb2 import Entry

_MAX_FOREIGN: Final = 10_000  # a thief that signed more has left nothing of the lab's record


class Foreign(NamedTuple):
    """An entry of the log with the lab's valid signature, which this journal does not know."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    entry: Entry
    key_id: bytes
    applied: bool


def not_ours(index: int) -> Refused:
    """The lab's key has signed what the lab's journal has not."""
    return Refused(
        Code.UNSAFE_STATE,
        f"entry {index} of the log is signed by this lab's key and is not in the journal: the journal is older "
        "than the log, or the key is used elsewhere; restore the newest journal and see that only one daemon runs; "
        "if the key was stolen, have the parties replace it",
    )


class Succession:
    """Keeps the key that signs, and what waits in the outbox, in step with the log.

    problem: why what is signed cannot reach the log; empty when all is well.
    """

    def __init__(self, book: Book, lab: str, clock: Clock) -> None:
        self._book = book
        self._lab = lab
        self._clock = clock
        self._on_log: set[bytes] = set()
        self._foreign: list[Foreign] = []
        self._followed = b""
        self.problem = ""

    def note_on_log(self, statement_id: bytes) -> None:
        """A statement of the journal's is on the log, and took effect there, under whichever key signed it."""
        if statement_id in self._book.ledger.unsent:
            self._on_log.add(statement_id)

    def set_aside(self, index: int, entry: Entry, key_id: bytes, *, applied: bool) -> bool:
        """Keep a statement with the lab's valid signature that the journal has not, until the head is reached."""
        if len(self._foreign) < _MAX_FOREIGN:
            self._foreign.append(Foreign(index, entry, key_id, applied))
            return True
        return False

    def follow(self, state: State) -> None:
        """Go over to the key that is in force; state is that of the log's head.

        Raises Refused(unsafe-state) where the keys cannot be this lab's, and Refused(overloaded) where the journal
        cannot be written, in which case the next call goes on.
        """
        holding = present(state, "lab", self._lab)
        if holding is None:
            return
        wanted, book = key_id(holding.key), self._book
        if self._foreign:
            self._judge_foreign(state)
        if wanted == self._followed:
            return
        if not book.keys.use(wanted):
            if holding.epoch == 1:
                raise Refused(Code.UNSAFE_STATE, f"no key file holds the key of lab {self._lab} in the agreement")
            self.problem = (
                f"the lab's key in force is its number {holding.epoch}, and no key file holds it: what is signed waits "
                f"until it is there{f' ({book.keys.problem})' if book.keys.problem else ''}"
            )
            return
        if book.ledger.key_id != wanted:
            book.write(Rekeyed(self._clock.now_ms(), wanted, holding.epoch))
        self._sign_again(wanted)
        self._followed, self.problem = wanted, ""
        self._on_log.clear()

    def _judge_foreign(self, state: State) -> None:
        """Adopt what another signed with a key that the parties have replaced since; anything else is unsafe.

        SPEC node-36: what stands on the log under a key that the parties replaced MUST be adopted, in its order.
        """
        for foreign in self._foreign:
            retired = state.retired.get(foreign.key_id)
            if retired is None or not retired.replaced:
                raise not_ours(foreign.index)
        for foreign in self._foreign:
            envelope = foreign.entry.envelope
            known = identity(pae(envelope.payload_type, envelope.payload)) in self._book.ledger.statements
            if foreign.applied and not known:
                now_ms, sequenced_at_ms = self._clock.now_ms(), foreign.entry.sequenced_at_ms
                self._book.write(Adopted(now_ms, encode(envelope), foreign.index, sequenced_at_ms))
        self._foreign.clear()

    def _sign_again(self, wanted: bytes) -> None:
        """SPEC node-35: what a former key signed and the log has not taken MUST be signed again by the key in force.

        It is the same payload. What the log has taken is left as it is, or its receipt would be for other bytes.
        """
        for statement in list(self._book.ledger.unsent.values()):
            if statement.id not in self._on_log:
                signers = {signature.key_id for signature in parse_envelope(statement.envelope).signatures}
                if signers != {wanted}:
                    self._book.sign_again(statement)
