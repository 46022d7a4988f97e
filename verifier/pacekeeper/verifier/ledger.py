"""Store, tree and replay of the log as one: takes pushed entries, and cosigns what the witness decides to.

The order of a cosignature: judge (pure) -> entries and witness state on disk, in one transaction -> the key's marker ->
sign. Entries wait in memory for the checkpoint that covers them, so that one commit does; a long catch-up is stored in
between. What no cosignature covers yet may be dropped again, when the log signs another tree than it pushed.

Starting up and starting over run the same code as following: every stored entry is replayed and hashed again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from pacekeeper.protocol import keys, limits
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.envelope import parse_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import Applied, State, Void, apply, genesis
from pacekeeper.protocol.tlog.cosignature import sign_cosignature
from pacekeeper.protocol.tlog.merkle import Frontier, leaf_hash
from pacekeeper.protocol.tlog.note import add_signatures, parse_note, parse_signatures
from pacekeeper.protocol.tlog.policy import CosignaturePolicy
from pacekeeper.verifier.marker import KeyMarker, check_mark
from pacekeeper.verifier.store import Store
from pacekeeper.verifier.witness import OwnTree, Terms, WitnessState, judge

MAX_HELD_BYTES: Final = 4_194_304  # entries in memory between two commits: a full message of the stream

Observe = Callable[[Applied | Void], None]
CosignText = Callable[[str, int], bytes]


def cosigner(name: str, key: keys.SigningKey) -> CosignText:
    """Return the function that signs a checkpoint's text at a time in milliseconds: one note line."""

    def sign(text: str, time_ms: int) -> bytes:
        return sign_cosignature(text, name, key, time_ms // 1000).encode()

    return sign


class Ledger:
    """The verifier's copy of the log. observe is told of every entry from 1 on, at start-up and while following.

    agreement: the founding one. present: the one in force after the entries replayed. terms: what that says of
    cosigning.
    """

    def __init__(
        self, store: Store, marker: KeyMarker, agreement: Agreement, cosign: CosignText, observe: Observe
    ) -> None:
        check_mark(marker, origin=agreement.origin, store=store.id, size=store.witness.size)
        self.agreement = agreement
        self._store, self._marker, self._cosign, self._observe = store, marker, cosign, observe
        self._shown = (b"", b"")
        self._start()

    def _start(self) -> None:
        self.state: State | None = None
        self._frontier = Frontier()
        self._ran_back_at: int | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._held_voids: list[int] = []
        self._policies: list[tuple[int, CosignaturePolicy]] = []
        self._adopt(self.agreement)

    def _adopt(self, agreement: Agreement) -> None:
        """Have another agreement in force from the next entry on."""
        self.present = agreement
        self.terms = Terms(agreement.policy(), agreement.timing.tolerance_ms)
        self._policies.append((self.size, self.terms.policy))

    def policy_at(self, size: int) -> CosignaturePolicy:
        """Return whose cosignatures a checkpoint over so many entries needs."""
        return self._policies[bisect_right(self._policies, size, key=lambda item: item[0]) - 1][1]

    def is_party(self, party: str) -> bool:
        """Whether the agreement in force has this party."""
        return any(known.id == party for known in self.present.parties)

    @property
    def size(self) -> int:
        """Number of entries replayed, those that wait in memory included."""
        return self._frontier.size

    @property
    def witness(self) -> WitnessState:
        """The witness state on disk."""
        return self._store.witness

    def tree(self) -> OwnTree:
        """Return the tree of everything replayed."""
        head_ms = self.state.last_time_ms if self.state is not None else 0
        return OwnTree(self.size, self._frontier.root(), head_ms, self._ran_back_at)

    def replay_stored(self) -> Iterator[None]:
        """Replay the stored entries, pausing after each row for whoever else has work.

        Signatures were verified before entries were stored, and are not again, except of entries that no cosignature
        covers and of those that were void. Refused(unsafe-state) if the entries are not those that were cosigned.
        """
        self._start()
        witness, voids = self._store.witness, self._store.voids()
        for first, entries in self._store.bundles():
            for index, entry in enumerate(entries, start=first):
                trusted = index < witness.size and index not in voids
                try:
                    self._replay(entry, _believe if trusted else keys.verify)
                except Refused as refused:
                    raise Refused(Code.UNSAFE_STATE, f"{self._store.path}: entry {index}: {refused.message}") from None
                if index + 1 == witness.size:
                    self._check_restored(witness)
            yield
        if self.size < witness.size:
            raise Refused(Code.UNSAFE_STATE, f"{self._store.path}: {self.size} of {witness.size} cosigned entries left")

    def _check_restored(self, witness: WitnessState) -> None:
        # SPEC verifier-14: stored entries whose root is not the one cosigned MUST NOT be built on: exit status 5.
        if self._frontier.root() != witness.root:
            raise Refused(
                Code.UNSAFE_STATE,
                f"{self._store.path}: the stored entries are not the {witness.size} that were cosigned",
            )

    def check_batch(self, first_index: int, entries: Sequence[bytes], now_ms: int) -> None:
        """Raise Refused unless the entries may follow: the next in order, of legal size, none in the future.

        SPEC verifier-15: a batch MUST begin at the next index and hold at least one entry, each at most 65,535 bytes.
        """
        if first_index != self.size:
            raise Refused(Code.BAD_FIELD, f"batch begins at entry {first_index}, but entry {self.size} is next")
        if not entries:
            raise Refused(Code.BAD_FIELD, "batch without entries")
        latest_ms = now_ms + self.terms.tolerance_ms
        for index, entry in enumerate(entries, start=first_index):
            if len(entry) > limits.MAX_ENTRY_BYTES:
                raise Refused(Code.TOO_LARGE, f"entry {index} has {len(entry)} bytes, at most {limits.MAX_ENTRY_BYTES}")
            # SPEC verifier-7: an entry from the future is not even replayed, for it would fire deadlines early.
            if _peek_time(entry) > latest_ms:
                raise Refused(Code.CLOCK_DISAGREES, f"entry {index} is later than this verifier's clock")

    def take(self, entries: Sequence[bytes]) -> None:
        """Replay entries that passed check_batch, verifying every signature. Refused if the first is no founding."""
        for entry in entries:
            outcome = self._replay(entry, keys.verify)
            if isinstance(outcome, Void):
                self._held_voids.append(outcome.index)
            self._held.append(entry)
            self._held_bytes += len(entry)
        if self._held_bytes >= MAX_HELD_BYTES:
            self.flush()

    def _replay(self, entry: bytes, verify: Callable[[bytes, bytes, bytes], bool]) -> Applied | Void | None:
        outcome: Applied | Void | None = None
        if self.state is None:
            self.state = self._found(entry, verify)
        else:
            outcome = apply(self.state, entry, verify=verify)
        self._frontier.append(leaf_hash(entry))
        if self.state.agreement is not self.present:
            self._adopt(self.state.agreement)
        if outcome is not None:
            if isinstance(outcome, Void) and outcome.code == Code.TIME_RUNS_BACK and self._ran_back_at is None:
                self._ran_back_at = outcome.index
            self._observe(outcome)
        return outcome

    def _found(self, entry: bytes, verify: Callable[[bytes, bytes, bytes], bool]) -> State:
        # SPEC verifier-16: a log whose entry 0 is not the agreement that the verifier was given MUST NOT be followed.
        state = genesis(entry, verify=verify)
        if state.agreement.fingerprint != self.agreement.fingerprint:
            raise Refused(Code.WRONG_AGREEMENT, "entry 0 is another agreement than this verifier's")
        return state

    def cosign(self, note: bytes, now_ms: int) -> bytes:
        """Return the cosignature line over a checkpoint, or raise Refused as witness.judge does and change nothing."""
        decision = judge(self._store.witness, self.tree(), note, now_ms, self.terms)
        if not decision.repeated:
            self._keep(decision.witness)
        self._marker.advance(decision.witness.size)
        return self._cosign(decision.text, decision.time_ms)

    def cosigned_note(self) -> bytes:
        """Return the last checkpoint cosigned, with the log's signature and this verifier's; empty before the first.

        The signature is made anew from the persisted decision; text and time being the same, so is the signature.
        """
        witness = self._store.witness
        if witness.note != self._shown[0]:
            line = self._cosign(parse_note(witness.note).text, witness.cosigned_at_ms)
            self._shown = (witness.note, add_signatures(witness.note, parse_signatures(line)))
        return self._shown[1]

    def flush(self) -> None:
        """Store what waits in memory, without a decision about it."""
        if self._held:
            self._keep(self._store.witness)

    def _keep(self, after: WitnessState) -> None:
        self._store.keep(self._held, self._held_voids, before=self._store.witness, after=after)
        self._held, self._held_bytes, self._held_voids = [], 0, []

    def drop_uncosigned(self) -> bool:
        """Forget every entry that no cosignature covers; whether there was one. replay_stored must follow."""
        if self.size == self.witness.size:
            return False
        self._store.drop_uncosigned()
        self._start()
        return True

    def entry_at(self, index: int) -> bytes:
        """Return an entry's bytes, stored or waiting; Refused(not-found)."""
        stored = self._store.size
        if stored <= index < stored + len(self._held):
            return self._held[index - stored]
        return self._store.entry(index)

    def envelope_at(self, index: int) -> bytes:
        """Return the envelope's bytes of an entry that is not void."""
        return parse_entry(self.entry_at(index)).envelope.SerializeToString(deterministic=True)


def _believe(_key: bytes, _message: bytes, _signature: bytes) -> bool:
    return True


def _peek_time(entry: bytes) -> int:
    """Return the log time at an entry's beginning; 0 where there is none, as for bytes that are no entry."""
    if not entry.startswith(b"\x08"):
        return 0
    value = 0
    for shift, byte in enumerate(entry[1:11]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value
    return 0
