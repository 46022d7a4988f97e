"""What must hold of a log's state after every fault: FAULTS, invariants 1 to 4, from the bytes on disk.

Example:
    checkpoints: dict[int, set[bytes]] = {}
    ... Recorder(checkpoints, people, party, address) cosigns what the log signs, and keeps it
    check_invariants(site.state, acknowledged, checkpoints)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cosigner import Cosigner
from participants import Participants

from pacekeeper.log.fsck import fsck
from pacekeeper.log.store.sqlite import SqliteStore
from pacekeeper.protocol.envelope import encode, frame_entry, parse_entry
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.merkle import Frontier, hash_leaves
from pacekeeper.protocol.tlog.note import parse_note


class Recorder(Cosigner):
    """A cosigner that keeps every checkpoint it was asked to cosign: size -> roots."""

    def __init__(self, checkpoints: dict[int, set[bytes]], people: Participants, party: str, address: str) -> None:
        super().__init__(people, party, address)
        self.checkpoints = checkpoints

    async def _cosign(self, call: object, note: bytes) -> None:
        checkpoint = parse_checkpoint(parse_note(note).text)
        self.checkpoints.setdefault(checkpoint.size, set()).add(checkpoint.root)
        await super()._cosign(call, note)


def check_invariants(
    state: Path, acknowledged: Mapping[bytes, tuple[int, int]], checkpoints: Mapping[int, set[bytes]]
) -> None:
    """Check a stopped log: acknowledged is envelope -> (index, log time), checkpoints what it ever signed."""
    assert fsck(state) == []
    entries = stored_entries(state)
    for data, (index, time_ms) in acknowledged.items():
        assert entries[index] == frame_entry(time_ms, data), f"acknowledged entry {index} is not at its index"
    statements = [encode(parse_entry(entry).envelope) for entry in entries]
    assert len(set(statements)) == len(statements), "no statement is on the log twice"
    tree = Frontier()
    for size, leaf in enumerate(hash_leaves(entries), 1):
        tree.append(leaf)
        # One size, one root, and every checkpoint that was ever signed is of this tree: all are consistent.
        assert checkpoints.get(size, {tree.root()}) == {tree.root()}
    assert max(checkpoints, default=0) <= len(entries)


def stored_entries(state: Path) -> list[bytes]:
    """Every entry of a log's store."""
    store = SqliteStore(state / "log.sqlite", read_only=True)
    try:
        return [entry for batch in store.batches() for entry in batch.entries]
    finally:
        store.close()
