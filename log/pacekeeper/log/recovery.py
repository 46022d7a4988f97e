"""Start-up: from the store alone to a running log, by the same code that runs after every commit.

1. The marker of an earlier failure stops the start: an operator looks first.
2. Every stored entry is hashed and replayed. After each batch the tree's root must be the one stored with it, so that
   damage is named by its entries. Signatures are verified again only beyond the published size: what a quorum has
   cosigned is pinned by the checkpoint's root, which is compared on the way. So are those of the transition
   checkpoints, each under the agreements that were in force before it and in it.
3. The published tree's tiles are compared with the files, or made again; its checkpoints are written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import structlog

from pacekeeper.log.chain import StoredChain
from pacekeeper.log.published import PublishedTree
from pacekeeper.log.publisher import Publisher
from pacekeeper.log.store.port import Head, Store, StoredBatch
from pacekeeper.protocol import keys
from pacekeeper.protocol.documents.model import Agreement, Lab
from pacekeeper.protocol.envelope import identity, pae, parse_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import State, Void, apply, genesis
from pacekeeper.protocol.tlog.merkle import HASH_BYTES, Frontier, hash_leaves

UNSAFE_MARKER: Final = "unsafe"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Recovered:
    """A log as the store has it: its replayed state, its tree and the published part of it.

    agreement, before: in force in the published tree, and, if it is one over a change of the verifiers, before that.
    labs: every lab that ever was a member.
    """

    state: State
    frontier: Frontier
    published: PublishedTree | None
    agreement: Agreement
    before: Agreement
    labs: tuple[Lab, ...]


def refuse_if_marked(state_directory: Path) -> None:
    """SPEC log-4: after a failed write a log MUST NOT start before an operator has removed the marker."""
    marker = state_directory / UNSAFE_MARKER
    if marker.exists():
        raise Refused(
            Code.UNSAFE_STATE, f"{marker} says that a write has failed; check the disk, run fsck, then remove that file"
        )


def mark_unsafe(state_directory: Path, reason: str) -> None:
    """Leave the marker, as far as the disk lets us."""
    try:
        (state_directory / UNSAFE_MARKER).write_text(reason + "\n", encoding="utf-8")
    except OSError as error:
        _log.error("the unsafe marker cannot be written", error=error.strerror)


def recover(store: Store, publisher: Publisher, founding: Agreement) -> Recovered:
    """Rebuild everything from the store of an agreement's log. Refused(unsafe-state).

    SPEC log-23: a log MUST NOT start unless every stored entry hashes to the stored head and the published checkpoint.
    """
    chain = StoredChain(store, founding)
    published_size = chain.published_size
    replay = _Replay(published_size)
    for batch in store.batches():
        here = replay.frontier.size
        replay.ids = []
        if batch.first_index != here:
            raise Refused(Code.UNSAFE_STATE, f"stored entries {here} to {batch.first_index - 1} are missing")
        stops = chain.stops(here, here + len(batch.entries))
        for part in _split(batch.entries, [stop - here for stop in stops]):
            replay.take(part)
            assert replay.state is not None
            if replay.frontier.size in stops:
                chain.reach(replay.frontier.size, replay.frontier.root(), replay.state.agreement)
        if replay.frontier.root() != batch.root:
            last = here + len(batch.entries) - 1
            raise Refused(
                Code.UNSAFE_STATE, f"stored entries {here} to {last} are damaged: they do not hash to the tree"
            )
        _check_identities(batch, replay.ids)
        # Only now, so that a damaged entry is not taken for a damaged tile.
        publisher.extend(batch.entries[: max(0, published_size - here)])
    check_head(store.head(), replay.frontier, replay.state)
    if published_size > replay.frontier.size:
        raise Refused(Code.UNSAFE_STATE, f"{published_size} entries are published, {replay.frontier.size} are stored")
    note = store.published()
    assert replay.state is not None
    if replay.state.agreement.fingerprint != founding.fingerprint:
        raise Refused(Code.UNSAFE_STATE, "the store is the log of another agreement than the bundle's")
    publisher.restore(chain.transitions)
    published = publisher.publish(note) if note is not None else None
    return Recovered(
        replay.state, replay.frontier, published, chain.agreement, chain.before, tuple(replay.labs.values())
    )


def check_head(head: Head | None, frontier: Frontier, state: State | None) -> None:
    """Refused(unsafe-state) unless the stored head is that of the replayed entries, and there is at least entry 0."""
    if head is None or state is None:
        raise Refused(Code.UNSAFE_STATE, "the store has no entries: initialise the log first")
    if (head.size, head.root, head.time_ms) != (frontier.size, frontier.root(), state.last_time_ms):
        raise Refused(Code.UNSAFE_STATE, f"the stored head of size {head.size} is not that of the stored entries")


def identity_of(entry: bytes) -> bytes:
    """Return the identity of the statement in an entry that has been read before."""
    envelope = parse_entry(entry).envelope
    return identity(pae(envelope.payload_type, envelope.payload))


def _check_identities(batch: StoredBatch, ids: list[bytes | None]) -> None:
    """Refused(unsafe-state) unless each entry is stored under its identity: it would be taken a second time."""
    for position, own in enumerate(ids):
        stored = batch.ids[position * HASH_BYTES : (position + 1) * HASH_BYTES]
        if own not in {None, stored}:
            index = batch.first_index + position
            raise Refused(Code.UNSAFE_STATE, f"the identity of stored entry {index} is damaged: it does not lead to it")


def _split(entries: list[bytes], positions: list[int]) -> list[list[bytes]]:
    """Return the entries in parts that end at these positions, and at the end."""
    ends = sorted({*positions, len(entries)})
    return [entries[start:end] for start, end in pairwise([0, *ends]) if start < end]


class _Replay:
    """Hashes and replays stored entries in order."""

    def __init__(self, published_size: int) -> None:
        self.frontier = Frontier()
        self.state: State | None = None
        self.labs: dict[str, Lab] = {}
        self._agreement: Agreement | None = None
        self.ids: list[bytes | None] = []  # of the entries taken, None where the replay does not say
        self._published_size = published_size

    def take(self, entries: list[bytes]) -> None:
        pinned = self.frontier.size < self._published_size
        verify: Callable[[bytes, bytes, bytes], bool] = _pinned if pinned else keys.verify
        self.frontier.extend(hash_leaves(entries))
        rest = entries
        if self.state is None:
            try:
                self.state, rest = genesis(entries[0]), entries[1:]
            except Refused as refused:
                raise Refused(Code.UNSAFE_STATE, f"stored entry 0 is damaged: {refused.message}") from refused
            self.ids.append(identity_of(entries[0]))
            self._remember(self.state.agreement)
        for entry in rest:
            outcome = apply(self.state, entry, verify=verify)
            if self.state.agreement is not self._agreement:
                self._remember(self.state.agreement)
            if isinstance(outcome, Void):
                # The log let it in, so that it stays; everyone who replays will hold it against this log.
                _log.error("entry is void", index=outcome.index, code=outcome.code)
            self.ids.append(None if isinstance(outcome, Void) else outcome.id)

    def _remember(self, agreement: Agreement) -> None:
        self._agreement = agreement
        self.labs.update((lab.id, lab) for lab in agreement.labs)


def _pinned(_key: bytes, _message: bytes, _signature: bytes) -> bool:
    """A signature below a root that a quorum has cosigned: verified at admission, and the bytes are the same."""
    return True
