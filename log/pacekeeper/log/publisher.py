"""The publisher: from a committed head to a signed checkpoint, and from a cosigned one to the public files.

    prepare   read the new entries back from the store, hash them anew, write the tiles that they fill,
              compare roots, sign the checkpoint
    publish   write the partial tiles, keep the note in the store, write it for ever if it is a transition checkpoint,
              replace the checkpoint file

Recovery runs through prepare and publish as well (pacekeeper.log.recovery): there is no second way to make a tile.
Everything here blocks on the disk and runs in a thread, one call at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pacekeeper.log.edge import Edge
from pacekeeper.log.files import PublicFiles
from pacekeeper.log.published import PublishedTree
from pacekeeper.log.store.port import Head, Store
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, sign_checkpoint

_READ_BYTES: Final = 4_194_304  # read from the store at a time


class Publisher:
    """Failures raise Refused(unsafe-state): the caller stops."""

    def __init__(self, store: Store, files: PublicFiles, origin: str, key: SigningKey) -> None:
        self._store = store
        self._files = files
        self._origin = origin
        self._key = key
        self._edge = Edge()
        self._transitions: tuple[tuple[int, bytes], ...] = ()

    def extend(self, entries: list[bytes]) -> None:
        """Append the entries that follow on the edge, writing each tile that they complete."""
        self._edge.extend(entries, self._files.put_full)

    def prepare(self, head: Head) -> bytes:
        """Return the checkpoint of the head, signed by the log.

        SPEC log-17: before a checkpoint is signed, its root MUST be computed again from the stored bytes.
        """
        while self._edge.size < head.size:
            entries = self._store.read(self._edge.size, head.size, _READ_BYTES)
            if not entries:
                raise Refused(Code.UNSAFE_STATE, f"entry {self._edge.size} is missing from the store")
            self.extend(entries)
        self.check_root(head.root)
        return sign_checkpoint(Checkpoint(self._origin, head.size, head.root), self._origin, self._key)

    def check_root(self, root: bytes) -> None:
        """Refused(unsafe-state) unless the entries so far hash to this root."""
        if self._edge.root() != root:
            raise Refused(
                Code.UNSAFE_STATE, f"the stored entries up to {self._edge.size} do not hash to the tree's root"
            )

    def publish(self, note: bytes, transition: bool = False) -> PublishedTree:
        """Publish the note, a checkpoint with its quorum over the tree last prepared.

        SPEC log-18: the checkpoint file MUST be replaced only after every tile of its tree is in place.
        SPEC transition-6: a transition checkpoint MUST be kept for ever, in place before the checkpoint file is.
        """
        snapshot = self._edge.snapshot()
        self._files.put_partials(snapshot.partials())
        self._store.publish(note, transition=transition)
        if transition:
            self._keep(snapshot.size, note)
        self._files.put_checkpoint(note)
        return PublishedTree(snapshot.size, note, snapshot, self._files, self._transitions)

    def _keep(self, size: int, note: bytes) -> None:
        self._files.put_transition(len(self._transitions) + 1, note)
        self._transitions = (*self._transitions, (size, note))

    def restore(self, transitions: Sequence[tuple[int, bytes]]) -> None:
        """Take up the stored transition checkpoints, with their sizes, and write those whose files are missing."""
        for size, note in transitions:
            self._keep(size, note)

    def republish(self, tree: PublishedTree, note: bytes) -> PublishedTree:
        """Replace the published note by one of the same checkpoint with more cosignatures."""
        self._store.publish(note)
        self._files.put_checkpoint(note)
        return replace(tree, note=note)
