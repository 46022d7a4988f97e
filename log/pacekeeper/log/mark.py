"""The head that lives outside the backup set: what the checkpoint key remembers by itself, in a small file beside it.

`<checkpoint key>.head` names the last tree that was committed under this key. It is written after the store's commit
and before anything is told or signed, so that it never leads the store: a store that is smaller, or holds another
tree of that size, is a backup or somebody else's, and going on from it would sign a second tree. The file is also the
lock that keeps two processes from using one key, whatever their state directories.

    pacekeeper-log-head-v1
    origin example.org/pacekeeper
    size 00000000000000000042
    root 9f86d081884c7d659a2feaa0c55ad0159f86d081884c7d659a2feaa0c55ad015
    boot 6f1c5a52-4e0e-4f0c-9a8f-0c7f1a2b3c4d

A machine image that is restored with key and mark is old as a whole, and says so by its boot id: where that is another
one than this boot's, or the mark is missing, a quorum of verifiers is asked before anything is sequenced.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from pacekeeper.client.locking import make_durable, open_held, rewrite
from pacekeeper.log.store.port import Batch, Head, Store, StoredBatch
from pacekeeper.protocol.errors import Code, Refused

_FORM: Final = re.compile(
    r"pacekeeper-log-head-v1\norigin (?P<origin>[^\n]{1,200})\nsize (?P<size>[0-9]{20})\n"
    r"root (?P<root>[0-9a-f]{64})\nboot (?P<boot>[0-9a-z-]{1,64})\n"
)
_MAX_BYTES: Final = 1_024
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
MARK_SUFFIX: Final = ".head"


@dataclass(frozen=True)
class Mark:
    """The file's content: the last committed tree, and the boot of the machine in which it was written."""

    origin: str
    size: int
    root: bytes
    boot: str

    def text(self) -> str:
        return (
            f"pacekeeper-log-head-v1\norigin {self.origin}\nsize {self.size:020d}\n"
            f"root {self.root.hex()}\nboot {self.boot}\n"
        )


class HeadMark:
    """The mark of one checkpoint key, locked from construction to close. Refused(unsafe-state) if held or damaged."""

    def __init__(self, path: Path, origin: str) -> None:
        """SPEC log-5: a second process with one checkpoint key MUST refuse to start."""
        self.path = path
        self._origin = origin
        self._boot = _boot_id()
        self._file = open_held(path, "another log process uses this key")
        try:
            self.mark = self._read()
        except Refused:
            os.close(self._file)
            raise

    def _read(self) -> Mark | None:
        try:
            data = os.pread(self._file, _MAX_BYTES, 0)
        except OSError as error:
            raise Refused(Code.UNSAFE_STATE, f"{self.path} cannot be read: {error.strerror}") from None
        if not data:
            return None
        match = _FORM.fullmatch(data.decode("utf-8", "replace"))
        if match is None:
            raise Refused(
                Code.UNSAFE_STATE,
                f"{self.path} is damaged; remove it, and a quorum of verifiers is asked how far this log has come",
            )
        if match["origin"] != self._origin:
            raise Refused(Code.UNSAFE_STATE, f"{self.path}: this key leads {match['origin']}, not {self._origin}")
        return Mark(match["origin"], int(match["size"]), bytes.fromhex(match["root"]), match["boot"])

    def refuse_older(self, head: Head | None) -> None:
        """Before anything is made of the store: Refused(unsafe-state) if it has fewer entries than were committed.

        SPEC log-25: a log MUST NOT start from a store that is smaller than the tree last committed under its
        checkpoint key, or that holds another tree of that size.
        """
        size = head.size if head else 0
        if self.mark is not None and size < self.mark.size:
            raise Refused(
                Code.UNSAFE_STATE,
                f"the stored head is of size {size}, but by {self.path} {self.mark.size} entries were committed: the "
                "store is an older backup, and going on from it would fork the log; `pacekeeper log restore` takes the "
                "entries from a copy",
            )

    def refuse_other(self, store: Store) -> None:
        """Once the store has proved whole: Refused(unsafe-state) if its tree is not the one that was committed."""
        if self.mark is not None and store.root_at(self.mark.size) != self.mark.root:
            raise Refused(
                Code.UNSAFE_STATE,
                f"the store's tree of {self.mark.size} entries is not the one that {self.path} has: going on from it "
                "would fork the log",
            )

    def must_ask(self, head: Head | None) -> bool:
        """Return whether a quorum of verifiers is to be asked before anything is sequenced after this head."""
        if self.mark is None:
            return head is not None and head.size > 1  # entry 0 alone is the agreement: there is nothing to fork
        return self.mark.boot != self._boot

    def bind(self, head: Head) -> None:
        """Write the mark for the first time; on disk, with its name, on return."""
        self.advance(head)
        make_durable(self._file, self.path)

    def advance(self, head: Head) -> None:
        """Note a committed head. Refused(unsafe-state) if it does not follow, or cannot be written.

        It does not wait for the disk: what the mark guards against, a restored or copied store, is no power cut, after
        which it may lag behind the store and never leads it.
        """
        if self.mark is not None and head.size <= self.mark.size:
            raise Refused(Code.UNSAFE_STATE, f"{self.path}: {self.mark.size} entries were committed already")
        mark = Mark(self._origin, head.size, head.root, self._boot)
        # The length never changes within a boot, so that one write replaces the whole content.
        another_boot = self.mark is None or self.mark.boot != self._boot
        rewrite(self._file, self.path, mark.text().encode(), shorten=another_boot)
        self.mark = mark

    def release(self) -> None:
        """Let another process use the key."""
        os.close(self._file)

    def __enter__(self) -> HeadMark:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class MarkedStore:
    """A store whose every commit is noted in the mark before the caller hears of it. See log.store.port.Store."""

    def __init__(self, store: Store, mark: HeadMark) -> None:
        self._store = store
        self._mark = mark

    def commit(self, batch: Batch, expected: Head | None) -> None:
        """SPEC log-26: a committed head MUST be in the mark before an outcome is told or a checkpoint signed."""
        self._store.commit(batch, expected)
        self._mark.advance(batch.head)

    def head(self) -> Head | None:
        return self._store.head()

    def root_at(self, size: int) -> bytes | None:
        return self._store.root_at(size)

    def known(self, ids: Sequence[bytes]) -> Mapping[bytes, int]:
        return self._store.known(ids)

    def slot(self, lab: str, sequence: int) -> int | None:
        return self._store.slot(lab, sequence)

    def read(self, first: int, end: int, max_bytes: int) -> list[bytes]:
        return self._store.read(first, end, max_bytes)

    def batches(self) -> Iterator[StoredBatch]:
        return self._store.batches()

    def published(self) -> bytes | None:
        return self._store.published()

    def publish(self, note: bytes, *, transition: bool = False) -> None:
        self._store.publish(note, transition=transition)

    def transitions(self) -> list[bytes]:
        return self._store.transitions()

    def counts(self) -> tuple[int, int]:
        return self._store.counts()

    def close(self) -> None:
        self._store.close()


def _boot_id() -> str:
    """Return what names this boot of the machine, "unknown" where the system does not say."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip() or "unknown"
    except OSError:
        return "unknown"
